//! The power goes, or the process dies, at every operation.

mod common;

use common::{BODY_OF_BLOCKS, begin, bytes, declared, feed, id, read};
use countersign_claims::{BodyStore, Error, FolderStore};
use countersign_journal::sim::SimFiles;

/// Writes two bodies; tells how many were told to be whole.
fn write(store: &FolderStore<SimFiles>) -> Result<(), (u8, Error)> {
    for number in [1, 2] {
        let body = bytes(u64::from(number), BODY_OF_BLOCKS);
        let of = declared(&body);
        let written = match store.begin(id(number), &of) {
            Ok(()) | Err(Error::Exists) => feed(store, id(number), &body),
            Err(error) => Err(error),
        };
        written.map_err(|error| (number - 1, error))?;
    }
    Ok(())
}

/// What was told whole is whole, what can be opened is right, and the rest can be written anew.
fn check(store: &FolderStore<SimFiles>, told_whole: u8) {
    for number in [1, 2] {
        let body = bytes(u64::from(number), BODY_OF_BLOCKS);
        match read(store, id(number), 0) {
            Ok(served) => assert_eq!(served, body),
            Err(Error::Unknown) => assert!(number > told_whole, "body {number} is lost"),
            Err(error) => panic!("body {number} can be opened, and is {error}"),
        }
    }
    for number in [1, 2] {
        let body = bytes(u64::from(number), BODY_OF_BLOCKS);
        go_on(store, number, &body);
        assert_eq!(read(store, id(number), 0).expect("it is whole"), body);
    }
}

/// As a sender does: goes on where the store says, and begins anew when it is told to.
fn go_on(store: &FolderStore<SimFiles>, number: u8, body: &[u8]) {
    for _ in 0..2 {
        match feed(store, id(number), body) {
            Ok(()) | Err(Error::Exists) => return,
            Err(Error::Unknown | Error::Mismatch { .. }) => {}
            Err(Error::Damaged { .. }) => store.remove(id(number)).expect("the disk works"),
            Err(error) => panic!("body {number}: {error}"),
        }
        if store.resume(id(number)).is_err() {
            begin(store, id(number), body);
        }
    }
    panic!("body {number} cannot be written anew");
}

#[test]
fn a_body_that_can_be_opened_is_right_after_a_crash_at_every_operation() {
    let mut points = 0;
    for seed in 0..4 {
        println!("seed {seed}");
        for point in 0.. {
            let files = SimFiles::new(seed * 1000 + point);
            files.set_stale_bytes(seed % 3 == 2);
            files.stop_after(point);
            let told_whole = match write(&FolderStore::new(files.clone())) {
                Ok(()) => 2,
                Err((told_whole, _)) => told_whole,
            };
            if !files.is_stopped() {
                break;
            }
            match seed % 4 {
                3 => files.kill(),
                _ => files.crash(),
            }
            files.stop_after(u64::MAX >> 1);
            check(&FolderStore::new(files), told_whole);
            points += 1;
        }
    }
    println!("{points} crash points");
    assert!(points > 100);
}
