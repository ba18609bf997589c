//! Backups: taken while the store is written, compared byte by byte, made a store of another life.

mod common;

use common::{STORE, open, small};
use countersign_journal::sim::SimFiles;
use countersign_journal::{
    BackupError, Batch, Files, History, Log, MANIFEST, Manifest, Options, Position, RealFiles,
    Unproved, backup, compare, manifest, restore, verify,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn payload(position: Position) -> String {
    format!("{position:0>200}")
}

fn append<F: Files>(log: &mut Log<F>) {
    let at = log.next_position();
    let batch = Batch::from_payloads(at, [payload(at)]);
    log.append(&batch).expect("there is room");
}

fn fill<F: Files>(log: &mut Log<F>, records: usize) {
    for _ in 0..records {
        append(log);
        log.flush().expect("the disk is well");
    }
}

fn taken<F: Files>(from: &F, to: &SimFiles) -> Manifest {
    backup(from, to, |_| Unproved::Take).expect("it is taken")
}

/// Every record of the store, each as it was written.
fn positions<F: Files>(files: &F) -> Vec<Position> {
    let mut history = History::open(files.clone())
        .expect("it can be read")
        .expect("there is a store");
    let mut found = Vec::new();
    while let Some(record) = history.next_record().expect("the disk answers") {
        assert_eq!(
            record.payload.expect("it is whole"),
            payload(record.position)
        );
        found.push(record.position);
    }
    assert!(history.damaged().is_empty(), "{:?}", history.damaged());
    found
}

#[test]
fn a_backup_under_load_is_a_prefix_that_holds_all_that_was_durable_before_it() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let files = RealFiles::new(home.path().join("store")).expect("it is made");
    let options = Options {
        segment_bytes: 1 << 14,
        ..Options::default()
    };
    let (mut log, _) = Log::open(files, options, STORE).expect("the store opens");
    fill(&mut log, 100);
    let (durable, done) = (AtomicU64::new(100), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                fill(&mut log, 1);
                durable.store(log.durable_position(), Ordering::SeqCst);
            }
        });
        let outside = RealFiles::read_only(home.path().join("store"));
        for number in 0..5 {
            let before = durable.load(Ordering::SeqCst);
            let copy = RealFiles::new(home.path().join(format!("copy-{number}")));
            let copy = copy.expect("it is made");
            let taken = backup(&outside, &copy, |_| Unproved::LookAgain).expect("it is taken");
            assert!(taken.last >= before, "{} < {before}", taken.last);
            assert_eq!(positions(&copy), (1..=taken.last).collect::<Vec<_>>());
            assert!(verify(&copy).expect("it is read").is_sound());
            assert_eq!(manifest(&copy).expect("it is read"), Some(taken));
        }
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_store_made_of_a_backup_goes_on_behind_it_in_another_life_that_no_other_has() {
    let (files, copy) = (SimFiles::new(1), SimFiles::new(2));
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 60);
    log.write_snapshot(40, b"state").expect("it is written");
    let taken = taken(&files, &copy);
    assert_eq!((taken.epoch, taken.first, taken.last), (1, 1, 60));
    let (one, other) = (SimFiles::new(3), SimFiles::new(4));
    let first = restore(&copy, &one, 7 << 40).expect("it is restored");
    let second = restore(&copy, &other, 8 << 40).expect("it is restored");
    assert!(first.epoch > 1 && second.epoch > 1 && first.epoch != second.epoch);
    let (mut log, recovered) = open(&one, &small());
    assert_eq!(recovered.store_id, STORE.store_id);
    assert_eq!((recovered.epoch, recovered.next), (first.epoch, 61));
    assert_eq!(recovered.snapshot, Some((40, b"state".to_vec())));
    assert_eq!(recovered.damaged, []);
    fill(&mut log, 3);
    assert_eq!(positions(&one), (1..=63).collect::<Vec<_>>());
}

