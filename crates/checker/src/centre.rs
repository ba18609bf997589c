//! The centre's records: most promises can be judged from them alone.

use crate::lives::{Flags, Held, Key, Life, Map, short};
use crate::verdict::{Invariant, Party, Violation};
use crate::{Checker, Coverage};
use countersign_rules::ack::Stage;
use countersign_rules::delivery::{
    Accepted, Cause, End, RecipientNo, Record, Seq, Term, Why, decode_accepted,
};
use countersign_rules::{AgentName, LaneRule, MessageId, Position, TenantName, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is known of the centre.
#[derive(Debug, Default)]
pub(crate) struct Centre {
    pub(crate) coverage: Coverage,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) by_name: Map<AgentName, RecipientNo>,
    pub(crate) last: Position,
    pub(crate) last_at: Timestamp,
    /// Life of its store.
    pub(crate) epoch: u64,
    /// What may be missing since it went on in another life.
    pub(crate) restored: Option<String>,
    /// Unknown messages of which an acknowledgement was kept.
    pub(crate) orphans: BTreeSet<MessageId>,
    started: Position,
    doubted: Position,
    pub(crate) damaged: Vec<Position>,
    pub(crate) reckoned: BTreeSet<Position>,
    /// Batches that went to the archive, longest ago first: what stands there alone.
    pub(crate) archived: VecDeque<(u64, Vec<MessageId>)>,
    /// Kinds of records that this checker does not know.
    pub(crate) not_understood: u64,
}

/// What is known of a recipient.
#[derive(Debug, Default)]
pub(crate) struct Recipient {
    pub(crate) name: Option<(TenantName, AgentName)>,
    term: Term,
    token_expires_at: Option<Timestamp>,
    /// Connections that are not ready: the ends of their tokens, by term.
    joining: BTreeMap<Term, Timestamp>,
    pub(crate) ready: bool,
    pub(crate) ready_at: Timestamp,
    pub(crate) paused: bool,
    /// What has parked its lanes.
    pub(crate) parked: BTreeSet<MessageId>,
    /// Whether a lane of it was ever parked: what was never pushed then may have no number.
    ever_parked: bool,
    epoch: u64,
    ended: Position,
    store_lost: Position,
    /// Numbers that wait to be at the site.
    waiting: BTreeMap<Seq, MessageId>,
    /// Those of them that were not pushed over the current connection.
    unoffered: BTreeSet<Seq>,
    /// Numbers that are at the site.
    received: BTreeMap<Seq, MessageId>,
    in_flight: BTreeMap<Seq, u32>,
    in_flight_bytes: u64,
}

impl Recipient {
    fn leave_flight(&mut self, seq: Seq) {
        if let Some(bytes) = self.in_flight.remove(&seq) {
            self.in_flight_bytes -= u64::from(bytes);
        }
    }

    fn disconnect(&mut self, position: Position) {
        self.ended = position;
        self.ready = false;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    fn wait(&mut self, seq: Seq, id: MessageId) {
        if seq > 0 {
            self.waiting.insert(seq, id);
            self.unoffered.insert(seq);
        }
    }

    fn leave(&mut self, seq: Seq) {
        self.waiting.remove(&seq);
        self.unoffered.remove(&seq);
        self.received.remove(&seq);
        self.leave_flight(seq);
    }
}

impl Centre {
    pub(crate) fn is_owner(&self, recipient: u32, tenant: &TenantName, agent: &AgentName) -> bool {
        let known = self.recipients.get(recipient as usize);
        let name = known.and_then(|known| known.name.as_ref());
        name.is_none_or(|name| (&name.0, &name.1) == (tenant, agent))
    }

    fn recipient(&mut self, number: RecipientNo) -> &mut Recipient {
        let number = number as usize;
        if self.recipients.len() <= number {
            self.recipients.resize_with(number + 1, Recipient::default);
        }
        &mut self.recipients[number]
    }

    pub(crate) fn name(&mut self, number: RecipientNo, tenant: &TenantName, name: &AgentName) {
        self.recipient(number).name = Some((tenant.clone(), name.clone()));
        self.by_name.insert(name.clone(), number);
    }

    pub(crate) fn name_of(&self, number: RecipientNo) -> String {
        let known = self.recipients.get(number as usize);
        match known.and_then(|known| known.name.as_ref()) {
            Some((_, name)) => format!("agent {name}"),
            None => format!("recipient {number}"),
        }
    }
}

/// Where a record stands and when it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) position: Position,
    pub(crate) time: Timestamp,
}

