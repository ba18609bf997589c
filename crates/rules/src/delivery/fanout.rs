//! One send to many: a group, everyone with some labels, or everyone.
//!
//! Promise: who is addressed is frozen when the send is accepted, and each of them gets a message of
//! their own, with an id, a number, a lane and an end of its own; all of it in one batch of records
//! (I26). A member that comes later gets nothing.
//!
//! The body stands once, in the record of the send; the rows behind it are a hundred bytes each, and
//! a waiting row costs what any waiting message costs. Only what outlives its segment is copied
//! forward with a body of its own.

use super::groups::Audience;
use super::messages::{FOR_EVER, Fingerprint, Handle, Message, NO_KEY, Standing};
use super::quorum::{Quorum, Verdict};
use super::record::{Accepted, Addressed, End, FanNo, RecipientNo, Record};
use super::state::{State, UNKNOWN_RECIPIENT};
use super::{Centre, Policy, Refusal, Submission};
use crate::lane::LaneMark;
use crate::limits;
use crate::machine::{Out, Position};
use crate::message::{AgentName, MessageId, TenantName};
use crate::planted::Planted;
use crate::record::RecordError;
use crate::time::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A send to many.
#[derive(Clone, Debug)]
pub struct FanOut {
    /// What each of them gets; its id and its key are those of the whole.
    pub message: Submission<Audience>,
    /// How many of them have to be done for the whole to be.
    pub quorum: Option<Quorum>,
    /// Until when.
    pub deadline: Option<Timestamp>,
}

/// Proof of a durable send to many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanOutReceipt {
    /// The id of the whole: another than the submitted one when the key was known.
    pub id: MessageId,
    /// Where the fact stands.
    pub position: Position,
    /// Life of the store that holds it.
    pub epoch: u64,
    /// Who was addressed, as it was asked for.
    pub audience: Audience,
    /// The version of the list that was found.
    pub version: u64,
    /// Who was addressed, by name.
    pub agents: Vec<AgentName>,
    /// The key was known: this is the earlier send, nothing new was accepted.
    pub repeated: bool,
}

/// The id of the message that the recipient with this index gets: derived, so that it need not be
/// kept. A UUID of version 8 (RFC 9562 section 5.8) with the time of its parent.
pub fn child_id(parent: MessageId, index: u32) -> MessageId {
    let mut id = parent.0;
    let low = crate::hash::digest(&[&parent.0, &index.to_le_bytes(), b"low"]).to_be_bytes();
    let high = crate::hash::digest(&[&parent.0, &index.to_le_bytes(), b"high"]).to_be_bytes();
    id[6..8].copy_from_slice(&high[..2]);
    id[8..].copy_from_slice(&low);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    MessageId(id)
}

/// Sends to many that are remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct FanOuts {
    pub(super) kept: BTreeMap<FanNo, Arc<Kept>>,
    /// The last number given.
    last: FanNo,
    // What follows can be told from the others.
    by_id: BTreeMap<MessageId, FanNo>,
    by_key: BTreeMap<[u8; 16], FanNo>,
    /// Those that wait for their quorum until then.
    pub(super) deadlines: BTreeSet<(Timestamp, FanNo)>,
    /// Those of which nothing is unfinished, by when that was.
    pub(super) over: BTreeSet<(Timestamp, FanNo)>,
    rows: u64,
    /// Those whose counts have changed in this step.
    pub(super) touched: BTreeSet<FanNo>,
}

/// The rest follows from what is kept.
impl PartialEq for FanOuts {
    fn eq(&self, other: &Self) -> bool {
        (self.last, &self.kept) == (other.last, &other.kept)
    }
}

impl Eq for FanOuts {}

/// A send to many as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) id: MessageId,
    pub(super) tenant: TenantName,
    pub(super) audience: Audience,
    pub(super) version: u64,
    pub(super) position: Position,
    key: [u8; 16],
    fingerprint: [u8; 16],
    /// How many were addressed.
    pub(super) count: u32,
    /// Whom, ascending. [`NOBODY`] where a row is damaged.
    pub(super) recipients: Vec<RecipientNo>,
    /// How many rows there are.
    rows: u32,
    /// A bit for each recipient that has processed it.
    done: Vec<u8>,
    pub(super) ends: EndCounts,
    /// How many have to be done.
    pub(super) needed: Option<u32>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) verdict: Option<Verdict>,
    /// When nothing was unfinished any more, by the retention clock.
    over_at: Option<Timestamp>,
}

