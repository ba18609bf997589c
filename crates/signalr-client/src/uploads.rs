//! Streams that go up as arguments of a call.
//!
//! Promise: items leave in order, as fast as the connection takes them; an upload ends when its call is answered, when
//! nobody waits for the answer any more, or with the connection.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use signalr_protocol::Raw;
use tokio::sync::watch;

use crate::connection::Shared;
use crate::{CallError, Encoding, args};

/// The items of one upload, written already, or why it fails.
pub(crate) type Items = BoxStream<'static, Result<Raw<'static>, String>>;

pub(crate) fn items<S>(encoding: Encoding, stream: S) -> Items
where
    S: Stream + Send + 'static,
    S::Item: Serialize,
{
    stream.map(move |item| write(encoding, &item)).boxed()
}

pub(crate) fn try_items<S, T, E>(encoding: Encoding, stream: S) -> Items
where
    S: Stream<Item = Result<T, E>> + Send + 'static,
    T: Serialize,
    E: fmt::Display,
{
    let written = stream.map(move |item| match item {
        Ok(item) => write(encoding, &item),
        Err(error) => Err(error.to_string()),
    });
    written.boxed()
}

fn write(encoding: Encoding, item: &impl Serialize) -> Result<Raw<'static>, String> {
    args::write(encoding, item).map_err(|error| error.to_string())
}

/// What has become of the call that the uploads belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Runs,
    /// The server wants nothing more.
    Answered,
    /// Nobody waits for the answer any more.
    Abandoned,
}

/// The uploads of one call. Dropped before the answer, it ends them.
#[derive(Debug)]
pub(crate) struct Uploads {
    call: Option<watch::Sender<Call>>,
}

impl Uploads {
    pub(crate) fn none() -> Self {
        Self { call: None }
    }

    /// Sends the items of each stream under its id. The call itself must be in line already.
    pub(crate) fn start(shared: &Arc<Shared>, ids: Vec<String>, streams: Vec<Items>) -> Self {
        if streams.is_empty() {
            return Self::none();
        }
        let sender = watch::Sender::new(Call::Runs);
        for (id, items) in ids.into_iter().zip(streams) {
            tokio::spawn(upload(Arc::clone(shared), id, items, sender.subscribe()));
        }
        Self { call: Some(sender) }
    }

    pub(crate) fn answered(&mut self) {
        if let Some(call) = self.call.take() {
            call.send_replace(Call::Answered);
        }
    }

    /// For a call without an answer: the uploads run to their end.
    pub(crate) fn detach(mut self, shared: &Arc<Shared>) {
        if let Some(call) = self.call.take() {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                tokio::select! {
                    () = call.closed() => {}
                    _ = shared.ended() => {}
                }
            });
        }
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            call.send_replace(Call::Abandoned);
        }
    }
}

async fn upload(shared: Arc<Shared>, id: String, items: Items, mut call: watch::Receiver<Call>) {
    let last = tokio::select! {
        biased;
        _ = shared.ended() => return,
        over = call.wait_for(|call| *call != Call::Runs) => match over.as_deref() {
            Ok(Call::Abandoned) => shared.codec.failure(&id, ABANDONED),
            _ => return,
        },
        sent = send_all(&shared, &id, items) => match sent {
            Ok(()) => shared.codec.end(&id),
            Err(Fault::Source(error)) => shared.codec.failure(&id, &error),
            Err(Fault::Connection) => return,
        },
    };
    let _ = shared.send(&last).await;
}

/// Why an upload stops before its end.
enum Fault {
    /// The stream failed, or gave what cannot be sent.
    Source(String),
    Connection,
}

async fn send_all(shared: &Shared, id: &str, mut items: Items) -> Result<(), Fault> {
    while let Some(item) = items.next().await {
        let item = item.map_err(Fault::Source)?;
        let message = shared.codec.item(id, item);
        match shared.send(&message).await {
            Ok(()) => {}
            Err(error @ CallError::TooLarge { .. }) => {
                return Err(Fault::Source(error.to_string()));
            }
            Err(_) => return Err(Fault::Connection),
        }
    }
    Ok(())
}

/// What the server's method is told about a stream whose call was dropped.
const ABANDONED: &str = "The call was abandoned.";
