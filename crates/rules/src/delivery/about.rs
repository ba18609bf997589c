//! Which message a record of the centre is about, and which record about it came before.

use super::record::Record;
use crate::machine::Position;
use crate::message::MessageId;

impl Record<'_> {
    /// The message, and the record about it before this one; zero for the first. `None` for records
    /// that are about no single message.
    pub fn about(&self) -> Option<(MessageId, Position)> {
        match self {
            Record::Accepted(accepted)
            | Record::Scheduled { accepted, .. }
            | Record::AcceptedUnder { accepted, .. }
            | Record::FannedOut { accepted, .. }
            | Record::AcceptedByReference { accepted, .. } => Some((accepted.id, 0)),
            Record::Addressed(row) => Some((row.id, row.accepted)),
            Record::Offered { id, previous, .. }
            | Record::Overdue { id, previous, .. }
            | Record::Stored { id, previous, .. }
            | Record::Settled { id, previous, .. }
            | Record::Kept { id, previous, .. }
            | Record::Due { id, previous, .. }
            | Record::Attempted { id, previous, .. }
            | Record::Reprocessed { id, previous, .. }
            | Record::Discarded { id, previous, .. }
            | Record::Restored { id, previous, .. }
            | Record::Carried { id, previous, .. } => Some((*id, *previous)),
            _ => None,
        }
    }
}
