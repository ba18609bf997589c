//! What time does: expiry, overdue receipts, the end of retention; and copying forward what lives
//! longer than its segment.

use super::messages::Message;
use super::record::{End, Record, Seq, decode_record};
use super::{Centre, Effect};
use crate::ack::Outcome;
use crate::limits::PER_DEADLINE_MAX;
use crate::machine::{Out, Position};
use crate::message::MessageId;
use crate::time::Timestamp;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

impl Centre {
    /// Ends messages whose life is over: nothing of them is pushed from here on (I25). Those behind
    /// them may have room now.
    pub(super) fn expire_due(&mut self, now: Timestamp, out: &mut Out<Self>) {
        let mut recipients = BTreeSet::new();
        for (recipient, id) in self.state.expired(now, PER_DEADLINE_MAX) {
            recipients.insert(recipient);
            let outcome = Outcome {
                code: String::from("expired"),
                detail: String::from("its life was over before the back office had it"),
                data: Vec::new(),
            };
            let record = Record::Settled {
                at: now,
                id,
                end: End::Expired,
                attempt: 0,
                occurred_at: now,
                outcome,
                duration_ms: 0,
                previous: self.state.last_record(id),
            };
            self.write(&record, out);
            out.effect(Effect::Changed { id });
        }
        for recipient in recipients {
            self.push_what_fits(recipient, now, out);
        }
    }

    /// Puts messages that are due behind those that wait already, in the order in which they came due
    /// and, of one instant, were accepted (I6).
    pub(super) fn enqueue_due(&mut self, now: Timestamp, out: &mut Out<Self>) {
        let mut recipients = BTreeSet::new();
        for _ in 0..PER_DEADLINE_MAX {
            let Some(message) = self.state.first_due(now, self.policy.planted) else {
                break;
            };
            let message = *message;
            recipients.insert(message.recipient);
            let seq = self.number_for(&message);
            self.come_due(&message, seq, now, out);
        }
        for recipient in recipients {
            self.push_what_fits(recipient, now, out);
        }
    }

    /// Gives a message that is held its number; zero when it has to wait in its lane.
    pub(super) fn come_due(
        &mut self,
        held: &Message,
        seq: Seq,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        let record = Record::Due {
            at: now,
            id: held.id,
            seq,
            previous: held.last,
        };
        self.write(&record, out);
    }

    /// Ends a message that can never be pushed, unless its site has it already.
    pub(super) fn undeliverable(
        &mut self,
        id: MessageId,
        generation: u32,
        reason: Outcome,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        let Some(&message) = self.state.message(id) else {
            return;
        };
        let is_with_the_site = message.is_received();
        if message.end().is_some()
            || is_with_the_site
            || u32::from(message.generation) != generation
        {
            return;
        }
        let record = Record::Settled {
            at: now,
            id,
            end: End::Dead,
            attempt: 0,
            occurred_at: now,
            outcome: reason.bounded(),
            duration_ms: 0,
            previous: message.last,
        };
        self.write(&record, out);
        out.effect(Effect::Changed { id });
        self.push_what_fits(message.recipient, now, out);
    }

    /// Pushes again what was pushed over a connection that still lives and got no receipt in time.
    pub(super) fn push_overdue(&mut self, now: Timestamp, out: &mut Out<Self>) {
        let mut recipients = BTreeSet::new();
        for _ in 0..PER_DEADLINE_MAX {
            let Some((recipient, id)) = self.state.first_overdue(now, self.policy.ack_wait_max)
            else {
                break;
            };
            let previous = self.state.last_record(id);
            self.write(
                &Record::Overdue {
                    at: now,
                    id,
                    previous,
                },
                out,
            );
            recipients.insert(recipient);
        }
        for recipient in recipients {
            self.push_what_fits(recipient, now, out);
        }
    }

    /// Forgets finished messages whose retention is over.
    pub(super) fn age_out(&mut self, now: Timestamp, out: &mut Out<Self>) {
        let retention = self.policy.retention;
        if self.age_archive(now, out) {
            return;
        }
        let count = self.state.aged(now, retention, PER_DEADLINE_MAX);
        if count > 0 {
            self.write(&Record::AgedOut { at: now, count }, out);
        } else if self.state.is_clock_due(now, retention) {
            self.write(&Record::TimePassed { at: now }, out);
        }
    }

    /// Pushes to those whose tokens seemed to be over and are not, because the clock was set back.
    pub(super) fn look_at_tokens(&mut self, now: Timestamp, out: &mut Out<Self>) {
        for recipient in core::mem::take(&mut self.token_over) {
            self.push_what_fits(recipient, now, out);
        }
    }

    /// Names the unfinished messages that alone keep old segments, to have them copied forward.
    pub(super) fn copy_forward(&self, before: Position, bytes_max: u64, out: &mut Out<Self>) {
        if self.state.oldest_finished() < before {
            // Its retention keeps those segments anyway.
            return;
        }
        let at_most = bytes_max / RECORD_BYTES;
        let Some(old) = self.state.accepted_before(before, at_most) else {
            return;
        };
        let (mut bytes, mut effects) = (0, Vec::new());
        for message in old {
            bytes += u64::from(message.bytes) + RECORD_BYTES;
            if bytes > bytes_max {
                return;
            }
            effects.push(Effect::CopyForward {
                id: message.id,
                accepted: message.accepted,
            });
        }
        effects.into_iter().for_each(|effect| out.effect(effect));
    }

    /// Copies an unfinished message forward; a finished one needs no copy.
    pub(super) fn carry(
        &mut self,
        id: MessageId,
        accepted: &[u8],
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        // What was copied before is unwrapped, so that copies do not nest.
        let accepted = match decode_record(accepted) {
            Ok(Record::Carried { accepted, .. }) => accepted,
            _ => accepted,
        };
        let message = self.state.message(id);
        if let Some(message) = message.filter(|message| message.end().is_none()) {
            let previous = message.last;
            self.write(
                &Record::Carried {
                    at: now,
                    id,
                    accepted,
                    previous,
                },
                out,
            );
        }
    }
}

/// What an accepted record is reckoned to take beside its body.
const RECORD_BYTES: u64 = 256;
