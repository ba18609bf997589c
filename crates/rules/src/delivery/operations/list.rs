//! Who can be meant: messages page by page, in memory and in the archive, whole and without repeats.
//!
//! Those that have ended come in the order of their ids, wherever they are kept, so that one that
//! goes to the archive, or comes back, between two pages is neither missed nor told twice.

use super::Filter;
use crate::delivery::messages::{Message, Standing};
use crate::delivery::record::{End, Seq};
use crate::delivery::{Centre, State};
use crate::machine::{Out, Position};
use crate::message::{AgentName, MessageId, TenantName};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Where a list goes on: what a page said, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub u128);

/// A message that may be meant: what can be told of it without reading the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The message.
    pub id: MessageId,
    /// Its recipient.
    pub agent: AgentName,
    /// How it ended, if it has.
    pub end: Option<End>,
    /// Which life of it.
    pub generation: u32,
    /// Its number among the recipient's messages; zero when it has none.
    pub seq: Seq,
    /// Pushes of this life.
    pub pushes: u32,
    /// Length of its body.
    pub bytes: u32,
    /// Where its accepted record stands, or the last copy of it.
    pub accepted: Position,
    /// Its last record.
    pub last: Position,
    /// Whether it was put away.
    pub is_discarded: bool,
    /// Its agent no longer remembers it: doing it once more may do it twice.
    pub is_below_floor: bool,
}

/// Some of those that may be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// They.
    pub candidates: Vec<Candidate>,
    /// Where the list goes on.
    pub next: Option<Cursor>,
    /// The last record that this page knows of.
    pub through: Position,
}

impl Centre {
    /// Those of `tenant` that `filter` may mean, `count` or fewer at a time.
    pub(in crate::delivery) fn list(
        &self,
        tenant: &TenantName,
        filter: &Filter,
        after: Option<Cursor>,
        count: usize,
        out: &mut Out<Self>,
    ) -> Page {
        let through = out.next_position() - 1;
        let waiting = filter.wants(None, false) && !filter.wants_failures_alone();
        let (messages, next) = match waiting {
            true => self.state.some_waiting(after),
            false => self.some_ended(filter.wants_failures_alone(), after, count, out),
        };
        let candidates = messages.iter().filter(|message| {
            let queue = self.state.queue(message.recipient);
            let is_named = filter.agent.as_ref();
            queue.tenant == *tenant && is_named.is_none_or(|agent| *agent == queue.name)
        });
        let candidates =
            candidates.filter(|message| filter.wants(message.end(), message.is_discarded()));
        Page {
            candidates: candidates
                .map(|message| self.state.candidate(message))
                .collect(),
            next,
            through,
        }
    }

    /// These messages, as a list would show them.
    pub(in crate::delivery) fn list_named(
        &self,
        tenant: &TenantName,
        ids: &[MessageId],
        out: &mut Out<Self>,
    ) -> Page {
        let mut candidates = Vec::with_capacity(ids.len());
        for id in ids {
            let message = self.known(*id, out);
            let is_theirs =
                |message: &Message| self.state.queue(message.recipient).tenant == *tenant;
            let theirs = message.filter(is_theirs);
            candidates.extend(theirs.map(|message| self.state.candidate(&message)));
        }
        Page {
            candidates,
            next: None,
            through: out.next_position() - 1,
        }
    }

    /// Messages that have ended, by their ids.
    fn some_ended(
        &self,
        failures_alone: bool,
        after: Option<Cursor>,
        count: usize,
        out: &mut Out<Self>,
    ) -> (Vec<Message>, Option<Cursor>) {
        let count = count.max(1);
        let after = after.map(|cursor| MessageId(cursor.0.to_be_bytes()));
        let mut in_memory = self.state.ended_after(after, failures_alone);
        in_memory.sort_unstable_by_key(|message| message.id);
        in_memory.truncate(count);
        let archived = self.archive_page(after, failures_alone, count, out);
        let is_full = in_memory.len() == count;
        let last = in_memory.last().map(|last| last.id);
        let horizons = [last.filter(|_| is_full), archived.through];
        let horizon = horizons.into_iter().flatten().min();
        let rows = archived.rows.into_iter();
        // What is in memory is newer than what the archive has of it.
        let alive = rows.filter(|(batch, row)| {
            self.state.is_archived(*batch) && self.state.message(row.id).is_none()
        });
        let mut found: BTreeMap<_, _> = alive.map(|(_, row)| (row.id, row.message())).collect();
        found.extend(in_memory.into_iter().map(|message| (message.id, message)));
        found.retain(|id, _| horizon.is_none_or(|horizon| *id <= horizon));
        let next = horizon.map(|horizon| Cursor(u128::from_be_bytes(horizon.0)));
        (found.into_values().collect(), next)
    }
}

impl State {
    fn candidate(&self, message: &Message) -> Candidate {
        let queue = self.queue(message.recipient);
        Candidate {
            id: message.id,
            agent: queue.name.clone(),
            end: message.end(),
            generation: message.generation.into(),
            seq: message.number(),
            pushes: message.pushes,
            bytes: message.bytes,
            accepted: message.accepted,
            last: message.last,
            is_discarded: message.is_discarded(),
            is_below_floor: self.is_below_floor(message),
        }
    }

    /// Whether its agent has said that it no longer remembers this number (N2).
    pub(in crate::delivery) fn is_below_floor(&self, message: &Message) -> bool {
        let seq = message.number();
        seq > 0 && seq < self.queue(message.recipient).floor
    }

    /// Messages in memory that have ended and whose ids are higher, in no order.
    fn ended_after(&self, after: Option<MessageId>, failures_alone: bool) -> Vec<Message> {
        let is_behind = |id: MessageId| after.is_none_or(|after| id > after);
        if failures_alone {
            let failures = self.failures.iter().filter(|(id, _)| is_behind(*id));
            return failures.map(|(_, handle)| self.messages[*handle]).collect();
        }
        let ended = self.finished.each(&self.messages);
        let ended = ended.map(|handle| self.messages[handle]);
        ended.filter(|message| is_behind(message.id)).collect()
    }

    /// Messages that wait, block by block of the memory: they keep their places.
    fn some_waiting(&self, after: Option<Cursor>) -> (Vec<Message>, Option<Cursor>) {
        let first = after.map_or(0, |cursor| cursor.0 as usize);
        let end = first.saturating_add(BLOCKS_TO_A_PAGE);
        let waiting = |message: &&Message| {
            matches!(
                message.standing,
                Standing::Held | Standing::InParkedLane | Standing::Fresh | Standing::Again(_)
            )
        };
        let found = self.messages.in_blocks(first..end);
        let found = found.filter(waiting).copied().collect();
        let next = (end < self.messages.blocks()).then_some(Cursor(end as u128));
        (found, next)
    }
}

/// Blocks of 512 messages that are looked through in one step.
const BLOCKS_TO_A_PAGE: usize = 16;
