//! A store read from outside: while it is written, with damage, from the middle.

mod common;

use common::{STORE, open, small};
use countersign_journal::sim::SimFiles;
use countersign_journal::{Batch, Files, History, Log, Options, RealFiles, Reason};

fn fill<F: Files>(log: &mut Log<F>, records: usize) {
    for _ in 0..records {
        let payload = format!("{:0>200}", log.next_position());
        let batch = Batch::from_payloads(log.next_position(), [&payload]);
        log.append(&batch).expect("there is room");
    }
    log.flush().expect("the disk is well");
}

/// Positions read, with those that are damaged apart.
fn read<F: Files>(history: &mut History<F>) -> (Vec<u64>, Vec<u64>) {
    let (mut good, mut bad) = (vec![], vec![]);
    while let Some(record) = history.next_record().expect("the disk answers") {
        match record.payload {
            Ok(payload) => {
                assert_eq!(payload, format!("{:0>200}", record.position));
                good.push(record.position);
            }
            Err(_) => bad.push(record.position),
        }
    }
    (good, bad)
}

fn history<F: Files>(files: &F) -> History<F> {
    History::open(files.clone())
        .expect("it can be read")
        .expect("there is a store")
}

#[test]
fn a_store_that_is_being_written_is_read_up_to_its_end_at_the_open_without_its_lock() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = RealFiles::new(directory.path()).expect("it is there");
    let options = Options {
        segment_bytes: 1 << 14,
        ..Options::default()
    };
    let (mut log, _) = Log::open(files, options, STORE).expect("the store opens");
    fill(&mut log, 300);
    let before: Vec<_> = std::fs::read_dir(directory.path())
        .expect("a list")
        .collect();
    let mut outside = history(&RealFiles::read_only(directory.path()));
    fill(&mut log, 10);
    let (good, bad) = read(&mut outside);
    assert_eq!((good, bad), ((1..=300).collect(), vec![]));
    assert_eq!(outside.batches(), 300);
    assert!(outside.damaged().is_empty(), "{:?}", outside.damaged());
    let after: Vec<_> = std::fs::read_dir(directory.path())
        .expect("a list")
        .collect();
    assert_eq!(before.len(), after.len());
}

#[test]
fn a_history_goes_on_from_the_middle_and_proves_the_chain_from_there() {
    let files = SimFiles::new(1);
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 200);
    let mut outside = history(&files);
    outside.skip_to(120);
    let (good, bad) = read(&mut outside);
    assert_eq!((good, bad), ((120..=200).collect(), vec![]));
    assert!(outside.damaged().is_empty());
}

#[test]
fn a_flipped_bit_costs_its_record_and_names_its_place() {
    let files = SimFiles::new(1);
    let (mut log, _) = open(&files, &small());
    fill(&mut log, 200);
    log.close().expect("it closes");
    let names = files.list().expect("a list");
    let segment = names.iter().find(|name| name.starts_with("segment-"));
    files.flip_bit(segment.expect("there is one"), 4096 + 64 + 50, 3);
    let mut outside = history(&files);
    let (good, bad) = read(&mut outside);
    assert_eq!((good, bad), ((2..=200).collect(), vec![1]));
    let damage = outside.damaged();
    assert!(
        damage
            .iter()
            .any(|damage| damage.reason == Reason::Checksum),
        "{damage:?}"
    );
}

#[test]
fn a_segment_of_the_same_store_in_the_place_of_another_breaks_the_chain() {
    let (one, other) = (SimFiles::new(1), SimFiles::new(2));
    for files in [&one, &other] {
        let (mut log, _) = open(files, &small());
        fill(&mut log, 200);
        log.close().expect("it closes");
    }
    let names = one.list().expect("a list");
    let last = names.iter().rfind(|name| name.starts_with("segment-"));
    let last = last.expect("there is one");
    let length = one.lengths().into_iter().find(|(name, _)| name == last);
    let mut bytes = vec![0; length.expect("it is listed").1 as usize];
    use countersign_journal::File;
    let file = other.open(last).expect("both have it");
    file.read_at(0, &mut bytes).expect("it is read");
    let file = one.open(last).expect("it opens");
    file.write_at(0, &bytes).expect("it is written");
    let mut outside = history(&one);
    read(&mut outside);
    let broken = |damage: &&countersign_journal::Damage| damage.reason == Reason::ChainBroken;
    let found = outside.damaged().iter().find(broken);
    assert_eq!(found.map(|damage| &damage.file), Some(last));
}

#[test]
fn a_directory_without_a_store_has_no_history() {
    assert!(
        History::open(SimFiles::new(1))
            .expect("it can be read")
            .is_none()
    );
}
