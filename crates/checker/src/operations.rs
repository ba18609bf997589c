//! I24: an operation touches exactly the pairs that its filter named, each once, at its rate, and what
//! an agent no longer remembers is done once more only when that was allowed.
//!
//! What a filter means is told here from the records alone, not from what the engine made of it.

use crate::Checker;
use crate::centre::At;
use crate::lives::Key;
use crate::verdict::Invariant;
use countersign_rules::delivery::{
    Did, End, Filter, OperationId, OperationKind, RecipientNo, Record, Wanted,
};
use countersign_rules::{Duration, MessageId, Position, TenantName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of operations, and of what they may be about.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    begun: BTreeMap<OperationId, Begun>,
    /// Messages that have ended and that nobody has.
    failures: BTreeMap<MessageId, Failure>,
    /// Types of messages, each text once.
    types: Vec<String>,
    type_of: BTreeMap<MessageId, u32>,
    /// From which number on the agents remember, by all that they said.
    floors: BTreeMap<RecipientNo, u64>,
    /// What an operation did once more, and has not said so yet.
    deeds: BTreeSet<(OperationId, MessageId)>,
}

/// A message that nobody has.
#[derive(Debug)]
struct Failure {
    generation: u32,
    recipient: RecipientNo,
    end: End,
    at: Timestamp,
    code: String,
    discarded: bool,
    /// The record that last changed any of this.
    changed: Position,
}

#[derive(Debug)]
struct Begun {
    tenant: TenantName,
    kind: OperationKind,
    filter: Filter,
    as_of: Position,
    total: u32,
    rate: u32,
    pairs: BTreeMap<MessageId, u32>,
    /// What the filter means, and was not selected yet.
    expected: BTreeSet<MessageId>,
    taken: BTreeSet<MessageId>,
    stopped: bool,
    last_at: Option<Timestamp>,
    in_beat: u32,
}

impl Operations {
    pub(crate) fn learn_type(&mut self, id: MessageId, kind: &str) {
        let known = self.types.iter().position(|known| known == kind);
        let number = known.unwrap_or_else(|| {
            self.types.push(kind.to_owned());
            self.types.len() - 1
        });
        self.type_of.insert(id, number as u32);
    }

    pub(crate) fn raise_floor(&mut self, recipient: RecipientNo, floor: u64) {
        let known = self.floors.entry(recipient).or_default();
        *known = floor.max(*known);
    }

    /// A message ended; `None` when it goes on, or is forgotten.
    pub(crate) fn ended(&mut self, key: Key, end: Option<(End, &str, RecipientNo)>, at: At) {
        match end {
            Some((end, code, recipient)) if end != End::Processed => {
                let failure = Failure {
                    generation: key.generation,
                    recipient,
                    end,
                    at: at.time,
                    code: code.to_owned(),
                    discarded: false,
                    changed: at.position,
                };
                self.failures.insert(key.id, failure);
            }
            _ => {
                self.failures.remove(&key.id);
            }
        }
    }

    pub(crate) fn forget(&mut self, id: MessageId) {
        self.failures.remove(&id);
        self.type_of.remove(&id);
    }

    pub(crate) fn put_away(&mut self, id: MessageId, away: bool, position: Position) {
        if let Some(failure) = self.failures.get_mut(&id) {
            (failure.discarded, failure.changed) = (away, position);
        }
    }
}

impl Checker {
    /// A record about an operation, or about a letter that was put away.
    pub(crate) fn operation_record(&mut self, at: At, record: &Record<'_>) {
        let position = at.position;
        match record {
            Record::OperationBegun {
                operation,
                tenant,
                kind,
                filter,
                as_of,
                total,
                rate,
                ..
            } => {
                self.operation_begun(*operation, tenant, *kind, filter, *as_of, *total, *rate);
            }
            Record::OperationSelected {
                operation, pairs, ..
            } => self.operation_selected(at, *operation, pairs),
            Record::OperationDid {
                operation, id, did, ..
            } => self.operation_did(at, *operation, *id, *did),
            Record::OperationStopped { operation, .. } => self.operation_stopped(*operation),
            Record::Discarded { id, previous, .. } => {
                self.follow(at, *id, *previous, "put away");
                self.operations.put_away(*id, true, position);
            }
            Record::Restored { id, previous, .. } => {
                self.follow(at, *id, *previous, "taken back");
                self.operations.put_away(*id, false, position);
            }
            _ => {}
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "they are the fields of one record"
    )]
    pub(crate) fn operation_begun(
        &mut self,
        id: OperationId,
        tenant: &TenantName,
        kind: OperationKind,
        filter: &Filter,
        as_of: Position,
        total: u32,
        rate: u32,
    ) {
        let meant = |(id, failure): (&MessageId, &Failure)| {
            let is_old = failure.changed <= as_of && !filter.by_ids;
            (is_old && self.means(filter, tenant, *id, failure, false)).then_some(*id)
        };
        let expected = self.operations.failures.iter().filter_map(meant);
        let begun = Begun {
            tenant: tenant.clone(),
            kind,
            filter: filter.clone(),
            as_of,
            total,
            rate,
            pairs: BTreeMap::new(),
            expected: expected.collect(),
            taken: BTreeSet::new(),
            stopped: false,
            last_at: None,
            in_beat: 0,
        };
        self.operations.begun.insert(id, begun);
    }

