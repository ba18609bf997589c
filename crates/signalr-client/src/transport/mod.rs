//! How bytes reach the server: one seam for every transport.
//!
//! A transport is a pair of halves that are used side by side by one task. `receive` may be dropped while it waits and
//! loses nothing; `send` carries whole hub messages. Which one is used is decided in `connect`.

mod long_polling;
mod requests;
mod server_sent_events;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;

use crate::Closed;
pub(crate) use long_polling::connect as connect_long_polling;
pub(crate) use requests::{Requests, X_REQUESTED_WITH};
pub(crate) use server_sent_events::connect as connect_server_sent_events;
pub(crate) use websocket::connect as connect_websocket;

/// A live transport.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) receiver: Receiver,
    pub(crate) sender: Sender,
}

#[derive(Debug)]
pub(crate) enum Receiver {
    WebSocket(websocket::Receiver),
    Events(server_sent_events::Receiver),
    Polls(long_polling::Receiver),
}

#[derive(Debug)]
pub(crate) enum Sender {
    WebSocket(websocket::Sender),
    Posts(Poster),
}

/// The way up of the transports made of HTTP requests.
#[derive(Debug)]
pub(crate) struct Poster {
    requests: Arc<Requests>,
    /// Whether the end is asked for: a chain of polls does not end by itself.
    deletes: bool,
}

impl Receiver {
    /// Bytes from the server, cut anywhere; `None` when it has ended the transport in order.
    pub(crate) async fn receive(&mut self) -> Result<Option<Bytes>, Closed> {
        match self {
            Self::WebSocket(receiver) => receiver.receive().await,
            Self::Events(receiver) => receiver.receive().await,
            Self::Polls(receiver) => receiver.receive().await,
        }
    }
}

impl Sender {
    /// Sends whole hub messages. Dropped while it waits, the connection is no longer usable.
    pub(crate) async fn send(&mut self, frame: Vec<u8>) -> Result<(), Closed> {
        match self {
            Self::WebSocket(sender) => sender.send(frame).await,
            Self::Posts(poster) => poster.requests.post(frame).await,
        }
    }

    /// Ends the transport in order. What goes wrong no longer matters.
    pub(crate) async fn close(&mut self) {
        match self {
            Self::WebSocket(sender) => sender.close().await,
            Self::Posts(poster) if poster.deletes => poster.requests.delete().await,
            Self::Posts(_) => {}
        }
    }
}

impl Poster {
    fn new(requests: Arc<Requests>, deletes: bool) -> Self {
        Self { requests, deletes }
    }
}
