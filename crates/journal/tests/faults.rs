//! Full disks, failed flushes and failing reads.

mod common;

use common::{Model, append, flush, open, read_all, small, try_open, work};
use countersign_journal::sim::{Fault, FaultRates, Kind, Random, SimFiles};
use countersign_journal::{
    AppendError, Batch, Log, OpenError, Options, ReadError, SnapshotError, verify,
};

fn batch(log: &Log<SimFiles>, bytes: usize) -> Batch {
    Batch::from_payloads(log.next_position(), [vec![b'x'; bytes]])
}

#[test]
fn a_failed_flush_ends_the_log_for_good() {
    let files = SimFiles::new(1);
    let (mut log, _) = open(&files, &small());
    log.append(&batch(&log, 100)).expect("there is room");
    log.flush().expect("the disk is well");
    log.append(&batch(&log, 100)).expect("there is room");
    files.fail_nth(Kind::Sync, 1, Fault::Error);
    let failed = log.flush().expect_err("the sync failed");
    // The disk is well again, the log is not.
    assert_eq!(
        log.flush().expect_err("still").to_string(),
        failed.to_string()
    );
    assert!(matches!(
        log.append(&batch(&log, 1)),
        Err(AppendError::Failed(_))
    ));
    assert!(matches!(log.reader().read(2), Err(ReadError::NotFound(2))));
    assert_eq!(log.durable_position(), 1);
    assert_eq!(log.reader().read(1).expect("reads go on").len(), 100);
    log.close().expect_err("it cannot be closed cleanly");
}

#[test]
fn a_failed_sync_is_found_out_by_recovery_and_nothing_acknowledged_is_lost() {
    for seed in 0..100 {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, &small());
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        files.fail_nth(Kind::Sync, 5 + seed % 20, Fault::Error);
        work(&mut log, &mut model, &mut random, 40);
        drop(log);
        files.crash();
        let (log, recovered) = open(&files, &small());
        model.check(&log, &recovered);
    }
}

#[test]
fn what_recovery_kept_after_a_failed_sync_survives_the_next_power_cut() {
    for seed in 0..100 {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, &small());
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        files.fail_nth(Kind::Sync, 5 + seed % 20, Fault::Error);
        work(&mut log, &mut model, &mut random, 40);
        drop(log);
        // The process ends and the machine stays up: memory still holds what the disk does not.
        files.kill();
        let (log, recovered) = open(&files, &small());
        model.check(&log, &recovered);
        let kept = read_all(&log, recovered.first);
        drop(log);
        files.crash();
        let (log, recovered) = open(&files, &small());
        assert_eq!(read_all(&log, recovered.first), kept, "seed {seed}");
    }
}

#[test]
fn errors_of_every_kind_at_random_lose_nothing_acknowledged() {
    let rates = FaultRates {
        read_errors: 0,
        write_errors: 20_000,
        sync_errors: 20_000,
    };
    let mut total = countersign_journal::sim::FaultCounts::default();
    for seed in 0..200 {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, &small());
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        files.set_rates(rates);
        work(&mut log, &mut model, &mut random, 40);
        files.set_rates(FaultRates::default());
        drop(log);
        if seed % 2 == 0 {
            files.crash()
        } else {
            files.kill()
        }
        let (mut log, recovered) = open(&files, &small());
        model.check(&log, &recovered);
        assert!(append(&mut log, &mut model, &mut random) && flush(&mut log, &mut model));
        total.add(&files.counts());
    }
    println!("{total:?}");
    assert!(total.errors > 0 && total.syncs_failed > 0);
}

#[test]
fn a_full_disk_refuses_batches_and_takes_them_once_there_is_space() {
    for preallocation in [
        countersign_journal::Preallocation::Grow,
        countersign_journal::Preallocation::Reserve,
    ] {
        let options = Options {
            preallocation,
            ..small()
        };
        let files = SimFiles::new(3);
        let (mut log, _) = open(&files, &options);
        files.set_capacity(Some(files.used_bytes() + 20_000));
        let mut accepted = 0;
        let refused = loop {
            match log.append(&batch(&log, 700)) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
            log.flush().expect("the disk is well");
        };
        assert!(matches!(refused, AppendError::NoSpace), "{refused}");
        assert!(accepted > 10);
        assert_eq!(log.next_position(), accepted + 1);
        for position in 1..=accepted {
            log.reader().read(position).expect("reads go on");
        }
        assert!(matches!(
            log.append(&batch(&log, 5000)),
            Err(AppendError::NoSpace)
        ));
        log.flush().expect("a refused batch is no failure");
        files.set_capacity(None);
        for _ in 0..20 {
            log.append(&batch(&log, 300)).expect("there is room again");
            log.flush().expect("the disk is well");
        }
        files.crash();
        let (log, recovered) = open(&files, &options);
        assert_eq!((recovered.next, recovered.damaged), (accepted + 21, vec![]));
        let lengths: Vec<_> = read_all(&log, 1).values().map(Vec::len).collect();
        assert_eq!(lengths[accepted as usize - 1..][..2], [700, 300]);
    }
}

#[test]
fn what_a_refused_batch_left_behind_is_never_seen() {
    for seed in 0..150 {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, &small());
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        for _ in 0..12 {
            let kinds = [
                Kind::Write,
                Kind::Write,
                Kind::Write,
                Kind::Allocate,
                Kind::Name,
            ];
            let kind = kinds[random.below(5) as usize];
            files.fail_nth(kind, 1 + random.below(4), Fault::Full);
            if !work(&mut log, &mut model, &mut random, 3) {
                break; // a full disk while writing a snapshot ends the script, not the store
            }
        }
        drop(log);
        if seed % 2 == 0 {
            files.crash()
        } else {
            files.kill()
        }
        let (log, recovered) = open(&files, &small());
        model.check(&log, &recovered);
        drop(log);
        assert!(verify(&files).expect("the store can be read").is_sound());
    }
}