impl Checker {
    /// Takes in a record of the centre.
    pub fn centre(&mut self, position: Position, record: &Record<'_>) {
        let at = At {
            position,
            time: record.at(),
        };
        self.centre.last = position;
        self.centre.last_at = at.time;
        if self.fan_out_record(at, record) {
            return;
        }
        match record {
            Record::Started { epoch, .. } => {
                self.i29_another_life_is_a_higher_one(position, *epoch);
                self.centre_started(position);
            }
            Record::Recipient {
                recipient,
                tenant,
                name,
                ..
            } => self.centre.name(*recipient, tenant, name),
            Record::Accepted(accepted) => self.accepted(at, accepted, None),
            Record::Scheduled {
                not_before,
                accepted,
            } => self.accepted(at, accepted, Some(*not_before)),
            Record::AcceptedUnder { .. } | Record::AcceptedByReference { .. } => {
                let Some((rule, not_before, accepted)) = record.accepted_under() else {
                    return;
                };
                self.accepted(at, accepted, not_before);
                if rule == LaneRule::Park {
                    let (id, generation) = (accepted.id, accepted.generation);
                    let life = self.lives.entry(Key { id, generation });
                    life.flags.set(Flags::PARKS);
                }
            }
            Record::Attempted { id, previous, .. } => {
                self.follow(at, *id, *previous, "tried");
            }
            Record::LaneParked { recipient, id, .. } => {
                let known = self.centre.recipient(*recipient);
                known.parked.insert(*id);
                known.ever_parked = true;
            }
            Record::LaneResumed { recipient, id, .. } => {
                self.centre.recipient(*recipient).parked.remove(id);
            }
            Record::LaneHeard { .. } => {}
            Record::Offered {
                id,
                term,
                attempt,
                cause,
                previous,
                ..
            } => {
                if let Some(key) = self.follow(at, *id, *previous, "pushed") {
                    self.offered(at, key, *term, *attempt, *cause);
                }
            }
            Record::Connected {
                recipient,
                term,
                token_expires_at,
                ..
            } => self.connected(at, *recipient, *term, *token_expires_at),
            Record::Ready {
                recipient,
                term,
                agent_epoch,
                floor,
                ..
            } => {
                self.operations.raise_floor(*recipient, *floor);
                self.ready(at, *recipient, *term, *agent_epoch);
            }
            Record::Disconnected {
                recipient, term, ..
            } => {
                let known = self.centre.recipient(*recipient);
                known.joining.remove(term);
                if known.term == *term {
                    known.disconnect(position);
                }
            }
            Record::Overdue { id, previous, .. } => {
                if let Some(key) = self.follow(at, *id, *previous, "overdue") {
                    let life = self.lives.entry(key);
                    life.flags.set(Flags::OVERDUE);
                    let (recipient, seq) = (life.recipient, life.seq);
                    self.centre.recipient(recipient).leave_flight(seq);
                }
            }
            Record::Stored { id, previous, .. } => {
                if let Some(key) = self.follow(at, *id, *previous, "stored") {
                    self.stored(key);
                }
            }
            Record::Settled {
                id,
                end,
                attempt,
                outcome,
                previous,
                ..
            } => {
                if let Some(key) = self.follow(at, *id, *previous, "ended") {
                    self.settled(at, key, *end, *attempt);
                    let recipient = self.lives.entry(key).recipient;
                    let end = (*end, outcome.code.as_str(), recipient);
                    self.operations.ended(key, Some(end), at);
                }
            }
            Record::Kept {
                id,
                why,
                previous,
                stage,
                ..
            } => {
                if !matches!(why, Why::Orphan | Why::Foreign | Why::StoreLost) {
                    self.heard_too_late(*id, *why, *stage);
                }
                *self.figures.acks_kept.entry(why.as_str()).or_default() += 1;
                self.kept(at, *id, *why, *previous);
            }
            Record::AcksRead { through, .. } => self.acks_read(position, *through),
            Record::Carried {
                id,
                accepted,
                previous,
                ..
            } => self.carried(at, *id, accepted, *previous),
            Record::AgedOut { count, .. } => self.aged_out(*count),
            Record::Archived {
                batch, messages, ..
            } => self.archived(*batch, messages),
            Record::Recalled { batch, message, .. } => self.recalled(*batch, message.id),
            Record::ArchiveAged { below, .. } => self.archive_aged(*below),
            Record::SiteSetBack { recipient, .. } => self.site_lost(*recipient, position),
            Record::AcksDamaged { .. } => self.doubt_receipts(position),
            Record::Damaged { damaged, .. } => {
                self.centre.reckoned.extend(damaged);
                self.doubt_receipts(position);
            }
            Record::Due {
                id, seq, previous, ..
            } => {
                if let Some(key) = self.follow(at, *id, *previous, "due") {
                    self.due(at, key, *seq);
                }
            }
            Record::Reprocessed {
                id,
                generation,
                seq,
                operation,
                may_process_twice,
                previous,
                ..
            } => {
                if let Some(key) = self.follow(at, *id, *previous, "done once more") {
                    self.replayed(at, key, *operation, *may_process_twice);
                    self.reprocessed(at, key, *generation, *seq);
                }
            }
            Record::Paused {
                recipient, paused, ..
            } => self.centre.recipient(*recipient).paused = *paused,
            Record::OperationBegun { .. }
            | Record::OperationSelected { .. }
            | Record::OperationDid { .. }
            | Record::OperationStopped { .. }
            | Record::Discarded { .. }
            | Record::Restored { .. } => self.operation_record(at, record),
            Record::NumbersRaised { recipient, .. } => {
                self.i29_nobody_knows_more(position, *recipient);
            }
            Record::TimePassed { .. } => {}
            _ => {
                self.centre.not_understood += 1;
                let why = format!("record {position} of the centre is of a kind not judged yet");
                self.leave_out(Party::Centre, why);
            }
        }
    }

