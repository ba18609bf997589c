//! Stateful reconnect: what must be kept so that another WebSocket can take over where one was lost (SignalR hub
//! protocol, version 2).
//!
//! Promise: as long as the server resumes, nothing is lost, repeated or reordered in either direction. Sequenced are the
//! messages of types 1 to 5; they are counted from 1, each direction by itself, without the number standing in them.
//! Left out on purpose: dialling, which `connect` does, and timers, which `driver` keeps.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::Closed;
use crate::outbox::Frame;

/// What a new socket begins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    /// Number of the first message that follows.
    pub(crate) first: i64,
    pub(crate) frames: Vec<Frame>,
}

/// The numbers of one logical connection, and what may have to be sent again.
#[derive(Debug)]
pub(crate) struct Resumption {
    state: Mutex<Sequences>,
    acknowledged: Notify,
    times: AtomicU32,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Sequences {
    /// Number of the newest message sent.
    sent: i64,
    /// Frames that hold a message which was not acknowledged, with the number of the last in each.
    unacknowledged: VecDeque<(i64, Frame)>,
    unacknowledged_bytes: usize,
    /// Number of the newest message that came in on this socket, repeated ones counted.
    received: i64,
    /// Number of the newest message that was processed.
    processed: i64,
    /// The newest that the server was told of.
    told: i64,
    /// Until the server says where it begins, what a new socket brings has no number.
    awaits_sequence: bool,
}

impl Resumption {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            acknowledged: Notify::new(),
            times: AtomicU32::new(0),
            bytes_max: bytes_max.max(1),
        }
    }

    /// How often another socket has taken over.
    pub(crate) fn times(&self) -> u32 {
        self.times.load(Ordering::Relaxed)
    }

    /// Keeps a frame that is about to be sent.
    pub(crate) fn keep(&self, frame: &Frame) {
        let mut state = self.lock();
        state.sent += i64::from(frame.messages);
        state.unacknowledged_bytes += frame.bytes.len();
        let last = state.sent;
        state.unacknowledged.push_back((last, frame.clone()));
    }

    /// Whether so much is kept that nothing more may be sent before the server acknowledges some of it.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().unacknowledged_bytes >= self.bytes_max
    }

    /// Waits for an acknowledgement. For the connection's task alone.
    pub(crate) async fn acknowledged(&self) {
        self.acknowledged.notified().await;
    }

    /// The server has everything up to this number. One that makes no sense drops what it can, as official peers do.
    pub(crate) fn on_ack(&self, number: i64) {
        let mut state = self.lock();
        while let Some((last, _)) = state.unacknowledged.front()
            && *last <= number
            && let Some((_, frame)) = state.unacknowledged.pop_front()
        {
            state.unacknowledged_bytes -= frame.bytes.len();
        }
        self.acknowledged.notify_one();
    }

    /// The server says which number its next message has.
    pub(crate) fn on_sequence(&self, number: i64) -> Result<(), Closed> {
        let mut state = self.lock();
        if number > state.received.saturating_add(1) {
            return Err(Closed::Protocol {
                detail: "Sequence ID greater than amount of messages we've received.".into(),
            });
        }
        state.received = number.saturating_sub(1);
        state.awaits_sequence = false;
        Ok(())
    }

    /// Counts a sequenced message that came in. False: it came before, and must be dropped.
    pub(crate) fn on_message(&self) -> bool {
        let mut state = self.lock();
        state.received = state.received.saturating_add(1);
        let is_new = state.received > state.processed;
        if is_new {
            state.processed = state.received;
        }
        is_new
    }

    /// Whether what comes now must be passed over.
    pub(crate) fn awaits_sequence(&self) -> bool {
        self.lock().awaits_sequence
    }

    /// What the server is to be told that we have, if there is news.
    pub(crate) fn due_ack(&self) -> Option<i64> {
        let mut state = self.lock();
        let is_due = state.processed > state.told;
        state.told = state.processed;
        is_due.then_some(state.processed)
    }

    /// Another socket takes over. Must be called before anything comes in on it.
    pub(crate) fn take_over(&self) -> Replay {
        self.times.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        state.awaits_sequence = true;
        // The last acknowledgement may have gone down with the socket.
        state.told = 0;
        let frames: Vec<_> = state
            .unacknowledged
            .iter()
            .map(|(_, frame)| frame.clone())
            .collect();
        let again: i64 = frames.iter().map(|frame| i64::from(frame.messages)).sum();
        let first = state.sent - again + 1;
        Replay { first, frames }
    }

    fn lock(&self) -> MutexGuard<'_, Sequences> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str, messages: u32) -> Frame {
        Frame {
            bytes: text.as_bytes().to_vec(),
            messages,
        }
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_from_its_first_number() {
        let resumption = Resumption::new(100);
        resumption.keep(&frame("ab", 2));
        resumption.keep(&frame("c", 1));
        assert_eq!(resumption.take_over().first, 1);
        // Part of a frame does not count: the rest of it must come again, and the server drops what it has.
        resumption.on_ack(1);
        assert_eq!(resumption.take_over().first, 1);
        resumption.on_ack(2);
        let replay = |first, frames| Replay { first, frames };
        assert_eq!(resumption.take_over(), replay(3, vec![frame("c", 1)]));
        resumption.on_ack(99);
        assert_eq!(resumption.take_over(), replay(4, vec![]));
        assert_eq!(resumption.times(), 4);
    }

    #[test]
    fn repeated_messages_are_told_by_their_number() {
        let resumption = Resumption::new(100);
        assert!(resumption.on_message() && resumption.on_message());
        resumption.take_over();
        assert!(resumption.awaits_sequence());
        resumption.on_sequence(2).unwrap();
        assert!(!resumption.awaits_sequence());
        assert!(!resumption.on_message());
        assert!(resumption.on_message());
        assert!(resumption.on_sequence(5).is_err());
        assert!(resumption.on_sequence(4).is_ok());
        assert!(resumption.on_sequence(i64::MIN).is_ok());
    }

    #[test]
    fn each_acknowledgement_is_due_once_and_again_after_a_loss() {
        let resumption = Resumption::new(100);
        assert_eq!(resumption.due_ack(), None);
        resumption.on_message();
        assert_eq!(resumption.due_ack(), Some(1));
        assert_eq!(resumption.due_ack(), None);
        resumption.take_over();
        assert_eq!(resumption.due_ack(), Some(1));
    }

    #[test]
    fn it_is_full_until_enough_was_acknowledged() {
        let resumption = Resumption::new(3);
        resumption.keep(&frame("abcd", 1));
        assert!(resumption.is_full());
        resumption.on_ack(1);
        assert!(!resumption.is_full());
    }
}
