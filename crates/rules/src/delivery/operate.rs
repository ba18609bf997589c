//! What operators decide: a message is taken back, or done once more; a recipient gets nothing for a
//! while. Each decision is a record with its author.

use super::messages::{Message, Standing};
use super::operations::OperationId;
use super::record::{End, Record};
use super::{Centre, Effect, Refusal};
use crate::ack::Outcome;
use crate::machine::Out;
use crate::message::{AgentName, MessageId, TenantName};
use crate::planted::Planted;
use crate::time::Timestamp;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Centre {
    /// Takes a message back that nobody can have: none of it is pushed from here on (I25). One that
    /// was pushed may be at its site; whether it is, the acknowledgements tell.
    pub(super) fn cancel(
        &mut self,
        tenant: &TenantName,
        id: MessageId,
        by: &str,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<(), Refusal> {
        let message = self.message_of(tenant, id, out)?;
        let late = |why| Err(Refusal::TooLate { id, why });
        match message.standing {
            // Said before: it is as wanted.
            Standing::Ended(End::Cancelled) => return Ok(()),
            Standing::Ended(_) | Standing::Discarded(_) => return late("it has ended"),
            Standing::Received => return late("its agent has it"),
            Standing::InFlight => return late("it is on its way to its agent"),
            Standing::Held | Standing::InParkedLane | Standing::Fresh | Standing::Again(_) => {}
        }
        if self.policy.planted.is(Planted::CancelWithoutRecord) {
            return Ok(());
        }
        let outcome = Outcome {
            code: String::from("cancelled"),
            detail: format!("by {by}"),
            data: Vec::new(),
        };
        let record = Record::Settled {
            at: now,
            id,
            end: End::Cancelled,
            attempt: 0,
            occurred_at: now,
            outcome: outcome.bounded(),
            duration_ms: 0,
            previous: message.last,
        };
        self.write(&record, out);
        out.effect(Effect::Changed { id });
        Ok(())
    }

    /// Begins another life of a message that has ended, behind all that waits for its recipient
    /// (I24); the one that has parked its lane goes before all that is held in it. Its key stands for
    /// it as before; an end that its sender had set is over. What its agent no longer remembers may
    /// have been done already: that needs the author's word (N2).
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the fields of one decision"
    )]
    pub(super) fn reprocess(
        &mut self,
        tenant: &TenantName,
        id: MessageId,
        by: &str,
        may_process_twice: bool,
        operation: Option<OperationId>,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<(), Refusal> {
        let message = self.message_of(tenant, id, out)?;
        if message.end().is_none() {
            return Err(Refusal::NotEnded { id });
        }
        let is_forgotten = self.state.is_below_floor(&message);
        if is_forgotten && !may_process_twice && !self.policy.planted.is(Planted::IgnoreFloor) {
            return Err(Refusal::BelowFloor { id });
        }
        if message.generation == u16::MAX {
            let why = "it has had all the lives that there are numbers for";
            return Err(Refusal::TooLate { id, why });
        }
        self.recall(id, now, out);
        let raised = u32::from(!self.policy.planted.is(Planted::SameGeneration));
        let record = Record::Reprocessed {
            at: now,
            id,
            generation: u32::from(message.generation) + raised,
            seq: self.number_for(&message),
            by,
            operation,
            may_process_twice,
            previous: message.last,
        };
        self.write(&record, out);
        out.effect(Effect::Changed { id });
        self.push_what_fits(message.recipient, now, out);
        Ok(())
    }

    /// Holds everything back from a recipient, or lets it go again. What it has already, it keeps
    /// working on.
    pub(super) fn pause(
        &mut self,
        tenant: &TenantName,
        agent: &AgentName,
        paused: bool,
        (reason, by): (&str, &str),
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<(), Refusal> {
        let recipient = self.state.number_of(tenant, agent);
        let recipient = recipient.ok_or_else(|| Refusal::UnknownRecipient {
            agent: agent.clone(),
        })?;
        if self.state.queue(recipient).paused != paused {
            let record = Record::Paused {
                at: now,
                recipient,
                paused,
                reason,
                by,
            };
            self.write(&record, out);
            self.push_what_fits(recipient, now, out);
        }
        Ok(())
    }

    fn message_of(
        &self,
        tenant: &TenantName,
        id: MessageId,
        out: &mut Out<Self>,
    ) -> Result<Message, Refusal> {
        let fan_out = self.state.fan_outs.by_id(id);
        if fan_out.is_some_and(|fan_out| fan_out.tenant == *tenant) {
            return Err(Refusal::IsFanOut { id });
        }
        let message = self.known(id, out);
        let is_theirs = |message: &Message| self.state.queue(message.recipient).tenant == *tenant;
        let message = message.filter(is_theirs);
        message.ok_or(Refusal::UnknownMessage { id })
    }
}