/// How the messages of one send to many have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndCounts {
    /// Taken by their back offices.
    pub processed: u32,
    /// Refused by them.
    pub rejected: u32,
    /// Attempts used up.
    pub dead: u32,
    /// Life over first.
    pub expired: u32,
    /// Taken back first.
    pub cancelled: u32,
}

impl EndCounts {
    /// All of them.
    pub fn all(&self) -> u32 {
        self.processed + self.rejected + self.dead + self.expired + self.cancelled
    }

    fn of(&mut self, end: End) -> &mut u32 {
        match end {
            End::Processed => &mut self.processed,
            End::Rejected => &mut self.rejected,
            End::Dead => &mut self.dead,
            End::Expired => &mut self.expired,
            End::Cancelled => &mut self.cancelled,
        }
    }
}

/// The place of a damaged row.
pub(super) const NOBODY: RecipientNo = RecipientNo::MAX;

impl Kept {
    /// Whether the recipient with this index has processed it.
    pub(super) fn is_done(&self, index: usize) -> bool {
        is_set(&self.done, index)
    }

    /// A bit for each recipient that has not.
    pub(super) fn missing(&self) -> Vec<u8> {
        let mut missing = vec![0; self.done.len()];
        for index in (0..self.recipients.len()).filter(|index| !self.is_done(*index)) {
            missing[index / 8] |= 1 << (index % 8);
        }
        missing
    }

    pub(super) fn pending(&self) -> u32 {
        self.rows.saturating_sub(self.ends.all())
    }

    /// Whether as many are done as have to be, and nothing has been said of it.
    pub(super) fn is_reached(&self) -> bool {
        let needed = self.needed.filter(|_| self.verdict.is_none());
        needed.is_some_and(|needed| self.ends.processed >= needed)
    }

    fn index_of(&self, recipient: RecipientNo) -> Option<usize> {
        // Ascending, unless a row is damaged.
        let found = self.recipients.binary_search(&recipient).ok();
        found.or_else(|| self.recipients.iter().position(|other| *other == recipient))
    }

    fn mark(&mut self, recipient: RecipientNo, is_done: bool) {
        if let Some(index) = self.index_of(recipient) {
            let bit = 1 << (index % 8);
            match is_done {
                true => self.done[index / 8] |= bit,
                false => self.done[index / 8] &= !bit,
            }
        }
    }
}

/// Whether the bit with this number is set.
pub(super) fn is_set(bits: &[u8], index: usize) -> bool {
    bits.get(index / 8)
        .is_some_and(|byte| byte & (1 << (index % 8)) != 0)
}

impl FanOuts {
    pub(super) fn by_id(&self, id: MessageId) -> Option<&Kept> {
        self.kept.get(self.by_id.get(&id)?).map(Arc::as_ref)
    }

    pub(super) fn by_key(&self, key: &[u8; 16]) -> Option<&Kept> {
        self.kept.get(self.by_key.get(key)?).map(Arc::as_ref)
    }

    pub(super) fn forget_keys(&mut self) {
        self.by_key.clear();
    }

    fn take(&mut self, position: Position, record: &Record<'_>) -> Result<(), RecordError> {
        let Record::FannedOut {
            number,
            audience,
            version,
            count,
            needed,
            deadline,
            accepted,
            ..
        } = record
        else {
            return Err(RecordError::Inconsistent("it is no send to many"));
        };
        if *number <= self.last || *count as usize > limits::RECIPIENTS_PER_SEND_MAX {
            return Err(RecordError::Inconsistent(
                "the number of a send to many is out of order",
            ));
        }
        let no_name = |_| RecordError::Inconsistent("a tenant's name is none");
        let kept = Kept {
            id: accepted.id,
            tenant: TenantName::parse(accepted.tenant).map_err(no_name)?,
            audience: audience.clone(),
            version: *version,
            position,
            key: accepted.key,
            fingerprint: accepted.fingerprint,
            count: *count,
            recipients: vec![NOBODY; *count as usize],
            rows: 0,
            done: vec![0; (*count as usize).div_ceil(8)],
            ends: EndCounts::default(),
            needed: *needed,
            deadline: *deadline,
            verdict: None,
            over_at: None,
        };
        self.last = *number;
        self.list(*number, &kept);
        self.kept.insert(*number, Arc::new(kept));
        Ok(())
    }

