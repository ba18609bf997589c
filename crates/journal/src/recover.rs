//! Opening a store: what is found is judged, the torn tail is cut, a new segment begins.
//!
//! Promise: each step can be repeated, so a crash in the middle is followed by the same recovery.

use std::sync::Arc;

use crate::error::{Damage, OpenError};
use crate::format::{SegmentHeader, Witness};
use crate::index::Index;
use crate::log::make_segment;
use crate::options::{Defect, NewStore, Options};
use crate::segment::{SEGMENT_NEW, Segment, Shared};
use crate::snapshots::{SNAPSHOT_NEW, SnapshotStore};
use crate::survey::{FoundSegment, Survey, failed, survey};
use crate::witness::WitnessFile;
use crate::{File, Files, Log, Position};

const LOCK: &str = "lock";

/// What an open found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Id of the store.
    pub store_id: [u8; 16],
    /// The directory held no store before.
    pub created: bool,
    /// Position of the next record.
    pub next: Position,
    /// Lowest position that was not trimmed.
    pub first: Position,
    /// Epoch of the store from now on.
    pub epoch: u64,
    /// Acknowledged records at the end of the log are gone, so a new epoch began with this open.
    /// After a crash in the middle of such an open the next one finds the new epoch in place and
    /// says false: compare [`Recovered::epoch`] with the one you knew.
    pub epoch_changed: bool,
    /// The newest good snapshot: its position and body.
    pub snapshot: Option<(Position, Vec<u8>)>,
    /// Bytes of unacknowledged batches that were cut.
    pub torn_tail_bytes: u64,
    /// Every place that is not as written, with the positions that cannot be served.
    pub damaged: Vec<Damage>,
}

/// Opens or creates the store.
pub(crate) fn open<F: Files>(
    files: F,
    options: Options,
    identity: NewStore,
) -> Result<(Log<F>, Recovered), OpenError> {
    let lock = lock(&files)?;
    let fail = |action| move |error| (action, error);
    let told = |(action, error)| failed(&files, action, error);
    // Names that a killed process left in memory must be durable before anything rests on them.
    files
        .sync_dir()
        .map_err(fail("sync the directory"))
        .map_err(told)?;
    let mut survey = survey(&files, &options)?;
    remove_unfinished(&files)
        .map_err(fail("remove unfinished files"))
        .map_err(told)?;
    let created = survey.store_id.is_none();
    let store_id = survey.store_id.unwrap_or(identity.store_id);
    let epoch = match (created, survey.short) {
        (true, _) => identity.epoch,
        (false, true) => identity.epoch.max(survey.epoch + 1),
        (false, false) => survey.epoch,
    };
    let torn_tail_bytes = seal_last(&mut survey)
        .map_err(fail("cut the torn tail"))
        .map_err(told)?;
    let header = next_header(&files, &survey, &options, (store_id, epoch))
        .map_err(fail("get random bytes"))
        .map_err(told)?;
    let active = make_segment(&files, &options, header, 0)
        .map_err(fail("make a segment"))
        .map_err(told)?;
    let number = survey.witness.map_or(0, |witness| witness.number);
    let start = Witness {
        store_id,
        epoch,
        position: survey.end,
        number,
    };
    let witness = WitnessFile::open(&files, start)
        .map_err(fail("write the witness"))
        .map_err(told)?;

    let newest = survey.snapshots.good.first_mut();
    let snapshot = newest.map(|s| (s.header.position, std::mem::take(&mut s.body)));
    let kept = survey
        .snapshots
        .good
        .iter()
        .map(|snapshot| snapshot.header.position)
        .collect();
    let end = survey.end;
    let mut segments: Vec<_> = open_segments(survey.segments, end);
    segments.push(Arc::clone(&active.segment));
    let recovered = Recovered {
        store_id,
        created,
        next: end + 1,
        first: segments[0].first,
        epoch,
        epoch_changed: !created && survey.short,
        snapshot,
        torn_tail_bytes,
        damaged: survey.damaged,
    };
    let trust_everything = options.defect(Defect::SkipChecksums);
    let shared = Arc::new(Shared::new(
        files,
        (store_id, epoch),
        trust_everything,
        segments,
        end,
    ));
    let snapshots = SnapshotStore::new(Arc::clone(&shared), kept);
    Ok((
        Log::new(shared, options, lock, active, witness, snapshots),
        recovered,
    ))
}

fn lock<F: Files>(files: &F) -> Result<F::Lock, OpenError> {
    let lock = files
        .lock(LOCK)
        .map_err(|error| failed(files, "lock", error))?;
    lock.ok_or_else(|| OpenError::InUse {
        directory: files.describe(),
    })
}

fn remove_unfinished<F: Files>(files: &F) -> std::io::Result<()> {
    for name in files.list()? {
        if name == SEGMENT_NEW || name == SNAPSHOT_NEW {
            files.remove(&name)?;
        }
    }
    Ok(())
}

/// Makes the last segment exactly as long as it counts, durably; drops it from the list when it
/// holds nothing, because the new segment takes its name.
fn seal_last<F: Files>(survey: &mut Survey<F>) -> std::io::Result<u64> {
    let Some(last) = survey.segments.last() else {
        return Ok(0);
    };
    let scan = last
        .scan
        .as_ref()
        .expect("the last segment is always scanned");
    let torn_tail_bytes = scan.torn_bytes;
    if survey.end < last.first {
        survey.segments.pop();
        return Ok(torn_tail_bytes);
    }
    if last.bytes != scan.end && last.header.is_some() {
        last.file.set_len(scan.end)?;
    }
    // Whole batches behind the last flush count from now on, so they must be durable.
    last.file.sync_data()?;
    Ok(torn_tail_bytes)
}

fn next_header<F: Files>(
    files: &F,
    survey: &Survey<F>,
    options: &Options,
    (store_id, epoch): ([u8; 16], u64),
) -> std::io::Result<SegmentHeader> {
    let last = survey.segments.last();
    let end_hash = match last.and_then(|last| last.scan.as_ref()) {
        Some(scan) => scan.end_hash,
        None if survey.end == 0 => Some([0; 32]),
        None => None,
    };
    Ok(SegmentHeader {
        chain_restarts: end_hash.is_none(),
        partition_count: options.partition_count,
        store_id,
        epoch,
        first: survey.end + 1,
        start_hash: end_hash.unwrap_or_default(),
        salt: crate::format::Salt(files.random()?),
    })
}

fn open_segments<F: Files>(found: Vec<FoundSegment<F>>, end: Position) -> Vec<Arc<Segment<F>>> {
    let uppers: Vec<_> = found
        .iter()
        .skip(1)
        .map(|next| next.first - 1)
        .chain([end])
        .collect();
    let open = |(segment, upper): (FoundSegment<F>, Position)| {
        let FoundSegment {
            name,
            first,
            file,
            header,
            scan,
            ..
        } = segment;
        Arc::new(match (scan, header) {
            (None, Some(header)) => Segment::unscanned(header, file, name, upper),
            (Some(scan), header) => Segment::new(name, first, header, file, scan.index),
            (None, None) => {
                let index = Index::new(first, 0);
                Segment::new(name, first, header, file, index)
            }
        })
    };
    found.into_iter().zip(uppers).map(open).collect()
}
