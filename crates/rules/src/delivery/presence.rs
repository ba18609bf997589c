//! Who is connected: one current connection per recipient, and delivery only once it is ready.
//!
//! Each connection gets a term, durable before its first push. The newest wins: the older one is
//! closed and gets nothing more (I14). What it carried is offered again over the new one (I13).

use super::record::{Record, Seq, Term};
use super::{Centre, Effect, Gap, Refusal, Welcome};
use crate::machine::Out;
use crate::message::{AgentName, TenantName};
use crate::planted::Planted;
use crate::time::Timestamp;

impl Centre {
    pub(super) fn connect(
        &mut self,
        tenant: &TenantName,
        agent: &AgentName,
        connection: u64,
        token_expires_at: Timestamp,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<Term, Refusal> {
        if token_expires_at <= now {
            return Err(Refusal::TokenExpired);
        }
        let recipient = self.known_or_new(tenant, agent, now, out)?;
        let queue = self.state.queue(recipient);
        let older = queue.live.as_ref().map(|live| live.connection);
        let term = queue.term + 1;
        if let Some(connection) = older
            && !self.policy.planted.is(Planted::NoSupersede)
        {
            out.effect(Effect::Supersede { connection });
        }
        let record = Record::Connected {
            at: now,
            recipient,
            term,
            connection,
            token_expires_at,
        };
        self.write(&record, out);
        Ok(term)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "they are the fields of one input"
    )]
    pub(super) fn ready(
        &mut self,
        connection: u64,
        agent_epoch: u64,
        floor: Seq,
        cursor: Seq,
        centre_epoch: u64,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Option<Welcome> {
        let recipient = self.state.recipient_of_connection(connection)?;
        let epoch = self.state.epoch();
        let continuous = centre_epoch == 0 || centre_epoch == epoch;
        // Numbers of another life of the store say nothing about this one.
        let cursor = if continuous { cursor } else { 0 };
        let queue = self.state.queue(recipient);
        let ended = queue.gaps.range(cursor + 1..).count() as u64;
        let gap = match (continuous, ended) {
            (false, _) => Some(Gap::OtherEpoch),
            (true, 0) => None,
            (true, count) => Some(Gap::Ended { count }),
        };
        let term = queue.term;
        self.write(
            &Record::Ready {
                at: now,
                recipient,
                term,
                agent_epoch,
                floor,
                cursor,
            },
            out,
        );
        let queue = self.state.queue(recipient);
        let welcome = Welcome {
            epoch,
            oldest_replayable: queue.oldest_replayable(),
            gap,
            window_messages: self.policy.window_messages,
            waiting: queue.pending.len() as u64,
        };
        self.push_what_fits(recipient, now, out);
        Some(welcome)
    }

    pub(super) fn disconnect(&mut self, connection: u64, now: Timestamp, out: &mut Out<Self>) {
        if let Some(recipient) = self.state.recipient_of_connection(connection) {
            let term = self.state.queue(recipient).term;
            self.write(
                &Record::Disconnected {
                    at: now,
                    recipient,
                    term,
                },
                out,
            );
        }
    }
}
