//! Where another WebSocket waits to take over a connection that lost its own.

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
    /// Whether the connection can be taken over: not before it has shaken hands, and not when it is
    /// over.
    is_open: bool,
    socket: Option<Box<WebSocket>>,
}

impl Takeover {
    /// Takeovers are possible from now on.
    pub(crate) fn open(&self) {
        self.lock().is_open = true;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// Hands over a WebSocket. Of several the newest counts; one that comes too late is dropped,
    /// which its client sees.
    pub(crate) fn give(&self, socket: Box<WebSocket>) {
        let mut state = self.lock();
        if state.is_open {
            state.socket = Some(socket);
            drop(state);
            self.session.wake();
        }
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
        state.is_open = false;
        state.socket = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
