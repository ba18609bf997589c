//! The centre's state, and what each record does to it.

use super::Policy;
use super::archive::BatchName;
use super::bodies::Bodies;
use super::counters::Counters;
use super::fanout::FanOuts;
use super::groups::Groups;
use super::messages::{FOR_EVER, Fingerprint, Handle, Message, Messages, NO_KEY, Standing};
use super::operations::Book;
use super::orphans::Orphans;
use super::recipient::{Ends, InFlight, Live, Recipient};
use super::record::{Accepted, Cause, End, RecipientNo, Record, Seq, Term, Why};
use super::retention::RetentionClock;
use crate::ack::{FORGOTTEN, Stage};
use crate::lane::{LaneHash, LaneMark};
use crate::limits;
use crate::machine::Position;
use crate::message::{AgentName, MessageId, TenantName};
use crate::planted::Planted;
use crate::record::RecordError;
use crate::retry::ack_wait;
use crate::time::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Everything the centre knows. Derived from records alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub(super) epoch: u64,
    pub(super) recipients: Vec<Recipient>,
    pub(super) connections: BTreeMap<u64, Connection>,
    /// Messages that have ended, longest ago first.
    pub(super) finished: Ends,
    pub(super) clock: RetentionClock,
    /// Damaged records that were reckoned with.
    pub(super) damaged: BTreeSet<Position>,
    pub(super) acks_read: BTreeMap<u64, Position>,
    pub(super) counters: Counters,
    /// What the archive holds, longest ago first.
    pub(super) archived: VecDeque<Batch>,
    /// Number of the last batch that went there.
    pub(super) batch_last: u64,
    /// Acknowledgements of messages that are not known.
    pub(super) orphans: Orphans,
    /// Operations that go on, and those before them.
    pub(super) operations: Book,
    pub(super) groups: Groups,
    /// Large bodies, and which messages refer to them.
    pub(super) bodies: Bodies,
    /// Written behind the others, in a form of their own.
    #[serde(skip)]
    pub(super) fan_outs: FanOuts,
    /// Written behind the others, in a form of their own.
    #[serde(skip)]
    pub(super) messages: Messages,
    // What follows can be told from the others.
    /// How many messages have ended and are in memory.
    #[serde(skip)]
    pub(super) remembered: u64,
    /// Those of them that nobody has, by id.
    #[serde(skip)]
    pub(super) failures: BTreeSet<(MessageId, Handle)>,
    #[serde(skip)]
    pub(super) by_name: BTreeMap<(TenantName, AgentName), RecipientNo>,
    #[serde(skip)]
    pub(super) expiries: BTreeSet<(Timestamp, Handle)>,
    /// Messages that are not due yet: those of one instant in the order in which they were accepted,
    /// which nothing else tells once some of them were copied forward.
    #[serde(skip)]
    pub(super) held: BTreeMap<Timestamp, Ends>,
    #[serde(skip)]
    pub(super) ack_waits: BTreeSet<(Timestamp, RecipientNo, Seq)>,
    /// Lanes that go on and have not caught up.
    #[serde(skip)]
    pub(super) releasing: BTreeSet<(RecipientNo, LaneHash)>,
}

/// A batch of messages that went to the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) name: BatchName,
    /// Where the record with its messages stands.
    pub(super) position: Position,
    /// Messages that are still there alone.
    pub(super) count: u32,
    /// The oldest of their accepted records.
    pub(super) oldest: Option<Position>,
    /// When the last of them ended, by the retention clock.
    pub(super) ended: Timestamp,
}

/// A connection that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Connection {
    pub(super) recipient: RecipientNo,
    pub(super) term: Term,
}

/// The number of a life in the form in which it is kept.
fn life(generation: u32) -> Result<u16, RecordError> {
    let too_many = |_| RecordError::Inconsistent("a message has more lives than there can be");
    u16::try_from(generation).map_err(too_many)
}

pub(super) const UNKNOWN_MESSAGE: RecordError =
    RecordError::Inconsistent("it names an unknown message");
pub(super) const UNKNOWN_RECIPIENT: RecordError =
    RecordError::Inconsistent("it names an unknown recipient");

