//! What a store does on a good day, on a real directory and on a simulated one.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{STORE, open, small};
use countersign_journal::sim::{Random, SimFiles};
use countersign_journal::{
    AppendError, Batch, Files, Log, OpenError, Options, ReadError, RealFiles, SnapshotError, verify,
};

fn append<F: Files>(log: &mut Log<F>, payloads: &[&str]) {
    let batch = Batch::from_payloads(log.next_position(), payloads);
    log.append(&batch).expect("there is room");
}

fn fill<F: Files>(log: &mut Log<F>, records: usize) {
    for _ in 0..records {
        let payload = format!("{:0>200}", log.next_position());
        append(log, &[&payload]);
    }
    log.flush().expect("the disk is well");
}

fn read<F: Files>(log: &Log<F>, position: u64) -> String {
    let payload = log.reader().read(position).expect("the record is there");
    String::from_utf8(payload.to_vec()).expect("text was written")
}

#[test]
fn records_are_read_back_after_a_restart_on_a_real_disk() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = RealFiles::new(directory.path().join("data")).expect("the directory is made");
    let options = Options {
        segment_bytes: 1 << 16,
        ..Options::default()
    };
    let (mut log, recovered) =
        Log::open(files.clone(), options.clone(), STORE).expect("the store opens");
    assert!(recovered.created && recovered.next == 1 && recovered.epoch == 1);
    append(&mut log, &["a", "", "ccc"]);
    log.flush().expect("the disk is well");
    fill(&mut log, 1000);
    log.close().expect("the store closes");

    let report = verify(&files).expect("the store can be read");
    assert!(
        report.is_sound() && report.segments > 3 && report.records == 1003,
        "{report:?}"
    );
    let (log, recovered) = Log::open(files, options, STORE).expect("the store opens again");
    assert_eq!(
        (recovered.next, recovered.created, recovered.damaged),
        (1004, false, vec![])
    );
    assert_eq!(
        [read(&log, 1), read(&log, 2), read(&log, 3)],
        ["a", "", "ccc"]
    );
    for position in 4..1004 {
        assert_eq!(read(&log, position), format!("{position:0>200}"));
    }
    assert!(matches!(
        log.reader().read(1004),
        Err(ReadError::NotFound(1004))
    ));
    assert!(matches!(log.reader().read(0), Err(ReadError::NotFound(0))));
}

#[test]
fn a_second_process_is_told_which_directory_is_in_use() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = RealFiles::new(directory.path()).expect("the directory is there");
    let (log, _) = Log::open(files.clone(), Options::default(), STORE).expect("the store opens");
    let refused = Log::open(files.clone(), Options::default(), STORE).expect_err("it is locked");
    let said = format!(
        "data directory {} is in use by another process",
        directory.path().display()
    );
    assert_eq!(refused.to_string(), said);
    assert!(matches!(refused, OpenError::InUse { .. }));
    drop(log);
    Log::open(files, Options::default(), STORE).expect("the lock is given up");
}

#[test]
fn unflushed_records_are_invisible() {
    let (mut log, _) = open(&SimFiles::new(1), &small());
    append(&mut log, &["a"]);
    assert!(matches!(log.reader().read(1), Err(ReadError::NotFound(1))));
    assert_eq!(
        log.reader()
            .read_range(1, 1 << 20)
            .expect("nothing is wrong"),
        []
    );
    assert_eq!((log.next_position(), log.durable_position()), (2, 0));
    log.flush().expect("the disk is well");
    assert_eq!(read(&log, 1), "a");
}

#[test]
fn a_batch_that_does_not_follow_is_refused_and_changes_nothing() {
    let (mut log, _) = open(&SimFiles::new(2), &small());
    let refused = log.append(&Batch::from_payloads(2, ["a"]));
    assert!(matches!(
        refused,
        Err(AppendError::OutOfOrder {
            expected: 1,
            got: 2
        })
    ));
    append(&mut log, &["a"]);
    log.flush().expect("the disk is well");
}

#[test]
fn a_batch_longer_than_a_segment_gets_one_of_its_own() {
    let files = SimFiles::new(3);
    let (mut log, _) = open(&files, &small());
    append(&mut log, &["a"]);
    append(&mut log, &[&"b".repeat(50_000), "c"]);
    append(&mut log, &["d"]);
    log.flush().expect("the disk is well");
    assert_eq!(log.segments().len(), 3);
    drop(log);
    let (log, _) = open(&files, &small());
    assert_eq!(read(&log, 2), "b".repeat(50_000));
    assert_eq!([read(&log, 3), read(&log, 4)], ["c", "d"]);
}

