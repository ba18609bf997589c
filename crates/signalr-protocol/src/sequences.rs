//! Stateful reconnect: what must be kept so that another WebSocket can take over where one was lost (SignalR hub
//! protocol, version 2, messages Ack and Sequence). The same books serve both ends. The specification's text has Sequence
//! carry the number of the next new message; every shipped implementation sends that of the first unacknowledged one,
//! the replay only lines up that way, and so does this.
//!
//! Promise: as long as the peer keeps its own books, nothing is lost, repeated or reordered in either direction.
//! Sequenced are the messages of types 1 to 5; each direction counts its own from 1, without the number standing in
//! them. Whatever the peer claims costs at most the connection: no number of its makes us panic or keep more.
//!
//! Left out on purpose: sockets, locks and timers. The caller keeps the books under whatever lock it has, asks
//! [`Sequences::due_ack`] about once a second, and stops sending while [`Sequences::is_full`].
//!
//! ```
//! use signalr_protocol::{HubMessage, Incoming, Sequences, json, Reader};
//!
//! let mut sequences = Sequences::<&[u8]>::default();
//! // Everything sequenced is kept before it is written.
//! let frame = b"{\"type\":1,\"target\":\"a\",\"arguments\":[]}\x1e";
//! sequences.keep(frame, frame.len(), 1);
//! // Everything that comes in is put before the books first.
//! let message = json::decode(br#"{"type":1,"target":"b","arguments":[]}"#, Reader::Client).unwrap().unwrap();
//! assert_eq!(sequences.receive(&message), Ok(Incoming::New));
//! assert_eq!(sequences.due_ack(), Some(1));
//! // The socket is lost: the new one begins with Sequence and the replay.
//! let replay = sequences.take_over();
//! assert_eq!((replay.first, replay.frames.len()), (1, 1));
//! // The peer says where it begins, and what it sends again is known by its number.
//! assert_eq!(sequences.receive(&HubMessage::Sequence { sequence_id: 1 }), Ok(Incoming::PassOver));
//! assert_eq!(sequences.receive(&message), Ok(Incoming::PassOver), "it came on the old socket");
//! ```

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::HubMessage;

/// The numbers of one logical connection at one end, and what may have to be sent again.
///
/// `F` is what is kept for a replay: one message, or a frame of several that were written together. A frame is let
/// go when the last of its messages is acknowledged, so an end that wants to let go message by message keeps each by
/// itself and joins them when it writes. Cheap to clone it should be (`Bytes`, `Arc<[u8]>`), because a replay may itself
/// be lost and is copied out for that.
#[derive(Debug, Clone)]
pub struct Sequences<F> {
    /// Number of the newest message sent.
    sent: i64,
    /// What holds a message that was not acknowledged, oldest first.
    kept: VecDeque<Kept<F>>,
    kept_bytes: usize,
    /// Number of the newest message that came in on this socket, repeated ones counted.
    received: i64,
    /// Number of the newest message that was new.
    processed: i64,
    /// The newest that the peer was told of.
    told: i64,
}

#[derive(Debug, Clone)]
struct Kept<F> {
    /// Number of the last message in it.
    last: i64,
    messages: u32,
    bytes: usize,
    frame: F,
}

/// What a new socket begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay<F> {
    /// Number of the first message that follows; it goes out as Sequence before anything else.
    pub first: i64,
    /// What was not acknowledged, in the order it was first sent.
    pub frames: Vec<F>,
}

/// What is to be done with a message that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Incoming {
    /// Process it.
    New,
    /// Nothing: it came before, or it belonged to the books alone.
    PassOver,
    /// An acknowledgement that let something go: whoever waits for room may look again.
    Acknowledged,
}

/// The peer says that its next message has a number that it cannot have: messages between were lost. The connection
/// must end; the official server then allows a reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Sequence ID greater than amount of messages we've received.")]
pub struct SequenceAhead;

impl<F> Sequences<F> {
    /// Counts and keeps what is about to be written: `messages` whole sequenced messages of `bytes` together. Without a
    /// sequenced message in it (pings, acks) a frame is neither counted nor kept.
    pub fn keep(&mut self, frame: F, bytes: usize, messages: u32) {
        if messages == 0 {
            return;
        }
        self.sent = self.sent.saturating_add(i64::from(messages));
        self.kept_bytes = self.kept_bytes.saturating_add(bytes);
        self.kept.push_back(Kept {
            last: self.sent,
            messages,
            bytes,
            frame,
        });
    }

