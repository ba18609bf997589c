//! Who is connected: one current connection per recipient, and delivery only once it is ready.
//!
//! Each connection gets a term, durable before its first push. The newest that is ready wins: an
//! older one is closed and gets nothing more (I14). What it carried is offered again over the new
//! one (I13). A connection that never becomes ready takes nobody's place: it may be one that its
//! client has given up already.

use super::record::{RecipientNo, Record, Seq, Term};
use super::state::Connection;
use super::{Centre, Effect, Gap, Refusal, Welcome};
use crate::machine::Out;
use crate::message::{AgentName, TenantName};
use crate::planted::Planted;
use crate::site::ParkedLane;
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
        let term = queue.term + 1;
        // A client that connects and never becomes ready gets so many connections and no more.
        for connection in queue.joining_before_the_last(JOINING_MAX - 1) {
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
        highest: Option<Seq>,
        centre_epoch: u64,
        parked: &[ParkedLane],
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Option<Welcome> {
        let Connection {
            recipient, term, ..
        } = self.state.connection(connection)?;
        let live = self.state.queue(recipient).live;
        if live.is_some_and(|live| live.term > term) {
            return None;
        }
        let older = live.filter(|live| live.term < term);
        if let Some(older) = older
            && !self.policy.planted.is(Planted::NoSupersede)
        {
            let connection = older.connection;
            out.effect(Effect::Supersede { connection });
        }
        let epoch = self.state.epoch();
        let mut continuous = centre_epoch == 0 || centre_epoch == epoch;
        if centre_epoch == epoch {
            continuous &= self.raise_numbers(recipient, floor, cursor, now, out);
        }
        // Numbers of another life of the store say nothing about this one.
        let (floor, cursor) = if continuous { (floor, cursor) } else { (0, 0) };
        let queue = self.state.queue(recipient);
        let same_life = centre_epoch == epoch && agent_epoch != 0;
        let is_set_back = same_life
            && continuous
            && queue.agent_epoch == agent_epoch
            && highest.is_some_and(|highest| highest < queue.received_before(term));
        let ended = queue.gaps.range(cursor.saturating_add(1)..).count() as u64;
        let gap = match (continuous, ended) {
            (false, _) => Some(Gap::OtherEpoch),
            (true, 0) => None,
            (true, count) => Some(Gap::Ended { count }),
        };
        if is_set_back {
            self.write(&Record::SiteSetBack { at: now, recipient }, out);
        }
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
        self.compare_lanes(recipient, parked, now, out);
        let queue = self.state.queue(recipient);
        let welcome = Welcome {
            epoch,
            oldest_replayable: self.state.oldest_replayable(recipient),
            gap,
            window_messages: self.policy.window_messages,
            waiting: queue.waiting,
            resumed: self.state.untold(recipient),
        };
        self.push_what_fits(recipient, now, out);
        Some(welcome)
    }

    /// An agent that knows higher numbers than were given has met this store before records of it
    /// were lost. Those numbers are never given again: under them the agent would take new messages
    /// for old ones. Tells whether the agent's numbers are the store's own.
    fn raise_numbers(
        &mut self,
        recipient: RecipientNo,
        floor: Seq,
        cursor: Seq,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> bool {
        let given = self.state.queue(recipient).seq_last;
        let known = cursor.max(floor.saturating_sub(1));
        if known <= given {
            return true;
        }
        // No client may use up the numbers there are.
        if known - given <= RAISED_BY_MAX {
            let record = Record::NumbersRaised {
                at: now,
                recipient,
                seq_last: known,
            };
            self.write(&record, out);
        }
        false
    }

    pub(super) fn disconnect(&mut self, connection: u64, now: Timestamp, out: &mut Out<Self>) {
        if let Some(Connection {
            recipient, term, ..
        }) = self.state.connection(connection)
        {
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

/// Connections of one recipient that may be about to become ready at the same time.
const JOINING_MAX: usize = 4;

/// More messages than a store that lost its tail can have given numbers to.
const RAISED_BY_MAX: u64 = 1 << 32;
