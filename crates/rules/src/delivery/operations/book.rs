//! The operations that are remembered, and what records change of them.

use super::{Did, Filter, ItemView, OperationId, OperationKind, OperationView, beat};
use crate::delivery::record::Record;
use crate::limits::{OPERATION_PAIRS_REMEMBERED_MAX, OPERATIONS_MAX};
use crate::machine::Position;
use crate::message::{MessageId, TenantName};
use crate::time::Timestamp;
use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Every operation that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::delivery) struct Book {
    operations: BTreeMap<OperationId, Operation>,
    /// How many were ever begun: the order in which they were.
    begun: u64,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Operation {
    number: u64,
    pub(super) tenant: TenantName,
    pub(super) kind: OperationKind,
    pub(super) filter: Filter,
    pub(super) as_of: Position,
    pub(super) rate: u32,
    pub(super) may_process_twice: bool,
    pub(super) reason: String,
    pub(super) by: String,
    pub(super) begun_at: Timestamp,
    /// How many pairs it had when it was accepted.
    pub(super) total: u32,
    pairs: Vec<Pair>,
    /// The first pair whose turn has not come.
    next: u32,
    counts: BTreeMap<Did, u32>,
    /// When the last pair was taken.
    last_at: Option<Timestamp>,
    stopped: Option<(Timestamp, String)>,
    is_forgotten: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pair {
    id: MessageId,
    generation: u16,
    did: Option<Did>,
}

impl Operation {
    fn is_running(&self) -> bool {
        self.stopped.is_none() && !self.is_forgotten && (self.next as usize) < self.pairs.len()
    }

    /// When its next pairs are taken.
    fn due(&self) -> Timestamp {
        let (_, pause) = beat(self.rate);
        self.last_at.map_or(self.begun_at, |last| last + pause)
    }

    /// Whether the next pairs are due. A pause longer than it ever is shows that the clock was set
    /// back since (I21).
    fn is_due(&self, now: Timestamp) -> bool {
        let (_, pause) = beat(self.rate);
        let due = self.due();
        due <= now || due > now + pause
    }

    /// Those whose turn comes now.
    pub(super) fn taken_now(&self) -> Vec<(MessageId, u32)> {
        let (burst, _) = beat(self.rate);
        let waiting = self.pairs.iter().skip(self.next as usize);
        let now = waiting.take(burst as usize);
        now.map(|pair| (pair.id, u32::from(pair.generation)))
            .collect()
    }

    fn ended_at(&self) -> Option<Timestamp> {
        match &self.stopped {
            Some((at, _)) => Some(*at),
            None if self.is_running() => None,
            None => Some(self.last_at.unwrap_or(self.begun_at)),
        }
    }

    fn view(&self, id: OperationId, results: impl Iterator<Item = Pair>) -> OperationView {
        OperationView {
            id,
            kind: self.kind,
            filter: self.filter.clone(),
            as_of: self.as_of,
            rate: self.rate,
            may_process_twice: self.may_process_twice,
            reason: self.reason.clone(),
            by: self.by.clone(),
            begun_at: self.begun_at,
            ended_at: self.ended_at(),
            stopped_by: self.stopped.as_ref().map(|(_, by)| by.clone()),
            matched: self.total,
            counts: self
                .counts
                .iter()
                .map(|(did, count)| (*did, *count))
                .collect(),
            lost: match self.is_forgotten {
                true => 0,
                false => self.total.saturating_sub(self.pairs.len() as u32),
            },
            results: results
                .map(|pair| ItemView {
                    id: pair.id,
                    generation: pair.generation.into(),
                    did: pair.did,
                })
                .collect(),
            results_forgotten: self.is_forgotten,
            repeated: false,
        }
    }
}

/// Questions.
impl Book {
    pub(super) fn get(&self, id: OperationId) -> Option<&Operation> {
        self.operations.get(&id)
    }

    pub(in crate::delivery) fn running(&self) -> usize {
        let all = self.operations.values();
        all.filter(|operation| operation.is_running()).count()
    }

    /// Pairs that running operations hold: they cannot be forgotten.
    pub(super) fn pairs_running(&self) -> usize {
        let running = self.operations.values().filter(|one| one.is_running());
        running.map(|operation| operation.pairs.len()).sum()
    }

    pub(super) fn first_due(&self, now: Timestamp) -> Option<OperationId> {
        let running = self.operations.iter().filter(|(_, one)| one.is_running());
        let due = running.filter(|(_, operation)| operation.is_due(now));
        due.min_by_key(|(_, operation)| operation.due())
            .map(|(id, _)| *id)
    }

    pub(in crate::delivery) fn next_due(&self) -> Option<Timestamp> {
        let running = self.operations.values().filter(|one| one.is_running());
        running.map(Operation::due).min()
    }

    pub(super) fn is_running(&self, id: OperationId) -> bool {
        self.get(id).is_some_and(Operation::is_running)
    }

    /// An operation of `tenant`, with `count` results behind the first `after`.
    pub(super) fn view(
        &self,
        tenant: &TenantName,
        id: OperationId,
        (after, count): (usize, usize),
    ) -> Option<OperationView> {
        let operation = self.get(id).filter(|one| one.tenant == *tenant)?;
        let results = operation.pairs.iter().copied().skip(after).take(count);
        Some(operation.view(id, results))
    }

    /// The operations of `tenant`, the newest first, without results.
    pub(super) fn views(&self, tenant: &TenantName) -> Vec<OperationView> {
        let theirs = self
            .operations
            .iter()
            .filter(|(_, one)| one.tenant == *tenant);
        let mut theirs: Vec<_> = theirs.collect();
        theirs.sort_by_key(|(_, operation)| core::cmp::Reverse(operation.number));
        let views = theirs.into_iter();
        views
            .map(|(id, operation)| operation.view(*id, core::iter::empty()))
            .collect()
    }
}

/// What is recorded when an operation begins.
struct Begun<'a> {
    at: Timestamp,
    tenant: &'a TenantName,
    kind: OperationKind,
    filter: &'a Filter,
    as_of: Position,
    total: u32,
    rate: u32,
    may_process_twice: bool,
    reason: &'a str,
    by: &'a str,
}

impl Book {
    /// What a record about operations changes.
    pub(in crate::delivery) fn apply(&mut self, record: &Record<'_>) {
        match record {
            Record::OperationBegun {
                at,
                operation,
                tenant,
                kind,
                filter,
                as_of,
                total,
                rate,
                may_process_twice,
                reason,
                by,
            } => {
                let begun = Begun {
                    at: *at,
                    tenant,
                    kind: *kind,
                    filter,
                    as_of: *as_of,
                    total: *total,
                    rate: *rate,
                    may_process_twice: *may_process_twice,
                    reason,
                    by,
                };
                self.begin(*operation, &begun);
            }
            Record::OperationSelected {
                operation, pairs, ..
            } => self.select(*operation, pairs),
            Record::OperationDid {
                at,
                operation,
                id,
                did,
            } => self.did(*operation, *id, *did, *at),
            Record::OperationStopped { at, operation, by } => {
                self.stop(*operation, by, *at);
            }
            _ => {}
        }
    }
}

/// What records change. One whose operation is not known any more, because the record that began it
/// is damaged, changes nothing.
impl Book {
    fn begin(&mut self, id: OperationId, begun: &Begun<'_>) {
        self.make_room(begun.total as usize);
        self.begun += 1;
        let operation = Operation {
            number: self.begun,
            tenant: begun.tenant.clone(),
            kind: begun.kind,
            filter: begun.filter.clone(),
            as_of: begun.as_of,
            rate: begun.rate,
            may_process_twice: begun.may_process_twice,
            reason: begun.reason.to_owned(),
            by: begun.by.to_owned(),
            begun_at: begun.at,
            total: begun.total,
            pairs: Vec::new(),
            next: 0,
            counts: BTreeMap::new(),
            last_at: None,
            stopped: None,
            is_forgotten: false,
        };
        self.operations.insert(id, operation);
    }

    fn select(&mut self, id: OperationId, pairs: &[(MessageId, u32)]) {
        if let Some(operation) = self.operations.get_mut(&id) {
            let pairs = pairs.iter().map(|(id, generation)| Pair {
                id: *id,
                generation: u16::try_from(*generation).unwrap_or(u16::MAX),
                did: None,
            });
            operation.pairs.extend(pairs);
        }
    }

    fn did(&mut self, id: OperationId, message: MessageId, did: Did, at: Timestamp) {
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        operation.last_at = Some(at);
        // Records between may be damaged: what they said of other pairs is not known.
        let mut waiting = operation.pairs.iter_mut().skip(operation.next as usize);
        if let Some(place) = waiting.position(|pair| pair.id == message) {
            operation.next += place as u32;
            operation.pairs[operation.next as usize].did = Some(did);
            operation.next += 1;
            *operation.counts.entry(did).or_default() += 1;
        }
    }

    fn stop(&mut self, id: OperationId, by: &str, at: Timestamp) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.stopped = Some((at, by.to_owned()));
        }
    }

    /// What a planted defect does: the pair taken last is taken again.
    pub(in crate::delivery) fn go_back(&mut self) {
        for operation in self.operations.values_mut() {
            operation.next = operation.next.saturating_sub(1);
        }
    }

    /// Forgets operations, and the results of large ones, so that another one has room: those first
    /// that were begun first and go on no more.
    fn make_room(&mut self, pairs: usize) {
        let mut ended: Vec<_> = self.operations.iter().collect();
        ended.retain(|(_, operation)| !operation.is_running());
        ended.sort_by_key(|(_, operation)| operation.number);
        let ended: Vec<_> = ended.into_iter().map(|(id, _)| *id).collect();
        let many = (self.operations.len() + 1).saturating_sub(OPERATIONS_MAX);
        for id in ended.iter().take(many) {
            self.operations.remove(id);
        }
        let held = self.operations.values().map(|one| one.pairs.len());
        let mut held = held.sum::<usize>() + pairs;
        for id in &ended {
            if held <= OPERATION_PAIRS_REMEMBERED_MAX {
                break;
            }
            if let Some(operation) = self.operations.get_mut(id) {
                held -= operation.pairs.len();
                operation.is_forgotten |= !operation.pairs.is_empty();
                operation.pairs = Vec::new();
            }
        }
    }
}
