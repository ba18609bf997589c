//! Messages that ended longer ago: they leave the memory for an archive beside the journal.
//!
//! Promise: what has ended is found by its id and by its idempotency key until its retention is
//! over, wherever it is kept (I3), and the memory holds only the last of them
//! ([`Policy::remembered_max`](super::Policy)). The archive is derived: each batch that goes there
//! is a record first, so what the archive lost is read again from the journal, and what it holds
//! of another history is thrown away at the start.
//!
//! Left out on purpose: how an archive keeps its batches. It is given to the centre from outside,
//! because rules know no files.

use super::messages::{Fingerprint, Message, Standing};
use super::record::{End, RecipientNo, Record, Seq, decode_record};
use super::state::{Batch, State};
use super::{Centre, Effect, Place, View};
use crate::lane::LaneMark;
use crate::machine::{Out, Position};
use crate::message::{MessageId, TenantName};
use crate::planted::Planted;
use crate::record::RecordError;
use crate::time::{Duration, Timestamp};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Keeps batches of messages that have ended, outside the memory.
///
/// It may lose batches, by a crash or altogether: [`Archive::keep_only`] then names them, and they
/// are put again. It must not return what was not put, nor fail to find what was and is not lost.
pub trait Archive: fmt::Debug + Send + 'static {
    /// Whether it has caught up with what it was given, so that it can be given more.
    fn has_room(&self) -> bool;

    /// Takes a batch in, in place of any earlier one of that number. What is in it is found from now
    /// on; it must not outlive the process before [`Archive::release`].
    fn put(&mut self, name: BatchName, messages: &[Remembered]);

    /// The records of all batches up to this number are durable: what was put may be kept.
    fn release(&mut self, through: u64);

    /// Forgets every batch with a lower number, sooner or later.
    fn forget(&mut self, below: u64);

    /// A message that was put, and the number of the last batch that brought it.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn find(&self, id: MessageId) -> Result<Option<(u64, Remembered)>, Unreadable>;

    /// The message that this key stands for.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn find_key(&self, key: &[u8; 16]) -> Result<Option<(u64, Remembered)>, Unreadable>;

    /// Messages that were put, by their ids, behind `after`: `count` or so of them, each as the last
    /// batch brought it. `failures_alone` leaves out those that were processed.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn page(
        &self,
        after: Option<MessageId>,
        failures_alone: bool,
        count: usize,
    ) -> Result<ArchivePage, Unreadable>;

    /// Throws away what it kept of another history than `wanted`, and tells which of those it lacks
    /// then. Asked once, after what the journal still holds was put and before anything is released.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn keep_only(&mut self, wanted: &[BatchName]) -> Result<Vec<u64>, Unreadable>;
}

/// Some of the messages in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchivePage {
    /// They, by their ids, each with the number of the last batch that brought it.
    pub rows: Vec<(u64, Remembered)>,
    /// No other is there up to this id; none at all when it is absent.
    pub through: Option<MessageId>,
}

/// Names a batch: two of the same number and digest are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BatchName {
    /// Its number, from 1.
    pub number: u64,
    /// Of what is in it. Tells batches of two histories apart, after a restore or a lost tail.
    pub digest: u64,
}

/// The archive cannot be read. The centre stops rather than forget; a restart builds it anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the archive of messages that have ended cannot be read: {0}")]
pub struct Unreadable(pub String);

/// What is remembered of a message that has ended; the rest stands in its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The message.
    pub id: MessageId,
    /// Digest of tenant and idempotency key; all zero without one.
    pub key: [u8; 16],
    /// The beginning of the digest of everything the sender asked for.
    pub fingerprint: [u8; 4],
    /// Its recipient.
    pub recipient: RecipientNo,
    /// How it ended.
    pub end: End,
    /// Which life of it.
    pub generation: u16,
    /// Pushes of that life.
    pub pushes: u32,
    /// Its number among the recipient's messages; zero when it never had one.
    pub seq: Seq,
    /// Length of its body.
    pub bytes: u32,
    /// A digest of its lane, and whether its failure parks it.
    pub lane: u32,
    /// Where its accepted record stands, or the last copy of it.
    pub accepted: Position,
    /// Its last record; each names the one before.
    pub last: Position,
    /// When it ended, by the retention clock.
    pub ended: Timestamp,
    /// Whether it was put away.
    pub discarded: bool,
}

