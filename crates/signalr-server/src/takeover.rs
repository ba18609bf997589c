//! Where another WebSocket waits to take over a connection that lost its own.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::extract::ws::WebSocket;
use futures_util::task::AtomicWaker;

/// Between the request that brings the WebSocket and the connection's session.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    state: Mutex<State>,
    session: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the connection cannot be taken over any more: it is over, or its client has chosen
    /// a protocol without it.
    is_closed: bool,
    socket: Option<Box<WebSocket>>,
}

impl Takeover {
    pub(crate) fn is_open(&self) -> bool {
        !self.lock().is_closed
    }

    /// Hands over a WebSocket. Of several the newest counts; one that comes too late is dropped,
    /// which its client sees.
    pub(crate) fn give(&self, socket: Box<WebSocket>) {
        let mut state = self.lock();
        if !state.is_closed {
            state.socket = Some(socket);
            drop(state);
            self.session.wake();
        }
    }

    /// The next WebSocket that takes over. Nothing is lost when the wait is given up.
    pub(crate) async fn taken(&self) -> Box<WebSocket> {
        poll_fn(|context| self.poll_take(context)).await
    }

    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<Box<WebSocket>> {
        // Registered before looking: one given after the look finds the waker.
        self.session.register(context.waker());
        match self.lock().socket.take() {
            Some(socket) => Poll::Ready(socket),
            None => Poll::Pending,
        }
    }

    /// Takeovers are possible no more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.socket = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
