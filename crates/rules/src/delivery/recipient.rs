//! One recipient and its queue: what of it waits, is under way, and has arrived.

use super::lanes::Lane;
use super::messages::{Handle, Messages, Standing};
use super::record::{Cause, Seq, Term};
use crate::lane::LaneHash;
use crate::message::{AgentName, TenantName};
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
    /// Its agent remembers every message from this number on, by all that it said.
    pub(super) floor: Seq,
    /// The highest number that the agent's present store is known to have.
    pub(super) received_last: Seq,
    /// Its unfinished messages by number: each knows its neighbours.
    pub(super) queue: Ends,
    /// How many there are.
    pub(super) waiting: u64,
    /// Messages that are not due yet: they are in no queue.
    pub(super) held: u64,
    /// Lanes that are parked or not yet as if they had never been.
    pub(super) lanes: BTreeMap<LaneHash, Lane>,
    /// Messages that are held in lanes: they are in no queue.
    pub(super) in_lanes: u64,
    /// Whether everything is held back from it.
    pub(super) paused: bool,
    /// The first that was never pushed.
    pub(super) fresh: Option<Handle>,
    /// Those that have to be pushed again.
    pub(super) again: BTreeMap<Seq, Handle>,
    /// Pushed, no receipt yet; and when the wait for it is over.
    pub(super) in_flight: BTreeMap<Seq, InFlight>,
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

/// The ends of a list of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ends {
    pub(super) first: Option<Handle>,
    pub(super) last: Option<Handle>,
}

impl Ends {
    /// Puts a message at the end.
    pub(super) fn append(&mut self, handle: Handle, messages: &mut Messages) {
        let before = self.last.replace(handle);
        match before {
            Some(before) => messages.change(before).behind = Some(handle),
            None => self.first = Some(handle),
        }
        let message = messages.change(handle);
        (message.before, message.behind) = (before, None);
    }

    /// Takes a message out.
    pub(super) fn take(&mut self, handle: Handle, messages: &mut Messages) {
        let (before, behind) = (messages[handle].before, messages[handle].behind);
        match before {
            Some(before) => messages.change(before).behind = behind,
            None => self.first = behind,
        }
        match behind {
            Some(behind) => messages.change(behind).before = before,
            None => self.last = before,
        }
    }

    /// Its messages, from the first.
    pub(super) fn each(self, messages: &Messages) -> impl Iterator<Item = Handle> {
        core::iter::successors(self.first, |handle| messages[*handle].behind)
    }
}

/// A push that waits for its receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InFlight {
    pub(super) message: Handle,
    /// When the wait is over.
    pub(super) due: Timestamp,
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
            floor: 0,
            received_last: 0,
            queue: Ends::default(),
            waiting: 0,
            held: 0,
            lanes: BTreeMap::new(),
            in_lanes: 0,
            paused: false,
            fresh: None,
            again: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            in_flight_bytes: 0,
            gaps: BTreeSet::new(),
            lost_pushes: BTreeMap::new(),
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

    /// Whether each of its messages is where it says it stands, and nowhere else.
    pub(super) fn accounted(&self, messages: &Messages) -> bool {
        let mut is_behind_fresh = false;
        let mut counts = [0; 3];
        let mut each_is_sound = true;
        for handle in self.queue.each(messages) {
            let message = &messages[handle];
            is_behind_fresh |= self.fresh == Some(handle);
            let (is_again, is_in_flight) = (
                self.again.get(&message.seq) == Some(&handle),
                self.in_flight
                    .get(&message.seq)
                    .is_some_and(|flight| flight.message == handle),
            );
            counts[0] += 1;
            counts[1] += usize::from(is_again);
            counts[2] += usize::from(is_in_flight);
            each_is_sound &= match message.standing {
                Standing::Fresh => is_behind_fresh && !is_again && !is_in_flight,
                Standing::Again(_) => is_again && !is_in_flight,
                Standing::InFlight => is_in_flight && !is_again,
                Standing::Received => !is_again && !is_in_flight,
                Standing::Held
                | Standing::InParkedLane
                | Standing::Ended(_)
                | Standing::Discarded(_) => false,
            };
        }
        let fresh_is_fresh = self
            .fresh
            .is_none_or(|fresh| messages[fresh].standing == Standing::Fresh);
        let found = [
            self.waiting as usize,
            self.again.len(),
            self.in_flight.len(),
        ];
        let held: u64 = self.lanes.values().map(Lane::held).sum();
        let lanes_are_sound = self.lanes.values().all(|lane| lane.accounted(messages));
        each_is_sound
            && fresh_is_fresh
            && counts == found
            && held == self.in_lanes
            && lanes_are_sound
    }

    /// Whether a receipt for push number `attempt` speaks of a store that was lost since.
    pub(super) fn is_stale_receipt(&self, seq: Seq, attempt: u32) -> bool {
        self.lost_pushes
            .get(&seq)
            .is_some_and(|last| attempt <= *last)
    }

    /// The next message to push, and why: the lowest that waits.
    pub(super) fn next_to_push(&self, messages: &Messages) -> Option<(Handle, Cause)> {
        let again = self.again.first_key_value();
        let Some(fresh) = self.fresh else {
            let (_, &again) = again?;
            return Some((again, cause_of(again, messages)));
        };
        match again {
            Some((seq, &again)) if *seq < messages[fresh].seq => {
                Some((again, cause_of(again, messages)))
            }
            _ => Some((fresh, first_cause(messages[fresh].generation))),
        }
    }

    /// The lowest number that may ever be pushed again.
    pub(super) fn oldest_replayable(&self, messages: &Messages) -> Seq {
        let first = self.queue.first;
        first.map_or(self.seq_last + 1, |handle| messages[handle].seq)
    }
}

fn cause_of(handle: Handle, messages: &Messages) -> Cause {
    match messages[handle].standing {
        Standing::Again(cause) => cause,
        _ => first_cause(messages[handle].generation),
    }
}

/// Why a message is pushed for the first time in one of its lives.
fn first_cause(generation: u16) -> Cause {
    match generation {
        1 => Cause::New,
        _ => Cause::Reprocessed,
    }
}
