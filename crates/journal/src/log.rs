//! The one writer: append, flush, roll, trim, close.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::batch::PAYLOAD_BYTES_MAX;
use crate::error::{AppendError, CloseError, Damage, FlushError, OpenError, ReadError, TrimError};
use crate::format::{HEADER_AREA_BYTES, Hash, Salt, SegmentHeader, batch_bytes, encode_batch};
use crate::options::{Defect, NewStore, Options, Preallocation};
use crate::recover::{self, Recovered};
use crate::segment::{SEGMENT_NEW, Segment, SegmentInfo, Shared, read, segment_name, write};
use crate::snapshots::is_full;
use crate::witness::WitnessFile;
use crate::{Batch, Damaged, File, Files, Position, Reader, SnapshotError, SnapshotStore, Space};

/// Longest batch on disk in bytes: keeps any segment below the index's 32-bit offsets.
const BATCH_BYTES_MAX: u64 = 1 << 30;
/// Longest segment in bytes, for the same reason.
const SEGMENT_BYTES_MAX: u64 = 1 << 31;
/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 1 << 20;
/// Smallest extension of a segment when the disk is nearly full.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// The writer of a store; there is one, and it holds the lock on the directory.
///
/// Dropping it without [`Log::close`] is the same as a crash: safe, and the next open cuts what
/// was not flushed.
pub struct Log<F: Files> {
    shared: Arc<Shared<F>>,
    options: Options,
    active: Active<F>,
    witness: WitnessFile<F>,
    snapshots: SnapshotStore<F>,
    space: Space<F>,
    /// Why nothing is accepted any more.
    failed: Option<String>,
    flushes_since_witness: u32,
    buffer: Vec<u8>,
    /// Held until the log is dropped.
    _lock: F::Lock,
}

/// The segment that is written, and what of it is not flushed yet.
pub(crate) struct Active<F: Files> {
    pub(crate) segment: Arc<Segment<F>>,
    file: Arc<F::File>,
    header: SegmentHeader,
    salt: Salt,
    end: u64,
    bytes: u64,
    hash: Hash,
    next: Position,
    unflushed: Vec<Appended>,
    /// Something was written or cut since the last sync.
    dirty: bool,
}

struct Appended {
    position: Position,
    offset: u64,
    frame_bytes: usize,
}