    /// Counts a check made at a record.
    pub(crate) fn judge(
        &mut self,
        invariant: Invariant,
        at: (Party, Position),
        holds: bool,
        broken: impl FnOnce() -> (String, Vec<MessageId>),
    ) {
        let violation = (!holds).then(|| {
            let (says, about) = broken();
            Violation {
                invariant,
                says,
                about,
                at: Some(at),
            }
        });
        self.tallies.judge(invariant, violation);
    }

    pub(crate) fn judge_here(
        &mut self,
        invariant: Invariant,
        at: At,
        holds: bool,
        broken: impl FnOnce() -> (String, Vec<MessageId>),
    ) {
        self.judge(invariant, (Party::Centre, at.position), holds, broken);
    }

    /// The life that a record speaks of. It must have been accepted, and its records form a chain.
    pub(crate) fn follow(
        &mut self,
        at: At,
        id: MessageId,
        previous: Position,
        what: &str,
    ) -> Option<Key> {
        let key = self.lives.current(id);
        let Some(life) = self.lives.known(key).copied() else {
            match self.centre.coverage.doubt("the centre") {
                Some(why) => self.tallies.open(Invariant::I28, why),
                None => self.judge_here(Invariant::I28, at, false, || {
                    (format!("{id} is {what} and was never accepted"), vec![id])
                }),
            }
            return None;
        };
        if life.last > 0 {
            let whole = self.centre.coverage == Coverage::Whole;
            if whole || life.last == previous {
                self.judge_here(Invariant::I28, at, life.last == previous, || {
                    let says = format!(
                        "the record before it is said to be {previous}, it is {}",
                        life.last
                    );
                    (format!("{id} is {what}; {says}"), vec![id])
                });
            }
        }
        let life = self.lives.entry(key);
        (life.last, life.last_at) = (at.position, at.time);
        Some(key)
    }

    fn centre_started(&mut self, position: Position) {
        self.figures.centre_starts += 1;
        self.centre.started = position;
        for known in &mut self.centre.recipients {
            known.disconnect(position);
            known.joining.clear();
        }
    }

    pub(crate) fn accepted(
        &mut self,
        at: At,
        accepted: &Accepted<'_>,
        not_before: Option<Timestamp>,
    ) {
        let (id, generation) = (accepted.id, accepted.generation);
        let key = Key { id, generation };
        let again = self.lives.known(key).filter(|life| life.end.is_none());
        let holds = again.is_none();
        self.judge_here(Invariant::I4, at, holds, || {
            (format!("{id} is accepted twice"), vec![id])
        });
        self.figures.accepted += 1;
        self.remember_key(at, accepted);
        self.learn(at, accepted, not_before);
        self.lives.entry(key).flags.set(Flags::WHOLE);
    }

