//! What may be pushed now: lowest number first, as much as the window holds, while the token lasts.

use super::messages::Message;
use super::recipient::Live;
use super::record::{Cause, RecipientNo, Record, Seq, Term};
use super::{Centre, Effect, Policy, State};
use crate::machine::{Out, Position};
use crate::message::{AgentName, MessageId};
use crate::planted::Planted;
use crate::time::Timestamp;

/// One push over one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The connection.
    pub connection: u64,
    /// Its term.
    pub term: Term,
    /// The message.
    pub id: MessageId,
    /// Its recipient.
    pub to: AgentName,
    /// Where its [`Accepted`](super::Accepted) record (or the [`Record::Carried`] around it) stands.
    pub accepted: Position,
    /// Its number among the recipient's messages.
    pub seq: Seq,
    /// Number of this push.
    pub attempt: u32,
    /// Which life of the message.
    pub generation: u32,
}

impl Centre {
    /// Pushes to `recipient` until its window is full or nothing waits.
    pub(super) fn push_what_fits(
        &mut self,
        recipient: RecipientNo,
        now: Timestamp,
        out: &mut Out<Self>,
    ) {
        while let Some((message, cause)) =
            next_within_window(&self.state, recipient, &self.policy, now)
        {
            let message = *message;
            self.push(recipient, message, cause, now, out);
        }
        let queue = self.state.queue(recipient);
        let is_over = |live: &Live| token_is_over(live, &self.policy, now);
        if queue.live.as_ref().is_some_and(is_over) && self.state.next_to_push(recipient).is_some()
        {
            self.token_over.insert(recipient);
        }
    }

    fn push(
        &mut self,
        recipient: RecipientNo,
        message: Message,
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
        let Message {
            id,
            accepted,
            seq,
            pushes,
            generation,
            last: previous,
            ..
        } = message;
        let attempt = pushes + 1;
        let push = Push {
            connection,
            term,
            id,
            to: queue.name.clone(),
            accepted,
            seq,
            attempt,
            generation: generation.into(),
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
            .waiting_for(recipient)
            .find(|other| other.id != push.id);
        let accepted = other.map_or(push.accepted, |other| other.accepted);
        Push { accepted, ..push }
    }
}

/// The next message to push, if it may go now.
///
/// One message is always allowed when nothing is in flight, however large: a window smaller than a
/// body must delay nothing for ever.
fn next_within_window<'a>(
    state: &'a State,
    recipient: RecipientNo,
    policy: &Policy,
    now: Timestamp,
) -> Option<(&'a Message, Cause)> {
    let queue = state.queue(recipient);
    let live = queue.live.as_ref()?;
    let is_held_back = queue.paused && !policy.planted.is(Planted::PushPaused);
    if is_held_back || token_is_over(live, policy, now) {
        return None;
    }
    let next = state.next_to_push(recipient)?;
    let bytes = u64::from(next.0.bytes);
    let room = queue.in_flight.len() < policy.window_messages as usize
        && queue.in_flight_bytes + bytes <= policy.window_bytes;
    (room || queue.in_flight.is_empty()).then_some(next)
}

fn token_is_over(live: &Live, policy: &Policy, now: Timestamp) -> bool {
    now + policy.token_guard >= live.token_expires_at
}
