//! The centre's state, and what each record does to it.

use super::recipient::{Live, Pending, Recipient};
use super::record::{Accepted, Cause, End, RecipientNo, Record, Seq, Term};
use super::retention::RetentionClock;
use super::{Place, Policy, View};
use crate::hash::Map;
use crate::limits;
use crate::machine::Position;
use crate::message::{AgentName, MessageId, TenantName};
use crate::planted::Planted;
use crate::record::RecordError;
use crate::retry::ack_wait;
use crate::time::{Duration, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Everything the centre knows. Derived from records alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    epoch: u64,
    recipients: Vec<Recipient>,
    by_name: BTreeMap<(TenantName, AgentName), RecipientNo>,
    messages: Map<MessageId, Entry>,
    keys: Map<[u8; 16], Remembered>,
    connections: BTreeMap<u64, Connection>,
    expiries: BTreeSet<(Timestamp, RecipientNo, Seq)>,
    ack_waits: BTreeSet<(Timestamp, RecipientNo, Seq)>,
    finished: VecDeque<Finished>,
    clock: RetentionClock,
    /// Damaged records that were reckoned with.
    damaged: BTreeSet<Position>,
    acks_read: BTreeMap<u64, Position>,
    counters: Counters,
}

/// Where to find a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    Pending(RecipientNo, Seq),
    Finished {
        recipient: RecipientNo,
        last: Position,
        generation: u32,
        end: End,
    },
}

/// What an idempotency key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) id: MessageId,
    pub(super) fingerprint: [u8; 16],
    pub(super) position: Position,
    pub(super) seq: Seq,
}

/// A connection that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Connection {
    pub(super) recipient: RecipientNo,
    pub(super) term: Term,
}

/// A finished message, until its retention is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Finished {
    /// By the retention clock.
    at: Duration,
    id: MessageId,
    accepted: Position,
    key: [u8; 16],
}

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
}

impl Counters {
    /// Whether every accepted message is in exactly one place (I4).
    pub fn conserved(&self) -> bool {
        let ended = self.processed + self.rejected + self.dead + self.expired + self.cancelled;
        self.accepted == self.pending + ended
    }

    fn ended(&mut self, end: End) -> &mut u64 {
        match end {
            End::Processed => &mut self.processed,
            End::Rejected => &mut self.rejected,
            End::Dead => &mut self.dead,
            End::Expired => &mut self.expired,
            End::Cancelled => &mut self.cancelled,
        }
    }
}

const UNKNOWN_MESSAGE: RecordError = RecordError::Inconsistent("it names an unknown message");
const UNKNOWN_RECIPIENT: RecordError = RecordError::Inconsistent("it names an unknown recipient");

