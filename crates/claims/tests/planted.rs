//! Each planted defect is caught: a checker that finds nothing wrong with it would prove nothing.
#![cfg(feature = "planted-bugs")]

mod common;

use common::{BODY_OF_BLOCKS, begin, bytes, feed, id, read};
use countersign_claims::{Error, FolderStore, Planted};
use countersign_journal::sim::SimFiles;

/// Whether a body that was told to be whole is served right or reported after the power went.
fn survives(planted: Planted, seed: u64) -> bool {
    let files = SimFiles::new(seed);
    let store = FolderStore::new(files.clone()).with_planted(planted);
    let body = bytes(1, BODY_OF_BLOCKS);
    begin(&store, id(1), &body);
    feed(&store, id(1), &body).expect("the disk works");
    files.crash();
    read(&store, id(1), 0).is_ok_and(|served| served == body)
}

/// Whether a flipped bit is reported.
fn tells_damage(planted: Planted) -> bool {
    let files = SimFiles::new(1);
    let store = FolderStore::new(files.clone()).with_planted(planted);
    begin(&store, id(1), b"a body");
    feed(&store, id(1), b"a body").expect("the disk works");
    files.flip_bit(&format!("{}.body", id(1)), 257, 3);
    matches!(read(&store, id(1), 0), Err(Error::Damaged { .. }))
}

/// Whether a body that is not what was declared is refused.
fn refuses_another(planted: Planted) -> bool {
    let store = FolderStore::new(SimFiles::new(1)).with_planted(planted);
    begin(&store, id(1), b"a body");
    let fed = feed(&store, id(1), b"a bode");
    fed.is_err_and(|error| matches!(error, Error::Mismatch { .. }))
}

#[test]
fn a_body_that_is_visible_before_it_is_durable_is_caught() {
    let lost = |planted| (0..20).filter(|seed| !survives(planted, *seed)).count();
    assert_eq!(lost(Planted::None), 0, "sound without a defect");
    let caught = lost(Planted::VisibleBeforeDurable);
    println!("caught by {caught} of 20 seeds");
    assert!(caught > 0);
}

#[test]
fn a_body_that_is_read_unchecked_is_caught() {
    assert!(tells_damage(Planted::None), "sound without a defect");
    assert!(!tells_damage(Planted::ReadUnchecked));
}

#[test]
fn a_body_that_is_finished_unchecked_is_caught() {
    assert!(refuses_another(Planted::None), "sound without a defect");
    assert!(!refuses_another(Planted::FinishUnchecked));
}