impl Remembered {
    /// Whether nobody has it.
    pub fn is_failure(&self) -> bool {
        self.end != End::Processed
    }

    /// `None` for a message that has not ended.
    fn of(message: &Message) -> Option<Self> {
        let end = message.end()?;
        Some(Self {
            id: message.id,
            key: message.key,
            fingerprint: message.fingerprint.bytes(),
            recipient: message.recipient,
            end,
            generation: message.generation,
            pushes: message.pushes,
            seq: message.number(),
            bytes: message.bytes,
            lane: message.lane.bits(),
            accepted: message.accepted,
            last: message.last,
            ended: message.instant,
            discarded: message.is_discarded(),
        })
    }

    pub(super) fn message(&self) -> Message {
        Message {
            id: self.id,
            key: self.key,
            fingerprint: Fingerprint::from_bytes(self.fingerprint),
            accepted: self.accepted,
            last: self.last,
            instant: self.ended,
            seq: self.seq,
            recipient: self.recipient,
            bytes: self.bytes,
            lane: LaneMark::from_bits(self.lane),
            pushes: self.pushes,
            generation: self.generation,
            before: None,
            behind: None,
            standing: match self.discarded {
                true => Standing::Discarded(self.end),
                false => Standing::Ended(self.end),
            },
        }
    }
}