impl<F: Files> fmt::Debug for Log<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("next", &self.active.next)
            .field("durable", &self.shared.durable())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl<F: Files> Log<F> {
    /// Opens the store in `files`, or creates it with `identity` when there is none.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. Damage is no error: it is told in [`Recovered::damaged`].
    pub fn open(
        files: F,
        options: Options,
        identity: NewStore,
    ) -> Result<(Self, Recovered), OpenError> {
        recover::open(files, options, identity)
    }

    pub(crate) fn new(
        shared: Arc<Shared<F>>,
        options: Options,
        lock: F::Lock,
        active: Active<F>,
        witness: WitnessFile<F>,
        snapshots: SnapshotStore<F>,
    ) -> Self {
        let space = Space::new(shared.files.clone(), options.reserve_bytes);
        Self {
            shared,
            options,
            active,
            witness,
            snapshots,
            space,
            failed: None,
            flushes_since_witness: 0,
            buffer: Vec::new(),
            _lock: lock,
        }
    }

    /// Writes a batch behind the last one. It is durable, and readable, after [`Log::flush`].
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; after all but [`AppendError::Failed`] nothing has changed.
    pub fn append(&mut self, batch: &Batch) -> Result<(), AppendError> {
        self.check(batch)?;
        let bytes = batch_bytes(batch.len(), batch.payload_bytes());
        if !self.active.has_room(bytes, self.options.segment_bytes) {
            self.roll(bytes)?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.active.write(batch, self.shared.durable(), &mut buffer);
        self.buffer = buffer;
        written.map_err(|error| self.append_failed(error))
    }

    /// Makes everything appended durable with one sync, then visible to readers.
    ///
    /// # Errors
    ///
    /// The log is then unusable for good: stop the node and let the next open decide (I19).
    pub fn flush(&mut self) -> Result<(), FlushError> {
        if let Some(failed) = &self.failed {
            return Err(FlushError(failed.clone()));
        }
        if !self.active.dirty {
            return Ok(());
        }
        let synced = self.sync_active();
        synced.map_err(|error| FlushError(self.fail("flush", &error)))?;
        self.publish();
        self.flushes_since_witness += 1;
        if self.flushes_since_witness >= self.options.witness_every_flushes {
            self.write_witness();
        }
        Ok(())
    }

    /// Writes the witness if it lags; for the thread that has nothing else to do.
    ///
    /// A witness that cannot be written only lags: recovery has less to compare with, and nothing
    /// is lost by it.
    pub fn write_witness(&mut self) {
        self.flushes_since_witness = 0;
        let durable = self.shared.durable();
        if self.failed.is_none() && self.witness.position() < durable {
            let _ = self.witness.write(durable);
        }
    }

    /// Removes whole segments whose records all lie below `before` and are covered by the older
    /// of two snapshots; returns how many. With fewer than two snapshots nothing is removed, so
    /// that one damaged snapshot never costs a record.
    ///
    /// # Errors
    ///
    /// When the disk refuses; what was removed until then is gone.
    pub fn trim(&mut self, before: Position) -> Result<usize, TrimError> {
        let limit = before.min(self.snapshots.covered() + 1);
        let mut removed = 0;
        loop {
            let oldest = {
                let segments = read(&self.shared.segments);
                match segments.as_slice() {
                    [oldest, next, ..] if next.first <= limit => oldest.name.clone(),
                    _ => break,
                }
            };
            // Readers lose sight of it first: what they are told is then never an IO error.
            write(&self.shared.segments).remove(0);
            self.shared.forget(&oldest);
            self.shared.files.remove(&oldest).map_err(TrimError)?;
            removed += 1;
        }
        if removed > 0 {
            self.shared.files.sync_dir().map_err(TrimError)?;
        }
        Ok(removed)
    }

    /// Writes a snapshot; see [`SnapshotStore::write`].
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    pub fn write_snapshot(&self, position: Position, body: &[u8]) -> Result<(), SnapshotError> {
        self.snapshots.write(position, body)
    }

    /// Calls `on_record` for each durable record from `from` on; see [`Reader::replay`].
    ///
    /// # Errors
    ///
    /// See [`Reader::replay`].
    pub fn replay(
        &self,
        from: Position,
        on_record: &mut dyn FnMut(Position, Result<&[u8], Damaged>),
    ) -> Result<Position, ReadError> {
        self.reader().replay(from, on_record)
    }

    /// Flushes, leaves files of exact length and an exact witness, and gives up the lock.
    ///
    /// # Errors
    ///
    /// When one of these did not succeed; the store is then as after a crash.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.flush().map_err(|error| CloseError(error.0))?;
        let close = |error: io::Error| CloseError(error.to_string());
        self.active.cut_slack().map_err(close)?;
        self.active.file.sync_data().map_err(close)?;
        self.witness
            .write_both(self.shared.durable())
            .map_err(close)
    }

    /// A reader of this store.
    pub fn reader(&self) -> Reader<F> {
        Reader::new(Arc::clone(&self.shared))
    }

    /// A writer of snapshots, for another thread.
    pub fn snapshots(&self) -> SnapshotStore<F> {
        self.snapshots.clone()
    }

    /// Tells about free space, for any thread.
    pub fn space(&self) -> Space<F> {
        self.space.clone()
    }

    /// Whether the disk has more than the reserve left; cheap enough for each batch.
    pub fn above_reserve(&self) -> bool {
        self.space.above_reserve()
    }

    /// Position the next batch must begin at.
    pub fn next_position(&self) -> Position {
        self.active.next
    }

    /// Highest durable position, 0 when there is none.
    pub fn durable_position(&self) -> Position {
        self.shared.durable()
    }

    /// Epoch of the store.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Id of the store.
    pub fn store_id(&self) -> [u8; 16] {
        self.shared.store_id
    }

    /// Damage that reads have met since the open.
    pub fn damaged(&self) -> Vec<Damage> {
        self.shared.damaged()
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.reader().segments()
    }

    fn check(&self, batch: &Batch) -> Result<(), AppendError> {
        if let Some(failed) = &self.failed {
            return Err(AppendError::Failed(failed.clone()));
        }
        let (expected, got) = (self.active.next, batch.first());
        if expected != got {
            return Err(AppendError::OutOfOrder { expected, got });
        }
        let bytes = batch.payload_bytes();
        let longest = (0..batch.len())
            .map(|index| batch.payload_slice(index).len())
            .max();
        let fits = batch_bytes(batch.len(), bytes) <= BATCH_BYTES_MAX
            && longest.unwrap_or(0) <= PAYLOAD_BYTES_MAX;
        if fits {
            Ok(())
        } else {
            Err(AppendError::TooLarge { bytes })
        }
    }

    /// Leaves the active segment, whole and durable, and makes the next one.
    fn roll(&mut self, bytes_min: u64) -> Result<(), AppendError> {
        let cut = self.active.cut_slack();
        cut.map_err(|error| AppendError::Failed(self.fail("cut a segment", &error)))?;
        self.flush().map_err(|error| AppendError::Failed(error.0))?;
        let random = self.shared.files.random();
        let salt = random.map_err(|error| self.append_failed(Failure::Cut(error)))?;
        let header = SegmentHeader {
            chain_restarts: false,
            first: self.active.next,
            start_hash: self.active.hash,
            salt: Salt(salt),
            ..self.active.header
        };
        let made = make_segment(&self.shared.files, &self.options, header, bytes_min);
        let made = made.map_err(|error| self.append_failed(Failure::Written(error)))?;
        std::mem::replace(&mut self.active, made).segment.unpin();
        write(&self.shared.segments).push(Arc::clone(&self.active.segment));
        Ok(())
    }

    fn append_failed(&mut self, failure: Failure) -> AppendError {
        match failure {
            Failure::Written(error) if is_full(&error) => {
                self.space.is_full();
                AppendError::NoSpace
            }
            Failure::Written(error) | Failure::Cut(error) => {
                AppendError::Failed(self.fail("append", &error))
            }
        }
    }

    fn sync_active(&self) -> io::Result<()> {
        if self.options.defect(Defect::AnswerBeforeFlush) {
            return Ok(());
        }
        let file = &self.active.file;
        let synced = file.sync_data();
        if synced.is_err() && self.options.defect(Defect::RetryFailedFlush) {
            return file.sync_data();
        }
        synced
    }

    /// Shows readers what has become durable.
    fn publish(&mut self) {
        let active = &mut self.active;
        active.dirty = false;
        active.segment.update_index(|index| {
            for record in active.unflushed.drain(..) {
                index.push(record.position, record.offset, record.frame_bytes);
            }
            index.set_end(active.end);
        });
        self.shared.set_durable(active.next - 1);
    }

    fn fail(&mut self, action: &str, error: &io::Error) -> String {
        let failed = format!("cannot {action}: {error}");
        self.failed = Some(failed.clone());
        failed
    }
}

