//! A scripted workload over the simulated disk, and what it must find again.

#![allow(dead_code, unreachable_pub)] // each test file uses its own part of this

use std::collections::BTreeMap;

use countersign_journal::sim::{Random, SimFiles};
use countersign_journal::{
    AppendError, Batch, Log, NewStore, OpenError, Options, Position, Recovered,
};

pub const STORE: NewStore = NewStore {
    store_id: [7; 16],
    epoch: 1,
};

/// Small segments, so that a short workload rolls; a witness often enough to matter.
pub fn small() -> Options {
    Options {
        segment_bytes: 4096 + 6000,
        reserve_bytes: 0,
        witness_every_flushes: 3,
        ..Options::default()
    }
}

pub fn open(files: &SimFiles, options: &Options) -> (Log<SimFiles>, Recovered) {
    try_open(files, options).expect("the store opens")
}

pub fn try_open(
    files: &SimFiles,
    options: &Options,
) -> Result<(Log<SimFiles>, Recovered), OpenError> {
    Log::open(files.clone(), options.clone(), STORE)
}

/// Payloads of one batch.
pub type Payloads = Vec<Vec<u8>>;

/// What a writer was told, and what it had tried when it was cut off.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// Records whose flush returned.
    pub acknowledged: BTreeMap<Position, Vec<u8>>,
    /// Batches appended, or tried, since.
    pub unflushed: Vec<(Position, Payloads)>,
    /// Snapshots whose write returned.
    pub snapshots: Vec<(Position, Vec<u8>)>,
    /// A snapshot whose write was cut off.
    pub snapshot_tried: Option<(Position, Vec<u8>)>,
    /// Everything below may be gone.
    pub trimmed_below: Position,
    next: Position,
}

impl Model {
    pub fn new() -> Self {
        Self {
            next: 1,
            ..Self::default()
        }
    }

    pub fn last_acknowledged(&self) -> Position {
        self.acknowledged
            .last_key_value()
            .map_or(0, |(position, _)| *position)
    }

    /// Position of the older of the two newest snapshots.
    fn covered(&self) -> Position {
        let older = self.snapshots.iter().rev().nth(1);
        older.map_or(0, |(position, _)| *position)
    }

    pub fn flushed(&mut self) {
        for (first, payloads) in self.unflushed.drain(..) {
            for (position, payload) in (first..).zip(payloads) {
                self.acknowledged.insert(position, payload);
            }
        }
    }

    /// Checks everything that is there against what may be there; returns the last position.
    ///
    /// Unflushed batches that are found whole count as acknowledged from then on.
    pub fn check(&mut self, log: &Log<SimFiles>, recovered: &Recovered) -> Position {
        assert_eq!(recovered.damaged, [], "a crash is no damage");
        assert!(
            !recovered.epoch_changed,
            "a crash loses nothing acknowledged"
        );
        self.check_snapshot(recovered);
        let found = read_all(log, recovered.first);
        let last = recovered.next - 1;
        assert_eq!(found.last_key_value().map_or(last, |(last, _)| *last), last);
        assert!(
            last >= self.last_acknowledged(),
            "lost {}",
            self.last_acknowledged()
        );
        for (position, payload) in &self.acknowledged {
            match found.get(position) {
                Some(read) => assert!(read == payload, "record {position} reads otherwise"),
                None => assert!(*position < self.trimmed_below, "record {position} is lost"),
            }
        }
        self.keep_whole_batches(last, &found);
        last
    }

    fn keep_whole_batches(&mut self, last: Position, found: &BTreeMap<Position, Vec<u8>>) {
        let mut end = self.last_acknowledged();
        for (first, payloads) in std::mem::take(&mut self.unflushed) {
            let batch_last = first + payloads.len() as u64 - 1;
            if batch_last > last {
                break;
            }
            for (position, payload) in (first..).zip(payloads) {
                assert!(
                    found.get(&position) == Some(&payload),
                    "record {position} is not whole"
                );
                self.acknowledged.insert(position, payload);
            }
            end = batch_last;
        }
        assert_eq!(last, end, "the log ends in the middle of a batch");
        self.next = last + 1;
    }

    fn check_snapshot(&mut self, recovered: &Recovered) {
        let tried = self.snapshot_tried.take();
        let newest = self.snapshots.last();
        let may = recovered.snapshot.as_ref() == newest
            || (tried.is_some() && recovered.snapshot == tried);
        assert!(
            may,
            "snapshot {:?} was not written",
            recovered.snapshot.as_ref().map(|s| s.0)
        );
        if let Some(tried) = tried.filter(|tried| recovered.snapshot.as_ref() == Some(tried)) {
            self.snapshots.push(tried);
        }
    }
}

/// Everything durable from `from` on; panics on a damaged record.
pub fn read_all(log: &Log<SimFiles>, from: Position) -> BTreeMap<Position, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut on_record = |position, payload: Result<&[u8], _>| {
        found.insert(position, payload.expect("no record is damaged").to_vec());
    };
    log.replay(from, &mut on_record)
        .expect("the disk can be read");
    found
}

/// Appends, flushes, takes snapshots and trims as the seed says, until done or cut off.
pub fn work(log: &mut Log<SimFiles>, model: &mut Model, random: &mut Random, steps: u32) -> bool {
    (0..steps).all(|_| step(log, model, random))
}

fn step(log: &mut Log<SimFiles>, model: &mut Model, random: &mut Random) -> bool {
    match random.below(10) {
        0 => snapshot(log, model, random),
        1 => {
            let before = random.below(model.next + 1);
            model.trimmed_below = model.trimmed_below.max(before.min(model.covered() + 1));
            log.trim(before).is_ok()
        }
        2 | 3 => append(log, model, random) && append(log, model, random) && flush(log, model),
        _ => append(log, model, random) && flush(log, model),
    }
}

pub fn append(log: &mut Log<SimFiles>, model: &mut Model, random: &mut Random) -> bool {
    let payloads = payloads(random);
    let first = model.next;
    model.unflushed.push((first, payloads.clone()));
    let appended = log.append(&Batch::from_payloads(first, &payloads));
    match appended {
        Ok(()) => {
            model.next += payloads.len() as u64;
            true
        }
        Err(AppendError::NoSpace) => {
            model.unflushed.pop();
            true
        }
        Err(_) => false,
    }
}

pub fn flush(log: &mut Log<SimFiles>, model: &mut Model) -> bool {
    let flushed = log.flush().is_ok();
    if flushed {
        model.flushed();
    }
    flushed
}

fn snapshot(log: &Log<SimFiles>, model: &mut Model, random: &mut Random) -> bool {
    let position = log.durable_position();
    if position == 0
        || model
            .snapshots
            .last()
            .is_some_and(|newest| newest.0 >= position)
    {
        return true;
    }
    let mut body = vec![0; random.below(3000) as usize];
    random.fill(&mut body);
    model.snapshot_tried = Some((position, body.clone()));
    if log.write_snapshot(position, &body).is_err() {
        return false;
    }
    model.snapshots.extend(model.snapshot_tried.take());
    true
}

/// One to five payloads, mostly short, some longer than two blocks, some empty.
fn payloads(random: &mut Random) -> Payloads {
    let payload = |random: &mut Random| {
        let bytes_max = if random.below(5) == 0 { 1500 } else { 200 };
        let mut payload = vec![0; random.below(bytes_max) as usize];
        random.fill(&mut payload);
        payload
    };
    (0..1 + random.below(5)).map(|_| payload(random)).collect()
}
