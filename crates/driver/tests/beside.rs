//! A machine that keeps something beside the journal: it gets back what it lost there; when it
//! cannot read it, the loop ends, and nothing that rests on it is answered or kept.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test itself"
)]

use countersign_driver::journal::{self, NewStore, RealFiles};
use countersign_driver::{
    AskError, Bodies, OpenError, Opened, Options, Outlet, Service, StopReason, Waiting, open,
    open_with,
};
use countersign_rules::machine::{Machine, Out, Start};
use countersign_rules::record::RecordError;
use countersign_rules::{Position, Timestamp};
use std::path::Path;

/// Writes each number down and answers it; fails at 13.
#[derive(Debug, Default)]
struct Numbers {
    written: Vec<u64>,
    lacks: Vec<Position>,
    supplied: Vec<u64>,
}

impl Machine for Numbers {
    type Input = u64;
    type Effect = ();
    type Reply = u64;
    type Image = Vec<u8>;

    fn step(&mut self, number: u64, _now: Timestamp, out: &mut Out<Self>) {
        out.record(&number);
        if number == 13 {
            out.fail("13 cannot be read".to_owned());
        }
        out.reply(number);
    }

    fn grows(_input: &u64) -> bool {
        false
    }

    fn deadline(&mut self, _now: Timestamp, _out: &mut Out<Self>) {}

    fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    fn restore(&mut self, _position: Position, record: &[u8]) -> Result<(), RecordError> {
        self.written
            .push(countersign_rules::record::decode(record)?);
        Ok(())
    }

    fn lacking(&mut self) -> Result<Vec<Position>, String> {
        Ok(self.lacks.clone())
    }

    fn supply(&mut self, record: &[u8]) -> Result<(), RecordError> {
        let number = countersign_rules::record::decode(record)?;
        self.supplied.push(number);
        Ok(())
    }

    fn started(&mut self, _start: Start, _now: Timestamp, _out: &mut Out<Self>) {}

    fn image(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&mut self, _image: &[u8]) -> Result<(), RecordError> {
        Ok(())
    }

    fn oldest_needed(&self) -> Position {
        1
    }

    fn release(&mut self, _before: Position, _bytes_max: u64, _out: &mut Out<Self>) {}

    fn mark(&mut self, _now: Timestamp, _out: &mut Out<Self>) {}
}

struct Nothing;

impl Outlet<Numbers> for Nothing {
    fn carry_out(&mut self, _effect: (), _bodies: &Bodies) -> Option<u64> {
        None
    }
}

const NEW: NewStore = NewStore {
    store_id: [1; 16],
    epoch: 1,
};

fn opened(directory: &Path) -> Opened<Numbers, RealFiles, Waiting<Numbers>> {
    let files = RealFiles::new(directory).unwrap();
    open(Numbers::default(), files, journal::Options::default(), NEW).unwrap()
}

#[tokio::test]
async fn nothing_that_rests_on_what_cannot_be_read_is_answered_or_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut service = Service::start(opened(home.path()), Nothing, Options::default()).unwrap();
    let handle = service.handle();
    assert_eq!(handle.ask(1).await, Ok(1));
    let (failed, behind) = tokio::join!(handle.ask(13), handle.ask(14));
    assert_eq!(failed, Err(AskError::Stopped));
    assert_eq!(behind, Err(AskError::Stopped));
    let why = StopReason::MachineFailed("13 cannot be read".to_owned());
    assert_eq!(service.ended().await, why);
    assert_eq!(opened(home.path()).engine.machine().written, [1]);
}

#[tokio::test]
async fn what_was_lost_beside_the_journal_is_read_again_from_it() {
    let home = tempfile::tempdir().unwrap();
    let mut service = Service::start(opened(home.path()), Nothing, Options::default()).unwrap();
    let handle = service.handle();
    for number in 1..=5 {
        handle.ask(number).await.unwrap();
    }
    service.stop();
    service.ended().await;
    let lacking = Numbers {
        lacks: vec![4, 2],
        ..Numbers::default()
    };
    let files = RealFiles::new(home.path()).unwrap();
    let opened = open::<_, _, ()>(lacking, files, journal::Options::default(), NEW).unwrap();
    assert_eq!(opened.engine.machine().supplied, [4, 2]);
}

#[test]
fn a_machine_is_made_only_once_the_store_is_locked() {
    let home = tempfile::tempdir().unwrap();
    let _first = opened(home.path());
    let files = RealFiles::new(home.path()).unwrap();
    let make = || -> Result<Numbers, String> { panic!("another process has the store") };
    let refused = open_with::<_, _, ()>(make, files, journal::Options::default(), NEW);
    assert!(matches!(refused.err(), Some(OpenError::Journal(_))));
}