/// How far a failed write got.
enum Failure {
    /// What was written of it is cut away again.
    Written(io::Error),
    /// It could not be cut away.
    Cut(io::Error),
}

impl<F: Files> Active<F> {
    fn new(header: SegmentHeader, file: F::File, bytes: u64) -> Self {
        let file = Arc::new(file);
        let segment = Segment::fresh(segment_name(header.first), header, Arc::clone(&file));
        Self {
            segment: Arc::new(segment),
            file,
            header,
            salt: header.salt,
            end: HEADER_AREA_BYTES as u64,
            bytes,
            hash: header.start_hash,
            next: header.first,
            unflushed: Vec::new(),
            dirty: false,
        }
    }

    /// Whether a batch fits. An empty segment takes any: it would not fit a fresh one better.
    fn has_room(&self, batch_bytes: u64, segment_bytes: u64) -> bool {
        let limit = segment_bytes.min(SEGMENT_BYTES_MAX).max(self.bytes);
        self.end == HEADER_AREA_BYTES as u64 || self.end + batch_bytes <= limit
    }

    fn write(
        &mut self,
        batch: &Batch,
        durable: Position,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let (end, before) = (self.end, self.unflushed.len());
        let unflushed = &mut self.unflushed;
        let on_frame = |position, offset: usize, frame_bytes| {
            unflushed.push(Appended {
                position,
                offset: end + offset as u64,
                frame_bytes,
            });
        };
        let hash = encode_batch(buffer, batch, self.salt, durable, &self.hash, on_frame);
        self.dirty = true;
        if let Err(error) = self.file.write_at(end, buffer) {
            self.unflushed.truncate(before);
            return Err(self.take_back(error));
        }
        self.end += buffer.len() as u64;
        self.bytes = self.bytes.max(self.end);
        self.hash = hash;
        self.next = batch.last() + 1;
        Ok(())
    }

