//! What is put is found until it is forgotten, whatever happens to the process and the file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use countersign_archive::{DiskArchive, OpenError};
use countersign_rules::delivery::{Archive as _, BatchName, End, Remembered, batch_name};
use countersign_rules::message::MessageId;
use countersign_rules::time::Timestamp;
use tempfile::TempDir;

struct Place {
    _folder: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("archive.sqlite");
        Self {
            _folder: folder,
            path,
        }
    }

    fn open(&self) -> DiskArchive {
        DiskArchive::open(&self.path).unwrap()
    }
}

fn id(number: u64) -> MessageId {
    MessageId(u128::from(number).to_be_bytes())
}

fn key(number: u64) -> [u8; 16] {
    u128::from(number)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        .to_le_bytes()
}

fn message(number: u64) -> Remembered {
    Remembered {
        id: id(number),
        key: key(number),
        fingerprint: [7; 4],
        recipient: 3,
        end: End::Processed,
        generation: 1,
        pushes: 1,
        seq: number,
        bytes: 300,
        lane: 5,
        accepted: number * 5,
        last: number * 5 + 4,
        ended: Timestamp(number as i64),
        discarded: false,
    }
}

fn batch(number: u64) -> (BatchName, Vec<Remembered>) {
    let messages: Vec<_> = (number * 10..number * 10 + 10).map(message).collect();
    (batch_name(number, &messages), messages)
}

fn put(archive: &mut DiskArchive, numbers: impl IntoIterator<Item = u64>) -> Vec<BatchName> {
    let mut names = vec![];
    for number in numbers {
        let (name, messages) = batch(number);
        archive.put(name, &messages);
        archive.release(number);
        names.push(name);
    }
    names
}

fn holds(archive: &DiskArchive, number: u64) -> bool {
    let by_id = archive.find(id(number)).unwrap();
    assert_eq!(by_id, archive.find_key(&key(number)).unwrap());
    if let Some((batch, found)) = by_id {
        assert_eq!((batch, found), (number / 10, message(number)));
    }
    by_id.is_some()
}

#[test]
fn what_is_put_is_found_at_once_and_after_a_restart() {
    let place = Place::new();
    let mut archive = place.open();
    let names = put(&mut archive, 1..=5);
    assert!((10..60).all(|number| holds(&archive, number)));
    assert!(archive.settle());
    assert!((10..60).all(|number| holds(&archive, number)));
    assert!(!holds(&archive, 60) && !holds(&archive, 9));
    drop(archive);

    let mut archive = place.open();
    assert_eq!(archive.keep_only(&names).unwrap(), []);
    assert!((10..60).all(|number| holds(&archive, number)));
}

#[test]
fn a_batch_whose_record_is_not_durable_does_not_outlive_the_process() {
    let place = Place::new();
    let mut archive = place.open();
    put(&mut archive, [1]);
    let (name, messages) = batch(2);
    archive.put(name, &messages);
    assert!(holds(&archive, 20));
    drop(archive);
    let archive = place.open();
    assert!(holds(&archive, 10) && !holds(&archive, 20));
}

#[test]
fn what_is_forgotten_is_gone_and_nothing_else() {
    let place = Place::new();
    let mut archive = place.open();
    put(&mut archive, 1..=3);
    // Message 10 comes again, in a later batch.
    let again = Remembered {
        last: 999,
        ..message(10)
    };
    archive.put(batch_name(4, &[again]), &[again]);
    archive.release(4);
    archive.forget(3);
    assert!(archive.settle());
    assert_eq!(archive.find(id(10)).unwrap(), Some((4, again)));
    assert_eq!(archive.find_key(&key(10)).unwrap(), Some((4, again)));
    assert!((11..30).all(|number| !holds(&archive, number)));
    assert!((30..40).all(|number| holds(&archive, number)));
}

#[test]
fn a_key_that_was_given_again_stands_for_the_newer_message() {
    let place = Place::new();
    let mut archive = place.open();
    put(&mut archive, [1]);
    let newer = Remembered {
        key: key(10),
        ..message(20)
    };
    archive.put(batch_name(2, &[newer]), &[newer]);
    archive.release(2);
    archive.forget(2);
    assert!(archive.settle());
    assert_eq!(archive.find_key(&key(10)).unwrap(), Some((2, newer)));
}

#[test]
fn what_is_lacking_is_named() {
    let place = Place::new();
    let mut archive = place.open();
    put(&mut archive, [1, 3]);
    assert!(archive.settle());
    drop(archive);
    let mut archive = place.open();
    let wanted: Vec<_> = (1..=4).map(|number| batch(number).0).collect();
    // The journal still had this one.
    let (name, messages) = batch(4);
    archive.put(name, &messages);
    assert_eq!(archive.keep_only(&wanted).unwrap(), [2]);
    archive.release(4);
    let (name, messages) = batch(2);
    archive.put(name, &messages);
    assert!(archive.settle());
    assert!((10..50).all(|number| holds(&archive, number)));
}

