//! Each planted defect is caught: a checker that finds nothing wrong with it would prove nothing.
#![cfg(feature = "planted-bugs")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Model, append, flush, open, read_all, small, try_open, work};
use countersign_journal::sim::{Fault, Kind, Random, SimFiles};
use countersign_journal::{Options, Planted};

fn planted(planted: Option<Planted>) -> Options {
    Options { planted, ..small() }
}

/// How many of `seeds` fail a scenario.
fn failures(seeds: u64, scenario: impl Fn(u64)) -> usize {
    let fails = |seed: &u64| catch_unwind(AssertUnwindSafe(|| scenario(*seed))).is_err();
    (0..seeds).filter(fails).count()
}

/// The scenario must pass without the defect and fail with it.
fn caught(defect: Planted, scenario: impl Fn(u64, &Options)) {
    assert_eq!(
        failures(20, |seed| scenario(seed, &planted(None))),
        0,
        "sound without a defect"
    );
    let caught = failures(20, |seed| scenario(seed, &planted(Some(defect))));
    println!("{defect:?}: caught by {caught} of 20 seeds");
    assert!(caught > 0, "{defect:?} was not caught");
}

#[test]
fn an_answer_before_the_flush_is_caught() {
    caught(Planted::AnswerBeforeFlush, |seed, options| {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, options);
        let mut model = Model::new();
        work(&mut log, &mut model, &mut Random::new(seed), 10);
        files.crash();
        let (log, recovered) = open(&files, options);
        model.check(&log, &recovered);
    });
}

#[test]
fn a_read_that_skips_checksums_is_caught() {
    caught(Planted::SkipChecksums, |seed, options| {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, options);
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        assert!(append(&mut log, &mut model, &mut random) && flush(&mut log, &mut model));
        let segment = log.segments()[0].clone();
        files.flip_bit(&segment.name, segment.bytes - 60, 1);
        for (position, payload) in &model.acknowledged {
            let read = log.reader().read(*position);
            assert!(
                read.is_err() || read.is_ok_and(|read| read == payload),
                "served wrong"
            );
        }
    });
}

#[test]
fn a_cut_at_damage_in_the_middle_is_caught() {
    caught(Planted::CutAtDamage, |seed, options| {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, options);
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        for _ in 0..4 {
            assert!(append(&mut log, &mut model, &mut random) && flush(&mut log, &mut model));
        }
        let name = log.segments().last().expect("there is one").name.clone();
        drop(log);
        files.flip_bit(&name, 4096 + 70, 1);
        let (_, recovered) = open(&files, options);
        assert_eq!(
            recovered.next,
            model.last_acknowledged() + 1,
            "what follows was cut"
        );
    });
}

#[test]
fn a_failed_flush_that_is_tried_again_is_caught() {
    caught(Planted::RetryFailedFlush, |seed, options| {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, options);
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        assert!(append(&mut log, &mut model, &mut random));
        files.fail_nth(Kind::Sync, 1, Fault::Error);
        flush(&mut log, &mut model);
        files.crash();
        let Ok((log, recovered)) = try_open(&files, options) else {
            panic!("the store opens");
        };
        model.check(&log, &recovered);
        read_all(&log, 1);
    });
}
