//! What carries a connection, under its session: chunks in, frames out.
//!
//! A session is written once; what differs between a WebSocket and a handful of HTTP requests is
//! in here.

mod http;
mod socket;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use bytes::Bytes;
use signalr_protocol::negotiate::Transport;

use crate::link::Link;
use http::HttpWire;
use socket::SocketWire;

pub(crate) struct Wire(Carrier);

enum Carrier {
    Socket(SocketWire),
    /// Boxed, because most connections are WebSockets.
    Http(Box<HttpWire>),
    /// Nothing, until the client comes back.
    Lost,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// Everything written has gone to the network, or somebody has come to take a frame.
    Flushed,
    /// Some bytes, cut anywhere.
    Received(Bytes),
    /// The client closed the WebSocket in order.
    Closed,
    /// The client asked over HTTP to end the connection.
    Deleted,
    /// The WebSocket is broken.
    Failed(Failure),
}

/// How a WebSocket broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing can be sent or received.
    Lost,
    /// The client sent a message over the limit. Sending still works.
    TooLarge,
    /// The client broke the WebSocket protocol; to be closed with this code.
    Violated(CloseCode),
}

/// Close codes of RFC 6455, section 7.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCode {
    Normal = 1000,
    Protocol = 1002,
    NotUtf8 = 1007,
}

impl Wire {
    pub(crate) fn socket(socket: Box<WebSocket>) -> Self {
        Self(Carrier::Socket(SocketWire::new(socket)))
    }

    /// Over requests; without a poll for `idle_max` the client is gone.
    pub(crate) fn http(link: Arc<Link>, idle_max: Duration) -> Self {
        Self(Carrier::Http(Box::new(HttpWire::new(link, idle_max))))
    }

    /// What is left when a WebSocket is lost; dropping that sends no Close frame.
    pub(crate) fn lost() -> Self {
        Self(Carrier::Lost)
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.0, Carrier::Lost)
    }

    pub(crate) fn transport(&self) -> Transport {
        match &self.0 {
            Carrier::Socket(_) | Carrier::Lost => Transport::WebSockets,
            Carrier::Http(wire) => wire.transport(),
        }
    }

    /// Whether somebody is there to take a frame. One that is written nevertheless waits.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.0 {
            Carrier::Socket(_) => true,
            Carrier::Http(wire) => wire.is_ready(),
            Carrier::Lost => false,
        }
    }

    pub(crate) fn is_flushing(&self) -> bool {
        match &self.0 {
            Carrier::Socket(wire) => wire.is_flushing(),
            Carrier::Http(wire) => wire.is_flushing(),
            Carrier::Lost => false,
        }
    }

    /// Frames are binary from now on, as they must be for what is no text.
    pub(crate) fn become_binary(&mut self) {
        match &mut self.0 {
            Carrier::Socket(wire) => wire.become_binary(),
            // Bodies have no kind.
            Carrier::Http(_) | Carrier::Lost => {}
        }
    }

    /// Writes one frame, to be flushed by [`Wire::event`]. Only to be called when nothing is
    /// flushing, so that no more than one frame is ever buffered.
    pub(crate) fn start_send(&mut self, frame: Bytes) -> Result<(), Failure> {
        match &mut self.0 {
            Carrier::Socket(wire) => wire.start_send(frame),
            Carrier::Http(wire) => {
                wire.start_send(frame);
                Ok(())
            }
            Carrier::Lost => Err(Failure::Lost),
        }
    }

    /// Waits for the next thing to happen. With `is_reading` unset, only for the flush and the end.
    /// Nothing is lost when the wait is given up.
    pub(crate) async fn event(&mut self, is_reading: bool) -> Event {
        poll_fn(|context| match &mut self.0 {
            Carrier::Socket(wire) => wire.poll_event(context, is_reading),
            Carrier::Http(wire) => wire.poll_event(context, is_reading),
            Carrier::Lost => Poll::Pending,
        })
        .await
    }

    /// Sends what is left, closes, and waits for the client to do so too, reading nothing.
    pub(crate) async fn close(
        self,
        last: Bytes,
        code: CloseCode,
        send_timeout: Duration,
        close_timeout: Duration,
    ) {
        match self.0 {
            Carrier::Socket(wire) => wire.close(last, code, send_timeout, close_timeout).await,
            Carrier::Http(wire) => wire.close(last, send_timeout, close_timeout).await,
            Carrier::Lost => {}
        }
    }
}
