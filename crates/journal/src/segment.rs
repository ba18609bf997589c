//! One segment and the list of them that writer and readers share.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::Damage;
use crate::format::{HEADER_AREA_BYTES, SegmentHeader};
use crate::index::Index;
use crate::scan::{Finding, Known, Scan, scan};
use crate::{File, Files, Position};

pub(crate) const SEGMENT_PREFIX: &str = "segment-";
/// Files of old segments that stay open for reading; a store of any size needs no more.
const OPEN_FILES_MAX: usize = 32;
pub(crate) const SEGMENT_NEW: &str = "segment.new";

/// A file of the log, as told to people and to retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Name of the file.
    pub name: String,
    /// Position of its first record.
    pub first: Position,
    /// Position of its last record; below `first` while it holds none.
    pub last: Position,
    /// Bytes of the file that are in use; a segment being written is longer.
    pub bytes: u64,
}

pub(crate) fn segment_name(first: Position) -> String {
    format!("{SEGMENT_PREFIX}{first:020}")
}

/// The first position in a segment's name, if it is one.
pub(crate) fn segment_first(name: &str) -> Option<Position> {
    let digits = name.strip_prefix(SEGMENT_PREFIX)?;
    let first = digits.parse().ok().filter(|first| *first >= 1)?;
    (segment_name(first) == name).then_some(first)
}

/// Reads a whole file.
pub(crate) fn read_all(file: &impl File) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut data = vec![0; len];
    let read = file.read_at(0, &mut data)?;
    data.truncate(read);
    Ok(data)
}

/// One segment of the log.
pub(crate) struct Segment<F: Files> {
    pub(crate) name: String,
    pub(crate) first: Position,
    /// `None` when both copies are damaged; the index is then one hole.
    pub(crate) header: Option<SegmentHeader>,
    /// The open file while the segment is written; later it is opened when it is read.
    pinned: Mutex<Option<Arc<F::File>>>,
    index: RwLock<Loading>,
}

enum Loading {
    /// Not scanned yet; the segment must hold positions up to this one.
    Later {
        upper: Position,
        bytes: u64,
    },
    Ready(Index),
}

impl<F: Files> Segment<F> {
    /// A segment whose records are known.
    pub(crate) fn scanned(
        name: String,
        first: Position,
        header: Option<SegmentHeader>,
        index: Index,
    ) -> Self {
        Self {
            name,
            first,
            header,
            pinned: Mutex::new(None),
            index: RwLock::new(Loading::Ready(index)),
        }
    }

    /// A segment whose records, up to `upper`, are found when first asked for.
    pub(crate) fn unscanned(
        header: SegmentHeader,
        name: String,
        upper: Position,
        bytes: u64,
    ) -> Self {
        Self {
            name,
            first: header.first,
            header: Some(header),
            pinned: Mutex::new(None),
            index: RwLock::new(Loading::Later { upper, bytes }),
        }
    }

    /// A segment that is about to be written through `file`.
    pub(crate) fn fresh(name: String, header: SegmentHeader, file: Arc<F::File>) -> Self {
        let index = Index::new(header.first, HEADER_AREA_BYTES as u64);
        let segment = Self::scanned(name, header.first, Some(header), index);
        *lock(&segment.pinned) = Some(file);
        segment
    }

    /// Notes that the segment will not be written any more.
    pub(crate) fn unpin(&self) {
        *lock(&self.pinned) = None;
    }

    /// The open file.
    pub(crate) fn file(&self, shared: &Shared<F>) -> io::Result<Arc<F::File>> {
        if let Some(file) = &*lock(&self.pinned) {
            return Ok(Arc::clone(file));
        }
        shared.open_files.get(&shared.files, &self.name)
    }

    /// Runs `f` on the index, scanning the segment if that was not done.
    pub(crate) fn with_index<T>(
        &self,
        shared: &Shared<F>,
        f: impl FnOnce(&Index) -> T,
    ) -> io::Result<T> {
        if let Loading::Ready(index) = &*read(&self.index) {
            return Ok(f(index));
        }
        let mut loading = write(&self.index);
        if let Loading::Later { upper, .. } = *loading {
            *loading = Loading::Ready(self.scan(shared, upper, u64::MAX)?);
        }
        match &*loading {
            Loading::Ready(index) => Ok(f(index)),
            Loading::Later { .. } => unreachable!("the index was made ready above"),
        }
    }

    pub(crate) fn update_index(&self, f: impl FnOnce(&mut Index)) {
        if let Loading::Ready(index) = &mut *write(&self.index) {
            f(index);
        }
    }

