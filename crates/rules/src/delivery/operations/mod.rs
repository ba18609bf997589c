//! Operations: one decision of an operator about many messages (N7).
//!
//! What an operation is about is fixed when it is accepted: the pairs of message and life that its
//! filter named then are recorded with it. From there on it takes one after the other, at its rate,
//! and records what became of each in the same step as the deed; so a restart goes on behind the
//! last one, without taking one twice or leaving one out (I24). A pair that has changed since is
//! left alone, and the reason is recorded.
//!
//! Promise: an operation touches exactly what its filter named, begins new lives and never new
//! messages, and does not do once more what its agent can no longer tell from new, unless its author
//! said that this may be.
//!
//! Left out on purpose: reading what a filter compares (type, reason, instants), which stands in the
//! journal; see [`Facts`].

mod act;
mod book;
mod failures;
mod filter;
mod list;

pub use filter::{Facts, Filter, Unread, Wanted, dead_letters};
pub use list::{Candidate, Cursor, Page};

pub(super) use book::Book;

use super::record::End;
use crate::machine::Position;
use crate::message::{MessageId, TenantName};
use crate::time::{Duration, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Identifies an operation: a UUID, made by whoever asks for it, so that asking twice begins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationId(pub MessageId);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an operation does to each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OperationKind {
    /// Has one that has ended done once more.
    Replay,
    /// Puts a dead letter away.
    Discard,
    /// Takes a dead letter back that was put away.
    Restore,
    /// Takes one back that nobody can have yet.
    Cancel,
}

impl OperationKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
            Self::Restore => "restore",
            Self::Cancel => "cancel",
        }
    }
}

/// An operation to begin.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its id; one that is known already is answered and not begun again.
    pub id: OperationId,
    /// The author's tenant.
    pub tenant: TenantName,
    /// What is done.
    pub kind: OperationKind,
    /// What named the pairs: for the audit, and for whoever proves them.
    pub filter: Filter,
    /// The record up to which the filter looked.
    pub as_of: Position,
    /// The pairs: messages, each with the life that was meant; zero for one that was not known.
    pub pairs: Vec<(MessageId, u32)>,
    /// How many a second, from 1 to [`limits::OPERATION_RATE_MAX`](crate::limits::OPERATION_RATE_MAX).
    pub rate: u32,
    /// A replay takes also what its agent can no longer tell from new.
    pub may_process_twice: bool,
    /// Why, in the author's words.
    pub reason: String,
    /// Who: the subject of the token.
    pub by: String,
}

/// What became of one message of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Did {
    /// What was asked.
    Done,
    /// Nothing: there is no such message, or no more.
    Unknown,
    /// Nothing: it has changed since the operation was accepted.
    Changed,
    /// Nothing: it is still under way.
    NotEnded,
    /// Nothing: its agent no longer remembers it, so doing it once more may do it twice.
    BelowFloor,
    /// Nothing: it cannot be taken back any more.
    TooLate,
    /// Nothing: it is no dead letter.
    NotDead,
    /// Nothing: it is as it was to be.
    Already,
    /// Nothing: it has had all the lives that there are numbers for.
    TooManyLives,
}

impl Did {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unknown => "unknown",
            Self::Changed => "changed_since",
            Self::NotEnded => "not_ended",
            Self::BelowFloor => "below_floor",
            Self::TooLate => "too_late",
            Self::NotDead => "not_dead",
            Self::Already => "already",
            Self::TooManyLives => "too_many_lives",
        }
    }

    /// Whether nothing was done although that was wanted; what was left alone on purpose is skipped.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Unknown | Self::TooLate | Self::TooManyLives)
    }
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationView {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// What named its messages.
    pub filter: Filter,
    /// The record up to which the filter looked.
    pub as_of: Position,
    /// How many a second.
    pub rate: u32,
    /// See [`Order::may_process_twice`].
    pub may_process_twice: bool,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
    /// When it was accepted.
    pub begun_at: Timestamp,
    /// When it came to its end or was stopped.
    pub ended_at: Option<Timestamp>,
    /// Who stopped it before its end.
    pub stopped_by: Option<String>,
    /// How many messages it named.
    pub matched: u32,
    /// How many of each result, the common ones first.
    pub counts: Vec<(Did, u32)>,
    /// Pairs whose record is damaged: what they were is not known any more.
    pub lost: u32,
    /// The results of the messages asked for, in the order in which they are taken.
    pub results: Vec<ItemView>,
    /// The results were many and the operation long ago: they stand in the journal alone.
    pub results_forgotten: bool,
    /// Whether it was known before this order.
    pub repeated: bool,
}

impl OperationView {
    /// How many came to this.
    pub fn count(&self, is: impl Fn(Did) -> bool) -> u32 {
        let fit = self.counts.iter().filter(|(did, _)| is(*did));
        fit.map(|(_, count)| count).sum()
    }

    /// Whether it goes on.
    pub fn is_running(&self) -> bool {
        self.ended_at.is_none()
    }
}

/// One message of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemView {
    /// The message.
    pub id: MessageId,
    /// The life that was meant.
    pub generation: u32,
    /// What became of it, once its turn has come.
    pub did: Option<Did>,
}

/// How many are taken together, and how long the pause is after them. Ten times a second is often
/// enough for an eye, and seldom enough for a disk.
pub(super) fn beat(rate: u32) -> (u32, Duration) {
    let burst = (rate / 10).max(1);
    (burst, Duration::from_secs(1) * burst / rate.max(1))
}

/// Whether one that ended so is a dead letter: nobody has it, and a person has to see to it.
pub fn is_dead_letter(end: End) -> bool {
    matches!(end, End::Dead | End::Rejected)
}
