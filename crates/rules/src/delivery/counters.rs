//! How many messages are where, and what was done to them in all.

use super::measures::NeededStore;
use super::record::End;
use serde::{Deserialize, Serialize};

/// How many messages are where: `accepted` is always the sum of the others (I4, N11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Ever accepted.
    pub accepted: u64,
    /// Unfinished.
    pub pending: u64,
    /// Taken by the back office.
    pub processed: u64,
    /// Refused by the back office.
    pub rejected: u64,
    /// Attempts used up.
    pub dead: u64,
    /// Life over first.
    pub expired: u64,
    /// Taken back first.
    pub cancelled: u64,
    /// Pushes ever made.
    pub pushes: u64,
    /// Pushes that SignalR alone would not have made: after a reconnect, a restart, an overdue
    /// receipt (N12).
    pub pushes_again: u64,
    /// Acknowledgements kept as evidence.
    pub acks_kept: u64,
    /// Finished ones forgotten after their retention.
    pub aged_out: u64,
    /// Ends taken back, because somebody wanted the message done once more.
    pub reprocessed: u64,
    /// Pushes that needed the store, by why (N12).
    pub needed_store: NeededStore,
}

impl Counters {
    /// Whether every accepted message is in exactly one place (I4).
    pub fn conserved(&self) -> bool {
        let ended = self.processed + self.rejected + self.dead + self.expired + self.cancelled;
        self.accepted == self.pending + ended
    }

    /// How many have ended so.
    pub(super) fn ended(&mut self, end: End) -> &mut u64 {
        match end {
            End::Processed => &mut self.processed,
            End::Rejected => &mut self.rejected,
            End::Dead => &mut self.dead,
            End::Expired => &mut self.expired,
            End::Cancelled => &mut self.cancelled,
        }
    }
}
