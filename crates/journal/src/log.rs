//! The one writer: append, flush, roll, trim, close.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::active::{Active, Failure, make_segment};
use crate::batch::PAYLOAD_BYTES_MAX;
use crate::error::{AppendError, CloseError, Damage, FlushError, OpenError, ReadError, TrimError};
use crate::format::{Salt, batch_bytes};
use crate::options::{Defect, NewStore, Options};
use crate::recover::{self, Recovered};
use crate::segment::{SegmentInfo, Shared, read, write};
use crate::snapshots::is_full;
use crate::witness::WitnessFile;
use crate::{Batch, Files, OnRecord, Position, Reader, SnapshotError, SnapshotStore, Space};

/// Longest batch on disk in bytes: keeps any segment below the index's 32-bit offsets.
const BATCH_BYTES_MAX: u64 = 1 << 30;

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

impl<F: Files> fmt::Debug for Log<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("next", &self.active.next())
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
        if !self.active.is_dirty() {
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
    /// When the disk refuses; what was removed until then is gone. A directory that cannot be synced
    /// ends the log: a removed segment might come back behind one that does not.
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
            // One at a time, so that no crash leaves an older segment and takes a newer one.
            let synced = self.shared.files.sync_dir();
            synced.map_err(|error| {
                self.fail("remove old segments", &error);
                TrimError(error)
            })?;
            removed += 1;
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
        on_record: &mut OnRecord<'_>,
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
        self.active.sync().map_err(close)?;
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
        self.active.next()
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
        let (expected, got) = (self.active.next(), batch.first());
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
        let header = self.active.next_header(Salt(salt));
        let made = make_segment(&self.shared.files, &self.options, header, bytes_min);
        let made = made.map_err(|error| self.append_failed(Failure::Written(error)))?;
        write(&self.shared.segments).push(Arc::clone(&made.segment));
        std::mem::replace(&mut self.active, made).segment.unpin();
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
        let synced = self.active.sync();
        if synced.is_err() && self.options.defect(Defect::RetryFailedFlush) {
            return self.active.sync();
        }
        synced
    }

    /// Shows readers what has become durable.
    fn publish(&mut self) {
        self.active.publish();
        self.shared.set_durable(self.active.next() - 1);
    }

    fn fail(&mut self, action: &str, error: &io::Error) -> String {
        let failed = format!("cannot {action}: {error}");
        self.failed = Some(failed.clone());
        failed
    }
}
