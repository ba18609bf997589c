//! Accepting a message: once per idempotency key, for a known recipient, within the limits.

use super::messages::Fingerprint;
use super::record::{Accepted, RecipientNo, Record};
use super::{Centre, Receipt, Refusal, Submission};
use crate::lane::{LaneMark, LaneRule};
use crate::limits;
use crate::machine::Out;
use crate::message::{AgentName, TenantName};
use crate::planted::Planted;
use crate::time::Timestamp;

impl Centre {
    pub(super) fn submit(
        &mut self,
        message: &Submission,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<Receipt, Refusal> {
        if let Some(earlier) = self.earlier(message, out)? {
            return Ok(earlier);
        }
        self.check(message, now, out)?;
        let recipient = self.target(&message.tenant, &message.to, now, out)?;
        let queue = self.state.queue(recipient);
        let online = queue.live.is_some();
        let not_before = message.not_before.filter(|at| *at > now);
        let not_before = not_before.filter(|_| !self.policy.planted.is(Planted::PushBeforeDue));
        let lane = LaneMark::new(message.lane.as_str(), message.rule).lane();
        let seq = match not_before {
            Some(_) => 0,
            None => self.number_in_lane(recipient, lane, false),
        };
        let accepted = Accepted {
            at: now,
            id: message.id,
            partition: queue.partition,
            recipient,
            seq,
            generation: 1,
            key: message.key.unwrap_or_default(),
            fingerprint: message.fingerprint,
            body_sha256: message.body_sha256,
            expires_at: message.expires_at,
            tenant: message.tenant.as_str(),
            to: message.to.as_str(),
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
            body: message.body,
        };
        let record = match (message.body, message.rule, not_before) {
            (Some(body), rule, not_before) => Record::AcceptedByReference {
                body,
                rule,
                not_before,
                accepted,
            },
            (None, LaneRule::Block, None) => Record::Accepted(accepted),
            (None, LaneRule::Block, Some(not_before)) => Record::Scheduled {
                not_before,
                accepted,
            },
            (None, rule, not_before) => Record::AcceptedUnder {
                rule,
                not_before,
                accepted,
            },
        };
        let position =
            if self.policy.planted.is(Planted::AcceptWithoutRecord) && seq.is_multiple_of(7) {
                out.next_position()
            } else {
                self.write(&record, out)
            };
        self.push_what_fits(recipient, now, out);
        let epoch = self.state.epoch();
        Ok(Receipt {
            id: message.id,
            position,
            epoch,
            seq,
            repeated: false,
            online,
        })
    }

    /// The receipt of the message that this key stands for, if it is the same message.
    fn earlier(
        &self,
        message: &Submission,
        out: &mut Out<Self>,
    ) -> Result<Option<Receipt>, Refusal> {
        let key = message.key.as_ref();
        if let Some(fan_out) = key.and_then(|key| self.state.fan_outs.by_key(key)) {
            return Err(Refusal::KeyReused { id: fan_out.id });
        }
        let Some(known) = key.and_then(|key| self.known_by_key(key, out)) else {
            return Ok(None);
        };
        if known.fingerprint != Fingerprint::of(message.fingerprint) {
            return Err(Refusal::KeyReused { id: known.id });
        }
        let view = self.state.view_of(&message.tenant, &known);
        Ok(Some(Receipt {
            id: known.id,
            position: known.accepted,
            epoch: self.state.epoch(),
            seq: known.number(),
            repeated: true,
            online: view.is_some_and(|view| view.online),
        }))
    }

    pub(super) fn check<T>(
        &self,
        message: &Submission<T>,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<(), Refusal> {
        let (bytes, bytes_max) = (message.data.len(), self.policy.body_bytes_max);
        if bytes > bytes_max {
            return Err(Refusal::BodyTooLarge { bytes, bytes_max });
        }
        let is_fan_out = self.state.fan_outs.by_id(message.id).is_some();
        if is_fan_out || self.known(message.id, out).is_some() {
            return Err(Refusal::IdTaken { id: message.id });
        }
        self.check_body(message)?;
        let begins = message.not_before.unwrap_or(now).max(now);
        if message.expires_at.is_some_and(|at| at <= begins) {
            return Err(Refusal::AlreadyExpired);
        }
        let pending = self.state.counters().pending;
        if pending >= self.policy.pending_max {
            return Err(Refusal::Full { pending });
        }
        Ok(())
    }

    pub(super) fn target(
        &mut self,
        tenant: &TenantName,
        agent: &AgentName,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<RecipientNo, Refusal> {
        match self.state.number_of(tenant, agent) {
            None if self.policy.strict_targets => Err(Refusal::UnknownRecipient {
                agent: agent.clone(),
            }),
            _ => self.known_or_new(tenant, agent, now, out),
        }
    }

    /// The recipient's number; a new one is written down first.
    pub(super) fn known_or_new(
        &mut self,
        tenant: &TenantName,
        agent: &AgentName,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<RecipientNo, Refusal> {
        if let Some(recipient) = self.state.number_of(tenant, agent) {
            return Ok(recipient);
        }
        let recipients = self.state.recipient_count();
        if recipients >= limits::RECIPIENTS_MAX {
            return Err(Refusal::TooManyRecipients { recipients });
        }
        let digest = crate::hash::digest(&[tenant.as_str().as_bytes(), agent.as_str().as_bytes()]);
        let record = Record::Recipient {
            at: now,
            recipient: recipients as RecipientNo,
            partition: (digest % u64::from(self.policy.partitions.max(1))) as u16,
            tenant: tenant.clone(),
            name: agent.clone(),
        };
        self.write(&record, out);
        Ok(recipients as RecipientNo)
    }
}