#[test]
fn the_reserve_is_noticed_when_it_is_reached_and_when_it_is_free_again() {
    let files = SimFiles::new(4);
    let options = Options {
        reserve_bytes: 50_000,
        ..small()
    };
    let (log, _) = open(&files, &options);
    let space = log.space();
    assert!(log.above_reserve() && space.above_reserve());
    files.set_capacity(Some(files.used_bytes() + 40_000));
    let noticed = (0..100).position(|_| !space.above_reserve());
    assert!(noticed.is_some_and(|questions| questions <= 64));
    assert!(!log.above_reserve());
    files.set_capacity(None);
    assert!(log.above_reserve() && space.above_reserve());
}

#[test]
fn a_full_disk_refuses_a_snapshot_and_keeps_the_old_one() {
    let files = SimFiles::new(5);
    let (mut log, _) = open(&files, &small());
    log.append(&batch(&log, 10)).expect("there is room");
    log.append(&batch(&log, 10)).expect("there is room");
    log.flush().expect("the disk is well");
    log.write_snapshot(1, b"one").expect("the disk is well");
    files.set_capacity(Some(files.used_bytes() + 100));
    let refused = log.write_snapshot(2, &[0; 1000]);
    assert!(
        matches!(refused, Err(SnapshotError::NoSpace)),
        "{refused:?}"
    );
    drop(log);
    files.set_capacity(None);
    let (_, recovered) = open(&files, &small());
    assert_eq!(recovered.snapshot, Some((1, b"one".to_vec())));
}

#[test]
fn a_store_whose_disk_is_full_says_so_and_opens_once_there_is_space() {
    let files = SimFiles::new(6);
    let (mut log, _) = open(&files, &small());
    log.append(&batch(&log, 10)).expect("there is room");
    log.flush().expect("the disk is well");
    drop(log);
    files.set_capacity(Some(files.used_bytes()));
    let refused = try_open(&files, &small());
    assert!(
        matches!(refused, Err(OpenError::NoSpace { .. })),
        "{refused:?}"
    );
    files.set_capacity(None);
    let (_, recovered) = open(&files, &small());
    assert_eq!((recovered.next, recovered.damaged), (2, vec![]));
}

#[test]
fn a_read_error_is_told_as_one_and_does_not_condemn_the_record() {
    let files = SimFiles::new(7);
    let (mut log, _) = open(&files, &small());
    log.append(&batch(&log, 10)).expect("there is room");
    log.flush().expect("the disk is well");
    files.fail_nth(Kind::Read, 1, Fault::Error);
    assert!(matches!(
        log.reader().read(1),
        Err(ReadError::Io { position: 1, .. })
    ));
    assert_eq!(
        log.reader().read(1).expect("the disk is well again").len(),
        10
    );
}

#[test]
fn an_open_that_cannot_read_changes_nothing() {
    let files = SimFiles::new(8);
    let (mut log, _) = open(&files, &small());
    let mut model = Model::new();
    assert!(work(&mut log, &mut model, &mut Random::new(8), 30) && flush(&mut log, &mut model));
    drop(log);
    let before = files.lengths();
    for nth in 1..12 {
        files.fail_nth(Kind::Read, nth, Fault::Error);
        let refused = try_open(&files, &small());
        if refused.is_ok() {
            break;
        }
        assert!(matches!(refused, Err(OpenError::Io { .. })));
        assert_eq!(files.lengths(), before);
    }
    let (log, recovered) = open(&files, &small());
    model.check(&log, &recovered);
}

#[test]
fn a_directory_that_cannot_be_synced_at_a_roll_ends_the_log() {
    let files = SimFiles::new(9);
    let (mut log, _) = open(&files, &small());
    // Even "disk full": the new segment's name may be durable, the old one is closed by it. The
    // first sync is that before the rename.
    files.fail_nth(Kind::SyncDir, 2, Fault::Full);
    let failed = loop {
        match log.append(&batch(&log, 400)) {
            Ok(()) => log.flush().expect("the disk is well"),
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, AppendError::Failed(_)), "{failed}");
    let acknowledged = log.durable_position();
    drop(log);
    files.crash();
    let (mut log, recovered) = open(&files, &small());
    assert_eq!(
        (recovered.next, recovered.damaged),
        (acknowledged + 1, vec![])
    );
    log.append(&batch(&log, 9)).expect("there is room");
    log.flush().expect("the disk is well");
}

#[test]
fn a_directory_that_cannot_be_synced_at_a_trim_ends_the_log() {
    let files = SimFiles::new(10);
    let (mut log, _) = open(&files, &small());
    for _ in 0..40 {
        log.append(&batch(&log, 700)).expect("there is room");
        log.flush().expect("the disk is well");
    }
    log.write_snapshot(38, b"older").expect("the disk is well");
    log.write_snapshot(40, b"newer").expect("the disk is well");
    files.fail_nth(Kind::SyncDir, 2, Fault::Error);
    log.trim(38).expect_err("the directory was not synced");
    let refused = log.append(&batch(&log, 1));
    assert!(matches!(refused, Err(AppendError::Failed(_))));
    assert_eq!(log.reader().read(40).expect("reads go on").len(), 700);
    drop(log);
    files.crash();
    let (log, recovered) = open(&files, &small());
    assert_eq!((recovered.next, recovered.damaged), (41, vec![]));
    assert_eq!(
        read_all(&log, recovered.first).len() as u64,
        41 - recovered.first
    );
}
