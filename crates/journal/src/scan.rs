//! Reads a whole segment and tells what in it is good, damaged, or a torn tail.
//!
//! Pure: bytes in, findings out. The rules are the table "Recovery" in `docs/storage.md`.
//! Promise: nothing at or below the floor is ever called torn, and no record is called good whose
//! own checksum does not hold.

use crate::Position;
use crate::error::Reason;
use crate::format::{
    BATCH_MAGIC, BatchHeader, COMMIT_BYTES, COMMIT_MAGIC, Commit, FRAME_BYTES, Frame,
    HEADER_AREA_BYTES, HEADER_BYTES, Hash, SegmentHeader, batch_hash,
};
use crate::index::Index;

/// What is known about a segment before it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Its header.
    pub(crate) header: SegmentHeader,
    /// The last position it must hold, when a later segment tells (`first - 1` of it if none).
    pub(crate) upper: Option<Position>,
    /// Highest position proved durable by something outside the segment.
    pub(crate) floor: Position,
    /// Test-only defects.
    pub(crate) trust_everything: bool,
    /// Test-only defect: cut at the first bad batch.
    pub(crate) cut_at_damage: bool,
}

/// A finding without or with positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) positions: Option<(Position, Position)>,
    pub(crate) offset: u64,
    pub(crate) reason: Reason,
}

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) index: Index,
    pub(crate) findings: Vec<Finding>,
    /// Bytes of the file that count; the rest is to be cut.
    pub(crate) end: u64,
    /// Bytes of a torn tail behind `end`, without zeros.
    pub(crate) torn_bytes: u64,
    /// Hash of the last batch, when it is known.
    pub(crate) end_hash: Option<Hash>,
    /// Whole batches found.
    pub(crate) batches: u64,
    /// The log ends below what is proved to have been durable.
    pub(crate) short: bool,
    /// Highest position proved to have been durable.
    pub(crate) floor: Position,
    /// Bytes of the file up to the end of the last batch that is proved to have been durable.
    pub(crate) proved_end: u64,
}

/// Scans `data`, the whole file.
pub(crate) fn scan(data: &[u8], known: &Known) -> Scan {
    let extents = extents(data, known);
    let flushed = extents
        .iter()
        .filter_map(|extent| extent.header)
        .map(|h| h.flushed_through);
    let floor = match known.upper {
        Some(upper) => upper,
        None => flushed.fold(known.floor, Position::max),
    };
    let mut walk = Walk::new(data, *known, floor);
    for (at, extent) in extents.iter().enumerate() {
        let next_first = extents
            .get(at + 1)
            .and_then(|next| next.header)
            .map(|h| h.first);
        if !walk.take(extent, next_first) {
            break;
        }
    }
    walk.finish()
}

/// A stretch of the file between two batch borders.
#[derive(Debug, Clone, Copy)]
struct Extent {
    start: usize,
    end: usize,
    /// The batch header, if its checksum holds.
    header: Option<BatchHeader>,
    /// The batch's hash, if the whole batch is as written.
    hash: Option<Hash>,
}

fn extents(data: &[u8], known: &Known) -> Vec<Extent> {
    let mut extents = Vec::new();
    let mut start = HEADER_AREA_BYTES;
    let used = used_bytes(data);
    while start < used {
        let extent = match sound_header(data, start, known) {
            Some(header) => batch_extent(data, start, used, header, known),
            None => {
                let end = next_header(data, start + 1, used, known);
                Extent {
                    start,
                    end,
                    header: None,
                    hash: None,
                }
            }
        };
        start = extent.end;
        extents.push(extent);
    }
    extents
}