    /// How much is kept, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Whether so much is kept that no more may be sent before the peer acknowledges some of it. Official peers keep
    /// 100,000 bytes ("Buffer limits"). Pings and acks still go out, or the peer takes us for dead.
    #[must_use]
    pub fn is_full(&self, bytes_max: usize) -> bool {
        self.kept_bytes >= bytes_max
    }

    /// Puts a message that came in before the books. For every message of a connection that may be resumed, by its
    /// type and before its arguments are looked at: one counted wrongly shifts all that follow.
    ///
    /// # Errors
    ///
    /// [`SequenceAhead`]: the connection must end.
    pub fn receive(&mut self, message: &HubMessage<'_>) -> Result<Incoming, SequenceAhead> {
        match message {
            HubMessage::Sequence { sequence_id } => {
                self.on_sequence(*sequence_id)?;
                Ok(Incoming::PassOver)
            }
            HubMessage::Ack { sequence_id } => Ok(match self.on_ack(*sequence_id) {
                true => Incoming::Acknowledged,
                false => Incoming::PassOver,
            }),
            message if message.message_type().is_sequenced() => Ok(match self.on_message() {
                true => Incoming::New,
                false => Incoming::PassOver,
            }),
            _ => Ok(Incoming::New),
        }
    }

    /// The peer has everything up to this number. Tells whether that let something go. A number that makes no sense
    /// (negative, already acknowledged, never sent) lets go what it can, as at the official peers.
    pub fn on_ack(&mut self, number: i64) -> bool {
        let before = self.kept.len();
        while let Some(kept) = self.kept.front()
            && kept.last <= number
        {
            self.kept_bytes = self.kept_bytes.saturating_sub(kept.bytes);
            self.kept.pop_front();
        }
        if self.kept.is_empty() {
            // Connections are many and mostly idle: room that a burst needed goes back.
            self.kept = VecDeque::new();
        }
        self.kept.len() < before
    }

    /// The peer says which number its next message has.
    ///
    /// What was processed counts although its repetition has not come: the peer may have heard of it, and let it go,
    /// before the socket was lost amid the replay. Official peers end such a connection.
    ///
    /// # Errors
    ///
    /// [`SequenceAhead`] when messages must have been lost.
    pub fn on_sequence(&mut self, number: i64) -> Result<(), SequenceAhead> {
        let newest = self.received.max(self.processed);
        if number > newest.saturating_add(1) {
            return Err(SequenceAhead);
        }
        self.received = number.saturating_sub(1);
        Ok(())
    }

    /// Counts a sequenced message that came in. False: it came before and must be dropped. On a new socket that does
    /// not begin with Sequence numbers go on where they were, as at the official server.
    pub fn on_message(&mut self) -> bool {
        self.received = self.received.saturating_add(1);
        let is_new = self.received > self.processed;
        if is_new {
            self.processed = self.received;
        }
        is_new
    }

    /// What the peer is to be told that we have, once for each news. To be asked about once a second, as official
    /// peers do, and sent as Ack.
    pub fn due_ack(&mut self) -> Option<i64> {
        let is_due = self.processed > self.told;
        self.told = self.processed;
        is_due.then_some(self.processed)
    }
}

impl<F: Clone> Sequences<F> {
    /// Another socket takes over: what it begins with. Must be called before anything that came in on it is put before
    /// the books. Nothing is let go: this socket may be lost as well.
    pub fn take_over(&mut self) -> Replay<F> {
        // The last acknowledgement may have gone down with the socket.
        self.told = 0;
        let first = match self.kept.front() {
            Some(kept) => kept.last.saturating_sub(i64::from(kept.messages)),
            None => self.sent,
        };
        Replay {
            first: first.saturating_add(1),
            frames: self.kept.iter().map(|kept| kept.frame.clone()).collect(),
        }
    }
}