/// The name of the batch with this number and content.
pub fn batch_name(number: u64, messages: &[Remembered]) -> BatchName {
    // FNV-1a by words: it must be the same in every version of this program, and nobody gains by
    // making two alike.
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |word: u64| digest = (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    for message in messages {
        for bytes in [message.id.0, message.key] {
            let word = u128::from_le_bytes(bytes);
            mix(word as u64);
            mix((word >> 64) as u64);
        }
        mix(message.accepted);
        mix(message.last);
        mix(message.ended.0 as u64);
        mix(u64::from(message.generation));
    }
    BatchName { number, digest }
}

/// Takes nothing, so that everything stays in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoArchive;

impl Archive for NoArchive {
    fn has_room(&self) -> bool {
        false
    }

    fn put(&mut self, _name: BatchName, _messages: &[Remembered]) {}

    fn release(&mut self, _through: u64) {}

    fn forget(&mut self, _below: u64) {}

    fn find(&self, _id: MessageId) -> Result<Option<(u64, Remembered)>, Unreadable> {
        Ok(None)
    }

    fn find_key(&self, _key: &[u8; 16]) -> Result<Option<(u64, Remembered)>, Unreadable> {
        Ok(None)
    }

    fn page(
        &self,
        _after: Option<MessageId>,
        _failures_alone: bool,
        _count: usize,
    ) -> Result<ArchivePage, Unreadable> {
        Ok(ArchivePage::default())
    }

    fn keep_only(&mut self, _wanted: &[BatchName]) -> Result<Vec<u64>, Unreadable> {
        Ok(Vec::new())
    }
}

impl Centre {
    /// Hands the longest ended messages to the archive, when the memory holds more than it should.
    pub(super) fn archive_old(&mut self, now: Timestamp, out: &mut Out<Self>) {
        let batch = self.policy.archive_batch;
        let most = self.policy.remembered_max + batch as u64;
        if self.state.remembered < most || !self.archive.has_room() {
            return;
        }
        let record = Record::Archived {
            at: now,
            batch: self.state.batch_last + 1,
            messages: self.state.longest_ended(batch),
        };
        self.write(&record, out);
        let batch = self.state.batch_last;
        out.effect(Effect::BatchRecorded { batch });
    }

    /// Forgets batches whose retention is over; tells whether there were any.
    pub(super) fn age_archive(&mut self, now: Timestamp, out: &mut Out<Self>) -> bool {
        let below = self.state.archive_aged(now, self.policy.retention);
        if let Some(below) = below {
            self.write(&Record::ArchiveAged { at: now, below }, out);
        }
        below.is_some()
    }

    /// Where a message is, in memory or in the archive: for checkers.
    pub fn place(&self, id: MessageId) -> Option<Place> {
        let in_memory = self.state.place(id);
        in_memory.or_else(|| {
            let (batch, message) = self.archive.find(id).ok()??;
            self.state.archived_batch(batch)?;
            Some(Place::Ended(message.end))
        })
    }

    /// What a record means for the archive.
    pub(super) fn apply_to_archive(&mut self, record: &Record<'_>) {
        match record {
            Record::Archived {
                batch, messages, ..
            } => self.archive.put(batch_name(*batch, messages), messages),
            Record::ArchiveAged { below, .. } => self.archive.forget(*below),
            _ => {}
        }
    }

    /// What is known of a message, in memory or in the archive.
    pub(super) fn known(&self, id: MessageId, out: &mut Out<Self>) -> Option<Message> {
        match self.state.message(id) {
            Some(message) => Some(*message),
            None => Some(self.archived(id, out)?.1.message()),
        }
    }

    /// The message that this key stands for, in memory or in the archive.
    pub(super) fn known_by_key(&self, key: &[u8; 16], out: &mut Out<Self>) -> Option<Message> {
        if let Some(message) = self.state.by_key(key) {
            return Some(*message);
        }
        if self.state.archived.is_empty() || self.policy.planted.is(Planted::ForgetArchivedKeys) {
            return None;
        }
        let found = self.archive.find_key(key);
        Some(self.live(found, out)?.1.message())
    }

    pub(super) fn look(
        &self,
        tenant: &TenantName,
        id: MessageId,
        out: &mut Out<Self>,
    ) -> Option<View> {
        let message = self.known(id, out)?;
        self.state.view_of(tenant, &message)
    }

    /// Takes a message back into memory from the archive, because it is about to change.
    pub(super) fn recall(&mut self, id: MessageId, now: Timestamp, out: &mut Out<Self>) {
        if self.state.message(id).is_some() {
            return;
        }
        if let Some((batch, message)) = self.archived(id, out) {
            let record = Record::Recalled {
                at: now,
                batch,
                message,
            };
            self.write(&record, out);
        }
    }

    /// The batches of this history that the archive lacks, by the positions of their records.
    pub(super) fn archive_lacks(&mut self) -> Result<Vec<Position>, Unreadable> {
        let wanted: Vec<_> = self.state.archived.iter().map(|batch| batch.name).collect();
        let lacking = self.archive.keep_only(&wanted)?;
        self.archive.release(self.state.batch_last);
        let position = |number: u64| Some(self.state.archived_batch(number)?.position);
        Ok(lacking.into_iter().filter_map(position).collect())
    }

    /// Puts a batch again whose record was read back.
    pub(super) fn archive_again(&mut self, record: &[u8]) -> Result<(), RecordError> {
        let record = decode_record(record)?;
        match record {
            Record::Archived { batch, .. } => {
                self.apply_to_archive(&record);
                self.archive.release(batch);
            }
            _ => return Err(RecordError::Inconsistent("it is no batch for the archive")),
        }
        Ok(())
    }

    /// A page of the archive; see [`Archive::page`].
    pub(super) fn archive_page(
        &self,
        after: Option<MessageId>,
        failures_alone: bool,
        count: usize,
        out: &mut Out<Self>,
    ) -> ArchivePage {
        if self.state.archived.is_empty() {
            return ArchivePage::default();
        }
        match self.archive.page(after, failures_alone, count) {
            Ok(page) => page,
            Err(unreadable) => {
                out.fail(format!("{unreadable}"));
                ArchivePage::default()
            }
        }
    }

    fn archived(&self, id: MessageId, out: &mut Out<Self>) -> Option<(u64, Remembered)> {
        if self.state.archived.is_empty() {
            return None;
        }
        let found = self.archive.find(id);
        self.live(found, out)
    }

    /// What was found, unless its retention is over. A centre that cannot read what it has to
    /// remember stops.
    fn live(
        &self,
        found: Result<Option<(u64, Remembered)>, Unreadable>,
        out: &mut Out<Self>,
    ) -> Option<(u64, Remembered)> {
        match found {
            Ok(found) => found.filter(|(batch, _)| self.state.archived_batch(*batch).is_some()),
            Err(unreadable) => {
                out.fail(format!("{unreadable}"));
                None
            }
        }
    }
}

impl State {
    /// The messages in memory that ended longest ago.
    fn longest_ended(&self, at_most: usize) -> Vec<Remembered> {
        let ended = self.finished.each(&self.messages).take(at_most);
        ended
            .filter_map(|handle| Remembered::of(&self.messages[handle]))
            .collect()
    }

    /// The first batch that stays, if there are some whose retention is over at `now`.
    fn archive_aged(&self, now: Timestamp, retention: Duration) -> Option<u64> {
        let passed = self.clock.passed_at(now, retention);
        let is_over = |batch: &&Batch| batch.ended.since(Timestamp(0)) + retention <= passed;
        let last = self.archived.iter().take_while(is_over).last()?;
        Some(last.name.number + 1)
    }

    /// Whether the retention of a batch is not over.
    pub(super) fn is_archived(&self, number: u64) -> bool {
        self.archived_batch(number).is_some()
    }

    /// A batch whose retention is not over.
    fn archived_batch(&self, number: u64) -> Option<&Batch> {
        let found = self
            .archived
            .binary_search_by_key(&number, |batch| batch.name.number);
        self.archived.get(found.ok()?)
    }

    /// The memory lets go what is in this batch.
    pub(super) fn archive(&mut self, position: Position, number: u64, messages: &[Remembered]) {
        for message in messages {
            let ended = self.messages.find(message.id);
            let ended = ended.filter(|handle| self.messages[*handle].end().is_some());
            if let Some(handle) = ended {
                self.forget_one(handle);
            }
        }
        self.bodies.archive(number, messages);
        self.batch_last = number;
        self.archived.push_back(Batch {
            name: batch_name(number, messages),
            position,
            count: messages.len() as u32,
            oldest: messages.iter().map(|message| message.accepted).min(),
            ended: messages
                .iter()
                .map(|message| message.ended)
                .max()
                .unwrap_or(Timestamp(0)),
        });
    }

    pub(super) fn recall(&mut self, batch: u64, message: &Remembered) -> Result<(), RecordError> {
        if self.messages.find(message.id).is_some() {
            return Err(RecordError::Inconsistent("a message in memory is recalled"));
        }
        let found = self
            .archived
            .binary_search_by_key(&batch, |batch| batch.name.number);
        if let Some(batch) = found.ok().and_then(|found| self.archived.get_mut(found)) {
            batch.count = batch.count.saturating_sub(1);
        }
        self.bodies.recall(batch, message.id);
        let handle = self.messages.insert(message.message());
        self.finished.append(handle, &mut self.messages);
        self.note_failure(handle);
        self.remembered += 1;
        Ok(())
    }

    /// Retention is over for every batch with a lower number.
    pub(super) fn age_archive(&mut self, below: u64) {
        let is_over = |batch: &Batch| batch.name.number < below;
        while let Some(batch) = self.archived.front().filter(|batch| is_over(batch)) {
            self.counters.aged_out += u64::from(batch.count);
            self.archived.pop_front();
        }
        self.bodies.age_archive(below, self.clock.passed);
    }
}

/// Before this stands no record that the batches need.
pub(super) fn oldest_archived(batches: &VecDeque<Batch>) -> Position {
    let needed = batches.iter().map(|batch| {
        let oldest = batch.oldest.unwrap_or(batch.position);
        oldest.min(batch.position)
    });
    needed.min().unwrap_or(Position::MAX)
}