    fn list(&mut self, number: FanNo, kept: &Kept) {
        self.by_id.insert(kept.id, number);
        if kept.key != NO_KEY {
            self.by_key.insert(kept.key, number);
        }
        if let Some(deadline) = kept.deadline.filter(|_| kept.verdict.is_none()) {
            self.deadlines.insert((deadline, number));
        }
        if let Some(at) = kept.over_at {
            self.over.insert((at, number));
        }
        if kept.is_reached() {
            self.touched.insert(number);
        }
        self.rows += u64::from(kept.count);
    }

    fn change(&mut self, number: FanNo) -> Option<&mut Kept> {
        self.kept.get_mut(&number).map(Arc::make_mut)
    }

    fn row(&mut self, number: FanNo, index: u32, recipient: RecipientNo) {
        // The record of the send may be damaged: its number is not given again.
        self.last = self.last.max(number);
        if let Some(kept) = self.change(number)
            && let Some(place) = kept.recipients.get_mut(index as usize)
        {
            *place = recipient;
            kept.rows += 1;
        }
    }

    /// A message of a send to many has ended.
    pub(super) fn ended(&mut self, message: &Message, end: End, passed: Timestamp) {
        let number = message.fan_out();
        let Some(kept) = number.and_then(|number| self.change(number)) else {
            return;
        };
        *kept.ends.of(end) += 1;
        kept.mark(message.recipient, end == End::Processed);
        let is_over = kept.pending() == 0;
        if is_over {
            kept.over_at = Some(passed);
        }
        if let Some(number) = number {
            self.touched.insert(number);
            if is_over {
                self.over.insert((passed, number));
            }
        }
    }

    /// A message of a send to many that had ended begins another life.
    pub(super) fn revived(&mut self, message: &Message, end: End) {
        let number = message.fan_out();
        let Some(kept) = number.and_then(|number| self.change(number)) else {
            return;
        };
        let count = kept.ends.of(end);
        *count = count.saturating_sub(1);
        kept.mark(message.recipient, false);
        let over_at = kept.over_at.take();
        if let Some(number) = number {
            self.touched.insert(number);
            if let Some(at) = over_at {
                self.over.remove(&(at, number));
            }
        }
    }

    pub(super) fn judge(&mut self, number: FanNo, verdict: Verdict) {
        let Some(kept) = self.change(number) else {
            return;
        };
        kept.verdict = Some(verdict);
        let deadline = kept.deadline;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, number));
        }
    }

    pub(super) fn forget(&mut self, number: FanNo) {
        let Some(kept) = self.kept.remove(&number) else {
            return;
        };
        self.rows -= u64::from(kept.count);
        self.by_id.remove(&kept.id);
        if self.by_key.get(&kept.key) == Some(&number) {
            self.by_key.remove(&kept.key);
        }
        if let Some(deadline) = kept.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        if let Some(at) = kept.over_at {
            self.over.remove(&(at, number));
        }
    }

    /// All of them as they are now.
    pub(super) fn image(&self) -> FanOutsImage {
        FanOutsImage {
            last: self.last,
            kept: self.kept.clone(),
        }
    }

    /// Reads back what [`FanOutsImage::write`] wrote, and gives what follows it.
    pub(super) fn load(image: &[u8]) -> Result<(Self, &[u8]), RecordError> {
        type Written = (FanNo, Vec<(FanNo, Kept)>);
        let ((last, kept), rest): (Written, _) = crate::record::decode_first(image)?;
        let mut read = Self {
            last,
            ..Self::default()
        };
        for (number, kept) in kept {
            read.list(number, &kept);
            read.kept.insert(number, Arc::new(kept));
        }
        Ok((read, rest))
    }
}

/// Sends to many as they once were.
#[derive(Debug)]
pub(super) struct FanOutsImage {
    last: FanNo,
    kept: BTreeMap<FanNo, Arc<Kept>>,
}

impl FanOutsImage {
    pub(super) fn write(&self, to: Vec<u8>) -> Vec<u8> {
        let kept = self.kept.iter();
        let kept: Vec<(FanNo, &Kept)> = kept.map(|(number, kept)| (*number, &**kept)).collect();
        crate::record::encode(&(self.last, kept), to)
    }
}