// Derived, it would ask for `F: Default`.
impl<F> Default for Sequences<F> {
    fn default() -> Self {
        Self {
            sent: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            received: 0,
            processed: 0,
            told: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::CancelInvocation;

    fn sent(frames: &[(&'static str, u32)]) -> Sequences<&'static str> {
        let mut sequences = Sequences::default();
        for (frame, messages) in frames {
            sequences.keep(*frame, frame.len(), *messages);
        }
        sequences
    }

    fn sequenced() -> HubMessage<'static> {
        HubMessage::CancelInvocation(CancelInvocation {
            headers: Vec::new(),
            invocation_id: "1".into(),
        })
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_from_its_first_number() {
        let mut sequences = sent(&[("ab", 2), ("c", 1)]);
        assert_eq!(sequences.take_over().first, 1);
        // Part of a frame does not count: the rest of it must come again, and the peer drops what it has.
        assert!(!sequences.on_ack(1));
        assert_eq!(sequences.take_over().first, 1);
        assert!(sequences.on_ack(2));
        let replay = |first, frames| Replay { first, frames };
        assert_eq!(sequences.take_over(), replay(3, vec!["c"]));
        assert!(sequences.on_ack(99));
        assert_eq!(sequences.take_over(), replay(4, vec![]));
    }

    #[test]
    fn acknowledgements_without_sense_let_go_what_they_can_and_no_more() {
        let mut sequences = sent(&[("a", 1), ("b", 1)]);
        for number in [i64::MIN, -1, 0] {
            assert!(!sequences.on_ack(number));
        }
        assert_eq!(sequences.kept_bytes(), 2);
        assert!(sequences.on_ack(1));
        assert!(!sequences.on_ack(1));
        assert!(sequences.on_ack(i64::MAX));
        assert!(!sequences.on_ack(i64::MAX));
        assert_eq!(sequences.kept_bytes(), 0);
        sequences.keep("c", 1, 1);
        assert_eq!(sequences.take_over().first, 3, "numbers go on as they were");
    }

    #[test]
    fn repeated_messages_are_told_by_their_number() {
        let mut sequences = sent(&[]);
        assert!(sequences.on_message() && sequences.on_message());
        sequences.take_over();
        sequences.on_sequence(2).unwrap();
        assert!(!sequences.on_message());
        assert!(sequences.on_message());
        assert_eq!(sequences.on_sequence(5), Err(SequenceAhead));
        assert!(sequences.on_sequence(4).is_ok());
        assert!(sequences.on_sequence(i64::MIN).is_ok());
        assert_eq!(sequences.on_sequence(i64::MAX), Err(SequenceAhead));
    }

    #[test]
    fn a_new_socket_goes_on_with_the_old_numbers_until_it_says_otherwise() {
        let mut sequences = sent(&[("a", 1)]);
        assert_eq!(sequences.receive(&sequenced()), Ok(Incoming::New));
        sequences.take_over();
        assert_eq!(sequences.receive(&sequenced()), Ok(Incoming::New));
        let sequence = HubMessage::Sequence { sequence_id: 2 };
        assert_eq!(sequences.receive(&sequence), Ok(Incoming::PassOver));
        assert_eq!(sequences.receive(&sequenced()), Ok(Incoming::PassOver));
        let sequence = HubMessage::Sequence { sequence_id: 3 };
        assert_eq!(sequences.receive(&sequence), Ok(Incoming::PassOver));
        assert_eq!(sequences.receive(&sequenced()), Ok(Incoming::New));
        assert_eq!(sequences.receive(&HubMessage::Ping), Ok(Incoming::New));
        let ack = HubMessage::Ack { sequence_id: 1 };
        assert_eq!(sequences.receive(&ack), Ok(Incoming::Acknowledged));
        assert_eq!(sequences.receive(&ack), Ok(Incoming::PassOver));
    }

    #[test]
    fn a_peer_may_go_on_behind_what_was_processed_though_its_replay_was_cut_short() {
        let mut sequences = sent(&[]);
        for _ in 0..20 {
            assert!(sequences.on_message());
        }
        sequences.take_over();
        sequences.on_sequence(5).unwrap();
        assert!(!sequences.on_message());
        // The peer hears of all twenty, and lets them go; then this socket is lost amid the replay.
        assert_eq!(sequences.due_ack(), Some(20));
        sequences.take_over();
        assert_eq!(sequences.on_sequence(22), Err(SequenceAhead));
        sequences.on_sequence(21).unwrap();
        assert!(sequences.on_message());
        assert_eq!(sequences.due_ack(), Some(21));
    }

    #[test]
    fn each_acknowledgement_is_due_once_and_again_after_a_loss() {
        let mut sequences = sent(&[]);
        assert_eq!(sequences.due_ack(), None);
        sequences.on_message();
        assert_eq!(sequences.due_ack(), Some(1));
        assert_eq!(sequences.due_ack(), None);
        sequences.take_over();
        assert_eq!(sequences.due_ack(), Some(1));
    }

    #[test]
    fn it_is_full_until_enough_was_acknowledged() {
        let mut sequences = sent(&[("abcd", 1)]);
        assert!(sequences.is_full(3));
        sequences.on_ack(1);
        assert!(!sequences.is_full(3));
    }

    #[test]
    fn frames_without_sequenced_messages_are_not_kept() {
        let mut sequences = sent(&[("ping", 0)]);
        assert_eq!(sequences.kept_bytes(), 0);
        let replay = sequences.take_over();
        assert_eq!((replay.first, replay.frames), (1, vec![]));
    }
}