impl State {
    /// What `record`, standing at `position`, changes.
    pub(super) fn apply(
        &mut self,
        position: Position,
        record: &Record<'_>,
        policy: &Policy,
    ) -> Result<(), RecordError> {
        self.clock.observe(record.at(), policy.retention);
        match record {
            Record::Started { epoch, .. } => self.start(*epoch, policy),
            Record::Recipient {
                recipient,
                partition,
                tenant,
                name,
                ..
            } => {
                self.take_recipient(*recipient, tenant, name, *partition)?;
            }
            Record::Accepted(accepted) => self.accept(position, accepted)?,
            Record::Offered {
                at,
                id,
                attempt,
                cause,
                ..
            } => {
                self.offer(position, *id, *attempt, *cause, *at, policy)?;
            }
            Record::Connected {
                recipient,
                term,
                connection,
                token_expires_at,
                ..
            } => {
                let queue = self.recipient_mut(*recipient)?;
                queue.term = *term;
                let joining = Live {
                    connection: *connection,
                    term: *term,
                    token_expires_at: *token_expires_at,
                    received_before: queue.received_last,
                };
                queue.joining.insert(*term, joining);
                let connected = Connection {
                    recipient: *recipient,
                    term: *term,
                };
                self.connections.insert(*connection, connected);
            }
            Record::Ready {
                recipient,
                term,
                agent_epoch,
                cursor,
                ..
            } => {
                self.make_current(*recipient, *term, policy)?;
                self.ready(*recipient, *agent_epoch, *cursor)?;
            }
            Record::Disconnected {
                recipient, term, ..
            } => {
                let queue = self.recipient_mut(*recipient)?;
                if queue.live.is_some_and(|live| live.term == *term) {
                    self.end_connection(*recipient, Cause::Disconnected, policy);
                } else if let Some(joining) = queue.joining.remove(term) {
                    self.connections.remove(&joining.connection);
                }
            }
            Record::NumbersRaised {
                recipient,
                seq_last,
                ..
            } => self.recipient_mut(*recipient)?.seq_last = *seq_last,
            Record::SiteSetBack { recipient, .. } => {
                self.recipient_mut(*recipient)?.agent_store_lost();
            }
            Record::Overdue { id, .. } => {
                let (recipient, seq) = self.pending_place(*id)?;
                self.touch(*id, position)?;
                self.land(recipient, seq);
                self.requeue(recipient, seq, Cause::Overdue, policy);
            }
            Record::Stored { id, .. } => {
                let (recipient, seq) = self.pending_place(*id)?;
                self.land(recipient, seq);
                let queue = &mut self.recipients[recipient as usize];
                queue.again.remove(&seq);
                queue.received_last = queue.received_last.max(seq);
                let pending = queue.pending.get_mut(&seq).ok_or(UNKNOWN_MESSAGE)?;
                pending.received = true;
                pending.last = position;
            }
            Record::Settled {
                id, end, attempt, ..
            } => self.settle(position, *id, *end, *attempt)?,
            Record::Kept { id, .. } => {
                self.counters.acks_kept += 1;
                if self.messages.contains_key(id) {
                    self.touch(*id, position)?;
                }
            }
            Record::AcksRead {
                source, through, ..
            } => {
                self.acks_read.insert(*source, *through);
            }
            Record::AcksDamaged { .. } => self.doubt_receipts(),
            Record::Damaged { damaged, .. } => {
                self.damaged.extend(damaged);
                self.doubt_receipts();
            }
            Record::TimePassed { .. } => {}
            Record::Carried { id, .. } => {
                let (recipient, seq) = self.pending_place(*id)?;
                let queue = &mut self.recipients[recipient as usize];
                let pending = queue.pending.get_mut(&seq).ok_or(UNKNOWN_MESSAGE)?;
                pending.accepted = position;
                pending.last = position;
            }
            Record::AgedOut { count, .. } => self.forget(*count),
        }
        Ok(())
    }

    /// Nothing survives a restart of the process that depends on a living connection.
    fn start(&mut self, epoch: u64, policy: &Policy) {
        if self.epoch != epoch {
            // Sites count anew for another life of the store.
            self.recipients
                .iter_mut()
                .for_each(|queue| queue.received_last = 0);
        }
        self.epoch = epoch;
        if policy.planted.is(Planted::ForgetKeys) {
            self.keys.clear();
        }
        for recipient in 0..self.recipients.len() as RecipientNo {
            self.end_connection(recipient, Cause::Restarted, policy);
            self.recipients[recipient as usize].joining.clear();
        }
        self.connections.clear();
    }

    fn take_recipient(
        &mut self,
        number: RecipientNo,
        tenant: &TenantName,
        name: &AgentName,
        partition: u16,
    ) -> Result<(), RecordError> {
        let number = number as usize;
        if number < self.recipients.len() || number >= limits::RECIPIENTS_MAX {
            return Err(RecordError::Inconsistent(
                "a recipient's number is out of order",
            ));
        }
        // Records before this one may be damaged: their recipients keep their numbers, and get
        // their names back from their messages.
        self.recipients.resize_with(number, Recipient::nameless);
        let named = Recipient::named(tenant.clone(), name.clone(), partition);
        self.recipients.push(named);
        self.by_name
            .insert((tenant.clone(), name.clone()), number as RecipientNo);
        Ok(())
    }

