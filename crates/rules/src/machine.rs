//! The contract between a rule and whoever runs it: few verbs, the same for every machine.

use crate::record::RecordError;
use crate::time::Timestamp;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::Serialize;

/// Number of a record in its journal: dense, from 1. Zero stands for "none".
pub type Position = u64;

/// A pure state machine whose every change of state is a record.
///
/// Whoever runs it must make the records of a step durable before it carries out that step's
/// effects or hands out its reply.
pub trait Machine: Sized + Send + 'static {
    /// What can happen to it.
    type Input: Send + 'static;
    /// What it asks the world to do.
    type Effect: Send + 'static;
    /// What it answers to whoever brought the input.
    type Reply: Send + 'static;
    /// Its whole state at one moment.
    type Image: Image;

    /// Decides what `input` leads to.
    fn step(&mut self, input: Self::Input, now: Timestamp, out: &mut Out<Self>);

    /// Whether `input` asks to keep something new, so that it is refused when the disk runs short.
    /// What frees space, and what others already rely on, never is (I17, I19).
    fn grows(input: &Self::Input) -> bool;

    /// Acts on whatever is due at `now`.
    fn deadline(&mut self, now: Timestamp, out: &mut Out<Self>);

    /// When [`Machine::deadline`] has something to do, if nothing happens before.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// Rebuilds state from one durable record, oldest first. Has no effects.
    ///
    /// # Errors
    /// The record is of a version or kind that this program does not know.
    fn restore(&mut self, position: Position, record: &[u8]) -> Result<(), RecordError>;

    /// What it keeps outside its state and the journal, and has lost: the positions of the records
    /// that hold it. Asked once, after every record was restored.
    ///
    /// # Errors
    /// What it keeps cannot be read, in the words of whoever keeps it.
    fn lacking(&mut self) -> Result<Vec<Position>, String> {
        Ok(Vec::new())
    }

    /// Takes back what stands in one of the records that it named as [`Machine::lacking`].
    ///
    /// # Errors
    /// It is another record than was named.
    fn supply(&mut self, record: &[u8]) -> Result<(), RecordError> {
        let _ = record;
        Err(RecordError::Inconsistent("nothing was lacking"))
    }

    /// First step of a process, after every record was restored.
    fn started(&mut self, start: Start, now: Timestamp, out: &mut Out<Self>);

    /// The whole state as it is now, in no more time than a step may take.
    fn image(&self) -> Self::Image;

    /// Writes the whole state, for [`Machine::load`].
    fn save(&self, image: &mut Vec<u8>) {
        self.image().write(image);
    }

    /// Takes over the state that [`Machine::save`] wrote.
    ///
    /// # Errors
    /// The image is of a version that this program does not know.
    fn load(&mut self, image: &[u8]) -> Result<(), RecordError>;

    /// Oldest record that this state still reads from the journal; older ones may go.
    fn oldest_needed(&self) -> Position;

    /// Asks to have what still stands before `before` copied forward, if that lets everything
    /// before it go and costs at most `bytes_max`; does nothing otherwise.
    fn release(&mut self, before: Position, bytes_max: u64, out: &mut Out<Self>);

    /// Writes a record that changes nothing, so that an image can be taken at a new position.
    fn mark(&mut self, now: Timestamp, out: &mut Out<Self>);
}

/// The state of a machine at one moment, to be written while the machine goes on.
pub trait Image: Send + 'static {
    /// Writes it behind what stands in `to`, for [`Machine::load`].
    fn write(&self, to: &mut Vec<u8>);
}

/// A state so small that it is written at once.
impl Image for Vec<u8> {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }
}

/// The [`Step`] of a machine.
pub type Out<M> = Step<<M as Machine>::Effect, <M as Machine>::Reply>;

/// What a process knows when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Life of the store; another number after a restore or a lost tail (I29).
    pub epoch: u64,
    /// Records since the last image that are damaged and were not restored (I20).
    pub damaged: Vec<Position>,
}

impl Start {
    /// A start on a store without damage.
    pub fn undamaged(epoch: u64) -> Self {
        let damaged = Vec::new();
        Self { epoch, damaged }
    }
}

/// What inputs led to: records in order, and what may happen once they are durable.
///
/// One value gathers the steps of a whole batch. Records are encoded as they come, one behind the
/// other, so that handing a batch to the journal copies nothing twice.
#[must_use]
pub struct Step<E, R> {
    first: Position,
    payloads: Vec<u8>,
    ends: Vec<u32>,
    effects: Vec<E>,
    reply: Option<R>,
    failed: Option<String>,
}

impl<E, R> Step<E, R> {
    /// An empty step whose first record will get the number `first`.
    pub fn new(first: Position) -> Self {
        Self {
            first,
            payloads: Vec::new(),
            ends: Vec::new(),
            effects: Vec::new(),
            reply: None,
            failed: None,
        }
    }

    /// Appends `record` and tells the position it will have.
    pub fn record(&mut self, record: &impl Serialize) -> Position {
        let payloads = core::mem::take(&mut self.payloads);
        self.payloads = crate::record::encode(record, payloads);
        let end = u32::try_from(self.payloads.len()).expect("a batch is sealed long before 4 GiB");
        self.ends.push(end);
        self.first + self.ends.len() as u64 - 1
    }

    /// Asks for `effect`, once every record so far is durable.
    pub fn effect(&mut self, effect: E) {
        self.effects.push(effect);
    }

    /// Answers the input being stepped, once every record so far is durable.
    pub fn reply(&mut self, reply: R) {
        debug_assert!(self.reply.is_none(), "an input is answered once");
        self.reply = Some(reply);
    }

    /// Says that the machine cannot go on, because it cannot read what it has to know. Nothing that
    /// was not let out before may be let out any more; a restart begins from what is durable.
    pub fn fail(&mut self, why: String) {
        self.failed.get_or_insert(why);
    }

    /// Why the machine cannot go on, if it cannot.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Takes the answer to the input just stepped.
    pub fn take_reply(&mut self) -> Option<R> {
        self.reply.take()
    }

    /// Takes the effects asked for since the last call.
    pub fn take_effects(&mut self) -> Vec<E> {
        core::mem::take(&mut self.effects)
    }

    /// Number of the next record.
    pub fn next_position(&self) -> Position {
        self.first + self.ends.len() as u64
    }

    /// Bytes of the records so far.
    pub fn bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Whether nothing was recorded yet.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes the records: the number of the first, their payloads in one piece, where each ends.
    pub fn take_records(&mut self) -> (Position, Vec<u8>, Vec<u32>) {
        let first = self.first;
        self.first = self.next_position();
        // The next batch is likely to be as large: start with that much room.
        let room = self.payloads.len();
        let payloads = core::mem::replace(&mut self.payloads, Vec::with_capacity(room));
        (first, payloads, core::mem::take(&mut self.ends))
    }
}

impl<E, R> fmt::Debug for Step<E, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("first", &self.first)
            .field("records", &self.ends.len())
            .field("effects", &self.effects.len())
            .finish_non_exhaustive()
    }
}