    /// I3: a key stands for one message.
    pub(crate) fn remember_key(&mut self, at: At, accepted: &Accepted<'_>) {
        if accepted.key == [0; 16] {
            return;
        }
        let (id, hash) = (accepted.id, short(&accepted.key));
        let first = self.lives.keys.get(&hash).copied();
        let other = first.filter(|first| *first != id);
        self.judge_here(Invariant::I3, at, other.is_none(), || {
            let first = other.unwrap_or(id);
            let says = format!("one key was accepted as {first} and as {id}");
            (says, vec![first, id])
        });
        if first.is_none() {
            self.lives.keys.insert(hash, id);
            self.lives.keys_of.insert(id, hash);
        }
    }

    fn learn(&mut self, at: At, accepted: &Accepted<'_>, not_before: Option<Timestamp>) {
        let (id, generation) = (accepted.id, accepted.generation);
        let key = Key { id, generation };
        let number = accepted.recipient;
        if self.centre.recipient(number).name.is_none()
            && let (Ok(tenant), Ok(name)) = (
                TenantName::parse(accepted.tenant),
                AgentName::parse(accepted.to),
            )
        {
            self.centre.name(number, &tenant, &name);
        }
        self.operations.learn_type(id, accepted.kind);
        let life = self.lives.entry(key);
        let before = *life;
        life.flags.set(Flags::KNOWN);
        life.flags.clear(Flags::CLOSED);
        (life.end, life.recipient, life.seq) = (None, number, accepted.seq);
        (life.bytes, life.body) = (accepted.data.len() as u32, short(&accepted.body_sha256));
        (life.last, life.last_at) = (at.position, at.time);
        if before.flags.has(Flags::INBOXED) {
            self.arrival_fits(key, before);
        }
        if let Some(expires_at) = accepted.expires_at {
            self.lives.expires_at.insert(key, expires_at);
        }
        match not_before {
            Some(instant) => {
                self.lives.entry(key).flags.set(Flags::HELD);
                let held = Held {
                    recipient: number,
                    instant,
                    accepted: at.position,
                };
                self.lives.hold(key, held);
            }
            None => self.centre.recipient(number).wait(accepted.seq, id),
        }
    }

    fn offered(&mut self, at: At, key: Key, term: Term, attempt: u32, cause: Cause) {
        self.figures.pushes += 1;
        *self.figures.causes.entry(cause.as_str()).or_default() += 1;
        let Some(life) = self.lives.get(key).copied() else {
            return;
        };
        self.i7_a_repeat_has_a_cause(at, key, &life, attempt, cause);
        self.i25_nothing_is_pushed_that_ended_or_is_not_due(at, key, &life);
        self.push_over_connection(at, key, &life, term);
        let known = self.centre.recipient(life.recipient);
        known.unoffered.remove(&life.seq);
        if known.in_flight.insert(life.seq, life.bytes).is_none() {
            known.in_flight_bytes += u64::from(life.bytes);
        }
        let (messages, bytes) = (known.in_flight.len() as u64, known.in_flight_bytes);
        self.i16_the_window_holds(at, key, life.recipient, messages, bytes);
        let life = self.lives.entry(key);
        life.pushes = attempt;
        life.last_push = at.position;
        life.flags.clear(Flags::OVERDUE);
    }

    /// I7: pushes are numbered, and each after the first has a cause that happened since the last.
    fn i7_a_repeat_has_a_cause(
        &mut self,
        at: At,
        key: Key,
        life: &Life,
        attempt: u32,
        cause: Cause,
    ) {
        if !life.flags.has(Flags::WHOLE) {
            let why = String::from("the acceptance of a message pushed again was left out");
            return self.tallies.open(Invariant::I7, why);
        }
        let known = self.centre.recipient(life.recipient);
        let (ended, store_lost) = (known.ended, known.store_lost);
        let since = life.last_push;
        let first = life.pushes == 0;
        let happened = match cause {
            Cause::New => first && key.generation == 1,
            Cause::Reprocessed => first && key.generation > 1,
            Cause::Disconnected => ended > since,
            Cause::Restarted => self.centre.started > since,
            Cause::Overdue => life.flags.has(Flags::OVERDUE),
            Cause::AgentStoreLost => store_lost > since,
            Cause::ReceiptDoubted => self.centre.doubted > since,
            _ => true,
        };
        let holds = happened && attempt == life.pushes + 1;
        self.judge_here(Invariant::I7, at, holds, || {
            let (id, word, before) = (key.id, cause.as_str(), life.pushes);
            let says = format!("push {attempt} of {id} says {word}, after {before} pushes");
            (says, vec![id])
        });
    }

