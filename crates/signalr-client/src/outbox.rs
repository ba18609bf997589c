//! What waits to be sent on one connection: filled from any task, emptied by the connection's own.
//!
//! Promise: messages leave in the order they were put in, whole, and as many as fit share a frame, so that a burst costs
//! few system calls. A sender waits while too much is waiting already; nothing is dropped before the connection ends.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The connection takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotOpen;

/// What the connection's task does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Send(Frame),
    /// Everything was sent, and the connection is to be closed.
    Close,
}

/// Whole hub messages that leave together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) messages: u32,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Wakes the connection's task.
    filled: Notify,
    /// Wakes senders that wait for room.
    emptied: Notify,
    bytes_max: usize,
    frame_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    phase: Phase,
    /// Nothing is left to send but the goodbye, and that is under way.
    says_goodbye: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Closing,
    Ended,
}

impl Outbox {
    /// `frame_bytes` is how much may share a frame.
    pub(crate) fn new(bytes_max: usize, frame_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            bytes_max: bytes_max.max(1),
            frame_bytes,
        }
    }

    /// Puts a whole hub message in line, after waiting for room. Dropped while it waits, it leaves nothing.
    pub(crate) async fn push(&self, message: &[u8]) -> Result<(), NotOpen> {
        loop {
            let emptied = self.emptied.notified();
            {
                let mut state = self.lock();
                if state.phase != Phase::Open || state.bytes < self.bytes_max {
                    return self.append(&mut state, message);
                }
            }
            emptied.await;
        }
    }

    /// Puts a whole hub message in line without waiting. For what is small and must not be lost.
    pub(crate) fn push_at_once(&self, message: &[u8]) -> Result<(), NotOpen> {
        self.append(&mut self.lock(), message)
    }

    fn append(&self, state: &mut State, message: &[u8]) -> Result<(), NotOpen> {
        if state.phase != Phase::Open {
            return Err(NotOpen);
        }
        state.bytes += message.len();
        match state.frames.back_mut() {
            Some(frame) if frame.bytes.len() + message.len() <= self.frame_bytes => {
                frame.bytes.extend_from_slice(message);
                frame.messages += 1;
            }
            _ => state.frames.push_back(Frame {
                bytes: message.to_vec(),
                messages: 1,
            }),
        }
        self.filled.notify_one();
        Ok(())
    }

    /// Takes no more; what is in line still goes out.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
            self.filled.notify_one();
            self.emptied.notify_waiters();
        }
    }

    /// Everything was sent, or never will be, and the goodbye is under way.
    pub(crate) fn begin_goodbye(&self) {
        self.lock().says_goodbye = true;
    }

    pub(crate) fn says_goodbye(&self) -> bool {
        self.lock().says_goodbye
    }

    /// The connection is over; what is in line is dropped.
    pub(crate) fn end(&self) {
        *self.lock() = State {
            phase: Phase::Ended,
            ..State::default()
        };
        self.emptied.notify_waiters();
    }

    /// Waits for something to do. For the connection's task alone; dropped while it waits, it takes nothing.
    pub(crate) async fn next(&self) -> Next {
        loop {
            let filled = self.filled.notified();
            if let Some(next) = self.take() {
                return next;
            }
            filled.await;
        }
    }

    /// Waits until somebody wants the connection closed. For the connection's task alone.
    pub(crate) async fn closing(&self) {
        loop {
            let filled = self.filled.notified();
            if self.lock().phase != Phase::Open {
                return;
            }
            filled.await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut state = self.lock();
        match state.frames.pop_front() {
            Some(frame) => {
                state.bytes -= frame.bytes.len();
                self.emptied.notify_waiters();
                Some(Next::Send(frame))
            }
            None => (state.phase == Phase::Closing).then_some(Next::Close),
        }
    }

    /// Every change is complete when the lock is let go, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Beyond this a frame saves no system calls and only delays the first message in it.
pub(crate) const FRAME_BYTES: usize = 64 * 1024;

/// The same where another socket may take over: a cut inside a longer frame spoils the takeover at ASP.NET Core.
pub(crate) const RESUMABLE_FRAME_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn sends(bytes: &[u8], messages: u32) -> Next {
        let bytes = bytes.to_vec();
        Next::Send(Frame { bytes, messages })
    }

    #[tokio::test]
    async fn messages_that_wait_together_leave_in_one_frame_and_in_order() {
        let outbox = Outbox::new(1024, FRAME_BYTES);
        for message in ["a", "b", "c"] {
            outbox.push(message.as_bytes()).await.unwrap();
        }
        assert_eq!(outbox.next().await, sends(b"abc", 3));
        assert!(outbox.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_frame_never_holds_part_of_a_message() {
        let outbox = Outbox::new(usize::MAX, FRAME_BYTES);
        let (small, large) = (vec![1; 10], vec![2; FRAME_BYTES]);
        for message in [&small, &large, &small] {
            outbox.push(message).await.unwrap();
        }
        for message in [small.clone(), large, small] {
            assert_eq!(outbox.next().await, sends(&message, 1));
        }
    }

    #[tokio::test]
    async fn a_sender_waits_for_room_and_goes_on_when_there_is_some() {
        let outbox = Outbox::new(2, FRAME_BYTES);
        outbox.push(b"12").await.unwrap();
        let mut second = Box::pin(outbox.push(b"3"));
        assert!(second.as_mut().now_or_never().is_none());
        outbox.next().await;
        second.await.unwrap();
        assert_eq!(outbox.next().await, sends(b"3", 1));
    }

    #[tokio::test]
    async fn a_closing_outbox_sends_what_it_has_and_takes_no_more() {
        let outbox = Outbox::new(2, FRAME_BYTES);
        outbox.push(b"12").await.unwrap();
        let mut waiting = Box::pin(outbox.push(b"3"));
        assert!(waiting.as_mut().now_or_never().is_none());
        outbox.close();
        assert_eq!(waiting.await, Err(NotOpen));
        assert_eq!(outbox.push_at_once(b"4"), Err(NotOpen));
        assert_eq!(outbox.next().await, sends(b"12", 1));
        assert_eq!(outbox.next().await, Next::Close);
    }
}
