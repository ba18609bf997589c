//! One recipient and its queue: what of it waits, is under way, and has arrived.

use super::record::{Cause, Seq, Term};
use super::state::Entry;
use crate::hash::Map;
use crate::machine::Position;
use crate::message::{AgentName, MessageId, TenantName};
use crate::time::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet};
use serde::{Deserialize, Serialize};

/// One recipient and its queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recipient {
    /// Whether the names are known: the record that gave them may be damaged.
    pub(super) named: bool,
    pub(super) tenant: TenantName,
    pub(super) name: AgentName,
    pub(super) partition: u16,
    pub(super) term: Term,
    pub(super) live: Option<Live>,
    /// Connections that are not ready, by term.
    pub(super) joining: BTreeMap<Term, Live>,
    pub(super) seq_last: Seq,
    pub(super) agent_epoch: u64,
    /// The highest number that the agent's present store is known to have.
    pub(super) received_last: Seq,
    pub(super) pending: BTreeMap<Seq, Pending>,
    /// Every pending message from here on was never pushed.
    pub(super) fresh_from: Seq,
    /// Messages below `fresh_from` that have to be pushed again, and why.
    pub(super) again: BTreeMap<Seq, Cause>,
    /// Pushed, no receipt yet; and when the wait for it is over.
    pub(super) in_flight: BTreeMap<Seq, Timestamp>,
    pub(super) in_flight_bytes: u64,
    /// Messages that ended before they arrived, above the agent's cursor.
    pub(super) gaps: BTreeSet<Seq>,
    /// Messages pushed to a store that the agent has lost since, and the last such push: receipts
    /// for that push or an earlier one say nothing any more.
    pub(super) lost_pushes: BTreeMap<Seq, u32>,
}

/// A connection. The current one is the newest that said it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Live {
    pub(super) connection: u64,
    pub(super) term: Term,
    pub(super) token_expires_at: Timestamp,
    /// The highest number that the agent was known to have when the connection was let in. What it
    /// says of itself later, it has looked up later.
    pub(super) received_before: Seq,
}

/// An unfinished message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) id: MessageId,
    pub(super) accepted: Position,
    pub(super) last: Position,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) key: [u8; 16],
    pub(super) bytes: u32,
    pub(super) pushes: u32,
    pub(super) generation: u32,
    pub(super) received: bool,
}

impl Recipient {
    /// One whose names are known.
    pub(super) fn named(tenant: TenantName, name: AgentName, partition: u16) -> Self {
        Self {
            named: true,
            tenant,
            name,
            partition,
            ..Self::nameless()
        }
    }

    pub(super) fn nameless() -> Self {
        Self {
            named: false,
            tenant: TenantName::parse("unknown").expect("it is a name"),
            name: AgentName::parse("unknown").expect("it is a name"),
            partition: 0,
            term: 0,
            live: None,
            joining: BTreeMap::new(),
            seq_last: 0,
            agent_epoch: 0,
            received_last: 0,
            pending: BTreeMap::new(),
            fresh_from: 1,
            again: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            in_flight_bytes: 0,
            gaps: BTreeSet::new(),
            lost_pushes: BTreeMap::new(),
        }
    }

    /// What the agent had is with the agent no longer.
    pub(super) fn agent_store_lost(&mut self) {
        self.received_last = 0;
        for joining in self.joining.values_mut() {
            joining.received_before = 0;
        }
        for (&seq, pending) in &mut self.pending {
            if pending.pushes > 0 {
                self.lost_pushes.insert(seq, pending.pushes);
            }
            if pending.received {
                pending.received = false;
                self.again.insert(seq, Cause::AgentStoreLost);
            }
        }
    }

    /// The highest number that the agent was known to have when this connection was let in.
    pub(super) fn received_before(&self, term: Term) -> Seq {
        let live = self.live.iter().filter(|live| live.term == term);
        let connection = live.chain(self.joining.get(&term)).next();
        connection.map_or(0, |connection| connection.received_before)
    }

    /// Connections that are not ready, without the newest `count`.
    pub(super) fn joining_before_the_last(&self, count: usize) -> impl Iterator<Item = u64> {
        let older = self.joining.values().rev().skip(count);
        older.map(|joining| joining.connection)
    }

    pub(super) fn accounted(&self) -> bool {
        let stands_once = |(seq, pending): (&Seq, &Pending)| {
            let waits = self.again.contains_key(seq);
            let fresh = *seq >= self.fresh_from && !pending.received && !waits;
            let in_flight = self.in_flight.contains_key(seq);
            [pending.received, waits, fresh, in_flight]
                .iter()
                .filter(|is| **is)
                .count()
                == 1
        };
        let known = |seq: &Seq| self.pending.contains_key(seq);
        self.pending.iter().all(stands_once)
            && self.again.keys().all(known)
            && self.in_flight.keys().all(known)
    }

    /// Whether a receipt for push number `attempt` speaks of a store that was lost since.
    pub(super) fn is_stale_receipt(&self, seq: Seq, attempt: u32) -> bool {
        self.lost_pushes
            .get(&seq)
            .is_some_and(|last| attempt <= *last)
    }

    /// The next message to push, and why: the lowest that waits.
    pub(super) fn next_to_push(&self) -> Option<(Seq, Cause)> {
        let again = self
            .again
            .first_key_value()
            .map(|(seq, cause)| (*seq, *cause));
        let fresh = self
            .pending
            .range(self.fresh_from..)
            .find(|(_, pending)| !pending.received);
        let fresh = fresh.map(|(seq, _)| (*seq, Cause::New));
        match (again, fresh) {
            (Some(again), Some(fresh)) if fresh.0 < again.0 => Some(fresh),
            (Some(again), _) => Some(again),
            (None, fresh) => fresh,
        }
    }

    /// The lowest number that may ever be pushed again.
    pub(super) fn oldest_replayable(&self) -> Seq {
        self.pending
            .first_key_value()
            .map_or(self.seq_last + 1, |(seq, _)| *seq)
    }
}

/// What planted defects do.
impl Recipient {
    pub(super) fn move_to_end(
        &mut self,
        seq: Seq,
        cause: Cause,
        messages: &mut Map<MessageId, Entry>,
    ) {
        let Some(pending) = self.pending.remove(&seq) else {
            return;
        };
        self.seq_last += 1;
        if let Some(Entry::Pending(_, place)) = messages.get_mut(&pending.id) {
            *place = self.seq_last;
        }
        self.again.insert(self.seq_last, cause);
        self.pending.insert(self.seq_last, pending);
    }
}