impl State {
    /// What a record of groups, labels or sends to many changes.
    pub(super) fn apply_to_many(
        &mut self,
        position: Position,
        record: &Record<'_>,
        policy: &Policy,
    ) -> Result<(), RecordError> {
        match record {
            Record::GroupChanged {
                tenant,
                group,
                version,
                recipient,
                partition,
                agent,
                member,
                ..
            } => {
                self.name_recipient(*recipient, *partition, tenant.as_str(), agent.as_str())?;
                let member = *member || policy.planted.is(Planted::KeepMember);
                let group = (tenant, group);
                self.groups.change(group, *version, *recipient, member);
            }
            Record::Labelled {
                tenant,
                recipient,
                partition,
                agent,
                labels,
                ..
            } => {
                self.name_recipient(*recipient, *partition, tenant.as_str(), agent.as_str())?;
                self.groups.label(*recipient, labels);
            }
            Record::FannedOut { .. } => self.fan_outs.take(position, record)?,
            Record::Addressed(row) => self.address(position, row)?,
            Record::QuorumReached { at, number, .. } => {
                self.fan_outs.judge(*number, Verdict::Reached { at: *at });
            }
            Record::QuorumMissed {
                at,
                number,
                missing,
                ..
            } => {
                let missing = missing.clone();
                self.fan_outs
                    .judge(*number, Verdict::Missed { at: *at, missing });
            }
            Record::FanOutAged { number, .. } => self.fan_outs.forget(*number),
            _ => return Err(RecordError::Inconsistent("it is about one recipient")),
        }
        Ok(())
    }

    /// Takes the message of one recipient in.
    pub(super) fn address(
        &mut self,
        position: Position,
        row: &Addressed<'_>,
    ) -> Result<(), RecordError> {
        self.name_recipient(row.recipient, row.partition, row.tenant, row.to)?;
        if row.recipient as usize >= self.recipients.len() {
            return Err(UNKNOWN_RECIPIENT);
        }
        self.forget_namesake(row.id)?;
        let handle: Handle = self.take_in(Message {
            id: row.id,
            key: NO_KEY,
            fingerprint: Fingerprint::from_bytes(row.fan_out.to_le_bytes()),
            accepted: row.accepted,
            last: position,
            instant: row.expires_at.unwrap_or(FOR_EVER),
            seq: row.seq,
            recipient: row.recipient,
            bytes: row.bytes,
            pushes: 0,
            lane: LaneMark::from_bits(row.lane),
            generation: 1,
            before: None,
            behind: None,
            standing: Standing::Fresh,
        });
        self.fan_outs.row(row.fan_out, row.index, row.recipient);
        match row.not_before {
            Some(not_before) => self.hold_until(handle, not_before),
            None => self.put(handle, row.seq),
        }
        Ok(())
    }
}

