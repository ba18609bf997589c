//! Durable before visible, in the small: steps gather in a batch, and what they lead to is kept
//! back until whoever runs the engine says that the batch is on disk.
//!
//! The engine does no IO and knows no time, so the simulator runs the very same one.

use bytes::Bytes;
use countersign_journal::Batch;
use countersign_rules::machine::{Machine, Out, Position, Start};
use countersign_rules::time::Timestamp;
use std::fmt;

/// Steps a machine and gathers what its steps lead to. `T` is whatever the caller needs to find
/// back whom a reply belongs to.
pub struct Engine<M: Machine, T> {
    machine: M,
    out: Out<M>,
    effects: Vec<M::Effect>,
    replies: Vec<(T, M::Reply)>,
}

/// A batch, and what may happen once it is durable.
#[must_use = "effects and replies that are dropped leave somebody waiting"]
pub struct Sealed<M: Machine, T> {
    /// The records; `None` when the steps recorded nothing.
    pub batch: Option<Batch>,
    /// Answers, in the order of their inputs.
    pub replies: Vec<(T, M::Reply)>,
    /// Effects, in order.
    pub effects: Vec<M::Effect>,
}

impl<M: Machine, T> Engine<M, T> {
    /// Takes over a restored machine whose next record will be number `next`.
    pub fn new(machine: M, next: Position) -> Self {
        Self {
            machine,
            out: Out::<M>::new(next),
            effects: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// The first step of a process.
    pub fn start(&mut self, start: Start, now: Timestamp) {
        self.machine.started(start, now, &mut self.out);
        self.gather();
    }

    /// Steps `input`; its reply will carry `ticket`.
    pub fn step(&mut self, input: M::Input, ticket: T, now: Timestamp) {
        self.machine.step(input, now, &mut self.out);
        if let Some(reply) = self.out.take_reply() {
            self.replies.push((ticket, reply));
        }
        self.gather();
    }

    /// Lets the machine act on what is due.
    pub fn deadline(&mut self, now: Timestamp) {
        self.machine.deadline(now, &mut self.out);
        self.gather();
    }

    /// Lets the machine name what to copy forward; see [`Machine::release`].
    pub fn release(&mut self, before: Position, bytes_max: u64) {
        self.machine.release(before, bytes_max, &mut self.out);
        self.gather();
    }

    /// Lets the machine write a record that changes nothing; see [`Machine::mark`].
    pub fn mark(&mut self, now: Timestamp) {
        self.machine.mark(now, &mut self.out);
        self.gather();
    }

    /// When [`Engine::deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.machine.next_deadline()
    }

    /// Bytes of records gathered since the last seal.
    pub fn bytes(&self) -> usize {
        self.out.bytes()
    }

    /// Whether nothing was gathered since the last seal.
    pub fn is_idle(&self) -> bool {
        self.out.is_empty() && self.effects.is_empty() && self.replies.is_empty()
    }

    /// Why the machine cannot go on, if it cannot: nothing gathered since the last seal may be let
    /// out any more.
    pub fn failure(&self) -> Option<&str> {
        self.out.failure()
    }

    /// The machine, for questions.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Number of the next record.
    pub fn next_position(&self) -> Position {
        self.out.next_position()
    }

    /// Takes what was gathered. Its effects and replies may be let out once its batch is durable,
    /// or, without a batch, once everything sealed before is.
    pub fn seal(&mut self) -> Sealed<M, T> {
        let batch = (!self.out.is_empty()).then(|| {
            let (first, payloads, ends) = self.out.take_records();
            Batch::new(first, Bytes::from(payloads), ends)
        });
        Sealed {
            batch,
            replies: std::mem::take(&mut self.replies),
            effects: std::mem::take(&mut self.effects),
        }
    }

    fn gather(&mut self) {
        let mut effects = self.out.take_effects();
        self.effects.append(&mut effects);
    }
}

impl<M: Machine + fmt::Debug, T> fmt::Debug for Engine<M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("machine", &self.machine)
            .field("out", &self.out)
            .finish_non_exhaustive()
    }
}

impl<M: Machine, T> fmt::Debug for Sealed<M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("replies", &self.replies.len())
            .field("effects", &self.effects.len())
            .finish_non_exhaustive()
    }
}