    /// Gives a recipient its names back whose own record is damaged.
    fn name_recipient(&mut self, accepted: &Accepted<'_>) -> Result<(), RecordError> {
        let number = accepted.recipient as usize;
        if number >= limits::RECIPIENTS_MAX {
            return Err(UNKNOWN_RECIPIENT);
        }
        if number >= self.recipients.len() {
            self.recipients.resize_with(number + 1, Recipient::nameless);
        }
        let queue = &mut self.recipients[number];
        if queue.named {
            return Ok(());
        }
        let no_name = |_| RecordError::Inconsistent("a recipient's name is none");
        let tenant = TenantName::parse(accepted.tenant).map_err(no_name)?;
        let name = AgentName::parse(accepted.to).map_err(no_name)?;
        (queue.named, queue.partition) = (true, accepted.partition);
        (queue.tenant, queue.name) = (tenant.clone(), name.clone());
        self.by_name.insert((tenant, name), accepted.recipient);
        Ok(())
    }

    /// What sites said may be lost: whatever they are known to have is pushed again, and they say
    /// it again.
    fn doubt_receipts(&mut self) {
        for queue in &mut self.recipients {
            for (&seq, pending) in &mut queue.pending {
                if core::mem::take(&mut pending.received) {
                    queue.again.insert(seq, Cause::ReceiptDoubted);
                }
            }
        }
    }

    fn accept(&mut self, position: Position, accepted: &Accepted<'_>) -> Result<(), RecordError> {
        self.name_recipient(accepted)?;
        let queue = self
            .recipients
            .get_mut(accepted.recipient as usize)
            .ok_or(UNKNOWN_RECIPIENT)?;
        queue.seq_last = accepted.seq;
        if queue.pending.is_empty() {
            queue.fresh_from = accepted.seq;
        }
        let pending = Pending {
            id: accepted.id,
            accepted: position,
            last: position,
            expires_at: accepted.expires_at,
            key: accepted.key,
            bytes: accepted.data.len() as u32,
            pushes: 0,
            generation: accepted.generation,
            received: false,
        };
        queue.pending.insert(accepted.seq, pending);
        if let Some(at) = accepted.expires_at {
            self.expiries.insert((at, accepted.recipient, accepted.seq));
        }
        if accepted.key != [0; 16] {
            let remembered = Remembered {
                id: accepted.id,
                fingerprint: accepted.fingerprint,
                position,
                seq: accepted.seq,
            };
            self.keys.insert(accepted.key, remembered);
        }
        self.messages.insert(
            accepted.id,
            Entry::Pending(accepted.recipient, accepted.seq),
        );
        self.counters.accepted += 1;
        self.counters.pending += 1;
        Ok(())
    }

    fn offer(
        &mut self,
        position: Position,
        id: MessageId,
        attempt: u32,
        cause: Cause,
        at: Timestamp,
        policy: &Policy,
    ) -> Result<(), RecordError> {
        let (recipient, seq) = self.pending_place(id)?;
        let queue = &mut self.recipients[recipient as usize];
        let pending = queue.pending.get_mut(&seq).ok_or(UNKNOWN_MESSAGE)?;
        pending.pushes = attempt;
        pending.last = position;
        let due = at + ack_wait(policy.ack_wait, policy.ack_wait_max, attempt);
        queue.in_flight_bytes += u64::from(pending.bytes);
        queue.again.remove(&seq);
        if seq >= queue.fresh_from {
            queue.fresh_from = seq + 1;
        }
        queue.in_flight.insert(seq, due);
        self.ack_waits.insert((due, recipient, seq));
        self.counters.pushes += 1;
        if cause != Cause::New {
            self.counters.pushes_again += 1;
        }
        Ok(())
    }

    /// The connection with this term takes the place of an older one, which counts no longer.
    fn make_current(
        &mut self,
        recipient: RecipientNo,
        term: Term,
        policy: &Policy,
    ) -> Result<(), RecordError> {
        let queue = self.recipient_mut(recipient)?;
        if queue.live.is_some_and(|live| live.term == term) {
            return Ok(());
        }
        let joined = queue.joining.remove(&term);
        let joined = joined.ok_or(RecordError::Inconsistent("it names an unknown connection"))?;
        self.end_connection(recipient, Cause::Disconnected, policy);
        self.recipients[recipient as usize].live = Some(joined);
        Ok(())
    }