impl Centre {
    /// Accepts a send to many: all of it, or nothing.
    pub(super) fn fan_out(
        &mut self,
        fan_out: &FanOut,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<FanOutReceipt, Refusal> {
        let message = &fan_out.message;
        // A row has no reference of its own, and the body would go too early.
        if let Some(body) = message.body {
            return Err(Refusal::BodyToMany { body: body.id });
        }
        if let Some(earlier) = self.earlier_fan_out(message, out)? {
            return Ok(earlier);
        }
        self.check(message, now, out)?;
        let (version, mut recipients) = self.state.addressed(&message.tenant, &message.to)?;
        let count = recipients.len() as u32;
        let needed = super::quorum::needed(fan_out, count, now)?;
        self.room_for(message.id, count, out)?;
        self.spoil(&mut recipients);
        let number = self.state.fan_outs.last + 1;
        let not_before = message.not_before.filter(|at| *at > now);
        let accepted = Accepted {
            at: now,
            id: message.id,
            partition: 0,
            recipient: 0,
            seq: 0,
            generation: 1,
            key: message.key.unwrap_or_default(),
            fingerprint: message.fingerprint,
            body_sha256: message.body_sha256,
            expires_at: message.expires_at,
            tenant: message.tenant.as_str(),
            to: "",
            kind: message.kind.as_str(),
            lane: message.lane.as_str(),
            attempts_max: message.attempts_max,
            correlation_id: &message.correlation_id,
            causation_id: &message.causation_id,
            traceparent: &message.traceparent,
            tracestate: &message.tracestate,
            sender: &message.sender,
            content_type: &message.content_type,
            data: &message.data,
            rule: message.rule,
            body: None,
        };
        let record = Record::FannedOut {
            number,
            audience: message.to.clone(),
            version,
            count,
            needed,
            deadline: fan_out.deadline,
            rule: message.rule,
            not_before,
            accepted,
        };
        let position = self.write(&record, out);
        self.write_rows((number, position), message, &recipients, now, out);
        for recipient in &recipients {
            self.push_what_fits(*recipient, now, out);
        }
        Ok(self.receipt(message.id, false))
    }

    fn write_rows(
        &mut self,
        (number, position): (FanNo, Position),
        message: &Submission<Audience>,
        recipients: &[RecipientNo],
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        let lane = LaneMark::new(message.lane.as_str(), message.rule);
        let not_before = message.not_before.filter(|at| *at > now);
        for (index, recipient) in recipients.iter().enumerate() {
            let seq = match not_before {
                Some(_) => 0,
                None => self.number_in_lane(*recipient, lane.lane(), false),
            };
            let queue = self.state.queue(*recipient);
            let (partition, to) = (queue.partition, queue.name.clone());
            let row = Addressed {
                at: now,
                fan_out: number,
                index: index as u32,
                id: child_id(message.id, index as u32),
                partition,
                recipient: *recipient,
                seq,
                expires_at: message.expires_at,
                not_before,
                lane: lane.bits(),
                bytes: message.data.len() as u32,
                tenant: message.tenant.as_str(),
                to: to.as_str(),
                accepted: position,
            };
            self.write(&Record::Addressed(row), out);
        }
    }

    /// Whether there is room for a send to so many, and no other message has an id of theirs.
    fn room_for(&self, id: MessageId, count: u32, out: &mut Out<Self>) -> Result<(), Refusal> {
        let pending = self.state.counters().pending;
        if pending + u64::from(count) > self.policy.pending_max {
            return Err(Refusal::Full { pending });
        }
        let fan_outs = &self.state.fan_outs;
        let rows = fan_outs.rows + u64::from(count);
        if fan_outs.kept.len() >= limits::FAN_OUTS_MAX || rows > limits::FAN_OUT_ROWS_MAX {
            return Err(Refusal::TooManyFanOuts);
        }
        let children = (0..count).map(|index| child_id(id, index));
        let mut taken = children.filter(|child| self.known(*child, out).is_some());
        match taken.next() {
            Some(id) => Err(Refusal::IdTaken { id }),
            None => Ok(()),
        }
    }

    /// The receipt of the send that this key stands for, if it is the same send.
    fn earlier_fan_out(
        &self,
        message: &Submission<Audience>,
        out: &mut Out<Self>,
    ) -> Result<Option<FanOutReceipt>, Refusal> {
        let Some(key) = message.key.as_ref() else {
            return Ok(None);
        };
        if let Some(kept) = self.state.fan_outs.by_key(key) {
            return match kept.fingerprint == message.fingerprint {
                true => Ok(Some(self.receipt(kept.id, true))),
                false => Err(Refusal::KeyReused { id: kept.id }),
            };
        }
        match self.known_by_key(key, out) {
            Some(known) => Err(Refusal::KeyReused { id: known.id }),
            None => Ok(None),
        }
    }

    fn receipt(&self, id: MessageId, repeated: bool) -> FanOutReceipt {
        let kept = self.state.fan_outs.by_id(id);
        let kept = kept.expect("it was looked up or just written");
        FanOutReceipt {
            id,
            position: kept.position,
            epoch: self.state.epoch(),
            audience: kept.audience.clone(),
            version: kept.version,
            agents: self.state.addressees(kept),
            repeated,
        }
    }

    /// What planted defects do to the list of those who are addressed.
    fn spoil(&self, recipients: &mut Vec<RecipientNo>) {
        if self.policy.planted.is(Planted::SkipMember) && recipients.len() > 1 {
            recipients.remove(0);
        }
    }
}

impl State {
    /// Who was addressed, in the order of their rows.
    pub(super) fn addressees(&self, kept: &Kept) -> Vec<AgentName> {
        let known = kept.recipients.iter().filter(|no| **no != NOBODY);
        known.map(|no| self.queue(*no).name.clone()).collect()
    }
}
