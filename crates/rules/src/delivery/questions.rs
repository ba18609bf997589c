//! What the rules, and checkers, ask of the state.

use super::archive::oldest_archived;
use super::counters::Counters;
use super::messages::{Handle, Message, Standing, stretch_behind};
use super::recipient::Recipient;
use super::record::{Cause, RecipientNo, Seq};
use super::state::{Connection, State};
use super::{AgentView, Hold, Place, View};
use crate::machine::Position;
use crate::message::{AgentName, MessageId, TenantName};
use crate::time::{Duration, Timestamp};
use alloc::vec::Vec;

impl State {
    /// How many messages are where.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Life of the store.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the pending messages counted one by one are as many as the counter says (I4).
    pub fn conserved(&self) -> bool {
        let counted: u64 = self
            .recipients
            .iter()
            .map(|queue| queue.waiting + queue.held + queue.in_lanes)
            .sum();
        self.counters.conserved() && counted == self.counters.pending
    }

    /// Whether every unfinished message stands in exactly one of the places that lead on: received,
    /// in flight, to be pushed again, never pushed. One in none of them would wait for ever (I5).
    pub fn accounted(&self) -> bool {
        let held: u64 = self.recipients.iter().map(|queue| queue.held).sum();
        let each = self.held.iter().flat_map(|(due, together)| {
            let each = together.each(&self.messages);
            each.map(move |handle| (*due, &self.messages[handle]))
        });
        let is_held = |(due, message): &(Timestamp, &Message)| {
            message.standing == Standing::Held && message.due() == *due
        };
        if each.filter(is_held).count() as u64 != held {
            return false;
        }
        let mut queues = self.recipients.iter();
        queues.all(|queue| queue.accounted(&self.messages))
    }

    /// Messages in flight per recipient, with bytes: for the check of windows (I16).
    pub fn in_flight(&self) -> impl Iterator<Item = (&AgentName, usize, u64)> {
        self.recipients
            .iter()
            .map(|queue| (&queue.name, queue.in_flight.len(), queue.in_flight_bytes))
    }

    /// Where a message is, if it is known.
    pub fn place(&self, id: MessageId) -> Option<Place> {
        Some(place_of(self.message(id)?))
    }

    /// Whether a send to many is known by this id.
    pub fn is_fan_out(&self, id: MessageId) -> bool {
        self.fan_outs.by_id(id).is_some()
    }

    /// How many operations go on.
    pub fn operations_running(&self) -> usize {
        self.operations.running()
    }

    /// Unfinished messages of `agent`.
    pub fn waiting(&self, tenant: &TenantName, agent: &AgentName) -> usize {
        self.number_of(tenant, agent)
            .map_or(0, |no| self.queue(no).waiting as usize)
    }

    pub(super) fn number_of(&self, tenant: &TenantName, agent: &AgentName) -> Option<RecipientNo> {
        self.by_name.get(&(tenant.clone(), agent.clone())).copied()
    }

    pub(super) fn queue(&self, recipient: RecipientNo) -> &Recipient {
        &self.recipients[recipient as usize]
    }

    /// Recipients with unfinished messages.
    pub(super) fn recipients_waiting(&self) -> impl Iterator<Item = RecipientNo> {
        let queues = self.recipients.iter().enumerate();
        let waiting = queues.filter(|(_, queue)| queue.waiting > 0);
        waiting.map(|(number, _)| number as RecipientNo)
    }

    pub(super) fn recipient_count(&self) -> usize {
        self.recipients.len()
    }

    pub(super) fn message(&self, id: MessageId) -> Option<&Message> {
        Some(&self.messages[self.messages.find(id)?])
    }

    /// The message that this key stands for.
    pub(super) fn by_key(&self, key: &[u8; 16]) -> Option<&Message> {
        Some(&self.messages[self.messages.find_key(key)?])
    }