#[test]
fn a_follower_reads_on_from_any_position_in_pieces() {
    let (mut log, _) = open(&SimFiles::new(4), &small());
    fill(&mut log, 200);
    let reader = log.reader();
    for (from, bytes_max) in [(1, 0), (1, 5000), (77, 1), (150, 1 << 20)] {
        let mut next = from;
        while next <= 200 {
            let records = reader
                .read_range(next, bytes_max)
                .expect("nothing is wrong");
            for record in records {
                assert_eq!(record.position, next);
                let payload = record.payload.expect("nothing is damaged");
                assert_eq!(payload, format!("{next:0>200}"));
                next += 1;
            }
        }
    }
}

#[test]
fn a_store_of_another_partition_count_is_refused() {
    let files = SimFiles::new(5);
    drop(open(&files, &small()));
    let options = Options {
        partition_count: 8,
        ..small()
    };
    let refused = common::try_open(&files, &options).expect_err("the count is fixed");
    assert!(matches!(
        refused,
        OpenError::Partitions {
            found: 16,
            wanted: 8,
            ..
        }
    ));
}

#[test]
fn the_newest_snapshot_is_given_back_and_two_are_kept() {
    let files = SimFiles::new(6);
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 9);
    let snapshots = log.snapshots();
    let early = snapshots.write(10, b"too early");
    assert!(matches!(
        early,
        Err(SnapshotError::NotDurable {
            position: 10,
            durable: 9
        })
    ));
    for position in [3, 6, 9] {
        let body = format!("state {position}");
        std::thread::scope(|scope| {
            let write = || snapshots.write(position, body.as_bytes());
            scope
                .spawn(write)
                .join()
                .expect("the thread ends")
                .expect("the disk is well");
        });
    }
    log.close().expect("the store closes");
    let kept = files
        .lengths()
        .into_iter()
        .filter(|(name, _)| name.starts_with("snapshot"));
    assert_eq!(kept.count(), 2);
    let (_, recovered) = open(&files, &small());
    assert_eq!(recovered.snapshot, Some((9, b"state 9".to_vec())));
}

#[test]
fn trimming_waits_for_two_snapshots_and_keeps_the_chain_verifiable() {
    let files = SimFiles::new(7);
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 200);
    let segments = log.segments().len();
    assert_eq!(log.trim(200).expect("the disk is well"), 0);
    log.write_snapshot(120, b"older").expect("the disk is well");
    assert_eq!(log.trim(200).expect("the disk is well"), 0);
    log.write_snapshot(180, b"newer").expect("the disk is well");
    let reader = log.reader();
    let removed = log.trim(200).expect("the disk is well");
    assert!(removed > 0 && removed < segments);
    let first = reader.first_position();
    assert!(first > 1 && first <= 121, "{first}");
    assert!(matches!(reader.read(1), Err(ReadError::Trimmed(1))));
    assert_eq!(read(&log, 121), format!("{:0>200}", 121));
    log.close().expect("the store closes");
    let report = verify(&files).expect("the store can be read");
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.first, report.last), (first, 200));
    let (log, recovered) = open(&files, &small());
    assert_eq!((recovered.first, recovered.damaged), (first, vec![]));
    assert_eq!(read(&log, 200), format!("{:0>200}", 200));
}

#[test]
fn old_segments_are_scanned_only_when_they_are_read() {
    let files = SimFiles::new(8);
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 200);
    log.write_snapshot(150, b"older").expect("the disk is well");
    log.write_snapshot(190, b"newer").expect("the disk is well");
    let oldest = log.segments()[0].name.clone();
    log.close().expect("the store closes");
    files.flip_bit(&oldest, 4096 + 64 + 16 + 50, 3);
    let (log, recovered) = open(&files, &small());
    assert_eq!(recovered.damaged, []);
    assert!(matches!(log.reader().read(1), Err(ReadError::Damaged(_))));
    assert_eq!(read(&log, 2), format!("{:0>200}", 2));
    assert_eq!(log.damaged()[0].positions, Some(1..=1));
    drop(log);
    let (_, recovered) = open(
        &files,
        &Options {
            scan_everything: true,
            ..small()
        },
    );
    assert_eq!(recovered.damaged[0].positions, Some(1..=1));
}

#[test]
fn readers_on_other_threads_see_only_what_is_durable_and_only_as_written() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = RealFiles::new(directory.path()).expect("the directory is there");
    let options = Options {
        segment_bytes: 1 << 15,
        ..Options::default()
    };
    let (mut log, _) = Log::open(files, options, STORE).expect("the store opens");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (reader, done) = (log.reader(), &done);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !done.load(Ordering::Relaxed) {
                    let durable = reader.durable_position();
                    let position = 1 + random.below(durable + 1);
                    match reader.read(position) {
                        Ok(read) => assert_eq!(read, format!("{position:0>200}")),
                        Err(ReadError::NotFound(_)) => assert!(position > durable),
                        Err(ReadError::Trimmed(_)) => assert!(position < reader.first_position()),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for _ in 0..60 {
            fill(&mut log, 50);
            let durable = log.durable_position();
            log.write_snapshot(durable - 20, b"state")
                .expect("the disk is well");
            log.trim(durable / 2).expect("the disk is well");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(log.reader().first_position() > 1);
}