/// Length without the zeros at the end. Whole blocks are compared first: most of a segment that
/// was being written is zeros.
fn used_bytes(data: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = data.len();
    while end >= ZEROS.len() && data[end - ZEROS.len()..end] == ZEROS {
        end -= ZEROS.len();
    }
    data[..end]
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

fn batch_extent(
    data: &[u8],
    start: usize,
    used: usize,
    header: BatchHeader,
    known: &Known,
) -> Extent {
    let salt = known.header.salt;
    // A hash may end in zeros, so the end is bounded by the file and not by `used`.
    let end = start.saturating_add(header.bytes as usize);
    if end > data.len() {
        let end = next_header(data, start + HEADER_BYTES, used, known);
        return Extent {
            start,
            end,
            header: Some(header),
            hash: None,
        };
    }
    let batch = &data[start..end];
    let (body, tail) = batch.split_at(batch.len() - COMMIT_BYTES);
    let commit = Commit::decode(tail, salt).filter(|commit| commit.last == header.last());
    let hash = commit.map(|commit| commit.hash);
    let hash = hash.filter(|hash| known.trust_everything || *hash == batch_hash(salt, body));
    // A batch that is not whole may be a torn write behind which nothing belongs to it: a header
    // found inside it is a batch of its own. None can be there in a whole one.
    let end = if hash.is_some() {
        end
    } else {
        next_header(data, start + HEADER_BYTES, end, known)
    };
    Extent {
        start,
        end,
        header: Some(header),
        hash,
    }
}

/// Offset of the first sound batch header in `from..to`, or `to`.
fn next_header(data: &[u8], from: usize, to: usize, known: &Known) -> usize {
    let magic = BATCH_MAGIC.to_le_bytes();
    let mut at = from;
    while let Some(found) = find(&data[at.min(to)..to], &magic) {
        at += found;
        if sound_header(data, at, known).is_some() {
            return at;
        }
        at += 1;
    }
    to
}

/// The batch header at `at`, if it can belong to this segment.
fn sound_header(data: &[u8], at: usize, known: &Known) -> Option<BatchHeader> {
    let header = BatchHeader::decode(&data[at..], known.header.salt)?;
    in_reach(header.last(), known).then_some(header)
}

/// Whether a position is near enough to the segment's first for the index.
fn in_reach(position: Position, known: &Known) -> bool {
    position
        .checked_sub(known.header.first)
        .is_some_and(|delta| delta <= u64::from(u32::MAX))
}

fn find(haystack: &[u8], needle: &[u8; 4]) -> Option<usize> {
    haystack.windows(4).position(|window| window == needle)
}

/// Goes over the extents in order, building the index.
struct Walk<'a> {
    data: &'a [u8],
    known: Known,
    floor: Position,
    scan: Scan,
}

impl<'a> Walk<'a> {
    fn new(data: &'a [u8], known: Known, floor: Position) -> Self {
        let end = HEADER_AREA_BYTES as u64;
        let scan = Scan {
            index: Index::new(known.header.first, end),
            findings: Vec::new(),
            end,
            torn_bytes: 0,
            end_hash: Some(known.header.start_hash),
            batches: 0,
            short: false,
            floor,
            proved_end: end,
        };
        Self {
            data,
            known,
            floor,
            scan,
        }
    }

    /// Takes one extent; false when the log ends before it.
    fn take(&mut self, extent: &Extent, next_first: Option<Position>) -> bool {
        let expected = self.scan.index.next();
        let whole = extent.hash.is_some() && self.follows(extent, expected);
        let cut = if self.known.cut_at_damage && self.known.upper.is_none() {
            !whole
        } else {
            !whole && expected > self.floor
        };
        if cut {
            self.cut(extent);
            return false;
        }
        if whole {
            self.take_whole(extent);
        } else {
            self.take_damaged(extent, next_first);
        }
        self.scan.end = extent.end as u64;
        self.scan.index.set_end(self.scan.end);
        if self.scan.index.next() <= self.floor + 1 {
            self.scan.proved_end = self.scan.end;
        }
        true
    }

    /// Whether a batch stands where the log expects it and links to the one before.
    fn follows(&self, extent: &Extent, expected: Position) -> bool {
        let linked = |header: &BatchHeader| {
            self.scan
                .end_hash
                .is_none_or(|hash| hash == header.previous)
                || self.known.trust_everything
        };
        extent.header.is_some_and(|header| {
            let fits = self.known.upper.is_none_or(|upper| header.last() <= upper);
            header.first == expected && linked(&header) && fits
        })
    }

    fn cut(&mut self, extent: &Extent) {
        let torn = used_bytes(self.data).saturating_sub(extent.start);
        if self.known.upper.is_some() {
            self.find(None, extent.start, Reason::StrayBytes);
        }
        self.scan.torn_bytes = torn as u64;
    }

