//! Acknowledgements of messages that this store does not know (N6).
//!
//! After a restore they are the only evidence of what was accepted behind the backup: each is kept
//! as a record, and the last word of each agent about each such message is remembered here, so that
//! it can be listed. A message that is accepted under that id later leaves the list.
//!
//! Left out on purpose: making messages of them. What was asked for is not in an acknowledgement.

use super::record::{Record, Why};
use super::state::State;
use crate::ack::Stage;
use crate::limits;
use crate::message::{AgentName, MessageId, TenantName};
use crate::time::Timestamp;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The last word of an agent about a message that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanAck {
    /// When the centre learned it.
    pub at: Timestamp,
    /// The message.
    pub id: MessageId,
    /// Tenant of whoever said it.
    pub tenant: TenantName,
    /// Whoever said it.
    pub by: AgentName,
    /// What it said: an end, if there was one.
    pub stage: Stage,
    /// When, by the agent's clock.
    pub occurred_at: Timestamp,
    /// The outcome's code.
    pub code: String,
}

/// What is remembered of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Orphans {
    by_id: BTreeMap<MessageId, Vec<OrphanAck>>,
    /// How many stand there.
    count: usize,
    /// When the last records before and after the last restore were written.
    restored: Option<(Timestamp, Timestamp)>,
}

/// One page of a list of orphans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrphanPage {
    /// In the order of the messages' ids, which is that of the times at which they were made.
    pub orphans: Vec<OrphanAck>,
    /// There are more behind the last of these.
    pub more: bool,
    /// The last record that was restored and the first behind the restore, when there was one.
    pub restored: Option<(Timestamp, Timestamp)>,
}

impl State {
    /// The store is an older copy of what sites and the ack store have met, or has lost its end: sites
    /// count anew, and what they said meanwhile may be lost here and trimmed where it was kept, so
    /// that they are asked again (I29). `last` is when the record before this start was written.
    pub(super) fn begin_another_life(&mut self, last: Timestamp, now: Timestamp) {
        self.orphans.restored = Some((last, now));
        for queue in &mut self.recipients {
            queue.received_last = 0;
        }
        self.doubt_receipts();
    }
}

impl Orphans {
    /// Remembers what `record` keeps, if it is about a message that is not known.
    pub(super) fn heard(&mut self, record: &Record<'_>) {
        if let Record::Kept {
            at,
            id,
            why: Why::Orphan,
            stage,
            tenant,
            by,
            occurred_at,
            outcome,
            ..
        } = record
        {
            self.take(OrphanAck {
                at: *at,
                id: *id,
                tenant: tenant.clone(),
                by: by.clone(),
                stage: *stage,
                occurred_at: *occurred_at,
                code: outcome.code.clone(),
            });
        }
    }

    fn take(&mut self, orphan: OrphanAck) {
        let of_id = self.by_id.entry(orphan.id).or_default();
        let same = |known: &&mut OrphanAck| known.by == orphan.by && known.tenant == orphan.tenant;
        match of_id.iter_mut().find(same) {
            // A receipt that is repeated behind an end says less than the end.
            Some(known) if is_end(known.stage) && !is_end(orphan.stage) => {}
            Some(known) => *known = orphan,
            None => {
                of_id.push(orphan);
                self.count += 1;
            }
        }
        while self.count > limits::ORPHANS_MAX {
            let oldest = self.by_id.pop_first();
            self.count -= oldest.map_or(self.count, |(_, of_id)| of_id.len());
        }
    }

    /// A message of this id is known from now on.
    pub(super) fn accepted(&mut self, id: MessageId) {
        if !self.by_id.is_empty()
            && let Some(of_id) = self.by_id.remove(&id)
        {
            self.count -= of_id.len();
        }
    }

    /// At most `limit` of a tenant, behind `after`.
    pub(super) fn page(
        &self,
        tenant: &TenantName,
        after: Option<MessageId>,
        limit: usize,
    ) -> OrphanPage {
        let from = after.unwrap_or(MessageId([0; 16]));
        let behind = self.by_id.range(from..);
        let behind = behind.filter(|(id, _)| after.is_none_or(|after| **id > after));
        let of_tenant = behind
            .flat_map(|(_, of_id)| of_id)
            .filter(|orphan| orphan.tenant == *tenant);
        let mut orphans: Vec<_> = of_tenant.take(limit + 1).cloned().collect();
        let more = orphans.len() > limit;
        // Two agents may speak of one id: it stands on one page.
        if more {
            let next = orphans[limit].id;
            orphans.truncate(limit);
            if orphans.first().is_some_and(|first| first.id != next) {
                orphans.retain(|orphan| orphan.id != next);
            }
        }
        OrphanPage {
            orphans,
            more,
            restored: self.restored,
        }
    }
}

fn is_end(stage: Stage) -> bool {
    matches!(stage, Stage::Acknowledged | Stage::Rejected | Stage::Dead)
}