    fn ready(
        &mut self,
        recipient: RecipientNo,
        agent_epoch: u64,
        cursor: Seq,
    ) -> Result<(), RecordError> {
        let queue = self.recipient_mut(recipient)?;
        let is_lost =
            agent_epoch != 0 && queue.agent_epoch != 0 && queue.agent_epoch != agent_epoch;
        if agent_epoch != 0 {
            queue.agent_epoch = agent_epoch;
        }
        queue.gaps = queue.gaps.split_off(&cursor.saturating_add(1));
        if is_lost {
            queue.agent_store_lost();
        }
        Ok(())
    }

    /// Takes the current connection away; what it carried has to be pushed again.
    fn end_connection(&mut self, recipient: RecipientNo, cause: Cause, policy: &Policy) {
        let queue = &mut self.recipients[recipient as usize];
        if let Some(live) = queue.live.take() {
            self.connections.remove(&live.connection);
        }
        let in_flight = core::mem::take(&mut queue.in_flight);
        queue.in_flight_bytes = 0;
        for (seq, due) in in_flight {
            self.ack_waits.remove(&(due, recipient, seq));
            if policy.planted.is(Planted::DropOnDisconnect) {
                self.drop_without_end(recipient, seq);
            } else if !policy.planted.is(Planted::NoReoffer) {
                self.requeue(recipient, seq, cause, policy);
            }
        }
    }

    fn requeue(&mut self, recipient: RecipientNo, seq: Seq, cause: Cause, policy: &Policy) {
        let queue = &mut self.recipients[recipient as usize];
        if policy.planted.is(Planted::RequeueAtEnd) {
            queue.move_to_end(seq, cause, &mut self.messages);
        } else {
            queue.again.insert(seq, cause);
        }
    }

    /// No longer in flight.
    fn land(&mut self, recipient: RecipientNo, seq: Seq) {
        let queue = &mut self.recipients[recipient as usize];
        if let Some(due) = queue.in_flight.remove(&seq) {
            self.ack_waits.remove(&(due, recipient, seq));
            let bytes = queue
                .pending
                .get(&seq)
                .map_or(0, |pending| u64::from(pending.bytes));
            queue.in_flight_bytes = queue.in_flight_bytes.saturating_sub(bytes);
        }
    }

    fn settle(
        &mut self,
        position: Position,
        id: MessageId,
        end: End,
        attempt: u32,
    ) -> Result<(), RecordError> {
        if let Some(Entry::Finished {
            last, end: before, ..
        }) = self.messages.get_mut(&id)
        {
            // Only a planted defect writes a second end.
            *self.counters.ended(*before) -= 1;
            *self.counters.ended(end) += 1;
            (*last, *before) = (position, end);
            return Ok(());
        }
        let (recipient, seq) = self.pending_place(id)?;
        self.land(recipient, seq);
        let queue = &mut self.recipients[recipient as usize];
        let pending = queue.pending.remove(&seq).ok_or(UNKNOWN_MESSAGE)?;
        queue.again.remove(&seq);
        queue.lost_pushes.remove(&seq);
        // Only a site that has it can end it by an attempt.
        let by_site = attempt > 0 || matches!(end, End::Processed | End::Rejected);
        let arrived = pending.received || by_site;
        if !arrived && pending.generation == 1 {
            queue.gaps.insert(seq);
            if queue.gaps.len() > limits::GAPS_PER_RECIPIENT_MAX {
                queue.gaps.pop_first();
            }
        }
        if let Some(expires_at) = pending.expires_at {
            self.expiries.remove(&(expires_at, recipient, seq));
        }
        let entry = Entry::Finished {
            recipient,
            last: position,
            generation: pending.generation,
            end,
        };
        self.messages.insert(id, entry);
        let Pending { accepted, key, .. } = pending;
        self.finished.push_back(Finished {
            at: self.clock.passed,
            id,
            accepted,
            key,
        });
        self.counters.pending -= 1;
        *self.counters.ended(end) += 1;
        Ok(())
    }

