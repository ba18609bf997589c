//! What an acknowledgement changes: exactly the message it names, once, if its recipient said so
//! (I11). Everything else it could be is kept as evidence.

use super::messages::Message;
use super::record::{End, RecipientNo, Record, Why};
use super::{Centre, Effect};
use crate::ack::{Ack, AckItem, Stage};
use crate::machine::{Out, Position};
use crate::planted::Planted;
use crate::time::Timestamp;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

impl Centre {
    /// Acts on what was read from an ack store, and writes down how far that was in the same batch.
    pub(super) fn acks(
        &mut self,
        source: u64,
        through: Position,
        acks: Vec<Ack>,
        damaged: Vec<Position>,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        let read = self.state.acks_read(source);
        if through <= read {
            return;
        }
        // Another life of the ack store, or another store: what was told to the one before and not
        // read here is lost.
        let is_another = read == 0 && self.state.reads_another_ack_store(source);
        let doubted = !damaged.is_empty() || is_another;
        let mut freed = BTreeSet::new();
        if !(self.policy.planted.is(Planted::CursorBeforeAcks) && through.is_multiple_of(5)) {
            for ack in acks {
                freed.extend(self.acknowledge(ack, now, out));
            }
        }
        if doubted {
            let record = Record::AcksDamaged {
                at: now,
                source,
                damaged,
            };
            self.write(&record, out);
            freed.extend(self.state.recipients_waiting());
        }
        self.write(
            &Record::AcksRead {
                at: now,
                source,
                through,
            },
            out,
        );
        for recipient in freed {
            self.push_what_fits(recipient, now, out);
        }
    }

    /// Reads an ack store from its beginning again: it holds fewer records than were read from it,
    /// so it is an older copy of itself, and what it takes down now stands where others stood.
    /// What was read before is known and changes nothing; what it had taken down and was not read is
    /// lost, so sites are asked again.
    pub(super) fn read_acks_again(&mut self, source: u64, now: Timestamp, out: &mut Out<Self>) {
        if self.state.acks_read(source) > 0 {
            let record = Record::AcksRead {
                at: now,
                source,
                through: 0,
            };
            self.write(&record, out);
            let record = Record::AcksDamaged {
                at: now,
                source,
                damaged: Vec::new(),
            };
            self.write(&record, out);
            let waiting: Vec<_> = self.state.recipients_waiting().collect();
            for recipient in waiting {
                self.push_what_fits(recipient, now, out);
            }
        }
    }

    /// Acts on one acknowledgement; names the recipient whose window it may have opened.
    fn acknowledge(
        &mut self,
        ack: Ack,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Option<RecipientNo> {
        let Some(message) = self.known(ack.item.message, out) else {
            self.keep(ack, Why::Orphan, now, out);
            return None;
        };
        let recipient = message.recipient;
        let queue = self.state.queue(recipient);
        if queue.tenant != ack.tenant || queue.name != ack.agent {
            self.keep(ack, Why::Foreign, now, out);
            return None;
        }
        if let Some(end) = message.end() {
            self.acknowledge_finished(ack, message.generation.into(), end, now, out);
            return None;
        }
        if u32::from(message.generation) != ack.item.generation {
            self.keep(ack, Why::OtherGeneration, now, out);
            return None;
        }
        let stale = queue.is_stale_receipt(message.seq, ack.item.attempt);
        match end_of(ack.item.stage) {
            Some(end) => self.settle(ack.item, end, now, out),
            // No receipt: its attempt is none of the pushes, so it may speak of a store that was lost.
            None if ack.item.stage != Stage::Stored => self.attempted(ack.item, now, out),
            None if stale => self.keep(ack, Why::StoreLost, now, out),
            // Said before: nothing changes, nothing is written.
            None if message.is_received() => {}
            None => self.store(&ack.item, now, out),
        }
        Some(recipient)
    }

    fn acknowledge_finished(
        &mut self,
        ack: Ack,
        generation: u32,
        end: End,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        let says = end_of(ack.item.stage);
        if generation != ack.item.generation {
            self.keep(ack, Why::OtherGeneration, now, out);
        } else if says.is_none() || says == Some(end) {
            // A receipt after the end, or the same end again: known.
        } else if let (true, Some(end)) = (self.policy.planted.is(Planted::LastAckWins), says) {
            self.recall(ack.item.message, now, out);
            self.settle(ack.item, end, now, out);
        } else if matches!(end, End::Processed | End::Rejected) {
            self.keep(ack, Why::Conflict, now, out);
        } else {
            self.keep(ack, Why::Late, now, out);
        }
    }

    fn store(&mut self, item: &AckItem, now: Timestamp, out: &mut Out<Self>) {
        let id = item.message;
        let message = self.state.message(id).copied();
        if let Some(held) = message.filter(Message::is_held) {
            // Its agent has it from a time that this store knows nothing of: it waits no more.
            let seq = self.state.queue(held.recipient).seq_last + 1;
            self.come_due(&held, seq, now, out);
        }
        let record = Record::Stored {
            at: now,
            id,
            attempt: item.attempt,
            occurred_at: item.occurred_at,
            previous: self.state.last_record(id),
        };
        self.write(&record, out);
        out.effect(Effect::Changed { id });
    }

    /// An attempt came to no end: the agent goes on with the message, and says when.
    fn attempted(&mut self, item: AckItem, now: Timestamp, out: &mut Out<Self>) {
        let id = item.message;
        let record = Record::Attempted {
            at: now,
            id,
            stage: item.stage,
            attempt: item.attempt,
            occurred_at: item.occurred_at,
            outcome: item.outcome,
            duration_ms: item.duration_ms,
            next_at: item.next_at,
            previous: self.state.last_record(id),
        };
        self.write(&record, out);
        out.effect(Effect::Changed { id });
    }

    fn settle(&mut self, item: AckItem, end: End, now: Timestamp, out: &mut Out<Self>) {
        let id = item.message;
        let record = Record::Settled {
            at: now,
            id,
            end,
            attempt: item.attempt,
            occurred_at: item.occurred_at,
            outcome: item.outcome,
            duration_ms: item.duration_ms,
            previous: self.state.last_record(id),
        };
        self.write(&record, out);
        out.effect(Effect::Changed { id });
    }

    fn keep(&mut self, ack: Ack, why: Why, now: Timestamp, out: &mut Out<Self>) {
        let id = ack.item.message;
        self.recall(id, now, out);
        let record = Record::Kept {
            at: now,
            id,
            why,
            stage: ack.item.stage,
            tenant: ack.tenant,
            by: ack.agent,
            occurred_at: ack.item.occurred_at,
            outcome: ack.item.outcome,
            previous: self.state.last_record(id),
        };
        self.write(&record, out);
    }
}

fn end_of(stage: Stage) -> Option<End> {
    match stage {
        Stage::Stored | Stage::Retrying | Stage::Working => None,
        Stage::Acknowledged => Some(End::Processed),
        Stage::Rejected => Some(End::Rejected),
        Stage::Dead => Some(End::Dead),
    }
}