#[test]
fn what_is_not_proved_to_be_durable_is_waited_for_left_out_or_taken() {
    let files = SimFiles::new(1);
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 5);
    log.write_witness();
    append(&mut log);
    let with = |choice| {
        let copy = SimFiles::new(2);
        let taken = backup(&files, &copy, |unproved| {
            assert_eq!(unproved, 1);
            choice
        });
        let last = taken.expect("it is taken").last;
        assert_eq!(positions(&copy), (1..=last).collect::<Vec<_>>());
        last
    };
    assert_eq!(with(Unproved::Cut), 5);
    assert_eq!(with(Unproved::Take), 6);
    let taken = backup(&files, &SimFiles::new(3), |_| {
        // Its owner goes on meanwhile: the next batch proves this one.
        fill(&mut log, 2);
        Unproved::LookAgain
    });
    assert_eq!(taken.expect("it is taken").last, 7);
}

#[test]
fn what_the_owner_trims_while_it_is_copied_is_in_the_backup_all_the_same() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let files = RealFiles::new(home.path().join("store")).expect("it is made");
    let (mut log, _) = Log::open(files.clone(), small(), STORE).expect("the store opens");
    fill(&mut log, 100);
    log.write_witness();
    append(&mut log);
    let copy = SimFiles::new(1);
    let taken = backup(&files, &copy, |_| {
        for position in [90, 100] {
            log.write_snapshot(position, b"state").expect("written");
        }
        assert!(log.trim(90).expect("it is trimmed") > 0);
        Unproved::Cut
    });
    assert_eq!(taken.expect("it is taken").first, 1);
    assert_eq!(positions(&copy), (1..=100).collect::<Vec<_>>());
}

#[test]
fn no_store_is_made_of_a_backup_that_is_not_as_it_was_written() {
    let (files, copy) = (SimFiles::new(1), SimFiles::new(2));
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 60);
    log.write_snapshot(40, b"state").expect("it is written");
    let found = taken(&files, &copy);
    assert_eq!(compare(&copy, &found).expect("it is read"), [""; 0]);
    for (name, bytes) in copy.lengths() {
        for offset in [0, bytes / 2, bytes - 1] {
            copy.flip_bit(&name, offset, 3);
            let refused = restore(&copy, &SimFiles::new(3), 0);
            let differs = match manifest(&copy) {
                Ok(Some(found)) => !compare(&copy, &found).expect("it is read").is_empty(),
                Ok(None) => unreachable!("it is there"),
                Err(_) => true,
            };
            assert!(differs, "{name} at {offset}");
            // The witness of the old life is not used; a damaged one harms nothing.
            let refused = matches!(refused, Err(BackupError::Damaged { .. }));
            assert!(refused || name == "witness", "{name} at {offset}");
            copy.flip_bit(&name, offset, 3);
        }
    }
    copy.remove(MANIFEST).expect("it is removed");
    let refused = restore(&copy, &SimFiles::new(3), 0);
    assert!(matches!(refused, Err(BackupError::NoManifest(_))));
}

#[test]
fn nothing_is_written_over() {
    let (files, copy) = (SimFiles::new(1), SimFiles::new(2));
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 3);
    taken(&files, &copy);
    let again = backup(&files, &copy, |_| Unproved::Take);
    assert!(matches!(again, Err(BackupError::NotEmpty { .. })));
    let over = restore(&copy, &files, 0);
    assert!(matches!(over, Err(BackupError::NotEmpty { .. })));
    let nothing = backup(&SimFiles::new(3), &SimFiles::new(4), |_| Unproved::Take);
    assert!(matches!(nothing, Err(BackupError::NoStore(_))));
}

#[test]
fn a_backup_that_is_cut_off_anywhere_is_none() {
    let files = SimFiles::new(1);
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 60);
    let whole = SimFiles::new(2);
    taken(&files, &whole);
    for operations in 0..whole.operations() {
        let copy = SimFiles::new(2);
        copy.stop_after(operations);
        let told = backup(&files, &copy, |_| Unproved::Take);
        copy.crash();
        let found = manifest(&copy).expect("it is read");
        // Cut off behind the rename, it may be there, and then is whole.
        if let Some(found) = found {
            assert_eq!(compare(&copy, &found).expect("it is read"), [""; 0]);
        } else {
            assert!(told.is_err(), "after {operations} it was said to be taken");
        }
    }
}
