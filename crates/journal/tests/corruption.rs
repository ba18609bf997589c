//! Bits flip, files are cut or vanish: nothing is served wrong and nothing is silent.

mod common;

use std::collections::BTreeMap;

use common::{Model, flush, open, small, work};
use countersign_journal::sim::{Random, SimFiles};
use countersign_journal::{Damage, Position, Report, verify};

/// A store of several segments with two snapshots, cleanly closed.
fn closed_store(seed: u64, steps: u32) -> (SimFiles, Model) {
    let files = SimFiles::new(seed);
    let (mut log, _) = open(&files, &small());
    let mut model = Model::new();
    assert!(work(&mut log, &mut model, &mut Random::new(seed), steps));
    assert!(flush(&mut log, &mut model));
    log.close().expect("the store closes");
    (files, model)
}

/// What a reader is given for each position from the first retained one on.
fn served(files: &SimFiles) -> (BTreeMap<Position, Option<Vec<u8>>>, Vec<Damage>, Position) {
    let (log, recovered) = open(files, &small());
    let mut served = BTreeMap::new();
    let mut on_record = |position, payload: Result<&[u8], _>| {
        served.insert(position, payload.ok().map(<[u8]>::to_vec));
    };
    log.replay(recovered.first, &mut on_record)
        .expect("the disk can be read");
    let mut damaged = recovered.damaged;
    damaged.extend(log.damaged());
    (served, damaged, recovered.next)
}

fn lists(damaged: &[Damage], position: Position) -> bool {
    damaged.iter().any(|damage| {
        damage
            .positions
            .as_ref()
            .is_some_and(|p| p.contains(&position))
    })
}

#[derive(Debug, Default)]
struct Tally {
    flips: u32,
    reported_without_loss: u32,
    reported_with_ids: u32,
    records_lost: u32,
    records_served: u64,
    served_wrong: u32,
    silent: u32,
    unreported: u32,
}

#[test]
fn a_thousand_flipped_bits_are_neither_served_nor_silent() {
    let (clean, model) = closed_store(4711, 60);
    let lengths: Vec<_> = clean
        .lengths()
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .collect();
    let total: u64 = lengths.iter().map(|(_, bytes)| bytes).sum();
    assert!(
        lengths
            .iter()
            .filter(|(name, _)| name.starts_with("segment-"))
            .count()
            >= 3
    );
    let mut random = Random::new(4712);
    let mut tally = Tally::default();
    for _ in 0..1000 {
        let mut at = random.below(total);
        let (name, offset) = lengths
            .iter()
            .find_map(|(name, bytes)| {
                let found = (at < *bytes).then_some((name, at));
                at = at.wrapping_sub(*bytes);
                found
            })
            .expect("the byte is in one of the files");
        flip(
            &clean,
            &model,
            (name, offset, random.below(8) as u8),
            &mut tally,
        );
    }
    println!("{tally:?} over {} files, {total} bytes", lengths.len());
    assert_eq!(
        (tally.served_wrong, tally.silent, tally.unreported),
        (0, 0, 0)
    );
    assert!(tally.reported_with_ids > 300 && tally.reported_without_loss > 20);
    // One bit, at most one record.
    assert_eq!(tally.records_lost, tally.reported_with_ids);
}

fn flip(clean: &SimFiles, model: &Model, at: (&str, u64, u8), tally: &mut Tally) {
    let files = clean.fork(tally.flips.into());
    files.flip_bit(at.0, at.1, at.2);
    tally.flips += 1;
    let report = verify(&files).expect("a flipped bit does not stop a verify");
    let (served, damaged, next) = served(&files);
    assert_eq!(next, model.last_acknowledged() + 1, "{at:?}");
    let first = *served.first_key_value().expect("something is retained").0;
    let mut lost = 0;
    for (position, payload) in model.acknowledged.range(first..) {
        match &served[position] {
            Some(read) if read == payload => tally.records_served += 1,
            Some(_) => tally.served_wrong += 1,
            None if lists(&damaged, *position) && lists(&report.damaged, *position) => lost += 1,
            None => tally.silent += 1,
        }
    }
    tally.records_lost += lost;
    match (report.is_sound(), lost) {
        (true, _) => tally.unreported += 1,
        (false, 0) => tally.reported_without_loss += 1,
        (false, _) => tally.reported_with_ids += 1,
    }
    still_damaged(&files, &report);
}

/// The damage is found again by another open and another verify, at the same positions.
fn still_damaged(files: &SimFiles, before: &Report) {
    let again = verify(files).expect("the store can be read");
    let positions = |report: &Report| -> Vec<_> {
        report
            .damaged
            .iter()
            .filter_map(|damage| damage.positions.clone())
            .collect()
    };
    assert_eq!(positions(&again), positions(before));
    assert_eq!(again.last, before.last);
}