    /// Cuts away what a failed write may have left, so that it can never be seen.
    fn take_back(&mut self, error: io::Error) -> Failure {
        match self.file.set_len(self.end) {
            Ok(()) => {
                self.bytes = self.end;
                Failure::Written(error)
            }
            Err(cut) => Failure::Cut(cut),
        }
    }

    /// Cuts the zeros behind the last batch.
    fn cut_slack(&mut self) -> io::Result<()> {
        if self.bytes > self.end {
            self.dirty = true;
            self.file.set_len(self.end)?;
            self.bytes = self.end;
        }
        Ok(())
    }
}

/// Makes the segment that `header` describes, with room for a batch of `bytes_min`.
pub(crate) fn make_segment<F: Files>(
    files: &F,
    options: &Options,
    header: SegmentHeader,
    bytes_min: u64,
) -> io::Result<Active<F>> {
    let area = header.encode_area();
    let least = (area.len() as u64 + bytes_min).max(SEGMENT_BYTES_MIN.min(options.segment_bytes));
    let mut bytes = options.segment_bytes.min(SEGMENT_BYTES_MAX).max(least);
    loop {
        match try_make_segment(files, options, &area, bytes, &segment_name(header.first)) {
            Ok(file) => {
                let bytes = match options.preallocation {
                    Preallocation::Grow => area.len() as u64,
                    Preallocation::Reserve | Preallocation::Zeros => bytes,
                };
                return Ok(Active::new(header, file, bytes));
            }
            Err(error) if is_full(&error) && bytes > least => bytes = (bytes / 2).max(least),
            Err(error) => return Err(error),
        }
    }
}

fn try_make_segment<F: Files>(
    files: &F,
    options: &Options,
    area: &[u8],
    bytes: u64,
    name: &str,
) -> io::Result<F::File> {
    let file = files.create(SEGMENT_NEW)?;
    let filled = || {
        if options.preallocation != Preallocation::Grow {
            file.allocate(bytes)?;
        }
        if options.preallocation == Preallocation::Zeros {
            fill_with_zeros(&file, bytes)?;
        }
        file.write_at(0, area)?;
        file.sync_data()
    };
    if let Err(error) = filled() {
        // It has no meaning under this name; if it cannot be removed, the next open does.
        let _ = files.remove(SEGMENT_NEW);
        return Err(error);
    }
    files.rename(SEGMENT_NEW, name)?;
    files.sync_dir()?;
    Ok(file)
}

fn fill_with_zeros(file: &impl File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let count = (bytes - offset).min(ZEROS_BYTES as u64);
        file.write_at(offset, &zeros[..count as usize])?;
        offset += count;
    }
    Ok(())
}
