//! Beginning, going on, stopping: what is decided, and written down.

use super::{Did, OperationId, OperationKind, OperationView, Order, is_dead_letter};
use crate::delivery::record::Record;
use crate::delivery::{Centre, Effect, Refusal};
use crate::limits::{
    OPERATION_PAIRS_MAX, OPERATION_PAIRS_REMEMBERED_MAX, OPERATION_RATE_MAX, OPERATIONS_RUNNING_MAX,
};
use crate::machine::Out;
use crate::message::{MessageId, TenantName};
use crate::planted::Planted;
use crate::time::Timestamp;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Pairs to a record.
const PAIRS_TO_A_RECORD: usize = 4096;

impl Centre {
    /// Accepts an operation, with all that it is about, and takes its first messages.
    pub(in crate::delivery) fn begin_operation(
        &mut self,
        order: &Order,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<OperationView, Refusal> {
        if let Some(known) = self.state.operations.get(order.id) {
            let view = self.state.operations.view(&order.tenant, order.id, (0, 0));
            let view = view.filter(|_| known.kind == order.kind && known.filter == order.filter);
            let view = view.ok_or(Refusal::OperationIdTaken { id: order.id })?;
            let repeated = true;
            return Ok(OperationView { repeated, ..view });
        }
        let pairs = self.pairs_of(order)?;
        let record = Record::OperationBegun {
            at: now,
            operation: order.id,
            tenant: order.tenant.clone(),
            kind: order.kind,
            filter: order.filter.clone(),
            as_of: order.as_of.min(out.next_position() - 1),
            total: pairs.len() as u32,
            rate: order.rate.clamp(1, OPERATION_RATE_MAX),
            may_process_twice: order.may_process_twice,
            reason: &order.reason,
            by: &order.by,
        };
        self.write(&record, out);
        for pairs in pairs.chunks(PAIRS_TO_A_RECORD) {
            let record = Record::OperationSelected {
                at: now,
                operation: order.id,
                pairs: pairs.to_vec(),
            };
            self.write(&record, out);
        }
        self.go_on_with(order.id, now, out);
        let view = self.state.operations.view(&order.tenant, order.id, (0, 0));
        Ok(view.expect("it was begun a moment ago"))
    }

    /// The pairs of an order, each once, in its order.
    fn pairs_of(&self, order: &Order) -> Result<Vec<(MessageId, u32)>, Refusal> {
        let mut seen = BTreeSet::new();
        let pairs = order.pairs.iter().filter(|(id, _)| seen.insert(*id));
        let pairs: Vec<_> = pairs.copied().collect();
        if pairs.len() > OPERATION_PAIRS_MAX {
            let count = pairs.len();
            return Err(Refusal::OperationTooLarge { count });
        }
        let book = &self.state.operations;
        let has_room = book.pairs_running() + pairs.len() <= OPERATION_PAIRS_REMEMBERED_MAX;
        match book.running() {
            running if running >= OPERATIONS_RUNNING_MAX || !has_room => {
                Err(Refusal::TooManyOperations { running })
            }
            _ => Ok(pairs),
        }
    }

    /// Nothing more of it is done. What is done stays.
    pub(in crate::delivery) fn stop_operation(
        &mut self,
        tenant: &TenantName,
        id: OperationId,
        by: &str,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Result<OperationView, Refusal> {
        let known = self.state.operations.view(tenant, id, (0, 0));
        let known = known.ok_or(Refusal::UnknownOperation { id })?;
        if !known.is_running() {
            return Ok(known);
        }
        let record = Record::OperationStopped {
            at: now,
            operation: id,
            by,
        };
        self.write(&record, out);
        let view = self.state.operations.view(tenant, id, (0, 0));
        view.ok_or(Refusal::UnknownOperation { id })
    }

    pub(in crate::delivery) fn look_at_operation(
        &self,
        tenant: &TenantName,
        id: OperationId,
        results: (usize, usize),
    ) -> Option<OperationView> {
        self.state.operations.view(tenant, id, results)
    }

    pub(in crate::delivery) fn list_operations(&self, tenant: &TenantName) -> Vec<OperationView> {
        self.state.operations.views(tenant)
    }

    /// Goes on with the operation that has waited longest for its turn. Others follow at once: one
    /// step stays short.
    pub(in crate::delivery) fn operate_due(&mut self, now: Timestamp, out: &mut Out<Self>) {
        if let Some(id) = self.state.operations.first_due(now) {
            self.go_on_with(id, now, out);
        }
    }

    /// Takes as many messages as one beat allows.
    fn go_on_with(&mut self, id: OperationId, now: Timestamp, out: &mut Out<Self>) {
        let Some(operation) = self.state.operations.get(id) else {
            return;
        };
        if !self.state.operations.is_running(id) {
            return;
        }
        let (kind, tenant) = (operation.kind, operation.tenant.clone());
        let (by, reason) = (operation.by.clone(), operation.reason.clone());
        let twice = operation.may_process_twice;
        for (message, generation) in operation.taken_now() {
            let deed = Deed {
                operation: id,
                tenant: &tenant,
                kind,
                twice,
                by: &by,
                reason: &reason,
            };
            let did = self.do_one(&deed, message, generation, now, out);
            let record = Record::OperationDid {
                at: now,
                operation: id,
                id: message,
                did,
            };
            self.write(&record, out);
        }
    }

    fn do_one(
        &mut self,
        deed: &Deed<'_>,
        id: MessageId,
        generation: u32,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Did {
        let mut id = id;
        let planted = self.policy.planted;
        if planted.is(Planted::ReplayNeighbour)
            && let Some(neighbour) = self.state.another_failure(id)
        {
            id = neighbour;
        }
        let Some(message) = self.known(id, out) else {
            return Did::Unknown;
        };
        if self.state.queue(message.recipient).tenant != *deed.tenant {
            return Did::Unknown;
        }
        let may_differ = planted.is(Planted::ReplayNeighbour) || planted.is(Planted::RepeatReplay);
        if u32::from(message.generation) != generation && !may_differ {
            return Did::Changed;
        }
        let result = match deed.kind {
            OperationKind::Replay => {
                let from = Some(deed.operation);
                self.reprocess(deed.tenant, id, deed.by, deed.twice, from, now, out)
            }
            OperationKind::Cancel => self.cancel(deed.tenant, id, deed.by, now, out),
            OperationKind::Discard => return self.put_away(deed, id, true, now, out),
            OperationKind::Restore => return self.put_away(deed, id, false, now, out),
        };
        match result {
            Ok(()) => Did::Done,
            Err(Refusal::UnknownMessage { .. }) => Did::Unknown,
            Err(Refusal::NotEnded { .. }) => Did::NotEnded,
            Err(Refusal::BelowFloor { .. }) => Did::BelowFloor,
            Err(_) if deed.kind == OperationKind::Replay => Did::TooManyLives,
            Err(_) => Did::TooLate,
        }
    }

    /// Puts a dead letter away, or takes it back.
    fn put_away(
        &mut self,
        deed: &Deed<'_>,
        id: MessageId,
        away: bool,
        now: Timestamp,
        out: &mut Out<Self>,
    ) -> Did {
        let Some(message) = self.known(id, out) else {
            return Did::Unknown;
        };
        if !message.end().is_some_and(is_dead_letter) {
            return Did::NotDead;
        }
        if message.is_discarded() == away {
            return Did::Already;
        }
        self.recall(id, now, out);
        let (operation, by, previous) = (deed.operation, deed.by, message.last);
        let record = match away {
            true => Record::Discarded {
                at: now,
                id,
                operation,
                reason: deed.reason,
                by,
                previous,
            },
            false => Record::Restored {
                at: now,
                id,
                operation,
                by,
                previous,
            },
        };
        self.write(&record, out);
        out.effect(Effect::Changed { id });
        Did::Done
    }
}

/// What is done to each message.
struct Deed<'a> {
    operation: OperationId,
    tenant: &'a TenantName,
    kind: OperationKind,
    twice: bool,
    by: &'a str,
    reason: &'a str,
}