#[test]
fn a_batch_of_another_history_takes_nothing_away() {
    let place = Place::new();
    let mut archive = place.open();
    put(&mut archive, [1]);
    // After the backup, message 10 came back and went to another batch, which was lost.
    let lost = [message(10), message(77)];
    archive.put(batch_name(2, &lost), &lost);
    archive.release(2);
    assert!(archive.settle());
    drop(archive);

    let mut archive = place.open();
    let lacking = archive.keep_only(&[batch(1).0]).unwrap();
    assert_eq!(lacking, [1]);
    assert!(!holds(&archive, 77), "nobody has it");
    put(&mut archive, lacking);
    assert!(archive.settle());
    assert!((10..20).all(|number| holds(&archive, number)));
    assert!(!holds(&archive, 77));
}

#[test]
fn a_file_that_takes_nothing_keeps_what_was_put_in_memory_until_it_does() {
    let place = Place::new();
    let mut archive = place.open();
    let other = rusqlite::Connection::open(&place.path).unwrap();
    other
        .execute_batch("ALTER TABLE batches RENAME TO elsewhere")
        .unwrap();
    put(&mut archive, [1]);
    assert!(!archive.settle());
    assert!(!archive.has_room());
    assert!((10..20).all(|number| archive.find(id(number)).unwrap().is_some()));
    other
        .execute_batch("ALTER TABLE elsewhere RENAME TO batches")
        .unwrap();
    while !archive.has_room() {
        std::thread::yield_now();
    }
    assert!(archive.settle());
    assert!((10..20).all(|number| holds(&archive, number)));
}

#[test]
fn a_file_of_a_newer_program_is_refused_with_what_to_do() {
    let place = Place::new();
    drop(place.open());
    let other = rusqlite::Connection::open(&place.path).unwrap();
    other.pragma_update(None, "user_version", 3).unwrap();
    let refused = DiskArchive::open(&place.path).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 3, .. }));
    assert!(refused.to_string().contains("remove the file"), "{refused}");
}

#[test]
fn a_file_that_is_no_database_is_begun_anew() {
    let place = Place::new();
    std::fs::write(&place.path, [7; 9000]).unwrap();
    let mut archive = place.open();
    let names = [batch(1).0];
    assert_eq!(archive.keep_only(&names).unwrap(), [1]);
    put(&mut archive, [1]);
    assert!(archive.settle() && holds(&archive, 10));
}

/// Flips one bit of a file with 300 messages and asks for all of them. Tells whether a wrong answer
/// was noticed.
fn flip(place: &Place, whole: &[u8], bit: usize) -> bool {
    let mut bytes = whole.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    std::fs::write(&place.path, &bytes).unwrap();
    let Ok(archive) = DiskArchive::open(&place.path) else {
        return true;
    };
    let mut noticed = false;
    for number in 10..310 {
        for found in [archive.find(id(number)), archive.find_key(&key(number))] {
            match found {
                Ok(Some((batch, found))) => {
                    assert_eq!((batch, found), (number / 10, message(number)), "bit {bit}");
                }
                Ok(None) => {}
                Err(_) => noticed = true,
            }
        }
    }
    drop(archive);
    if noticed {
        // The next start begins anew.
        let mut archive = place.open();
        assert_eq!(archive.keep_only(&[batch(1).0]).unwrap(), [1], "bit {bit}");
    }
    noticed
}

#[test]
fn a_flipped_bit_is_never_answered() {
    let place = Place::new();
    let mut archive = place.open();
    put(&mut archive, 1..=30);
    assert!(archive.settle());
    drop(archive);
    let whole = std::fs::read(&place.path).unwrap();
    let step = (whole.len() * 8 / 150) | 1;
    let noticed = (0..whole.len() * 8)
        .step_by(step)
        .filter(|&bit| flip(&place, &whole, bit));
    let noticed = noticed.count();
    println!("{noticed} of 150 flips were noticed, none was answered");
    assert!(noticed > 20, "{noticed}");
}

#[test]
fn pages_hold_each_message_once_whether_it_waits_or_is_in_the_file() {
    let place = Place::new();
    let mut archive = place.open();
    put(&mut archive, 1..=3);
    assert!(archive.settle());
    // One of the file comes again as a failure, and waits; others wait that are new.
    let dead = |number| Remembered {
        end: End::Dead,
        ..message(number)
    };
    let waiting = [dead(25), dead(77), message(78)];
    archive.put(batch_name(4, &waiting), &waiting);
    let pages = |archive: &DiskArchive, failures_alone, count| {
        let (mut found, mut after) = (vec![], None);
        loop {
            let page = archive.page(after, failures_alone, count).unwrap();
            found.extend(page.rows);
            after = page.through;
            if after.is_none() {
                return found;
            }
        }
    };
    for is_written in [false, true] {
        if is_written {
            archive.release(4);
            assert!(archive.settle());
        }
        for count in [1, 4, 100] {
            let all = pages(&archive, false, count);
            let ids: Vec<_> = all.iter().map(|(_, message)| message.id).collect();
            let expected: Vec<_> = (10..40).chain([77, 78]).map(id).collect();
            assert_eq!(ids, expected, "{count} to a page");
            let failures = pages(&archive, true, count);
            assert_eq!(
                failures,
                [(4, dead(25)), (4, dead(77))],
                "{count} to a page"
            );
        }
    }
}
