//! What a site writes down: its state is these records and nothing else.

use crate::ack::Outcome;
use crate::lane::LaneRule;
use crate::machine::Position;
use crate::message::{LaneName, MessageId, TypeName};
use crate::record::RecordError;
use crate::time::Timestamp;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Reads a record of a site.
///
/// # Errors
/// It is of a newer schema, or no record.
pub fn decode_record(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    crate::record::decode(bytes)
}

/// A fact about the site. Kinds are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A process started on this store: whatever was running was cut short.
    Started {
        /// When.
        at: Timestamp,
        /// Life of the store.
        epoch: u64,
    },
    /// A message arrived: seen. Only read; what is written today is [`Record::TakenIn`].
    Inboxed {
        /// When.
        at: Timestamp,
        /// Its id.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// Its number among this site's messages.
        seq: u64,
        /// Number of the push that brought it.
        attempt: u32,
        /// Its lane.
        lane: LaneName,
        /// Attempts before it is dead, when the sender said so.
        attempts_max: Option<u32>,
        /// The envelope as it came: raw JSON.
        envelope: &'a [u8],
    },
    /// It arrived again after its receipt had been told: it is told again.
    Repeated {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// Number of the push that brought it again.
        attempt: u32,
    },
    /// An attempt begins: it counts from here on, whatever happens.
    WorkStarted {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// The attempt, from 1.
        attempt: u32,
    },
    /// An attempt ended; unless it is to be tried again, the message is done.
    Worked {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// The attempt.
        attempt: u32,
        /// How it ended.
        worked: Worked,
        /// How long it took, in milliseconds.
        duration_ms: u32,
    },
    /// The ack API took these.
    Posted {
        /// When.
        at: Timestamp,
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// The centre will never push anything below this number again: it may be forgotten.
    Floor {
        /// When.
        at: Timestamp,
        /// Life of the centre's store.
        centre_epoch: u64,
        /// The number.
        oldest_replayable: u64,
    },
    /// An unfinished message was copied forward, so that an old segment can go.
    Carried {
        /// When.
        at: Timestamp,
        /// The message.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// Its [`Record::TakenIn`] or [`Record::Inboxed`], as written.
        inboxed: &'a [u8],
    },
    /// These records are damaged. Messages may be missing that the centre knows to be here, so the
    /// site begins another life: the centre then pushes again whatever has not ended (I20).
    Damaged {
        /// When.
        at: Timestamp,
        /// Their positions.
        damaged: Vec<Position>,
    },
    /// Nothing: an image was wanted at a position of its own.
    Marked {
        /// When.
        at: Timestamp,
    },
    /// A message arrived: seen.
    TakenIn {
        /// When.
        at: Timestamp,
        /// Its id.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// Its number among this site's messages.
        seq: u64,
        /// Number of the push that brought it.
        attempt: u32,
        /// Its lane.
        lane: LaneName,
        /// What its failure means for the messages behind it.
        rule: LaneRule,
        /// Its type, where the envelope could be read.
        kind: Option<TypeName>,
        /// Attempts before it is dead, when the sender said so.
        attempts_max: Option<u32>,
        /// The envelope as it came: raw JSON.
        envelope: &'a [u8],
    },
    /// A message goes on although others of its lane, which came before it, wait for their next
    /// attempts: they are skipped, as their rule allows.
    Passed {
        /// When.
        at: Timestamp,
        /// The message that goes on.
        id: MessageId,
        /// Which life of it.
        generation: u32,
        /// Those that it passes, and which lives of them.
        over: Vec<(MessageId, u32)>,
    },
    /// Somebody at the centre lets a parked lane go on.
    LaneResumed {
        /// When it was heard here.
        at: Timestamp,
        /// The lane.
        lane: LaneName,
        /// The message whose end had parked it.
        id: MessageId,
        /// Which life of it.
        generation: u32,
    },
}

/// The envelope in the record of an arrival, or in a copy of that.
///
/// # Errors
/// The bytes are of a newer schema, no record, or a record of another kind.
pub fn decode_envelope(bytes: &[u8]) -> Result<&[u8], RecordError> {
    match decode_record(bytes)? {
        Record::Inboxed { envelope, .. } | Record::TakenIn { envelope, .. } => Ok(envelope),
        Record::Carried { inboxed, .. } => decode_envelope(inboxed),
        _ => Err(RecordError::Inconsistent(
            "it is not a message of the inbox",
        )),
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Worked {
    /// The back office has it.
    Done(Outcome),
    /// The back office refused it.
    Rejected(Outcome),
    /// The last attempt failed.
    Dead(Outcome),
    /// It failed and is tried again.
    Again {
        /// Not before this instant.
        not_before: Timestamp,
        /// Why it failed.
        outcome: Outcome,
    },
    /// The back office has not answered yet: it is asked again, and the attempt goes on.
    StillWorking {
        /// Not before this instant.
        not_before: Timestamp,
        /// What it said.
        outcome: Outcome,
    },
}
