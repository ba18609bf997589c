//! A bit that flipped anywhere is told, also where SQLite finds a row no longer and says nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use countersign_archive::{Checking, DiskArchive, check};
use countersign_rules::delivery::{Archive as _, End, Remembered, batch_name};
use countersign_rules::message::MessageId;
use countersign_rules::time::Timestamp;

fn scattered(number: u64, factor: u128) -> [u8; 16] {
    u128::from(number).wrapping_mul(factor).to_le_bytes()
}

fn message(number: u64) -> Remembered {
    Remembered {
        id: MessageId(scattered(number, 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
        key: scattered(number, 0xd6e8_feb8_6659_fd93_a5a3_564e_27f8_8721),
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

fn put(archive: &mut DiskArchive, batch: u64, numbers: impl Iterator<Item = u64>) {
    let messages: Vec<_> = numbers.map(message).collect();
    archive.put(batch_name(batch, &messages), &messages);
    archive.release(batch);
}

#[test]
fn every_bit_of_a_message_and_its_key_is_watched_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive.sqlite");
    let mut archive = DiskArchive::open(&path).unwrap();
    for batch in 1..=20 {
        put(&mut archive, batch, batch * 10..batch * 10 + 10);
    }
    // One that came again later.
    put(&mut archive, 21, 55..=55);
    assert!(archive.settle());
    drop(archive);
    let found = check(&path).unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!((found.batches, found.messages), (21, 201));

    let whole = std::fs::read(&path).unwrap();
    let Remembered { id, key, .. } = message(77);
    let mut told = 0;
    for what in [id.0, key] {
        let is_here = |at: &usize| whole[*at..].starts_with(&what);
        let found: Vec<_> = (0..whole.len()).filter(is_here).collect();
        // At least the row of the message, that of its key, that of its batch.
        assert!(found.len() >= 3, "{found:?}");
        for at in found {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at + 3] ^= 1 << bit;
                std::fs::write(&path, damaged).unwrap();
                if check(&path).unwrap().is_sound() {
                    // What SQLite left behind in a page and reads no more.
                    let archive = DiskArchive::open(&path).unwrap();
                    assert_eq!(archive.find(id).unwrap(), Some((7, message(77))));
                    assert_eq!(archive.find_key(&key).unwrap(), Some((7, message(77))));
                    continue;
                }
                told += 1;
            }
        }
    }
    assert!(told >= 48, "{told}");
}

#[test]
fn an_archive_that_is_written_meanwhile_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive.sqlite");
    let mut archive = DiskArchive::open(&path).unwrap();
    put(&mut archive, 1, 10..20);
    assert!(archive.settle());
    let mut checking = Checking::open(&path).unwrap();
    for batch in 2..=30 {
        put(&mut archive, batch, batch * 10..batch * 10 + 10);
        // Batches age while they are looked at.
        archive.forget(batch - 1);
        while checking.step() {}
    }
    assert!(archive.settle());
    while checking.step() {}
    let found = checking.into_found();
    assert!(found.is_sound(), "{found:?}");
    assert!(found.batches >= 2, "{found:?}");
}