    /// Scans again what is known to be durable, after a read met bytes it did not expect.
    pub(crate) fn rescan(&self, shared: &Shared<F>) -> io::Result<()> {
        let mut loading = write(&self.index);
        if let Loading::Ready(index) = &*loading {
            let fresh = self.scan(shared, index.next() - 1, index.end())?;
            *loading = Loading::Ready(fresh);
        }
        Ok(())
    }

    /// Last position the segment must hold.
    pub(crate) fn last(&self) -> Position {
        match &*read(&self.index) {
            Loading::Later { upper, .. } => *upper,
            Loading::Ready(index) => index.next() - 1,
        }
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> u64 {
        match &*read(&self.index) {
            Loading::Later { bytes, .. } => *bytes,
            Loading::Ready(index) => index.end(),
        }
    }

    fn scan(&self, shared: &Shared<F>, upper: Position, end: u64) -> io::Result<Index> {
        let Some(header) = self.header else {
            return Err(io::Error::other("segment header is damaged"));
        };
        let mut data = read_all(&*self.file(shared)?)?;
        data.truncate(usize::try_from(end).unwrap_or(usize::MAX));
        let known = Known {
            header,
            upper: Some(upper),
            floor: upper,
            trust_everything: shared.trust_everything,
            cut_at_damage: false,
        };
        let Scan {
            index, findings, ..
        } = scan(&data, &known);
        shared.report(&self.name, findings);
        Ok(index)
    }
}

/// What writer, readers and snapshots of one store share.
pub(crate) struct Shared<F: Files> {
    pub(crate) files: F,
    pub(crate) store_id: [u8; 16],
    pub(crate) epoch: u64,
    pub(crate) trust_everything: bool,
    pub(crate) segments: RwLock<Vec<Arc<Segment<F>>>>,
    durable: AtomicU64,
    /// Damage found since the open, by reads.
    damaged: Mutex<Vec<Damage>>,
    open_files: OpenFiles<F>,
}

/// The files of old segments that were read last.
struct OpenFiles<F: Files> {
    recent: Mutex<VecDeque<(String, Arc<F::File>)>>,
}

impl<F: Files> OpenFiles<F> {
    fn get(&self, files: &F, name: &str) -> io::Result<Arc<F::File>> {
        let mut recent = lock(&self.recent);
        let found = recent.iter().position(|(open, _)| open == name);
        let entry = match found.and_then(|at| recent.remove(at)) {
            Some(entry) => entry,
            None => (name.to_owned(), Arc::new(files.open(name)?)),
        };
        let file = Arc::clone(&entry.1);
        recent.push_back(entry);
        if recent.len() > OPEN_FILES_MAX {
            recent.pop_front();
        }
        Ok(file)
    }

    fn forget(&self, name: &str) {
        lock(&self.recent).retain(|(open, _)| open != name);
    }
}

impl<F: Files> Shared<F> {
    pub(crate) fn new(
        files: F,
        (store_id, epoch): ([u8; 16], u64),
        trust_everything: bool,
        segments: Vec<Arc<Segment<F>>>,
        durable: Position,
    ) -> Self {
        Self {
            files,
            store_id,
            epoch,
            trust_everything,
            segments: RwLock::new(segments),
            durable: AtomicU64::new(durable),
            damaged: Mutex::new(Vec::new()),
            open_files: OpenFiles {
                recent: Mutex::new(VecDeque::new()),
            },
        }
    }

    /// Closes a segment that is about to be removed.
    pub(crate) fn forget(&self, name: &str) {
        self.open_files.forget(name);
    }

    pub(crate) fn durable(&self) -> Position {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn set_durable(&self, position: Position) {
        self.durable.store(position, Ordering::Release);
    }

    /// The segment that holds `position`, if it was not trimmed.
    pub(crate) fn segment_of(&self, position: Position) -> Option<Arc<Segment<F>>> {
        let segments = read(&self.segments);
        let at = segments
            .partition_point(|segment| segment.first <= position)
            .checked_sub(1)?;
        Some(Arc::clone(&segments[at]))
    }

    pub(crate) fn first_retained(&self) -> Position {
        read(&self.segments)
            .first()
            .map_or(1, |segment| segment.first)
    }

    pub(crate) fn report(&self, file: &str, findings: Vec<Finding>) {
        let mut damaged = lock(&self.damaged);
        for damage in findings.into_iter().map(|finding| finding.in_file(file)) {
            if !damaged.contains(&damage) {
                damaged.push(damage);
            }
        }
    }

    pub(crate) fn damaged(&self) -> Vec<Damage> {
        self.damaged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Finding {
    pub(crate) fn in_file(self, file: &str) -> Damage {
        let positions = self
            .positions
            .map(|(first, last)| RangeInclusive::new(first, last));
        Damage {
            positions,
            file: file.to_owned(),
            offset: self.offset,
            reason: self.reason,
        }
    }
}

/// A panic in another thread leaves these structures whole: each change is one assignment.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