impl State {
    /// What `record`, standing at `position`, changes.
    pub(super) fn apply(
        &mut self,
        position: Position,
        record: &Record<'_>,
        policy: &Policy,
    ) -> Result<(), RecordError> {
        let before = self.clock.looked_at();
        self.clock.observe(record.at(), policy.retention);
        match record {
            Record::Started { at, epoch } => {
                if self.epoch != 0 && self.epoch != *epoch {
                    self.begin_another_life(before, *at);
                }
                self.start(*epoch, policy);
            }
            Record::Recipient {
                recipient,
                partition,
                tenant,
                name,
                ..
            } => {
                self.take_recipient(*recipient, tenant, name, *partition)?;
            }
            Record::Accepted(accepted) => {
                let handle = self.accept(position, accepted)?;
                self.put(handle, accepted.seq);
            }
            Record::Scheduled {
                not_before,
                accepted,
            } => {
                let handle = self.accept(position, accepted)?;
                self.hold_until(handle, *not_before);
            }
            Record::AcceptedUnder {
                not_before,
                accepted,
                ..
            } => {
                let handle = self.accept(position, accepted)?;
                match not_before {
                    Some(not_before) => self.hold_until(handle, *not_before),
                    None => self.put(handle, accepted.seq),
                }
            }
            Record::AcceptedByReference {
                body,
                not_before,
                accepted,
                ..
            } => {
                let handle = self.accept(position, accepted)?;
                match not_before {
                    Some(not_before) => self.hold_until(handle, *not_before),
                    None => self.put(handle, accepted.seq),
                }
                self.bodies.refer(accepted, *body)?;
            }
            Record::BodyKept { .. } | Record::BodyDropped { .. } => {
                self.bodies.take(record, self.clock.passed);
            }
            Record::Due { id, seq, .. } => {
                let handle = self.unfinished(*id)?;
                match self.messages[handle].is_held() {
                    true => self.leave(handle),
                    // The record that had it held is damaged.
                    false => self.leave_queue(handle),
                }
                self.messages.change(handle).last = position;
                self.put(handle, *seq);
            }
            Record::Reprocessed {
                id,
                generation,
                seq,
                ..
            } => self.reprocess(position, *id, *generation, *seq)?,
            Record::Paused {
                recipient, paused, ..
            } => self.recipient_mut(*recipient)?.paused = *paused,
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
                floor,
                cursor,
                ..
            } => {
                self.make_current(*recipient, *term, policy)?;
                self.ready(*recipient, *agent_epoch, *floor, *cursor)?;
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
                self.agent_store_lost(*recipient)?;
            }
            Record::Overdue { id, .. } => {
                let message = self.queued(*id)?;
                self.messages.change(message).last = position;
                self.requeue(message, Cause::Overdue, policy);
            }
            Record::Stored { id, .. } => {
                let message = self.queued(*id)?;
                self.stand(message, Standing::Received);
                let stored = self.messages.change(message);
                stored.last = position;
                let (recipient, seq) = (stored.recipient, stored.seq);
                let queue = self.recipient_mut(recipient)?;
                queue.received_last = queue.received_last.max(seq);
            }
            Record::Settled {
                id,
                end,
                attempt,
                outcome,
                ..
            } => {
                let is_stray = outcome.code == FORGOTTEN;
                self.settle(position, *id, *end, *attempt, is_stray)?;
            }
            Record::Kept {
                id,
                why,
                stage,
                outcome,
                ..
            } => {
                self.counters.acks_kept += 1;
                self.orphans.heard(record);
                if let Some(message) = self.messages.find(*id) {
                    self.messages.change(message).last = position;
                    if outcome.code != FORGOTTEN {
                        self.heard_too_late(message, *why, *stage);
                    }
                }
            }
            Record::Attempted { id, .. } => {
                let message = self.unfinished(*id)?;
                self.messages.change(message).last = position;
            }
            Record::LaneParked {
                recipient,
                lane,
                id,
                generation,
                ..
            } => self.park_lane(*recipient, LaneHash::of(lane), (*id, *generation)),
            Record::LaneResumed {
                recipient, lane, ..
            } => self.resume_lane(*recipient, LaneHash::of(lane), false),
            Record::LaneHeard {
                recipient,
                id,
                generation,
                ..
            } => self.lane_heard(*recipient, (*id, *generation)),
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
                let message = self.unfinished(*id)?;
                self.messages.carry(message, position);
            }
            Record::AgedOut { count, .. } => self.forget(*count),
            Record::Archived {
                batch, messages, ..
            } => self.archive(position, *batch, messages),
            Record::Recalled { batch, message, .. } => self.recall(*batch, message)?,
            Record::ArchiveAged { below, .. } => self.age_archive(*below),
            Record::GroupChanged { .. }
            | Record::Labelled { .. }
            | Record::FannedOut { .. }
            | Record::Addressed(_)
            | Record::QuorumReached { .. }
            | Record::QuorumMissed { .. }
            | Record::FanOutAged { .. } => self.apply_to_many(position, record, policy)?,
            Record::OperationBegun { .. }
            | Record::OperationSelected { .. }
            | Record::OperationDid { .. }
            | Record::OperationStopped { .. } => self.operations.apply(record),
            Record::Discarded { id, .. } => self.put_away(position, *id, true)?,
            Record::Restored { id, .. } => self.put_away(position, *id, false)?,
        }
        Ok(())
    }

    /// Nothing survives a restart of the process that depends on a living connection.
    fn start(&mut self, epoch: u64, policy: &Policy) {
        self.epoch = epoch;
        if policy.planted.is(Planted::RepeatReplay) {
            self.operations.go_back();
        }
        if policy.planted.is(Planted::ForgetKeys) {
            self.messages.forget_keys();
            self.fan_outs.forget_keys();
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
        self.groups.recipient_known();
        self.by_name
            .insert((tenant.clone(), name.clone()), number as RecipientNo);
        Ok(())
    }

    /// Gives a recipient its names back whose own record is damaged.
    pub(super) fn name_recipient(
        &mut self,
        recipient: RecipientNo,
        partition: u16,
        tenant: &str,
        name: &str,
    ) -> Result<(), RecordError> {
        let number = recipient as usize;
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
        let tenant = TenantName::parse(tenant).map_err(no_name)?;
        let name = AgentName::parse(name).map_err(no_name)?;
        (queue.named, queue.partition) = (true, partition);
        (queue.tenant, queue.name) = (tenant.clone(), name.clone());
        self.by_name.insert((tenant, name), recipient);
        self.groups.recipient_known();
        Ok(())
    }

    /// What sites said may be lost: whatever they are known to have is pushed again, and they say
    /// it again.
    pub(super) fn doubt_receipts(&mut self) {
        let received = |(_, message): &(Handle, &Message)| message.is_received();
        let doubted: Vec<_> = self.messages.each().filter(received).collect();
        let doubted: Vec<_> = doubted.into_iter().map(|(handle, _)| handle).collect();
        for message in doubted {
            self.stand(message, Standing::Again(Cause::ReceiptDoubted));
        }
    }

    /// What the agent had is with the agent no longer.
    fn agent_store_lost(&mut self, recipient: RecipientNo) -> Result<(), RecordError> {
        let messages = &self.messages;
        let queue = self
            .recipients
            .get_mut(recipient as usize)
            .ok_or(UNKNOWN_RECIPIENT)?;
        queue.received_last = 0;
        // Whatever it had been given before, it may not remember.
        queue.floor = queue.floor.max(queue.seq_last + 1);
        for joining in queue.joining.values_mut() {
            joining.received_before = 0;
        }
        let mut lost = Vec::new();
        for handle in queue.queue.each(messages) {
            let message = &messages[handle];
            if message.pushes > 0 {
                queue.lost_pushes.insert(message.seq, message.pushes);
            }
            if message.is_received() {
                lost.push(handle);
            }
        }
        for message in lost {
            self.stand(message, Standing::Again(Cause::AgentStoreLost));
        }
        Ok(())
    }

    /// Takes a message in. It must be given a place.
    fn accept(
        &mut self,
        position: Position,
        accepted: &Accepted<'_>,
    ) -> Result<Handle, RecordError> {
        self.name_recipient(
            accepted.recipient,
            accepted.partition,
            accepted.tenant,
            accepted.to,
        )?;
        if accepted.recipient as usize >= self.recipients.len() {
            return Err(UNKNOWN_RECIPIENT);
        }
        self.forget_namesake(accepted.id)?;
        let keyed = Fingerprint::of(accepted.fingerprint);
        Ok(self.take_in(Message {
            id: accepted.id,
            key: accepted.key,
            // Without a key nobody compares it, and it would name a send to many.
            fingerprint: match accepted.key == NO_KEY {
                true => Fingerprint::default(),
                false => keyed,
            },
            accepted: position,
            last: position,
            instant: accepted.expires_at.unwrap_or(FOR_EVER),
            seq: accepted.seq,
            recipient: accepted.recipient,
            bytes: accepted.data.len() as u32,
            pushes: 0,
            lane: LaneMark::new(accepted.lane, accepted.rule),
            generation: life(accepted.generation)?,
            before: None,
            behind: None,
            standing: Standing::Fresh,
        }))
    }

    pub(super) fn take_in(&mut self, message: Message) -> Handle {
        self.orphans.accepted(message.id);
        let expires_at = message.expires_at();
        let handle = self.messages.insert(message);
        if let Some(at) = expires_at {
            self.expiries.insert((at, handle));
        }
        self.counters.accepted += 1;
        self.counters.pending += 1;
        handle
    }

    /// Gives a message that stands nowhere its place: in the queue, or in its lane when it has no
    /// number.
    pub(super) fn put(&mut self, handle: Handle, seq: Seq) {
        match seq {
            0 => self.hold_in_lane(handle),
            _ => self.enqueue(handle, seq),
        }
    }

    /// Makes a message that stands nowhere the last of its recipient's queue.
    fn enqueue(&mut self, handle: Handle, seq: Seq) {
        let message = self.messages.change(handle);
        (message.standing, message.seq) = (Standing::Fresh, seq);
        let queue = &mut self.recipients[message.recipient as usize];
        queue.seq_last = seq;
        queue.queue.append(handle, &mut self.messages);
        queue.waiting += 1;
        queue.fresh.get_or_insert(handle);
        self.lane_grows(handle);
    }

    /// Begins another life of a message that has ended.
    fn reprocess(
        &mut self,
        position: Position,
        id: MessageId,
        generation: u32,
        seq: Seq,
    ) -> Result<(), RecordError> {
        let handle = self.messages.find(id).ok_or(UNKNOWN_MESSAGE)?;
        let end = self.messages[handle].end();
        let end = end.ok_or(RecordError::Inconsistent("the message has not ended"))?;
        self.finished.take(handle, &mut self.messages);
        self.failures.remove(&(id, handle));
        self.remembered -= 1;
        self.messages.revive(handle, life(generation)?);
        self.messages.change(handle).last = position;
        self.put(handle, seq);
        self.counters.pending += 1;
        self.counters.reprocessed += 1;
        *self.counters.ended(end) -= 1;
        self.fan_outs.revived(&self.messages[handle], end);
        Ok(())
    }

    /// A message that was remembered under this id should have been forgotten: the record that said
    /// so is damaged.
    pub(super) fn forget_namesake(&mut self, id: MessageId) -> Result<(), RecordError> {
        match self.messages.find(id) {
            None => Ok(()),
            Some(namesake) if self.messages[namesake].end().is_some() => {
                self.bodies.release(id, self.clock.passed);
                self.forget_one(namesake);
                Ok(())
            }
            Some(_) => Err(RecordError::Inconsistent("a message is accepted twice")),
        }
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
        let handle = self.queued(id)?;
        self.leave(handle);
        let message = self.messages.change(handle);
        let at_once = message.accepted + 1 == position;
        self.counters.needed_store.count(cause, at_once);
        message.pushes = attempt;
        message.last = position;
        message.standing = Standing::InFlight;
        let due = at + ack_wait(policy.ack_wait, policy.ack_wait_max, attempt);
        let queue = &mut self.recipients[message.recipient as usize];
        queue.in_flight_bytes += u64::from(message.bytes);
        let flight = InFlight {
            message: handle,
            due,
        };
        queue.in_flight.insert(message.seq, flight);
        let wait = (due, message.recipient, message.seq);
        self.ack_waits.insert(wait);
        self.counters.pushes += 1;
        if cause != Cause::New {
            self.counters.pushes_again += 1;
        }
        Ok(())
    }

    /// Moves an unfinished message to another place.
    fn stand(&mut self, handle: Handle, standing: Standing) {
        self.leave(handle);
        let message = self.messages.change(handle);
        message.standing = standing;
        if let Standing::Again(_) = standing {
            let queue = &mut self.recipients[message.recipient as usize];
            queue.again.insert(message.seq, handle);
        }
    }

    /// Takes an unfinished message from where it stands. It must be given another place.
    pub(super) fn leave(&mut self, handle: Handle) {
        let message = &self.messages[handle];
        if message.standing == Standing::InParkedLane {
            return self.leave_lane(handle);
        }
        let queue = &mut self.recipients[message.recipient as usize];
        match message.standing {
            Standing::Fresh if queue.fresh == Some(handle) => {
                let is_fresh = |handle: &Handle| self.messages[*handle].standing == Standing::Fresh;
                let behind = |handle: &Handle| self.messages[*handle].behind;
                let mut others = core::iter::successors(message.behind, behind);
                queue.fresh = others.find(is_fresh);
            }
            Standing::Again(_) => {
                queue.again.remove(&message.seq);
            }
            Standing::InFlight => {
                if let Some(flight) = queue.in_flight.remove(&message.seq) {
                    let wait = (flight.due, message.recipient, message.seq);
                    self.ack_waits.remove(&wait);
                    let left = queue.in_flight_bytes;
                    queue.in_flight_bytes = left.saturating_sub(u64::from(message.bytes));
                }
            }
            Standing::Held => self.hold_no_longer(handle),
            Standing::Fresh | Standing::Received | Standing::InParkedLane => {}
            Standing::Ended(_) | Standing::Discarded(_) => {}
        }
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
        floor: Seq,
        cursor: Seq,
    ) -> Result<(), RecordError> {
        let queue = self.recipient_mut(recipient)?;
        queue.floor = queue.floor.max(floor);
        let is_lost =
            agent_epoch != 0 && queue.agent_epoch != 0 && queue.agent_epoch != agent_epoch;
        if agent_epoch != 0 {
            queue.agent_epoch = agent_epoch;
        }
        queue.gaps = queue.gaps.split_off(&cursor.saturating_add(1));
        match is_lost {
            true => self.agent_store_lost(recipient),
            false => Ok(()),
        }
    }

    /// Takes the current connection away; what it carried has to be pushed again.
    fn end_connection(&mut self, recipient: RecipientNo, cause: Cause, policy: &Policy) {
        let queue = &mut self.recipients[recipient as usize];
        if let Some(live) = queue.live.take() {
            self.connections.remove(&live.connection);
        }
        let in_flight: Vec<_> = queue.in_flight.values().copied().collect();
        for InFlight { message, due } in in_flight {
            if policy.planted.is(Planted::DropOnDisconnect) {
                self.drop_without_end(message);
            } else if policy.planted.is(Planted::NoReoffer) {
                let seq = self.messages[message].seq;
                self.ack_waits.remove(&(due, recipient, seq));
                let queue = &mut self.recipients[recipient as usize];
                queue.in_flight.remove(&seq);
                queue.in_flight_bytes = 0;
            } else {
                self.requeue(message, cause, policy);
            }
        }
    }

    fn requeue(&mut self, message: Handle, cause: Cause, policy: &Policy) {
        if policy.planted.is(Planted::RequeueAtEnd) {
            self.move_to_end(message);
        }
        self.stand(message, Standing::Again(cause));
    }

    fn settle(
        &mut self,
        position: Position,
        id: MessageId,
        end: End,
        attempt: u32,
        is_stray: bool,
    ) -> Result<(), RecordError> {
        let handle = self.messages.find(id).ok_or(UNKNOWN_MESSAGE)?;
        if let Some(before) = self.messages[handle].end() {
            // Only a planted defect writes a second end.
            *self.counters.ended(before) -= 1;
            *self.counters.ended(end) += 1;
            let message = self.messages.change(handle);
            (message.last, message.standing) = (position, Standing::Ended(end));
            self.note_failure(handle);
            return Ok(());
        }
        self.leave(handle);
        let message = self.messages[handle];
        // Only a site that has it can end it by an attempt.
        let by_site = attempt > 0 || matches!(end, End::Processed | End::Rejected);
        let arrived = message.is_received() || by_site;
        let queue = &mut self.recipients[message.recipient as usize];
        if !message.is_held() {
            queue.queue.take(handle, &mut self.messages);
            queue.waiting -= 1;
            queue.lost_pushes.remove(&message.seq);
            if !arrived {
                queue.gaps.insert(message.seq);
            }
            if queue.gaps.len() > limits::GAPS_PER_RECIPIENT_MAX {
                queue.gaps.pop_first();
            }
        }
        if !message.is_held() {
            self.lane_shrinks(handle);
        }
        if let Some(expires_at) = message.expires_at() {
            self.expiries.remove(&(expires_at, handle));
        }
        self.messages.change(handle).last = position;
        self.messages
            .end(handle, end, Timestamp(0) + self.clock.passed);
        self.finished.append(handle, &mut self.messages);
        self.note_failure(handle);
        self.remembered += 1;
        self.counters.pending -= 1;
        *self.counters.ended(end) += 1;
        let passed = Timestamp(0) + self.clock.passed;
        self.fan_outs.ended(&message, end, passed);
        match end {
            End::Rejected | End::Dead if message.lane.parks() && !is_stray => self.park(handle),
            End::Processed => self.done_once_more(handle),
            _ => {}
        }
        Ok(())
    }

    /// A message ended at its site, which came too late to change its end; what that means for its
    /// lane stands all the same, because the site goes by it.
    fn heard_too_late(&mut self, handle: Handle, why: Why, stage: Stage) {
        let message = &self.messages[handle];
        let (parks, done) = (message.lane.parks(), message.end() == Some(End::Processed));
        match (why, stage) {
            (Why::Late | Why::Conflict, Stage::Rejected | Stage::Dead) if parks => {
                self.park(handle);
            }
            // An earlier life of it; a later one may have been taken back before its site heard of it.
            (Why::OtherGeneration, Stage::Rejected | Stage::Dead) if parks && !done => {
                let earlier = u32::from(message.generation).saturating_sub(1);
                let (recipient, lane) = (message.recipient, message.lane.lane());
                self.park_lane(recipient, lane, (message.id, earlier));
            }
            (Why::Late | Why::Conflict, Stage::Acknowledged) => self.done_once_more(handle),
            _ => {}
        }
    }

    fn forget(&mut self, count: u32) {
        for _ in 0..count {
            let Some(oldest) = self.finished.first else {
                break;
            };
            let id = self.messages[oldest].id;
            self.bodies.release(id, self.clock.passed);
            self.forget_one(oldest);
            self.counters.aged_out += 1;
        }
    }

    /// Takes a message that has ended out of memory.
    pub(super) fn forget_one(&mut self, ended: Handle) {
        self.failures.remove(&(self.messages[ended].id, ended));
        self.finished.take(ended, &mut self.messages);
        self.messages.remove(ended);
        self.remembered -= 1;
    }

    /// An unfinished message that stands in its recipient's queue. One that is held has come due by a
    /// record that is damaged: it has the number that it was given there.
    fn queued(&mut self, id: MessageId) -> Result<Handle, RecordError> {
        let handle = self.unfinished(id)?;
        if self.messages[handle].is_held() {
            self.leave(handle);
            let recipient = self.messages[handle].recipient as usize;
            let seq = self.recipients[recipient].seq_last + 1;
            self.enqueue(handle, seq);
        }
        Ok(handle)
    }

    fn unfinished(&self, id: MessageId) -> Result<Handle, RecordError> {
        let known = self.messages.find(id);
        let unfinished = known.filter(|known| self.messages[*known].end().is_none());
        unfinished.ok_or(UNKNOWN_MESSAGE)
    }

    fn recipient_mut(&mut self, recipient: RecipientNo) -> Result<&mut Recipient, RecordError> {
        self.recipients
            .get_mut(recipient as usize)
            .ok_or(UNKNOWN_RECIPIENT)
    }
}

/// What planted defects do.
impl State {
    fn drop_without_end(&mut self, handle: Handle) {
        self.leave(handle);
        let message = self.messages[handle];
        let queue = &mut self.recipients[message.recipient as usize];
        queue.queue.take(handle, &mut self.messages);
        queue.waiting -= 1;
        if let Some(at) = message.expires_at() {
            self.expiries.remove(&(at, handle));
        }
        self.messages.remove(handle);
    }

    fn move_to_end(&mut self, handle: Handle) {
        self.leave(handle);
        let queue = &mut self.recipients[self.messages[handle].recipient as usize];
        queue.queue.take(handle, &mut self.messages);
        queue.queue.append(handle, &mut self.messages);
        queue.seq_last += 1;
        let message = self.messages.change(handle);
        (message.seq, message.standing) = (queue.seq_last, Standing::Received);
    }
}
