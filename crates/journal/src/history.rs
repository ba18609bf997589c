//! Reads a store's records in order from outside, even while its owner writes it.
//!
//! Promise: nothing is changed and no lock is taken; each record is served as it was written or as
//! damaged; and the hash chain is proved over every segment that is read. What is read ends where
//! the log ended when it was opened: a batch that is being written then counts as not there.
//!
//! Left out on purpose: following a log that grows; see [`crate::Reader`] for the owner's readers.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use bytes::Bytes;

use crate::error::{Damage, Damaged, OpenError, Reason};
use crate::format::{Frame, HEADER_AREA_BYTES};
use crate::index::Index;
use crate::options::Options;
use crate::reader::Record;
use crate::scan::{Scan, structure_bytes};
use crate::segment::read_all;
use crate::snapshots;
use crate::survey::{Chain, FoundSegment, Survey, failed, look};
use crate::{Files, Position};

/// A store as seen from outside, and the place up to which it was read.
pub struct History<F: Files> {
    files: F,
    options: Options,
    segments: VecDeque<FoundSegment>,
    /// The last segment, read when the history was opened.
    tail: Option<Loaded>,
    current: Option<Loaded>,
    chain: Chain,
    floor: Position,
    next: Position,
    first: Position,
    last: Position,
    store_id: [u8; 16],
    epoch: u64,
    snapshots: Vec<Position>,
    newest_snapshot: Option<(Position, Vec<u8>)>,
    batches: u64,
    torn_tail_bytes: u64,
    damaged: Vec<Damage>,
}

/// A segment in memory.
struct Loaded {
    segment: FoundSegment,
    scan: Scan,
    data: Bytes,
    /// Offset behind the record read last.
    at: usize,
}