    /// I25: an end, a cancellation and a later instant are decisions.
    fn i25_nothing_is_pushed_that_ended_or_is_not_due(&mut self, at: At, key: Key, life: &Life) {
        let id = key.id;
        let held = self.lives.not_before(key);
        let says = match (life.end, held) {
            (Some(end), _) => Some(format!("{id} is pushed and has ended as {end:?}")),
            (None, Some(instant)) => Some(format!("{id} is pushed and not due before {instant}")),
            (None, None) => None,
        };
        self.judge_here(Invariant::I25, at, says.is_none(), || {
            (says.unwrap_or_default(), vec![id])
        });
    }

    /// I13, I14, I15, I16: over the current connection, that is ready, while its token lasts, to
    /// nobody who is paused, and the lowest number first.
    fn push_over_connection(&mut self, at: At, key: Key, life: &Life, term: Term) {
        let id = key.id;
        let name = self.centre.name_of(life.recipient);
        let known = self.centre.recipient(life.recipient);
        let (current, ready, paused) = (known.term, known.ready, known.paused);
        let token = known.token_expires_at;
        let lower = known.unoffered.range(..life.seq).next().copied();
        let lower = lower.and_then(|seq| Some((seq, *known.waiting.get(&seq)?)));
        let ever_parked = known.ever_parked;
        // What was never pushed when its lane was parked has no number any more.
        let lower = lower.filter(|_| !ever_parked);
        self.judge_here(Invariant::I16, at, !paused, || {
            (
                format!("{id} was pushed to {name}, which is paused"),
                vec![id],
            )
        });
        if current == 0
            && let Some(why) = self.centre.coverage.doubt("the centre")
        {
            for invariant in [Invariant::I13, Invariant::I14, Invariant::I15] {
                self.tallies.open(invariant, why.clone());
            }
            return;
        }
        self.judge_here(Invariant::I14, at, term == current, || {
            let says =
                format!("{id} was pushed over term {term} of {name}, the current one is {current}");
            (says, vec![id])
        });
        self.judge_here(Invariant::I13, at, ready && lower.is_none(), || match lower {
            Some((seq, lower)) if ready => {
                let says = format!(
                    "number {} was pushed to {name} over term {term} and number {seq} below it was not",
                    life.seq
                );
                (says, vec![lower, id])
            }
            _ => (format!("{id} was pushed before {name} was ready"), vec![id]),
        });
        if let Some(token) = token {
            self.judge_here(Invariant::I15, at, at.time < token, || {
                let says = format!(
                    "{id} was pushed to {name} at {}, its token ended at {token}",
                    at.time
                );
                (says, vec![id])
            });
        }
    }

    /// I16: in flight are at most as many messages and bytes as the window allows; one always is.
    fn i16_the_window_holds(
        &mut self,
        at: At,
        key: Key,
        recipient: RecipientNo,
        messages: u64,
        bytes: u64,
    ) {
        let figures = &mut self.figures;
        figures.in_flight_max = figures.in_flight_max.max(messages);
        figures.in_flight_bytes_max = figures.in_flight_bytes_max.max(bytes);
        let (Some(messages_max), Some(bytes_max)) =
            (self.limits.window_messages, self.limits.window_bytes)
        else {
            return;
        };
        let holds = messages <= u64::from(messages_max) && (bytes <= bytes_max || messages == 1);
        let name = self.centre.name_of(recipient);
        self.judge_here(Invariant::I16, at, holds, || {
            let says = format!(
                "{name} has {messages} messages and {bytes} bytes in flight, allowed are {messages_max} and {bytes_max}"
            );
            (says, vec![key.id])
        });
    }

    fn connected(&mut self, at: At, recipient: RecipientNo, term: Term, token: Timestamp) {
        let name = self.centre.name_of(recipient);
        let known = self.centre.recipient(recipient);
        let highest = known.joining.keys().next_back().copied().unwrap_or(0);
        let highest = highest.max(known.term);
        known.joining.insert(term, token);
        self.judge_here(Invariant::I14, at, term > highest, || {
            let says = format!("term {term} of {name} follows term {highest}");
            (says, vec![])
        });
    }