    fn forget(&mut self, count: u32) {
        for _ in 0..count {
            let Some(oldest) = self.finished.pop_front() else {
                break;
            };
            self.messages.remove(&oldest.id);
            self.keys.remove(&oldest.key);
            self.counters.aged_out += 1;
        }
    }

    /// Sets the last record of a message.
    fn touch(&mut self, id: MessageId, position: Position) -> Result<(), RecordError> {
        match self.messages.get_mut(&id).ok_or(UNKNOWN_MESSAGE)? {
            Entry::Finished { last, .. } => *last = position,
            Entry::Pending(recipient, seq) => {
                let queue = &mut self.recipients[*recipient as usize];
                queue.pending.get_mut(seq).ok_or(UNKNOWN_MESSAGE)?.last = position;
            }
        }
        Ok(())
    }

    fn pending_place(&self, id: MessageId) -> Result<(RecipientNo, Seq), RecordError> {
        match self.messages.get(&id) {
            Some(Entry::Pending(recipient, seq)) => Ok((*recipient, *seq)),
            _ => Err(UNKNOWN_MESSAGE),
        }
    }

    fn recipient_mut(&mut self, recipient: RecipientNo) -> Result<&mut Recipient, RecordError> {
        self.recipients
            .get_mut(recipient as usize)
            .ok_or(UNKNOWN_RECIPIENT)
    }
}