    /// The next message to push to `recipient`, and why.
    pub(super) fn next_to_push(&self, recipient: RecipientNo) -> Option<(&Message, Cause)> {
        let (handle, cause) = self.queue(recipient).next_to_push(&self.messages)?;
        Some((&self.messages[handle], cause))
    }

    /// The lowest number that may ever be pushed again to `recipient`.
    pub(super) fn oldest_replayable(&self, recipient: RecipientNo) -> Seq {
        self.queue(recipient).oldest_replayable(&self.messages)
    }

    /// The unfinished messages of `recipient`, by number.
    pub(super) fn waiting_for(&self, recipient: RecipientNo) -> impl Iterator<Item = &Message> {
        let handles = self.queue(recipient).queue.each(&self.messages);
        handles.map(|handle| &self.messages[handle])
    }

    pub(super) fn connection(&self, connection: u64) -> Option<Connection> {
        self.connections.get(&connection).copied()
    }

    /// Whether an ack store other than this was read, and this one never.
    pub(super) fn reads_another_ack_store(&self, source: u64) -> bool {
        !self.acks_read.is_empty() && !self.acks_read.contains_key(&source)
    }

    pub(super) fn acks_read(&self, source: u64) -> Position {
        self.acks_read.get(&source).copied().unwrap_or(0)
    }

    pub(super) fn last_record(&self, id: MessageId) -> Position {
        self.message(id).map_or(0, |message| message.last)
    }

    pub(super) fn view_of(&self, tenant: &TenantName, message: &Message) -> Option<View> {
        let queue = self.queue(message.recipient);
        if queue.tenant != *tenant {
            return None;
        }
        let ended = message.end().is_some();
        Some(View {
            id: message.id,
            place: place_of(message),
            agent: queue.name.clone(),
            online: queue.live.is_some(),
            seq: message.number(),
            last: message.last,
            pushes: if ended { 0 } else { message.pushes },
            generation: message.generation.into(),
            is_discarded: message.is_discarded(),
            hold: match message.standing {
                Standing::Held => Some(Hold::NotBefore(message.due())),
                _ if ended => None,
                _ => match self.parked_by(message) {
                    Some(by) if by != message.id => Some(Hold::LaneParked { by }),
                    _ if queue.paused => Some(Hold::Paused),
                    _ => None,
                },
            },
        })
    }

    pub(super) fn agent(&self, tenant: &TenantName, agent: &AgentName) -> Option<AgentView> {
        let recipient = self.number_of(tenant, agent)?;
        let queue = self.queue(recipient);
        Some(AgentView {
            online: queue.live.is_some(),
            paused: queue.paused,
            waiting: queue.waiting,
            in_flight: queue.in_flight.len() as u64,
            held: queue.held + queue.in_lanes,
            labels: self.groups.labels_of(recipient),
            parked: self.lanes_of(recipient).collect(),
        })
    }

    /// Messages whose life is over, from the one for which it has been longest on. Those of one
    /// instant in the order in which they were accepted, as far as they are handled together.
    pub(super) fn expired(&self, now: Timestamp, at_most: usize) -> Vec<(RecipientNo, MessageId)> {
        let over = self.expiries.iter().take_while(|(at, _)| *at <= now);
        let mut over: Vec<_> = over.take(at_most).collect();
        over.sort_unstable_by_key(|(at, handle)| (*at, self.messages.accepted_order(*handle)));
        let messages = over.iter().map(|(_, handle)| &self.messages[*handle]);
        messages
            .map(|message| (message.recipient, message.id))
            .collect()
    }

    /// The message whose receipt is longest overdue, the lowest number of its recipient first. One that would be due only after more than
    /// `wait_max` was pushed before the clock was set back, and is overdue as well (I21).
    pub(super) fn first_overdue(
        &self,
        now: Timestamp,
        wait_max: Duration,
    ) -> Option<(RecipientNo, MessageId)> {
        let first = self.ack_waits.first().filter(|(due, ..)| *due <= now);
        let too_far = || {
            self.ack_waits
                .last()
                .filter(|(due, ..)| *due > now + wait_max)
        };
        let (_, recipient, seq) = first.or_else(too_far)?;
        let flight = self.queue(*recipient).in_flight.get(seq)?;
        Some((*recipient, self.messages[flight.message].id))
    }