    /// The newest connection that is ready is the current one.
    fn ready(&mut self, at: At, recipient: RecipientNo, term: Term, epoch: u64) {
        let known = self.centre.recipient(recipient);
        if let Some(token) = known.joining.remove(&term) {
            known.disconnect(at.position);
            known.term = term;
            known.token_expires_at = Some(token);
        }
        (known.ready, known.ready_at) = (true, at.time);
        let before = known.epoch;
        if epoch != 0 {
            known.epoch = epoch;
        }
        if before != 0 && epoch != 0 && before != epoch {
            self.site_lost(recipient, at.position);
        }
        let known = self.centre.recipient(recipient);
        known.unoffered = known.waiting.keys().copied().collect();
    }

    fn site_lost(&mut self, recipient: RecipientNo, position: Position) {
        self.centre.recipient(recipient).store_lost = position;
        self.figures.site_stores_lost += 1;
        self.none_received(recipient);
    }

    pub(crate) fn doubt_receipts(&mut self, position: Position) {
        self.centre.doubted = position;
        for recipient in 0..self.centre.recipients.len() as RecipientNo {
            self.none_received(recipient);
        }
    }

    /// What a recipient was known to have is to be pushed again.
    fn none_received(&mut self, recipient: RecipientNo) {
        let received = std::mem::take(&mut self.centre.recipient(recipient).received);
        for (seq, id) in received {
            let key = self.lives.current(id);
            self.lives.entry(key).flags.clear(Flags::RECEIVED);
            self.centre.recipient(recipient).wait(seq, id);
        }
    }

    fn stored(&mut self, key: Key) {
        self.figures.received += 1;
        let life = self.lives.entry(key);
        life.flags.set(Flags::RECEIVED);
        life.flags.set(Flags::EVER_RECEIVED);
        let (recipient, seq) = (life.recipient, life.seq);
        let known = self.centre.recipient(recipient);
        known.leave(seq);
        known.received.insert(seq, key.id);
    }

    fn settled(&mut self, at: At, key: Key, end: End, attempt: u32) {
        let id = key.id;
        let before = self.lives.get(key).and_then(|life| life.end);
        self.judge_here(Invariant::I11, at, before.is_none(), || {
            let before = before.unwrap_or(end);
            let says = format!("{id} had ended as {before:?} and ends again as {end:?}");
            (says, vec![id])
        });
        if let Some(before) = before {
            *self.figures.ends.entry(before).or_default() -= 1;
        }
        *self.figures.ends.entry(end).or_default() += 1;
        self.i21_only_what_is_over_expires(at, key, end);
        self.counts_for_quorum(id, Some(end));
        let by_site = match end {
            End::Processed | End::Rejected => true,
            End::Dead => attempt > 0,
            _ => false,
        };
        let life = self.lives.entry(key);
        life.end = Some(end);
        if by_site {
            life.flags.set(Flags::BY_SITE);
        }
        let (recipient, seq) = (life.recipient, life.seq);
        let parks = life.flags.has(Flags::PARKS);
        let known = self.centre.recipient(recipient);
        known.leave(seq);
        match end {
            End::Rejected | End::Dead if parks => {
                known.parked.insert(id);
                known.ever_parked = true;
            }
            End::Processed => {
                known.parked.remove(&id);
            }
            _ => {}
        }
        self.lives.release(key);
        self.lives.expires_at.remove(&key);
        self.lives.ended.push_back(key);
    }

    /// I21: only a message with an end of life expires, and only when its centre's clock is past it.
    fn i21_only_what_is_over_expires(&mut self, at: At, key: Key, end: End) {
        if end != End::Expired {
            return;
        }
        let whole = self
            .lives
            .get(key)
            .is_some_and(|life| life.flags.has(Flags::WHOLE));
        let due = self.lives.expires_at.get(&key).copied();
        if due.is_none() && !whole {
            let why = String::from("the acceptance of a message that expired was left out");
            return self.tallies.open(Invariant::I21, why);
        }
        let holds = due.is_some_and(|due| due <= at.time);
        self.judge_here(Invariant::I21, at, holds, || {
            let due = match due {
                Some(due) => format!("ends at {due}"),
                None => String::from("has no end"),
            };
            let says = format!("{} expired at {}, its life {due}", key.id, at.time);
            (says, vec![key.id])
        });
    }