/// Questions the rules ask.
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
            .map(|queue| queue.pending.len() as u64)
            .sum();
        self.counters.conserved() && counted == self.counters.pending
    }

    /// Whether every unfinished message stands in exactly one of the places that lead on: received,
    /// in flight, to be pushed again, never pushed. One in none of them would wait for ever (I5).
    pub fn accounted(&self) -> bool {
        self.recipients.iter().all(Recipient::accounted)
    }

    /// Messages in flight per recipient, with bytes: for the check of windows (I16).
    pub fn in_flight(&self) -> impl Iterator<Item = (&AgentName, usize, u64)> {
        self.recipients
            .iter()
            .map(|queue| (&queue.name, queue.in_flight.len(), queue.in_flight_bytes))
    }

    /// Where a message is, if it is known.
    pub fn place(&self, id: MessageId) -> Option<Place> {
        Some(match self.entry(id)? {
            Entry::Finished { end, .. } => Place::Ended(end),
            Entry::Pending(recipient, seq) => {
                let queue = self.queue(recipient);
                if queue.pending.get(&seq)?.received {
                    Place::Received
                } else if queue.in_flight.contains_key(&seq) {
                    Place::Offered
                } else {
                    Place::Queued
                }
            }
        })
    }

    /// Unfinished messages of `agent`.
    pub fn waiting(&self, tenant: &TenantName, agent: &AgentName) -> usize {
        self.number_of(tenant, agent)
            .map_or(0, |no| self.queue(no).pending.len())
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
        let waiting = queues.filter(|(_, queue)| !queue.pending.is_empty());
        waiting.map(|(number, _)| number as RecipientNo)
    }

    pub(super) fn recipient_count(&self) -> usize {
        self.recipients.len()
    }

    pub(super) fn entry(&self, id: MessageId) -> Option<Entry> {
        self.messages.get(&id).copied()
    }

    pub(super) fn key(&self, key: &[u8; 16]) -> Option<&Remembered> {
        self.keys.get(key)
    }

    pub(super) fn connection(&self, connection: u64) -> Option<Connection> {
        self.connections.get(&connection).copied()
    }

    pub(super) fn acks_read(&self, source: u64) -> Position {
        self.acks_read.get(&source).copied().unwrap_or(0)
    }

    pub(super) fn last_record(&self, id: MessageId) -> Position {
        match self.messages.get(&id) {
            Some(Entry::Finished { last, .. }) => *last,
            Some(Entry::Pending(recipient, seq)) => self
                .queue(*recipient)
                .pending
                .get(seq)
                .map_or(0, |pending| pending.last),
            None => 0,
        }
    }

    pub(super) fn view(&self, tenant: &TenantName, id: MessageId) -> Option<View> {
        let entry = self.entry(id)?;
        let (Entry::Pending(recipient, _) | Entry::Finished { recipient, .. }) = entry;
        let queue = self.queue(recipient);
        if queue.tenant != *tenant {
            return None;
        }
        let online = queue.live.is_some();
        let agent = queue.name.clone();
        Some(match entry {
            Entry::Finished {
                last,
                generation,
                end,
                ..
            } => View {
                id,
                place: Place::Ended(end),
                agent,
                online,
                last,
                pushes: 0,
                generation,
            },
            Entry::Pending(_, seq) => {
                let pending = queue.pending.get(&seq)?;
                let place = self.place(id)?;
                View {
                    id,
                    place,
                    agent,
                    online,
                    last: pending.last,
                    pushes: pending.pushes,
                    generation: pending.generation,
                }
            }
        })
    }

    /// The oldest message whose life is over.
    pub(super) fn first_expired(&self, now: Timestamp) -> Option<(RecipientNo, MessageId)> {
        let &(_, recipient, seq) = self.expiries.first().filter(|(at, ..)| *at <= now)?;
        let pending = self.queue(recipient).pending.get(&seq)?;
        Some((recipient, pending.id))
    }

    /// The message whose receipt is longest overdue. One that would be due only after more than
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
        let &(_, recipient, seq) = first.or_else(too_far)?;
        let pending = self.queue(recipient).pending.get(&seq)?;
        Some((recipient, pending.id))
    }

    /// How many finished messages, oldest first, have been remembered for `retention` at `now`.
    pub(super) fn aged(&self, now: Timestamp, retention: Duration, at_most: usize) -> u32 {
        let passed = self.clock.passed_at(now, retention);
        let is_old = |finished: &&Finished| finished.at + retention <= passed;
        self.finished
            .iter()
            .take(at_most)
            .take_while(is_old)
            .count() as u32
    }

    /// Whether the retention clock has to be moved on for somebody who waits for it.
    pub(super) fn is_clock_due(&self, now: Timestamp, retention: Duration) -> bool {
        !self.finished.is_empty() && self.clock.is_due(now, retention)
    }

    /// Those of the damaged records that were not reckoned with before.
    pub(super) fn unknown_damage(&self, damaged: &[Position]) -> Vec<Position> {
        let unknown = |position: &&Position| !self.damaged.contains(position);
        damaged.iter().filter(unknown).copied().collect()
    }

    pub(super) fn next_deadline(&self, retention: Duration) -> Option<Timestamp> {
        let expiry = self.expiries.first().map(|(at, ..)| *at);
        let overdue = self.ack_waits.first().map(|(at, ..)| *at);
        let aged = self
            .finished
            .front()
            .map(|finished| self.clock.look_at(finished.at + retention, retention));
        [expiry, overdue, aged].into_iter().flatten().min()
    }

    /// Unfinished messages whose accepted record stands before `before`.
    pub(super) fn accepted_before(
        &self,
        before: Position,
    ) -> impl Iterator<Item = (MessageId, &Pending)> {
        let pending = self
            .recipients
            .iter()
            .flat_map(|queue| queue.pending.values());
        pending
            .filter(move |pending| pending.accepted < before)
            .map(|pending| (pending.id, pending))
    }

    /// Where the oldest accepted record of a finished, remembered message stands.
    pub(super) fn oldest_finished(&self) -> Position {
        self.finished
            .iter()
            .map(|finished| finished.accepted)
            .min()
            .unwrap_or(Position::MAX)
    }

    pub(super) fn oldest_needed(&self) -> Position {
        let pending = self
            .recipients
            .iter()
            .flat_map(|queue| queue.pending.values());
        let oldest_pending = pending.map(|pending| pending.accepted).min();
        oldest_pending
            .unwrap_or(Position::MAX)
            .min(self.oldest_finished())
    }
}

/// What planted defects do.
impl State {
    fn drop_without_end(&mut self, recipient: RecipientNo, seq: Seq) {
        if let Some(pending) = self.recipients[recipient as usize].pending.remove(&seq) {
            self.messages.remove(&pending.id);
        }
    }
}