    /// How many finished messages, oldest first, have been remembered for `retention` at `now`.
    /// Those in memory ended after those in the archive, and age after them.
    pub(super) fn aged(&self, now: Timestamp, retention: Duration, at_most: usize) -> u32 {
        if !self.archived.is_empty() {
            return 0;
        }
        let passed = self.clock.passed_at(now, retention);
        let is_old = |ended: &Handle| ended_at(&self.messages[*ended]) + retention <= passed;
        let longest_ended = self.finished.each(&self.messages).take(at_most);
        longest_ended.take_while(is_old).count() as u32
    }

    /// Whether the retention clock has to be moved on for somebody who waits for it.
    pub(super) fn is_clock_due(&self, now: Timestamp, retention: Duration) -> bool {
        let waits = self.finished.first.is_some()
            || !self.archived.is_empty()
            || !self.fan_outs.over.is_empty()
            || self.bodies.next_unclaimed().is_some();
        waits && self.clock.is_due(now, retention)
    }

    /// Those of the damaged records that were not reckoned with before.
    pub(super) fn unknown_damage(&self, damaged: &[Position]) -> Vec<Position> {
        let unknown = |position: &&Position| !self.damaged.contains(position);
        damaged.iter().filter(unknown).copied().collect()
    }

    pub(super) fn next_deadline(&self, retention: Duration) -> Option<Timestamp> {
        if !self.releasing.is_empty() {
            return Some(Timestamp(i64::MIN));
        }
        let expiry = self.expiries.first().map(|(at, ..)| *at);
        let overdue = self.ack_waits.first().map(|(at, ..)| *at);
        let due = self.held.first_key_value().map(|(at, _)| *at);
        let archived = self
            .archived
            .front()
            .map(|batch| batch.ended.since(Timestamp(0)));
        let finished = self
            .finished
            .first
            .map(|ended| ended_at(&self.messages[ended]));
        let aged = archived
            .or(finished)
            .map(|ended| ended + retention)
            .map(|until| self.clock.look_at(until, retention));
        let fan_outs = self.fan_out_deadline(retention);
        let unclaimed = self.bodies.next_unclaimed();
        let unclaimed = unclaimed.map(|until| self.clock.look_at(until, retention));
        let operation = self.operations.next_due();
        [expiry, overdue, due, aged, fan_outs, unclaimed, operation]
            .into_iter()
            .flatten()
            .min()
    }

    /// Unfinished messages whose accepted record stands before `before`, or a little behind it, so
    /// that nothing before `before` is needed once they are copied forward. `None` when they are
    /// more than `at_most`.
    pub(super) fn accepted_before(&self, before: Position, at_most: u64) -> Option<Vec<&Message>> {
        let before = stretch_behind(before);
        let handles = self.messages.accepted_before(before, at_most)?;
        Some(
            handles
                .iter()
                .map(|handle| &self.messages[*handle])
                .collect(),
        )
    }

    /// Before this stands no accepted record of a finished, remembered message.
    pub(super) fn oldest_finished(&self) -> Position {
        self.messages
            .oldest_finished()
            .min(oldest_archived(&self.archived))
    }

    pub(super) fn oldest_needed(&self) -> Position {
        self.messages.oldest().min(oldest_archived(&self.archived))
    }
}

pub(super) fn place_of(message: &Message) -> Place {
    match message.standing {
        Standing::Held | Standing::InParkedLane | Standing::Fresh | Standing::Again(_) => {
            Place::Queued
        }
        Standing::InFlight => Place::Offered,
        Standing::Received => Place::Received,
        Standing::Ended(end) | Standing::Discarded(end) => Place::Ended(end),
    }
}

/// When a finished message ended, by the retention clock.
fn ended_at(message: &Message) -> Duration {
    message.instant.since(Timestamp(0))
}
