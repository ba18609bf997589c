//! The WebSocket under a session: one flush a frame.
//!
//! Reading and flushing go on side by side, so that a client that writes much before it reads
//! does not lock up. Frame types are ignored on reading, as the official server ignores them.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::time;
use tokio_tungstenite::tungstenite;

use super::{CloseCode, Event, Failure};

pub(super) struct SocketWire {
    /// Boxed, because a wire is handed on, and a future has room for it at each hand.
    socket: Box<WebSocket>,
    /// A frame was written and may not have gone to the network entirely.
    is_flushing: bool,
    is_binary: bool,
}

impl SocketWire {
    pub(super) fn new(socket: Box<WebSocket>) -> Self {
        Self {
            socket,
            is_flushing: false,
            is_binary: false,
        }
    }

    pub(super) fn is_flushing(&self) -> bool {
        self.is_flushing
    }

    /// Frames are binary from now on, as they must be for what is no text.
    pub(super) fn become_binary(&mut self) {
        self.is_binary = true;
    }

    /// Writes one frame, to be flushed by [`SocketWire::poll_event`]. Only to be called when nothing is
    /// flushing, so that no more than one frame is ever buffered.
    pub(super) fn start_send(&mut self, frame: Bytes) -> Result<(), Failure> {
        debug_assert!(!self.is_flushing, "one frame at a time");
        let message = match self.is_binary {
            true => Message::Binary(frame),
            // Encoders write text; what is no text came from a caller who broke a promise.
            false => Message::Text(Utf8Bytes::try_from(frame).map_err(|_| Failure::Lost)?),
        };
        self.is_flushing = true;
        Pin::new(&mut *self.socket)
            .start_send(message)
            .map_err(|error| classify(&error))
    }

    async fn event(&mut self, is_reading: bool) -> Event {
        poll_fn(|context| self.poll_event(context, is_reading)).await
    }

    pub(super) fn poll_event(
        &mut self,
        context: &mut Context<'_>,
        is_reading: bool,
    ) -> Poll<Event> {
        if self.is_flushing
            && let Poll::Ready(result) = Pin::new(&mut *self.socket).poll_flush(context)
        {
            self.is_flushing = false;
            return Poll::Ready(match result {
                Ok(()) => Event::Flushed,
                Err(error) => Event::Failed(classify(&error)),
            });
        }
        if !is_reading {
            return Poll::Pending;
        }
        self.poll_receive(context)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        loop {
            let message = ready!(Pin::new(&mut *self.socket).poll_next(context));
            return Poll::Ready(match message {
                Some(Ok(Message::Text(text))) => Event::Received(text.into()),
                Some(Ok(Message::Binary(bytes))) => Event::Received(bytes),
                // Answered below this layer.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_))) | None => Event::Closed,
                Some(Err(error)) => Event::Failed(classify(&error)),
            });
        }
    }

    /// Sends what is left, closes, and waits for the client to do so too, reading nothing.
    pub(super) async fn close(
        mut self,
        last: Bytes,
        code: CloseCode,
        send_timeout: Duration,
        close_timeout: Duration,
    ) {
        let sent = time::timeout(send_timeout, self.send_last(last, code)).await;
        if matches!(sent, Ok(true)) {
            let _ = time::timeout(close_timeout, self.until_closed()).await;
        }
    }

    async fn send_last(&mut self, last: Bytes, code: CloseCode) -> bool {
        if self.is_flushing && matches!(self.event(false).await, Event::Failed(_)) {
            return false;
        }
        if !last.is_empty()
            && (self.start_send(last).is_err()
                || matches!(self.event(false).await, Event::Failed(_)))
        {
            return false;
        }
        let frame = CloseFrame {
            code: code as u16,
            reason: Utf8Bytes::from_static(""),
        };
        // Fails when the client's Close frame came first: that was answered already.
        let socket = &mut *self.socket;
        let _ = Pin::new(&mut *socket).start_send(Message::Close(Some(frame)));
        poll_fn(|context| Pin::new(&mut *socket).poll_flush(context))
            .await
            .is_ok()
    }

    /// What still comes is dropped; without reading it, the Close frame behind it never arrives.
    async fn until_closed(&mut self) {
        while let Event::Received(_) | Event::Flushed = self.event(true).await {}
    }
}

fn classify(error: &axum::Error) -> Failure {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError;

    let error = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match error {
        Some(Error::Capacity(_)) => Failure::TooLarge,
        Some(Error::Utf8(_)) => Failure::Violated(CloseCode::NotUtf8),
        Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Failure::Lost,
        Some(Error::Protocol(_)) => Failure::Violated(CloseCode::Protocol),
        _ => Failure::Lost,
    }
}