    /// Whether a filter means this message, as far as records tell.
    fn means(
        &self,
        filter: &Filter,
        tenant: &TenantName,
        id: MessageId,
        failure: &Failure,
        if_unknown: bool,
    ) -> bool {
        let owner = self.centre.recipients.get(failure.recipient as usize);
        let Some((of, agent)) = owner.and_then(|owner| owner.name.as_ref()) else {
            return false;
        };
        let kind = self.operations.type_of.get(&id);
        let kind = kind.and_then(|kind| self.operations.types.get(*kind as usize));
        let wanted_kind = filter.kind.as_ref().map(|kind| kind.as_str());
        of == tenant
            && filter.states.contains(&Wanted::Ended(failure.end))
            && filter.agent.as_ref().is_none_or(|wanted| wanted == agent)
            && kind.map_or(wanted_kind.is_none() || if_unknown, |kind| {
                wanted_kind.is_none_or(|wanted| wanted == kind)
            })
            && filter
                .code
                .as_ref()
                .is_none_or(|code| *code == failure.code)
            && filter.since.is_none_or(|since| failure.at >= since)
            && filter.until.is_none_or(|until| failure.at < until)
            && filter
                .discarded
                .is_none_or(|away| away == failure.discarded)
    }

    /// Whether nothing that could speak of an operation was left out.
    fn judges_operations(&mut self) -> bool {
        match self.centre.coverage.doubt("the centre") {
            Some(why) => {
                self.tallies.open(Invariant::I24, why);
                false
            }
            None => true,
        }
    }

    pub(crate) fn operation_selected(
        &mut self,
        at: At,
        id: OperationId,
        pairs: &[(MessageId, u32)],
    ) {
        let judged = self.judges_operations();
        let Some(mut begun) = self.operations.begun.remove(&id) else {
            return;
        };
        for (message, generation) in pairs {
            begun.expected.remove(message);
            begun.pairs.insert(*message, *generation);
            let failure = self.operations.failures.get(message);
            // One that has changed since the filter looked cannot be judged, and is left alone.
            let failure = failure.filter(|failure| failure.changed <= begun.as_of);
            let is_other = failure.is_some_and(|failure| {
                let fits = self.means(&begun.filter, &begun.tenant, *message, failure, true);
                failure.generation != *generation || !fits
            });
            if judged && !begun.filter.by_ids {
                self.judge_here(Invariant::I24, at, !is_other, || {
                    let says = format!("operation {id} is about {message}, its filter is not");
                    (says, vec![*message])
                });
            }
        }
        let missed = begun.expected.first().copied();
        let is_whole = begun.pairs.len() == begun.total as usize;
        if judged && is_whole {
            self.judge_here(Invariant::I24, at, missed.is_none(), || {
                let missed: Vec<_> = missed.into_iter().collect();
                let says = format!("operation {id} leaves out {missed:?}, its filter does not");
                (says, missed)
            });
        }
        self.operations.begun.insert(id, begun);
    }

    /// A message begins another life.
    pub(crate) fn replayed(
        &mut self,
        at: At,
        before: Key,
        operation: Option<OperationId>,
        may_process_twice: bool,
    ) {
        let id = before.id;
        self.operations.failures.remove(&id);
        let life = self.lives.get(before).copied().unwrap_or_default();
        let floor = self.operations.floors.get(&life.recipient).copied();
        let is_below = life.seq > 0 && floor.is_some_and(|floor| life.seq < floor);
        self.judge_here(Invariant::I24, at, !is_below || may_process_twice, || {
            let (seq, floor) = (life.seq, floor.unwrap_or_default());
            let says = format!(
                "{id} had number {seq}, its agent remembers from {floor} on, and it is done once more although nobody allowed that"
            );
            (says, vec![id])
        });
        let Some(operation) = operation else {
            return;
        };
        self.operations.deeds.insert((operation, id));
        if !self.judges_operations() {
            return;
        }
        let begun = self.operations.begun.get(&operation);
        let is_named = begun.is_some_and(|begun| {
            begun.kind == OperationKind::Replay
                && begun.pairs.get(&id) == Some(&before.generation)
                && !begun.taken.contains(&id)
                && !begun.stopped
        });
        self.judge_here(Invariant::I24, at, is_named, || {
            let life = before.generation;
            let says = format!(
                "operation {operation} has {id} done once more after life {life}: that is no pair of it whose turn has come"
            );
            (says, vec![id])
        });
    }

    pub(crate) fn operation_did(&mut self, at: At, id: OperationId, message: MessageId, did: Did) {
        let was_done = self.operations.deeds.remove(&(id, message));
        let judged = self.judges_operations();
        let Some(begun) = self.operations.begun.get_mut(&id) else {
            return;
        };
        let pause = Duration::from_secs(1) * (begun.rate / 10).max(1) / begun.rate.max(1);
        let is_new = begun.taken.insert(message);
        let is_one = begun.pairs.contains_key(&message) && !begun.stopped;
        // A clock that was set back makes the next beat early.
        let is_early = begun
            .last_at
            .is_some_and(|last| at.time > last && at.time < last + pause);
        begun.in_beat = match begun.last_at == Some(at.time) {
            true => begun.in_beat + 1,
            false => 1,
        };
        begun.last_at = Some(at.time);
        let is_fast = is_early || begun.in_beat > (begun.rate / 10).max(1);
        let lies = begun.kind == OperationKind::Replay && (did == Did::Done) != was_done;
        if !judged {
            return;
        }
        let says = match (is_new, is_one) {
            (false, _) => Some("takes it twice"),
            (_, false) => Some("is not about it, or was stopped"),
            _ if is_fast => Some("takes it sooner than its rate allows"),
            _ if lies => Some("does not say what it did to it"),
            _ => None,
        };
        self.judge_here(Invariant::I24, at, says.is_none(), || {
            let says = says.unwrap_or_default();
            (format!("operation {id} {says}: {message}"), vec![message])
        });
    }

    pub(crate) fn operation_stopped(&mut self, id: OperationId) {
        if let Some(begun) = self.operations.begun.get_mut(&id) {
            begun.stopped = true;
        }
    }
}
