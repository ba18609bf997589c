//! What operations must not do.

use super::*;
use countersign_rules::delivery::{Did, Filter, OperationId, OperationKind, dead_letters};

const OPERATION: OperationId = OperationId(MessageId([99; 16]));

impl Told {
    /// Messages with these numbers end dead.
    fn die(&mut self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            self.accept(number, u64::from(number));
            self.end(number, End::Dead);
        }
    }

    /// Without a word of its site.
    fn end(&mut self, number: u8, end: End) {
        self.about(number, |previous| Record::Settled {
            at: at(40),
            id: id(number),
            end,
            attempt: 0,
            occurred_at: at(40),
            outcome: Outcome::default(),
            duration_ms: 0,
            previous,
        });
    }

    /// A replay of all dead letters begins, and is about these.
    fn operate(&mut self, rate: u32, numbers: &[u8]) {
        let as_of = self.centre;
        self.centre(&Record::OperationBegun {
            at: at(50),
            operation: OPERATION,
            tenant: tenant(),
            kind: OperationKind::Replay,
            filter: Filter {
                states: dead_letters(),
                ..Filter::default()
            },
            as_of,
            total: numbers.len() as u32,
            rate,
            may_process_twice: false,
            reason: "",
            by: "x",
        });
        self.centre(&Record::OperationSelected {
            at: at(50),
            operation: OPERATION,
            pairs: numbers.iter().map(|number| (id(*number), 1)).collect(),
        });
    }

    fn replay(&mut self, number: u8, operation: Option<OperationId>) {
        self.about(number, |previous| Record::Reprocessed {
            at: at(50),
            id: id(number),
            generation: 2,
            seq: 100 + u64::from(number),
            by: "x",
            operation,
            may_process_twice: false,
            previous,
        });
    }

    fn did(&mut self, second: i64, number: u8, did: Did) {
        self.centre(&Record::OperationDid {
            at: at(second),
            operation: OPERATION,
            id: id(number),
            did,
        });
    }
}

#[test]
fn an_operation_that_does_what_its_filter_names_is_sound() {
    let mut told = Told::new();
    told.die([1, 2]);
    told.operate(1, &[1, 2]);
    told.replay(1, Some(OPERATION));
    told.did(50, 1, Did::Done);
    told.did(51, 2, Did::Changed);
    let report = told.finish();
    assert!(
        report.judged.iter().all(|judged| judged.broken == 0),
        "{report:?}"
    );
}

#[test]
fn an_operation_about_more_or_less_than_its_filter_is_found() {
    let mut told = Told::new();
    told.die([1, 2]);
    told.operate(10, &[1]);
    told.breaks(Invariant::I24, &[2]);

    let mut told = Told::new();
    told.die([1]);
    told.accept(3, 3);
    told.end(3, End::Cancelled);
    told.operate(10, &[1, 3]);
    told.breaks(Invariant::I24, &[3]);
}

#[test]
fn a_pair_that_no_operation_named_or_that_is_taken_twice_is_found() {
    let mut told = Told::new();
    told.die([1, 2]);
    told.operate(10, &[1, 2]);
    told.accept(3, 3);
    told.end(3, End::Dead);
    told.replay(3, Some(OPERATION));
    told.breaks(Invariant::I24, &[3]);

    let mut told = Told::new();
    told.die([1]);
    told.operate(10, &[1]);
    told.did(50, 1, Did::NotEnded);
    told.did(52, 1, Did::NotEnded);
    told.breaks(Invariant::I24, &[1]);
}

#[test]
fn an_operation_that_is_faster_than_its_rate_or_says_what_it_did_not_do_is_found() {
    let mut told = Told::new();
    told.die([1, 2]);
    told.operate(1, &[1, 2]);
    told.did(50, 1, Did::NotEnded);
    told.did(50, 2, Did::NotEnded);
    told.breaks(Invariant::I24, &[2]);

    let mut told = Told::new();
    told.die([1]);
    told.operate(1, &[1]);
    told.did(50, 1, Did::Done);
    told.breaks(Invariant::I24, &[1]);
}

#[test]
fn what_its_agent_no_longer_remembers_and_is_done_once_more_unasked_is_found() {
    let mut told = Told::new();
    told.die([1]);
    told.centre(&Record::Ready {
        at: at(45),
        recipient: 0,
        term: 1,
        agent_epoch: 1,
        floor: 2,
        cursor: 1,
    });
    told.replay(1, None);
    told.breaks(Invariant::I24, &[1]);
}
