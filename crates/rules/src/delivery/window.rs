//! What may be pushed now: lowest number first, as much as the window holds, while the token lasts.

use super::recipient::{Live, Pending, Recipient};
use super::record::{Cause, RecipientNo, Record, Seq};
use super::{Centre, Effect, Policy, Push};
use crate::machine::Out;
use crate::planted::Planted;
use crate::time::Timestamp;

impl Centre {
    /// Pushes to `recipient` until its window is full or nothing waits.
    pub(super) fn push_what_fits(
        &mut self,
        recipient: RecipientNo,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        while let Some((seq, cause)) =
            next_within_window(self.state.queue(recipient), &self.policy, now)
        {
            self.push(recipient, seq, cause, now, out);
        }
        let queue = self.state.queue(recipient);
        let is_over = |live: &Live| token_is_over(live, &self.policy, now);
        if queue.live.as_ref().is_some_and(is_over) && queue.next_to_push().is_some() {
            self.token_over.insert(recipient);
        }
    }

    fn push(
        &mut self,
        recipient: RecipientNo,
        seq: Seq,
        cause: Cause,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        let queue = self.state.queue(recipient);
        let Some(Live {
            connection, term, ..
        }) = queue.live
        else {
            return;
        };
        let Some(pending) = queue.pending.get(&seq) else {
            return;
        };
        let Pending {
            id,
            accepted,
            pushes,
            generation,
            ..
        } = *pending;
        let attempt = pushes + 1;
        let previous = pending.last;
        let push = Push {
            connection,
            term,
            id,
            accepted,
            seq,
            attempt,
            generation,
        };
        let push = self.with_planted_defect(recipient, push);
        self.write(
            &Record::Offered {
                at: now,
                id,
                term,
                attempt,
                cause,
                previous,
            },
            out,
        );
        if self.policy.planted.is(Planted::PushTwice) && seq.is_multiple_of(5) {
            out.effect(Effect::Push(push.clone()));
        }
        out.effect(Effect::Push(push));
        out.effect(Effect::Changed { id });
    }

    fn with_planted_defect(&self, recipient: RecipientNo, push: Push) -> Push {
        if !self.policy.planted.is(Planted::PushForeignBody) {
            return push;
        }
        let other = self
            .state
            .queue(recipient)
            .pending
            .values()
            .find(|other| other.id != push.id);
        let accepted = other.map_or(push.accepted, |other| other.accepted);
        Push { accepted, ..push }
    }
}

/// The next message to push, if it may go now.
///
/// One message is always allowed when nothing is in flight, however large: a window smaller than a
/// body must delay nothing for ever.
fn next_within_window(queue: &Recipient, policy: &Policy, now: Timestamp) -> Option<(Seq, Cause)> {
    let live = queue.live.as_ref()?;
    if token_is_over(live, policy, now) {
        return None;
    }
    let (seq, cause) = queue.next_to_push()?;
    if queue.in_flight.is_empty() {
        return Some((seq, cause));
    }
    let bytes = queue
        .pending
        .get(&seq)
        .map_or(0, |pending| u64::from(pending.bytes));
    let room = queue.in_flight.len() < policy.window_messages as usize
        && queue.in_flight_bytes + bytes <= policy.window_bytes;
    room.then_some((seq, cause))
}

fn token_is_over(live: &Live, policy: &Policy, now: Timestamp) -> bool {
    now + policy.token_guard >= live.token_expires_at
}
