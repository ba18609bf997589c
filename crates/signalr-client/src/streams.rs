//! Streams of the server: items as they come, cancelled when nobody reads them any more.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use serde::de::DeserializeOwned;
use signalr_protocol::Raw;

use crate::CallError;
use crate::connection::Held;
use crate::uploads::Uploads;

/// The items of a streaming method, in order. It ends after the last, or with the error that ended it.
///
/// Dropped before its end, it tells the server to stop. It keeps its connection open. What nobody reads is held up to
/// [`Options::stream_bytes_max`](crate::Options::stream_bytes_max), after which nothing more is read from the network.
pub struct Streaming<T> {
    held: Arc<Held>,
    id: u64,
    queue: Arc<Queue>,
    uploads: Uploads,
    is_over: bool,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Streaming<T> {
    pub(crate) fn new(held: Arc<Held>, id: u64, queue: Arc<Queue>, uploads: Uploads) -> Self {
        Self {
            held,
            id,
            queue,
            uploads,
            // Nothing is left to cancel until the call is in line.
            is_over: true,
            item: PhantomData,
        }
    }

    /// The call is in line.
    pub(crate) fn began(&mut self, uploads: Uploads) {
        self.uploads = uploads;
        self.is_over = false;
    }

    /// The next item; `None` after the last. Dropped while it waits, it loses nothing.
    ///
    /// # Errors
    ///
    /// [`CallError::Result`] for an item that is not of the type asked for, after which the stream goes on;
    /// [`CallError::Failed`] and [`CallError::Closed`] are its end.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn end(&mut self, end: End) -> Option<Result<T, CallError>> {
        self.is_over = true;
        self.uploads.answered();
        match end {
            End::Completed => None,
            End::Failed(error) => Some(Err(CallError::Failed(error))),
            End::Lost => Some(Err(self.held.shared.why_closed().into())),
        }
    }
}

impl<T: DeserializeOwned> Stream for Streaming<T> {
    type Item = Result<T, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(self.queue.poll_next(context));
        match next {
            Next::Item(item) => {
                self.held.shared.calls.was_read(weight(&item));
                Poll::Ready(Some(item.read().map_err(CallError::from)))
            }
            Next::End(end) => Poll::Ready(self.end(end)),
        }
    }
}

impl<T> Drop for Streaming<T> {
    fn drop(&mut self) {
        let shared = &self.held.shared;
        shared.calls.forget_stream(self.id, &self.queue);
        if !self.is_over && !self.queue.has_ended() {
            // On a connection that is gone nothing is left to cancel.
            let message = shared.codec.cancel(&self.id.to_string());
            let _ = shared.outbox.push_at_once(&message);
        }
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming")
            .field("id", &self.id)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    Failed(String),
    /// The connection went first.
    Lost,
}

/// What has come for one stream and was not read yet. Its size is watched by `Calls`.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Raw<'static>>,
    end: Option<End>,
    reader: Option<Waker>,
}

enum Next {
    Item(Raw<'static>),
    End(End),
}

impl Queue {
    /// Says what it costs to hold the item.
    pub(crate) fn push(&self, item: Raw<'static>) -> usize {
        let mut state = self.lock();
        let bytes = weight(&item);
        state.items.push_back(item);
        state.wake();
        bytes
    }

    pub(crate) fn end(&self, end: End) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        state.wake();
    }

    fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Drops what was not read, and says what it cost.
    pub(crate) fn clear(&self) -> usize {
        let items = std::mem::take(&mut self.lock().items);
        items.iter().map(weight).sum()
    }

    fn poll_next(&self, context: &Context<'_>) -> Poll<Next> {
        let mut state = self.lock();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Next::Item(item));
        }
        match state.end.clone() {
            Some(end) => Poll::Ready(Next::End(end)),
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

fn weight(item: &Raw<'static>) -> usize {
    size_of::<Raw<'static>>() + item.as_bytes().len()
}
