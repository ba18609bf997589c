//! A chat with rooms, and the page for it: `cargo run -p signalr-server --example chat`, then open
//! <http://127.0.0.1:5000> in two windows.
//!
//! The page speaks the wire by itself, so that nothing has to be fetched. The npm package
//! `@microsoft/signalr` takes the same hub:
//! `new HubConnectionBuilder().withUrl("/chat").withAutomaticReconnect().build()`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::response::Html;
use axum::routing::get;
use signalr_server::{Caller, Disconnect, Hub, HubError, HubServer, Methods};

#[derive(Default)]
struct Chat {
    /// Who sits where, by the id of the connection.
    guests: Mutex<HashMap<String, Guest>>,
}

#[derive(Clone)]
struct Guest {
    name: String,
    room: String,
}

impl Hub for Chat {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods.on("Enter", enter).on("Say", say)
    }

    async fn on_disconnected(&self, caller: &Caller<Self>, _: Disconnect) {
        if let Some(guest) = self.take(caller.id()) {
            announce(caller, &guest, "has left");
        }
    }
}

/// Takes a seat in a room, and leaves the one before.
async fn enter(
    chat: Arc<Chat>,
    caller: Caller<Chat>,
    (name, room): (String, String),
) -> Result<usize, HubError> {
    if name.is_empty() || room.is_empty() {
        return Err(HubError::new("a guest and a room have names"));
    }
    if let Some(before) = chat.take(caller.id()) {
        caller.leave(&before.room);
        announce(&caller, &before, "has left");
    }
    let guest = Guest { name, room };
    caller.join(&guest.room);
    announce(&caller, &guest, "is here");
    let count = caller.hub_handle().group(&*guest.room).connections().len();
    chat.seat(caller.id(), guest);
    Ok(count)
}

/// Says something to everybody in the room, the speaker included.
async fn say(chat: Arc<Chat>, caller: Caller<Chat>, text: String) -> Result<(), HubError> {
    let guest = chat
        .guest(caller.id())
        .ok_or_else(|| HubError::new("enter a room first"))?;
    let room = caller.hub_handle().group(guest.room);
    room.push_args("said", &(guest.name, text));
    Ok(())
}

fn announce(caller: &Caller<Chat>, guest: &Guest, what: &str) {
    let others = caller.others_in(&*guest.room);
    others.push("announced", &format!("{} {what}", guest.name));
}

impl Chat {
    fn guest(&self, id: &str) -> Option<Guest> {
        self.guests().get(id).cloned()
    }

    fn seat(&self, id: &str, guest: Guest) {
        self.guests().insert(id.to_owned(), guest);
    }

    fn take(&self, id: &str) -> Option<Guest> {
        self.guests().remove(id)
    }

    fn guests(&self) -> std::sync::MutexGuard<'_, HashMap<String, Guest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let page = axum::Router::new().route("/", get(Html(include_str!("page.html"))));
    let hub = HubServer::new(Chat::default()).router("/chat");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
    println!("open http://{}", listener.local_addr()?);
    axum::serve(listener, page.merge(hub)).await
}
