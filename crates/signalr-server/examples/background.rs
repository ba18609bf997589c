//! A background task that pushes to whoever is connected, and a shutdown that sends clients
//! elsewhere first.
//!
//! `cargo run -p signalr-server --example background`, connect a SignalR client to
//! <http://127.0.0.1:5000/clock> and listen to `tick`. Ctrl-C ends it.

use std::time::Duration;

use signalr_server::{Hub, HubHandle, HubServer, Methods, WhenFull};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Nothing to call: this hub only speaks.
struct Clock;

impl Hub for Clock {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods
    }
}

async fn tick(hub: HubHandle) {
    let start = Instant::now();
    // The next tick makes up for one that is missed, so a slow client may miss some and stay.
    let everybody = hub.all().when_full(WhenFull::SkipMessage);
    let mut every_second = interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        every_second.tick().await;
        let reach = everybody.push("tick", &start.elapsed().as_secs());
        if !reach.is_complete() {
            eprintln!("not everybody took this tick: {reach:?}");
        }
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let server = HubServer::new(Clock);
    let hub = server.handle();
    tokio::spawn(tick(hub.clone()));
    let app: axum::Router = server.router("/clock");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
    tokio::select! {
        ended = axum::serve(listener, app) => ended,
        _ = tokio::signal::ctrl_c() => {
            // Clients with automatic reconnect come back to another server, not all at once.
            hub.drain(Duration::from_secs(2)).await;
            Ok(())
        }
    }
}
