//! What waits to be sent on one connection: bounded, filled from any thread, emptied by the
//! connection's task.
//!
//! Promise: a push either joins the queue, in order, or is refused at once; it never waits and
//! never grows the queue past its limits. A message for this connection alone is written straight
//! into one buffer, so its push costs no allocation; one for many is kept as a reference to bytes
//! that all queues share. Only the first into an empty queue wakes the task.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The connection has ended or is about to. Nothing goes out any more.
    #[error("the connection is closed")]
    Closed,
    /// The client does not read as fast as it is sent to. Try again when it has caught up.
    #[error("the connection's queue is full")]
    Full,
    /// The message can never be sent. A retry fails the same way.
    #[error("the message is {bytes} bytes, the connection takes {bytes_max}")]
    TooLarge {
        /// Its size when encoded.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// How the server wants a connection to end.
#[derive(Debug, Clone)]
pub(crate) struct CloseOrder {
    pub(crate) error: Option<String>,
    pub(crate) allow_reconnect: bool,
    pub(crate) cause: CloseCause,
}

/// Who gave the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCause {
    Application,
    Drain,
    /// A broadcast found the queue full.
    SlowReader,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) messages_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) message_bytes_max: usize,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// The connection's task, when it waits for something to send.
    task: AtomicWaker,
    /// Signalled when something has gone to the network.
    room: Notify,
    limits: Limits,
}

#[derive(Debug)]
struct State {
    is_open: bool,
    /// Whole messages of this connection alone, one after the other.
    buffer: Vec<u8>,
    /// All messages, in order.
    waiting: VecDeque<Piece>,
    /// Bytes of the shared ones among them.
    shared_bytes: usize,
    /// Taken by the task, but not yet gone to the network.
    taken: Load,
    close: Option<CloseOrder>,
}

/// One message in the queue.
#[derive(Debug)]
enum Piece {
    /// In the buffer, up to here.
    Own(usize),
    /// The same bytes wait in other queues too.
    Shared(Bytes),
}

#[derive(Debug, Default, Clone, Copy)]
struct Load {
    messages: usize,
    bytes: usize,
}

/// What the task found in the queue.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// Messages to send, in order.
    Messages(Batch),
    /// The queue is empty and the connection is to end.
    Close(CloseOrder),
}

impl Outbox {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State {
            is_open: true,
            buffer: Vec::new(),
            waiting: VecDeque::new(),
            shared_bytes: 0,
            taken: Load::default(),
            close: None,
        };
        Self {
            state: Mutex::new(state),
            task: AtomicWaker::new(),
            room: Notify::new(),
            limits,
        }
    }

    /// Queues the one message that `write` appends.
    pub(crate) fn push(&self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), PushError> {
        self.enqueue(|state, load| state.append(write, |bytes| self.limits.admit(load, bytes)))
    }

    /// Queues one whole message whose bytes other queues share.
    pub(crate) fn push_shared(&self, message: &Bytes) -> Result<(), PushError> {
        self.enqueue(|state, load| {
            self.limits.admit(load, message.len())?;
            state.shared_bytes += message.len();
            state.waiting.push_back(Piece::Shared(message.clone()));
            Ok(())
        })
    }

    fn enqueue(
        &self,
        add: impl FnOnce(&mut State, Load) -> Result<(), PushError>,
    ) -> Result<(), PushError> {
        let was_empty = {
            let mut state = self.lock();
            if !state.is_open || state.close.is_some() {
                return Err(PushError::Closed);
            }
            let load = state.load();
            if load.messages >= self.limits.messages_max {
                return Err(PushError::Full);
            }
            let was_empty = state.waiting.is_empty();
            add(&mut state, load)?;
            was_empty
        };
        if was_empty {
            self.task.wake();
        }
        Ok(())
    }

    /// Queues a message of the connection's own task, which looks into the queue by itself. Such
    /// messages are few and bounded elsewhere, so no limit holds for them but that of their size.
    ///
    /// Once the application wants the connection to end, nothing is queued any more, the answer to
    /// the very call that wants it included: the client is told of the end alone.
    pub(crate) fn push_own(&self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), PushError> {
        let mut state = self.lock();
        let is_ended = state
            .close
            .as_ref()
            .is_some_and(|order| order.cause == CloseCause::Application);
        if !state.is_open || is_ended {
            return Err(PushError::Closed);
        }
        state.append(write, |bytes| self.limits.admit(Load::default(), bytes))
    }

    /// Ends the connection once everything queued so far is sent. The first order stands.
    pub(crate) fn close(&self, order: CloseOrder) {
        let mut state = self.lock();
        if state.is_open && state.close.is_none() {
            state.close = Some(order);
            drop(state);
            self.task.wake();
        }
    }

    /// Refuses everything from now on, and gives what was still waiting.
    pub(crate) fn shut(&self) -> Vec<u8> {
        let waiting = {
            let mut state = self.lock();
            state.is_open = false;
            state.take()
        };
        self.room.notify_waiters();
        waiting.rest()
    }

    pub(crate) fn is_open(&self) -> bool {
        let state = self.lock();
        state.is_open && state.close.is_none()
    }

    pub(crate) fn is_full(&self) -> bool {
        let load = self.lock().load();
        load.messages >= self.limits.messages_max || load.bytes >= self.limits.bytes_max
    }

    /// How many messages and bytes wait or are on their way to the network.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let load = self.lock().load();
        (load.messages, load.bytes)
    }

    /// Takes all that waits. To be called by the connection's task alone.
    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<Waiting> {
        // Registered before looking: a push after the look finds the waker.
        self.task.register(context.waker());
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            let batch = state.take();
            state.taken.messages += batch.pieces.len();
            state.taken.bytes += batch.bytes_left;
            return Poll::Ready(Waiting::Messages(batch));
        }
        match &state.close {
            Some(order) => Poll::Ready(Waiting::Close(order.clone())),
            None => Poll::Pending,
        }
    }

    /// Finds only the order to end, passing over what waits: it cannot be sent. To be called by
    /// the connection's task alone.
    pub(crate) fn poll_close(&self, context: &Context<'_>) -> Poll<CloseOrder> {
        self.task.register(context.waker());
        let order = self.lock().close.clone();
        order.map_or(Poll::Pending, Poll::Ready)
    }

    /// Makes room for what has gone to the network.
    pub(crate) fn sent(&self, messages: usize, bytes: usize) {
        {
            let taken = &mut self.lock().taken;
            taken.messages -= messages;
            taken.bytes -= bytes;
        }
        self.room.notify_waiters();
    }

    /// Queues what a stream yields once the queue is less than half full, so that streams leave
    /// room for pushes and go no faster than the client reads.
    pub(crate) async fn push_patiently(
        &self,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), PushError> {
        self.until_half_empty().await;
        let result = self.push_own(write);
        self.task.wake();
        result
    }

    /// Waits until the queue is less than half full, or takes nothing more.
    pub(crate) async fn until_half_empty(&self) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if !self.is_half_full() {
                return;
            }
            room.await;
        }
    }

    fn is_half_full(&self) -> bool {
        let state = self.lock();
        let load = state.load();
        state.is_open
            && (load.messages >= self.limits.messages_max / 2
                || load.bytes >= self.limits.bytes_max / 2)
    }

    /// Nothing here panics while it holds the lock, except what a caller's `write` may do; the
    /// state is then as it was before, or has a message more at its end.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn load(&self) -> Load {
        Load {
            messages: self.taken.messages + self.waiting.len(),
            bytes: self.taken.bytes + self.buffer.len() + self.shared_bytes,
        }
    }

    fn append(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        admit: impl FnOnce(usize) -> Result<(), PushError>,
    ) -> Result<(), PushError> {
        let start = self.buffer.len();
        write(&mut self.buffer);
        if let Err(error) = admit(self.buffer.len() - start) {
            self.buffer.truncate(start);
            return Err(error);
        }
        self.waiting.push_back(Piece::Own(self.buffer.len()));
        Ok(())
    }

    fn take(&mut self) -> Batch {
        let bytes_left = self.buffer.len() + std::mem::take(&mut self.shared_bytes);
        Batch {
            own: Bytes::from(std::mem::take(&mut self.buffer)),
            own_taken: 0,
            pieces: std::mem::take(&mut self.waiting),
            bytes_left,
        }
    }
}

