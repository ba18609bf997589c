//! How bytes reach the server: one seam for every transport.
//!
//! A transport is a pair of halves that are used side by side by one task. `receive` may be dropped while it waits and
//! loses nothing; `send` carries whole hub messages. Left out so far: server-sent events and long polling, each of which
//! will be another variant here, chosen in `connect`.

mod websocket;

use bytes::Bytes;

use crate::Closed;
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
}

#[derive(Debug)]
pub(crate) enum Sender {
    WebSocket(websocket::Sender),
}

impl Receiver {
    /// Bytes from the server, cut anywhere; `None` when it has ended the transport in order.
    pub(crate) async fn receive(&mut self) -> Result<Option<Bytes>, Closed> {
        match self {
            Self::WebSocket(receiver) => receiver.receive().await,
        }
    }
}

impl Sender {
    /// Sends whole hub messages. Dropped while it waits, the connection is no longer usable.
    pub(crate) async fn send(&mut self, frame: Vec<u8>) -> Result<(), Closed> {
        match self {
            Self::WebSocket(sender) => sender.send(frame).await,
        }
    }

    /// Ends the transport in order. What goes wrong no longer matters.
    pub(crate) async fn close(&mut self) {
        match self {
            Self::WebSocket(sender) => sender.close().await,
        }
    }
}
