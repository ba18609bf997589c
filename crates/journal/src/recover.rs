//! Opening a store: what is found is judged, the torn tail is cut, a new segment begins.
//!
//! Promise: each step can be repeated, so a crash in the middle is followed by the same recovery.

use std::io;
use std::sync::Arc;

use crate::active::make_segment;
use crate::error::{Damage, OpenError};
use crate::format::{HEADER_AREA_BYTES, Hash, Salt, SegmentHeader, Witness};
use crate::options::{Defect, NewStore, Options};
use crate::scan::Scan;
use crate::segment::{SEGMENT_NEW, Segment, Shared};
use crate::snapshots::{SNAPSHOT_NEW, SnapshotStore};
use crate::survey::{FoundSegment, Survey, failed, survey};
use crate::witness::WitnessFile;
use crate::{File, Files, Log, Position};

const LOCK: &str = "lock";
/// How much is written again at once.
const AGAIN_BYTES: usize = 64 << 10;

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
    let tail = seal_last(&files, &mut survey)
        .map_err(fail("cut the torn tail"))
        .map_err(told)?;
    // Before the segment, so that a store that has a segment always has a witness.
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
    let salt = files
        .random()
        .map_err(fail("get random bytes"))
        .map_err(told)?;
    let header = SegmentHeader {
        chain_restarts: tail.chain_restarts,
        partition_count: options.partition_count,
        store_id,
        epoch,
        first: survey.end + 1,
        start_hash: tail.hash,
        salt: Salt(salt),
    };
    let active = make_segment(&files, &options, header, 0)
        .map_err(fail("make a segment"))
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
        torn_tail_bytes: tail.torn_bytes,
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

fn remove_unfinished<F: Files>(files: &F) -> io::Result<()> {
    for name in files.list()? {
        if name == SEGMENT_NEW || name == SNAPSHOT_NEW {
            files.remove(&name)?;
        }
    }
    Ok(())
}

/// Where the new segment goes on from.
#[derive(Default)]
struct Tail {
    torn_bytes: u64,
    hash: Hash,
    chain_restarts: bool,
}

/// Makes the last segment exactly as long as it counts, durably; drops it from the list when it
/// holds nothing, because the new segment takes its name.
fn seal_last<F: Files>(files: &F, survey: &mut Survey) -> io::Result<Tail> {
    let Some(last) = survey.segments.last() else {
        return Ok(Tail {
            chain_restarts: survey.end > 0,
            ..Tail::default()
        });
    };
    let scan = last
        .scan
        .as_ref()
        .expect("the last segment is always scanned");
    let mut tail = Tail {
        torn_bytes: scan.torn_bytes,
        hash: scan.end_hash.unwrap_or_default(),
        chain_restarts: scan.end_hash.is_none(),
    };
    if survey.end < last.first {
        tail.chain_restarts |= last.header.is_some_and(|header| header.chain_restarts);
        survey.segments.pop();
        return Ok(tail);
    }
    let file = files.open(&last.name)?;
    if last.header.is_some() {
        // Also when it seems to have that length: an earlier cut may stand in memory alone.
        file.set_len(scan.end)?;
    }
    // Whole batches behind the last flush count from now on, so they must be durable. The sync of an
    // earlier process may have failed on them: then they stand in memory, are on no disk, and are
    // no longer marked as to be written, so that a sync alone would say yes to nothing.
    write_again(&file, unproved(scan), scan.end)?;
    file.sync_data()?;
    Ok(tail)
}

/// Where the part begins that no later batch and no witness proves to have been durable.
fn unproved(scan: &Scan) -> u64 {
    let proved = scan.index.lookup(scan.floor);
    proved.map_or(HEADER_AREA_BYTES as u64, |lookup| lookup.offset)
}

/// Writes the bytes from `start` to `end` over themselves.
fn write_again<F: File>(file: &F, start: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; AGAIN_BYTES];
    let mut at = start;
    while at < end {
        let wanted = usize::try_from(end - at)
            .unwrap_or(AGAIN_BYTES)
            .min(AGAIN_BYTES);
        let read = file.read_at(at, &mut buffer[..wanted])?;
        if read == 0 {
            break;
        }
        file.write_at(at, &buffer[..read])?;
        at += read as u64;
    }
    Ok(())
}

/// The segments of earlier lives, as the log keeps them.
fn open_segments<F: Files>(found: Vec<FoundSegment>, end: Position) -> Vec<Arc<Segment<F>>> {
    let uppers: Vec<_> = found
        .iter()
        .skip(1)
        .map(|next| next.first - 1)
        .chain([end])
        .collect();
    let open = |(segment, upper): (FoundSegment, Position)| {
        let FoundSegment {
            name,
            first,
            bytes,
            header,
            scan,
            ..
        } = segment;
        Arc::new(match (scan, header) {
            (Some(scan), header) => Segment::scanned(name, first, header, scan.index),
            (None, Some(header)) => Segment::unscanned(header, name, upper, bytes),
            (None, None) => unreachable!("a segment without a header is always scanned"),
        })
    };
    found.into_iter().zip(uppers).map(open).collect()
}
