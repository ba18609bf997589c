//! Bits flip, files are cut or vanish: nothing is served wrong and nothing is silent.

mod common;

use std::collections::BTreeMap;

use common::{Model, append, flush, open, small, work};
use countersign_journal::sim::{Random, SimFiles};
use countersign_journal::{
    Batch, Damage, Files, Options, Position, ReadError, Reason, Report, verify,
};

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

#[test]
fn a_bit_that_flips_while_the_store_is_open_is_caught_by_the_next_read() {
    for seed in 0..60 {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, &small());
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        assert!(work(&mut log, &mut model, &mut random, 30) && flush(&mut log, &mut model));
        let segments = log.segments();
        let segment = &segments[random.below(segments.len() as u64) as usize];
        if segment.bytes == 4096 {
            continue;
        }
        let offset = 4096 + random.below(segment.bytes - 4096);
        files.flip_bit(&segment.name, offset, random.below(8) as u8);
        let (mut lost, reader) = (0, log.reader());
        for (position, payload) in model.acknowledged.range(segments[0].first..) {
            match reader.read(*position) {
                Ok(read) => assert!(read == payload, "seed {seed}: record {position}"),
                Err(ReadError::Damaged(damaged)) => {
                    assert_eq!(damaged.position, *position);
                    assert!(lists(&reader.damaged(), *position), "seed {seed}");
                    lost += 1;
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(lost <= 1, "seed {seed}: one bit, at most one record");
        // The log goes on: what follows is kept.
        assert!(work(&mut log, &mut model, &mut random, 3) && flush(&mut log, &mut model));
        reader
            .read(model.last_acknowledged())
            .expect("the newest record is well");
    }
}

#[test]
fn a_damaged_record_at_the_end_is_kept_as_damage_and_never_cut() {
    let (files, model) = closed_store(21, 20);
    let last = model.last_acknowledged();
    let (name, bytes) = last_segment(&files);
    // The last byte of the last payload lies before the commit of 48 bytes.
    files.flip_bit(&name, bytes - 49, 0);
    let (served, damaged, next) = served(&files);
    assert_eq!((next, &served[&last]), (last + 1, &None));
    assert!(lists(&damaged, last));
    assert!(
        !open(&files, &small()).1.epoch_changed,
        "its place is known, nothing is gone"
    );
}

#[test]
fn acknowledged_records_that_are_gone_change_the_epoch_and_their_positions_are_not_reused() {
    let (files, model) = closed_store(22, 20);
    let last = model.last_acknowledged();
    let (name, bytes) = last_segment(&files);
    files.edit(&name, |data| data.truncate(bytes as usize - 60));
    let (mut log, recovered) = open(&files, &small());
    assert!(recovered.epoch_changed);
    assert_eq!((recovered.epoch, recovered.next), (2, last + 1));
    log.append(&Batch::from_payloads(last + 1, ["after"]))
        .expect("there is room");
    log.flush().expect("the disk is well");
    log.close().expect("the store closes");
    let (log, again) = open(&files, &small());
    assert!(!again.epoch_changed);
    assert_eq!((again.epoch, again.next), (2, last + 2));
    assert_eq!(log.reader().read(last + 1).expect("it is well"), "after");
}

#[test]
fn a_log_that_lost_its_last_segment_says_so() {
    let (files, model) = closed_store(23, 40);
    let last = model.last_acknowledged();
    let (name, _) = last_segment(&files);
    let first: Position = name["segment-".len()..]
        .parse()
        .expect("the name holds a position");
    files.remove(&name).expect("the file is there");
    let (served, damaged, next) = served(&files);
    assert_eq!(next, last + 1);
    for position in first..=last {
        assert!(lists(&damaged, position) && served[&position].is_none());
    }
    let (_, again) = open(&files, &small());
    assert_eq!((again.epoch, again.epoch_changed), (2, false));
    assert!(lists(&again.damaged, last));
}

#[test]
fn a_log_that_lost_a_segment_in_the_middle_keeps_what_follows() {
    let (files, model) = closed_store(24, 60);
    let segments: Vec<_> = segments(&files);
    files.remove(&segments[1].0).expect("the file is there");
    let (served, damaged, next) = served(&files);
    assert_eq!(next, model.last_acknowledged() + 1);
    let lost: Vec<_> = served
        .iter()
        .filter(|(_, read)| read.is_none())
        .map(|(p, _)| *p)
        .collect();
    assert!(!lost.is_empty());
    assert!(lost.iter().all(|position| lists(&damaged, *position)));
    let kept = served.iter().filter(|(_, read)| read.is_some());
    assert!(
        kept.clone()
            .all(|(position, read)| read.as_ref() == model.acknowledged.get(position))
    );
    assert!(kept.count() > lost.len());
}

#[test]
fn a_segment_without_a_header_is_one_hole_and_its_positions_are_not_reused() {
    for last in [false, true] {
        let (files, model) = closed_store(25, 40);
        let segments = segments(&files);
        let (name, _) = if last {
            last_segment(&files)
        } else {
            segments[1].clone()
        };
        files.edit(&name, |data| data[..4096].fill(0xFF));
        let (served, damaged, next) = served(&files);
        assert_eq!(next, model.last_acknowledged() + 1);
        let lost = served.iter().filter(|(_, read)| read.is_none());
        assert!(lost.clone().count() > 0);
        assert!(lost.clone().all(|(position, _)| lists(&damaged, *position)));
        assert!(damaged.iter().any(|damage| damage.reason == Reason::Header));
    }
}

#[test]
fn a_damaged_snapshot_is_reported_and_the_older_one_is_used() {
    let (files, model) = closed_store(26, 60);
    let names: Vec<_> = files
        .lengths()
        .into_iter()
        .filter(|f| f.0.starts_with("snapshot"))
        .collect();
    assert_eq!(names.len(), 2);
    files.flip_bit(&names[1].0, names[1].1 / 2, 5);
    let (log, recovered) = open(&files, &small());
    let older = &model.snapshots[model.snapshots.len() - 2];
    assert_eq!(recovered.snapshot.as_ref(), Some(older));
    assert_eq!(recovered.damaged[0].reason, Reason::Snapshot);
    // Everything after the older one is still there to be replayed.
    for (position, payload) in model.acknowledged.range(older.0 + 1..) {
        assert_eq!(log.reader().read(*position).expect("it is well"), payload);
    }
}

#[test]
fn segments_before_the_first_that_no_snapshot_covers_are_missing() {
    let (files, _) = closed_store(27, 60);
    for (name, _) in files.lengths() {
        if name.starts_with("snapshot") {
            files.remove(&name).expect("the file is there");
        }
    }
    let segments = segments(&files);
    files.remove(&segments[0].0).expect("the file is there");
    let report = verify(&files).expect("the store can be read");
    let first: Position = segments[1].0["segment-".len()..]
        .parse()
        .expect("a position");
    assert!(lists(&report.damaged, first - 1) && lists(&report.damaged, 1));
}

#[test]
fn records_of_another_life_or_another_store_never_pass_for_ours() {
    // The same batches, byte for byte, in a store with another salt, laid behind ours.
    let (files, model) = closed_store(28, 20);
    let (other, _) = closed_store(29, 40);
    let (name, _) = last_segment(&files);
    for (foreign, _) in segments(&other) {
        let stale = other.bytes(&foreign)[4096..].to_vec();
        files.edit(&name, |data| data.extend_from_slice(&stale));
    }
    let (served, _, next) = served(&files);
    assert_eq!(next, model.last_acknowledged() + 1);
    assert!(
        served
            .iter()
            .all(|(p, read)| read.as_ref() == model.acknowledged.get(p))
    );
}

#[test]
fn bytes_in_a_payload_never_pass_for_records() {
    // A payload that holds a whole batch with the right positions, copied from our own file.
    let files = SimFiles::new(30);
    let (mut log, _) = open(
        &files,
        &Options {
            segment_bytes: 1 << 20,
            ..small()
        },
    );
    log.append(&Batch::from_payloads(1, ["first", "second"]))
        .expect("there is room");
    log.flush().expect("the disk is well");
    let name = log.segments()[0].name.clone();
    let mut forged = files.bytes(&name)[4096..4096 + 64 + 2 * 16 + 11 + 48].to_vec();
    forged[16..24].copy_from_slice(&4_u64.to_le_bytes());
    log.append(&Batch::from_payloads(
        3,
        [forged.repeat(9), b"real".to_vec()],
    ))
    .expect("room");
    log.append(&Batch::from_payloads(5, ["behind"]))
        .expect("there is room");
    log.flush().expect("the disk is well");
    log.close().expect("the store closes");
    let start = 4096 + 64 + 2 * 16 + 11 + 48;
    for offset in start..start + 64 + 20 {
        let files = files.fork(offset);
        files.flip_bit(&name, offset, 2);
        let (served, damaged, _) = served(&files);
        for (position, read) in &served {
            let lost = read.is_none();
            assert_eq!(lost, lists(&damaged, *position), "byte {offset}");
            assert!(!lost || *position == 3, "byte {offset}: record {position}");
        }
        assert_eq!(served[&4].as_deref(), Some(b"real".as_slice()));
    }
}

fn segments(files: &SimFiles) -> Vec<(String, u64)> {
    files
        .lengths()
        .into_iter()
        .filter(|(name, _)| name.starts_with("segment-"))
        .collect()
}

/// The last segment that holds records.
fn last_segment(files: &SimFiles) -> (String, u64) {
    let found = segments(files)
        .into_iter()
        .rfind(|(_, bytes)| *bytes > 4096);
    found.expect("the store has records")
}

#[test]
fn many_flipped_bits_are_neither_served_nor_silent() {
    let (clean, model) = closed_store(31, 40);
    let last = model.last_acknowledged();
    let mut lost = 0;
    for seed in 0..300 {
        let files = clean.fork(seed);
        let mut random = Random::new(seed);
        for _ in 0..1 + random.below(20) {
            let segments = segments(&files);
            let (name, bytes) = &segments[random.below(segments.len() as u64) as usize];
            files.flip_bit(name, random.below(*bytes), random.below(8) as u8);
        }
        let report = verify(&files).expect("flipped bits do not stop a verify");
        let (served, damaged, next) = served(&files);
        assert!(next > last, "seed {seed}: no position is used twice");
        for (position, payload) in &model.acknowledged {
            match served.get(position) {
                Some(Some(read)) => assert!(read == payload, "seed {seed}: record {position}"),
                Some(None) | None => {
                    let reported = lists(&damaged, *position) && lists(&report.damaged, *position);
                    let trimmed = *position < served.first_key_value().map_or(1, |first| *first.0);
                    assert!(reported || trimmed, "seed {seed}: record {position}");
                    lost += u32::from(reported);
                }
            }
        }
    }
    println!("{lost} records lost and reported");
    assert!(lost > 300);
}

#[test]
fn a_bit_flipped_after_a_crash_costs_no_record_that_a_later_flush_covers() {
    for seed in 0..300 {
        let files = SimFiles::new(seed);
        let (mut log, _) = open(&files, &small());
        let (mut model, mut random) = (Model::new(), Random::new(seed));
        assert!(work(&mut log, &mut model, &mut random, 6) && flush(&mut log, &mut model));
        let covered = model.last_acknowledged();
        assert!(append(&mut log, &mut model, &mut random) && flush(&mut log, &mut model));
        drop(log);
        files.kill();
        let segments = segments(&files);
        let (name, _) = &segments[random.below(segments.len() as u64) as usize];
        let used = files
            .bytes(name)
            .iter()
            .rposition(|byte| *byte != 0)
            .unwrap_or(0) as u64
            + 1;
        files.flip_bit(name, random.below(used), random.below(8) as u8);
        let (served, damaged, next) = served(&files);
        assert!(next > covered, "seed {seed}");
        for (position, payload) in model.acknowledged.range(..=covered) {
            match served.get(position) {
                Some(Some(read)) => assert!(read == payload, "seed {seed}: record {position}"),
                Some(None) => assert!(lists(&damaged, *position), "seed {seed}: {position}"),
                None => assert!(*position < model.trimmed_below, "seed {seed}: {position}"),
            }
        }
    }
}

#[test]
fn a_batch_that_landed_in_the_place_of_another_is_not_served_there() {
    let files = SimFiles::new(32);
    let (mut log, _) = open(
        &files,
        &Options {
            segment_bytes: 1 << 20,
            ..small()
        },
    );
    for first in 1..=5 {
        log.append(&Batch::from_payloads(first, [format!("record {first}")]))
            .expect("room");
        log.flush().expect("the disk is well");
    }
    let name = log.segments()[0].name.clone();
    log.close().expect("the store closes");
    let batch = 64 + 16 + 8 + 48;
    let place = |index: usize| 4096 + index * batch..4096 + (index + 1) * batch;
    for (from, to) in [(0, 3), (3, 1), (4, 0), (1, 4), (2, 3)] {
        let files = files.fork(from as u64);
        files.edit(&name, |data| data.copy_within(place(from), place(to).start));
        let (served, damaged, next) = served(&files);
        assert!(next >= 6);
        for position in 1..=5 {
            match &served[&position] {
                Some(read) => assert_eq!(*read, format!("record {position}").as_bytes()),
                None => assert!(lists(&damaged, position), "{from} to {to}: {position}"),
            }
        }
        assert!(lists(&damaged, to as u64 + 1), "{from} to {to}");
    }
}
