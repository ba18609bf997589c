//! The power goes, or the process dies, at every operation of a workload and of the recovery.

mod common;

use common::{Model, append, flush, open, small, try_open, work};
use countersign_journal::sim::{FaultCounts, Loss, Random, SimFiles};
use countersign_journal::verify;

const STEPS: u32 = 25;

/// Runs the workload on `files` until it is done or the machine stops.
fn run(files: &SimFiles, seed: u64) -> Model {
    let mut model = Model::new();
    let Ok((mut log, _)) = try_open(files, &small()) else {
        return model;
    };
    let done = work(&mut log, &mut model, &mut Random::new(seed), STEPS);
    assert!(
        done || files.is_stopped(),
        "only the stop interrupts the workload"
    );
    model
}

/// Opens, checks, works on, closes, and finds everything sound.
fn recover_and_go_on(files: &SimFiles, model: &mut Model, seed: u64) {
    let (mut log, recovered) = open(files, &small());
    model.check(&log, &recovered);
    assert!(work(&mut log, model, &mut Random::new(seed ^ 0xABCD), 4));
    assert!(flush(&mut log, model));
    log.close().expect("the store closes");
    let report = verify(files).expect("the store can be read");
    assert_eq!(report.damaged, []);
    assert_eq!(
        (report.torn_tail_bytes, report.last),
        (0, model.last_acknowledged())
    );
    let (log, recovered) = open(files, &small());
    model.check(&log, &recovered);
}

/// A crash after each operation of the workload, for one seed.
fn crash_everywhere(seed: u64, stale: bool, total: &mut FaultCounts) -> u64 {
    let mut point = 0;
    loop {
        let files = SimFiles::new(seed.wrapping_mul(1000) + point);
        files.set_stale_bytes(stale);
        files.stop_after(point);
        let mut model = run(&files, seed);
        if !files.is_stopped() {
            return point;
        }
        files.crash();
        // Once more, in the middle of the recovery.
        files.stop_after(Random::new(seed + point).below(16));
        drop(try_open(&files, &small()));
        files.crash();
        recover_and_go_on(&files, &mut model, seed);
        total.add(&files.counts());
        point += 1;
    }
}

#[test]
fn flushed_records_survive_a_crash_at_every_operation() {
    let (mut total, mut points) = (FaultCounts::default(), 0);
    for seed in 0..24 {
        println!("seed {seed}");
        points += crash_everywhere(seed, seed % 4 == 3, &mut total);
    }
    println!("{points} crash points, {total:?}");
    assert!(total.writes_lost > 0 && total.writes_torn > 0 && total.names_lost > 0);
    assert!(total.writes_reordered > 0);
}

#[test]
fn recovery_survives_a_crash_at_every_one_of_its_own_operations() {
    for seed in 100..110 {
        println!("seed {seed}");
        let files = SimFiles::new(seed);
        files.stop_after(20 + 9 * (seed - 100));
        let mut model = run(&files, seed);
        files.crash();
        for point in 0.. {
            let files = files.fork(seed * 1000 + point);
            files.stop_after(point);
            let opened = try_open(&files, &small()).is_ok();
            files.crash();
            recover_and_go_on(&files, &mut model.clone(), seed);
            if opened && !files.is_stopped() {
                break;
            }
            assert!(point < 100, "an open ends");
        }
        let (log, recovered) = open(&files, &small());
        model.check(&log, &recovered);
    }
}

#[test]
fn what_an_open_has_reported_survives_the_next_power_cut() {
    for seed in 200..260 {
        println!("seed {seed}");
        let files = SimFiles::new(seed);
        files.stop_after(15 + seed % 60);
        let mut model = run(&files, seed);
        // The process dies, the page cache lives: unflushed batches are read back whole.
        files.kill();
        let (log, recovered) = open(&files, &small());
        let last = model.check(&log, &recovered);
        files.crash_losing(Loss::Everything);
        let (log, recovered) = open(&files, &small());
        assert_eq!(model.check(&log, &recovered), last);
    }
}

#[test]
fn opening_twice_gives_the_same_store() {
    for seed in 300..330 {
        let files = SimFiles::new(seed);
        files.stop_after(30 + seed % 50);
        run(&files, seed);
        files.crash();
        let (log, first) = open(&files, &small());
        let records = common::read_all(&log, first.first);
        drop(log);
        let (log, second) = open(&files, &small());
        assert_eq!(common::read_all(&log, second.first), records, "seed {seed}");
        assert_eq!((second.next, second.epoch), (first.next, first.epoch));
        assert_eq!(
            (second.snapshot, second.torn_tail_bytes),
            (first.snapshot, 0)
        );
    }
}

#[test]
fn a_crash_in_the_middle_of_a_trim_leaves_no_hole() {
    for seed in 400..440 {
        let clean = SimFiles::new(seed);
        let (mut log, _) = open(&clean, &small());
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        for _ in 0..60 {
            assert!(append(&mut log, &mut model, &mut random) && flush(&mut log, &mut model));
        }
        let last = log.durable_position();
        for position in [last - 10, last] {
            log.write_snapshot(position, b"state")
                .expect("the disk is well");
            model.snapshots.push((position, b"state".to_vec()));
        }
        log.close().expect("the store closes");
        model.trimmed_below = last - 9;
        for point in 0.. {
            let files = clean.fork(seed * 100 + point);
            let (mut log, _) = open(&files, &small());
            files.stop_after(point);
            let trimmed = log.trim(last);
            drop(log);
            files.crash();
            let (log, recovered) = open(&files, &small());
            model.clone().check(&log, &recovered);
            if let Ok(removed) = trimmed {
                assert!(removed > 2);
                break;
            }
        }
    }
}

#[test]
fn a_segment_made_in_two_tries_on_a_full_disk_is_whole_after_a_power_cut() {
    let options = countersign_journal::Options {
        preallocation: countersign_journal::Preallocation::Reserve,
        segment_bytes: 1 << 20,
        ..small()
    };
    for seed in 0..400 {
        let files = SimFiles::new(seed);
        let (log, _) = open(&files, &options);
        log.close().expect("the store closes");
        // Room for less than a whole segment: the first tries fail.
        files.set_capacity(Some(files.used_bytes() + (200 << 10)));
        files.stop_after(seed % 24);
        drop(try_open(&files, &options));
        files.crash();
        files.set_capacity(None);
        let (_, recovered) = open(&files, &options);
        assert_eq!(recovered.damaged, [], "seed {seed}");
        assert!(!recovered.epoch_changed, "seed {seed}");
    }
}