impl<F: Files> fmt::Debug for History<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("first", &self.first)
            .field("next", &self.next)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl<F: Files> History<F> {
    /// Looks at the store in `files`; `None` when the directory holds none.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read or a newer product wrote it.
    pub fn open(files: F) -> Result<Option<Self>, OpenError> {
        let options = Options {
            partition_count: 0,
            ..Options::default()
        };
        let mut tries = 0;
        loop {
            match Self::try_open(&files, &options) {
                // The owner removed a file between our looking and our reading.
                Err(OpenError::Io { error, .. })
                    if error.kind() == io::ErrorKind::NotFound && tries < OPEN_TRIES_MAX =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn try_open(files: &F, options: &Options) -> Result<Option<Self>, OpenError> {
        let mut survey = look(files, options)?;
        survey.end = survey.floor();
        survey.find_missing_start();
        let floor = survey.floor();
        let Survey {
            segments,
            snapshots,
            store_id,
            epoch,
            damaged,
            ..
        } = survey;
        let Some(store_id) = store_id else {
            return Ok(None);
        };
        let first = segments.first().map_or(floor + 1, |segment| segment.first);
        let mut history = Self {
            files: files.clone(),
            options: options.clone(),
            segments: segments.into(),
            tail: None,
            current: None,
            chain: Chain::default(),
            floor,
            next: first,
            first,
            last: floor,
            store_id,
            epoch,
            snapshots: snapshots
                .good
                .iter()
                .map(|good| good.header.position)
                .collect(),
            newest_snapshot: None,
            batches: 0,
            torn_tail_bytes: 0,
            damaged,
        };
        let newest = snapshots.good.into_iter().next();
        history.newest_snapshot = newest.map(|newest| (newest.header.position, newest.body));
        history
            .read_tail()
            .map_err(|error| failed(files, "read segments", error))?;
        Ok(Some(history))
    }

    /// Reads the last segment now: where it ends, everything ends.
    fn read_tail(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.pop_back() else {
            return Ok(());
        };
        let tail = self.load(segment, None)?;
        self.last = tail.scan.index.next() - 1;
        self.tail = Some(tail);
        Ok(())
    }

    fn load(&self, segment: FoundSegment, upper: Option<Position>) -> io::Result<Loaded> {
        let mut data = read_all(&self.files.open(&segment.name)?)?;
        let scan = segment.scan(&data, upper, self.floor, &self.options);
        data.truncate(usize::try_from(scan.end).unwrap_or(usize::MAX));
        data.shrink_to_fit();
        Ok(Loaded {
            segment,
            scan,
            data: data.into(),
            at: HEADER_AREA_BYTES,
        })
    }

    /// Lowest position that was not trimmed.
    pub fn first(&self) -> Position {
        self.first
    }

    /// Highest position there was at the open.
    pub fn last(&self) -> Position {
        self.last
    }

    /// Id of the store.
    pub fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// Life of the store.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Batches so far whose hash and chain hold.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Bytes behind the last whole batch: the torn tail of a crash, or what was being written.
    pub fn torn_tail_bytes(&self) -> u64 {
        self.torn_tail_bytes
    }

    /// Places that are not as written, as far as was read.
    pub fn damaged(&self) -> &[Damage] {
        &self.damaged
    }

    /// Positions of the good snapshots, newest first.
    pub fn snapshots(&self) -> &[Position] {
        &self.snapshots
    }

    /// The body of the snapshot at `position`; `None` when its owner removed it meanwhile.
    ///
    /// # Errors
    ///
    /// When the disk does not answer.
    pub fn snapshot(&self, position: Position) -> io::Result<Option<Vec<u8>>> {
        if let Some((_, body)) = self
            .newest_snapshot
            .as_ref()
            .filter(|(at, _)| *at == position)
        {
            return Ok(Some(body.clone()));
        }
        snapshots::read(&self.files, position)
    }

    /// Goes on at `position`, or at the first record that is there behind it. Only forward.
    ///
    /// The chain is proved from the segment on that holds it.
    pub fn skip_to(&mut self, position: Position) {
        self.next = self.next.max(position);
        while self.segments.len() > 1 && self.segments[1].first <= self.next {
            self.segments.pop_front();
            self.chain = Chain::default();
        }
        let behind = self
            .tail
            .as_ref()
            .is_some_and(|tail| tail.segment.first <= self.next);
        if behind && self.segments.pop_front().is_some() {
            self.chain = Chain::default();
        }
    }

    /// The next record, or `None` behind the last.
    ///
    /// # Errors
    ///
    /// When the disk does not answer.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        loop {
            let held = self.current.as_ref().map(|loaded| loaded.scan.index.next());
            if held.is_none_or(|next| next <= self.next) && !self.next_segment()? {
                return Ok(None);
            }
            let next = self.next;
            let Some(loaded) = &mut self.current else {
                return Ok(None);
            };
            if loaded.scan.index.next() <= next {
                continue;
            }
            // Segments may have been trimmed while we read: what is left begins higher.
            self.next = next.max(loaded.scan.index.first());
            let record = loaded.record(self.next);
            self.next += 1;
            return Ok(Some(record));
        }
    }

    /// Makes the next segment the current one; false when there is none.
    fn next_segment(&mut self) -> io::Result<bool> {
        while let Some(segment) = self.segments.pop_front() {
            let behind = self.segments.front().map(|next| next.first);
            let behind = behind.or(self.tail.as_ref().map(|tail| tail.segment.first));
            match self.load(segment, behind.map(|first| first - 1)) {
                Ok(loaded) => {
                    self.take_on(loaded);
                    return Ok(true);
                }
                // Its owner trimmed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.chain = Chain::default();
                }
                Err(error) => return Err(error),
            }
        }
        let tail = self.tail.take();
        let found = tail.is_some();
        if let Some(tail) = tail {
            self.torn_tail_bytes = tail.scan.torn_bytes;
            self.take_on(tail);
        }
        Ok(found)
    }

    fn take_on(&mut self, loaded: Loaded) {
        self.damaged.extend(loaded.segment.header_damage());
        let damage = loaded.segment.damage(&loaded.scan, &self.chain);
        self.damaged.extend(damage);
        self.chain = Chain {
            end_hash: loaded.scan.end_hash,
        };
        self.batches += loaded.scan.batches;
        self.current = Some(loaded);
    }
}

impl Loaded {
    fn record(&mut self, position: Position) -> Record {
        let index = &self.scan.index;
        let damaged = index.damaged(position);
        let found = match damaged {
            Some(damaged) => Err(damaged),
            None => self
                .frame_from(self.at, position)
                .or_else(|| self.frame_from(lookup(index, position)?, position))
                .ok_or(Damaged {
                    position,
                    reason: Reason::Checksum,
                }),
        };
        let payload = found.map(|(start, end)| {
            self.at = end;
            self.data.slice(start..end)
        });
        Record { position, payload }
    }

    /// Where the payload at `position` begins and ends, looked for from the frame at `at` on.
    fn frame_from(&self, mut at: usize, position: Position) -> Option<(usize, usize)> {
        let salt = self.segment.header?.salt;
        loop {
            let rest = self.data.get(at..)?;
            let tag = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
            if let Some(bytes) = structure_bytes(tag) {
                at += bytes;
                continue;
            }
            let frame = Frame::decode(rest).filter(|frame| frame.position <= position)?;
            let end = at + frame.bytes();
            if frame.position == position {
                let payload = (end - frame.payload_bytes, end);
                return frame.holds(rest, salt).then_some(payload);
            }
            at = end;
        }
    }
}

fn lookup(index: &Index, position: Position) -> Option<usize> {
    let found = index.lookup(position)?;
    usize::try_from(found.offset).ok()
}

/// How often a store that changes under our hands is looked at.
const OPEN_TRIES_MAX: u32 = 5;