    fn kept(&mut self, at: At, id: MessageId, why: Why, previous: Position) {
        if why == Why::Orphan {
            self.centre.orphans.insert(id);
        } else if let Some(key) = self.follow(at, id, previous, "spoken of")
            && why == Why::StoreLost
        {
            self.lives.entry(key).flags.set(Flags::STALE);
        }
    }

    /// What came too late to end its message says all the same what became of the lane.
    fn heard_too_late(&mut self, id: MessageId, why: Why, stage: Stage) {
        let key = self.lives.current(id);
        let Some(life) = self.lives.get(key).copied() else {
            return;
        };
        let known = self.centre.recipient(life.recipient);
        let parks = life.flags.has(Flags::PARKS);
        match (why, stage) {
            (_, Stage::Rejected | Stage::Dead) if parks => {
                known.parked.insert(id);
                known.ever_parked = true;
            }
            (Why::Late | Why::Conflict, Stage::Acknowledged) => {
                known.parked.remove(&id);
            }
            _ => {}
        }
    }

    fn carried(&mut self, at: At, id: MessageId, accepted: &[u8], previous: Position) {
        let key = self.lives.current(id);
        if self.lives.known(key).is_some() {
            self.follow(at, id, previous, "copied forward");
        } else if let Ok(accepted) = decode_accepted(accepted)
            && accepted.id == id
        {
            // It was accepted before what is told begins. Of a send to many this is not enough.
            self.learn(at, &accepted, None);
        }
    }

    /// I25: none comes due before its instant. I6: nor before one that is due earlier, or that is due
    /// together with it and was accepted earlier.
    fn due(&mut self, at: At, key: Key, seq: Seq) {
        let held = self.lives.release(key);
        let instant = held.map(|held| held.instant);
        let with_site = self
            .lives
            .get(key)
            .is_some_and(|life| life.flags.has(Flags::SAID_STORED) || life.word.is_some());
        let holds = with_site || instant.is_none_or(|instant| at.time >= instant);
        self.judge_here(Invariant::I25, at, holds, || {
            let instant = instant.unwrap_or_default();
            let says = format!("{} came due at {}, before {instant}", key.id, at.time);
            (says, vec![key.id])
        });
        if let Some(held) = held.filter(|_| !with_site) {
            let earlier = self.lives.due_before(held);
            self.judge_here(Invariant::I6, at, earlier.is_none(), || {
                let earlier = earlier.unwrap_or(key.id);
                let says = format!("{} came due before {earlier}, which goes first", key.id);
                (says, vec![earlier, key.id])
            });
        }
        let life = self.lives.entry(key);
        life.flags.clear(Flags::HELD);
        let before = std::mem::replace(&mut life.seq, seq);
        let recipient = life.recipient;
        let known = self.centre.recipient(recipient);
        // It had one before its lane was parked.
        if known.waiting.get(&before) == Some(&key.id) {
            known.leave(before);
        }
        known.wait(seq, key.id);
    }

    /// I24: a replay is the next life of a message that had ended.
    fn reprocessed(&mut self, at: At, key: Key, generation: u32, seq: Seq) {
        let id = key.id;
        let Some(before) = self.lives.get(key).copied() else {
            return;
        };
        let holds = before.end.is_some() && generation == key.generation + 1;
        self.judge_here(Invariant::I24, at, holds, || {
            let (was, end) = (key.generation, before.end);
            let end = end.map_or(String::from("had not ended"), |end| {
                format!("ended as {end:?}")
            });
            let says = format!("{id} begins life {generation}; life {was} {end}");
            (says, vec![id])
        });
        self.figures.reprocessed += 1;
        self.counts_for_quorum(id, None);
        if let Some(end) = before.end {
            *self.figures.ends.entry(end).or_default() -= 1;
        }
        self.close(key);
        let next = Key { id, generation };
        self.lives.begin_generation(id, generation);
        let life = self.lives.entry(next);
        let mut flags = life.flags;
        flags.set(Flags::KNOWN);
        for kept in [Flags::WHOLE, Flags::PARKS] {
            if before.flags.has(kept) {
                flags.set(kept);
            }
        }
        *life = Life {
            flags,
            end: None,
            recipient: before.recipient,
            body: before.body,
            bytes: before.bytes,
            last: at.position,
            last_at: at.time,
            seq,
            pushes: 0,
            last_push: 0,
            ..*life
        };
        self.centre.recipient(before.recipient).wait(seq, id);
    }
}