    fn take_whole(&mut self, extent: &Extent) {
        let header = extent.header.expect("a whole batch has a header");
        let mut offset = extent.start + HEADER_BYTES;
        for position in header.first..=header.last() {
            let frame = self.data.get(offset..).and_then(Frame::decode);
            let Some(frame) = frame.filter(|frame| frame.position == position) else {
                // The hash holds, so the writer wrote this: only a test-only defect gets here.
                self.scan.index.push_hole(header.last(), Reason::Checksum);
                break;
            };
            self.scan.index.push(position, offset as u64, frame.bytes());
            offset += frame.bytes();
        }
        self.scan.batches += 1;
        self.scan.end_hash = extent.hash;
    }

    fn take_damaged(&mut self, extent: &Extent, next_first: Option<Position>) {
        let last = self.last_of(extent, next_first);
        let before = self.scan.findings.len();
        self.scan.index.interrupt();
        let from = extent.start + extent.header.map_or(0, |_| HEADER_BYTES);
        self.salvage(from, extent.end, last);
        if self.scan.index.next() <= last {
            self.lose(last, extent.start, Reason::Checksum);
            self.scan.short |= next_first.is_none() && self.is_cut_off(extent);
        }
        if self.scan.findings.len() == before {
            let chained = extent.hash.is_some();
            let reason = if chained {
                Reason::ChainBroken
            } else {
                Reason::BatchFrame
            };
            self.find(None, extent.start, reason);
        }
        self.scan.index.interrupt();
        self.scan.end_hash = extent.hash.or_else(|| self.stored_hash(extent, last));
    }

    /// The last position a damaged extent must have held.
    fn last_of(&self, extent: &Extent, next_first: Option<Position>) -> Position {
        let own = extent.header.map(|header| header.last());
        let last = match (next_first, own) {
            (Some(next), _) => next - 1,
            (None, Some(own)) => own,
            (None, None) => self.floor,
        };
        last.min(self.known.upper.unwrap_or(Position::MAX))
    }

    /// Whether the bytes of a damaged last extent may not be there at all.
    fn is_cut_off(&self, extent: &Extent) -> bool {
        extent
            .header
            .is_none_or(|header| extent.start + header.bytes as usize > self.data.len())
    }

    /// Keeps every frame in `from..to` whose checksum holds, up to position `last`.
    fn salvage(&mut self, from: usize, to: usize, last: Position) {
        let salt = self.known.header.salt;
        let mut offset = from;
        while offset + FRAME_BYTES <= to && self.scan.index.next() <= last {
            let bytes = &self.data[offset..to];
            let expected = self.scan.index.next();
            let frame = Frame::decode(bytes)
                .filter(|frame| (expected..=last).contains(&frame.position))
                .filter(|frame| in_reach(frame.position, &self.known))
                .filter(|frame| frame.holds(bytes, salt));
            let Some(frame) = frame else {
                offset += 1;
                continue;
            };
            if frame.position > expected {
                self.lose(frame.position - 1, offset, Reason::Checksum);
            }
            self.scan
                .index
                .push(frame.position, offset as u64, frame.bytes());
            offset += frame.bytes();
        }
    }

    /// The hash in a damaged extent's commit, if the commit itself is whole.
    fn stored_hash(&self, extent: &Extent, last: Position) -> Option<Hash> {
        let start = extent.end.checked_sub(COMMIT_BYTES)?;
        let commit = Commit::decode(
            &self.data[start.max(extent.start)..],
            self.known.header.salt,
        )?;
        (commit.last == last).then_some(commit.hash)
    }

    fn lose(&mut self, last: Position, offset: usize, reason: Reason) {
        let first = self.scan.index.next();
        self.scan.index.push_hole(last, reason);
        self.find(Some((first, last)), offset, reason);
    }

    fn find(&mut self, positions: Option<(Position, Position)>, offset: usize, reason: Reason) {
        self.scan.findings.push(Finding {
            positions,
            offset: offset as u64,
            reason,
        });
    }

    fn finish(mut self) -> Scan {
        let cut_short = self.known.cut_at_damage && self.known.upper.is_none();
        if self.scan.index.next() <= self.floor && !cut_short {
            let end = self.scan.end as usize;
            self.lose(self.floor, end, Reason::Missing);
            self.scan.short = true;
            self.scan.end_hash = None;
        }
        self.scan
    }
}

/// Length of the non-record structure at the start of `bytes`, if one begins there.
pub(crate) fn structure_bytes(tag: u32) -> Option<usize> {
    match tag {
        BATCH_MAGIC => Some(HEADER_BYTES),
        COMMIT_MAGIC => Some(COMMIT_BYTES),
        _ => None,
    }
}