impl Limits {
    /// A message larger than the queue may hold is taken while nothing else waits.
    fn admit(&self, load: Load, bytes: usize) -> Result<(), PushError> {
        if bytes > self.message_bytes_max {
            return Err(PushError::TooLarge {
                bytes,
                bytes_max: self.message_bytes_max,
            });
        }
        if load.bytes > 0 && load.bytes + bytes > self.bytes_max {
            return Err(PushError::Full);
        }
        Ok(())
    }
}

/// Messages taken from the queue, to be cut into frames.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The buffer of the queue.
    own: Bytes,
    /// Bytes of it that were cut off already.
    own_taken: usize,
    pieces: VecDeque<Piece>,
    /// Bytes in all that were not cut off yet.
    bytes_left: usize,
}

/// Some whole messages, to be sent together.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    pub(crate) messages: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Cuts off as many whole messages as fit into `bytes_max`, at least one. Only a frame of
    /// several messages of which some are shared is put together anew; nothing else is copied.
    pub(crate) fn next_frame(&mut self, bytes_max: usize) -> Option<Frame> {
        let mut frame = self.next_run(bytes_max)?;
        if self.fits(frame.bytes.len(), bytes_max) {
            let mut joined = Vec::with_capacity(bytes_max.min(self.bytes_left));
            joined.extend_from_slice(&frame.bytes);
            while self.fits(joined.len(), bytes_max)
                && let Some(more) = self.next_run(bytes_max - joined.len())
            {
                joined.extend_from_slice(&more.bytes);
                frame.messages += more.messages;
            }
            frame.bytes = joined.into();
        }
        self.bytes_left -= frame.bytes.len();
        Some(frame)
    }

    /// Everything not yet cut off.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        let rest = self.next_frame(usize::MAX);
        rest.map_or_else(Vec::new, |frame| frame.bytes.into())
    }

    /// Whether the next message fits behind `bytes`.
    pub(crate) fn fits(&self, bytes: usize, bytes_max: usize) -> bool {
        self.pieces.front().is_some_and(|next| {
            let next = match next {
                Piece::Own(end) => end - self.own_taken,
                Piece::Shared(message) => message.len(),
            };
            bytes + next <= bytes_max
        })
    }

    /// A shared message, or those that lie side by side in the buffer, as many as fit, at least
    /// one.
    fn next_run(&mut self, bytes_max: usize) -> Option<Frame> {
        let mut end = match self.pieces.pop_front()? {
            Piece::Shared(bytes) => return Some(Frame { bytes, messages: 1 }),
            Piece::Own(end) => end,
        };
        let mut messages = 1;
        while let Some(Piece::Own(next)) = self.pieces.front()
            && next - self.own_taken <= bytes_max
        {
            end = *next;
            self.pieces.pop_front();
            messages += 1;
        }
        let start = std::mem::replace(&mut self.own_taken, end);
        let bytes = self.own.slice(start..end);
        Some(Frame { bytes, messages })
    }
}
