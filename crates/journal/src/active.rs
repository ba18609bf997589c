//! The segment that is being written, and how a new one is made.

use std::io;
use std::sync::Arc;

use crate::format::{HEADER_AREA_BYTES, Hash, Salt, SegmentHeader, encode_batch};
use crate::options::{Options, Preallocation};
use crate::segment::{SEGMENT_NEW, Segment, segment_name};
use crate::snapshots::is_full;
use crate::{Batch, File, Files, Position};

/// Longest segment in bytes, for the same reason.
const SEGMENT_BYTES_MAX: u64 = 1 << 31;
/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 1 << 20;
/// Smallest extension of a segment when the disk is nearly full.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

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

/// How far a failed write got.
pub(crate) enum Failure {
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

    /// Position of the next record.
    pub(crate) fn next(&self) -> Position {
        self.next
    }

    /// Whether a sync has something to do.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Adds what was synced to the index.
    pub(crate) fn publish(&mut self) {
        self.dirty = false;
        self.segment.update_index(|index| {
            for record in self.unflushed.drain(..) {
                index.push(record.position, record.offset, record.frame_bytes);
            }
            index.set_end(self.end);
        });
    }

    /// Header of the segment that goes on from here.
    pub(crate) fn next_header(&self, salt: Salt) -> SegmentHeader {
        SegmentHeader {
            chain_restarts: false,
            first: self.next,
            start_hash: self.hash,
            salt,
            ..self.header
        }
    }

    /// Whether a batch fits. An empty segment takes any: it would not fit a fresh one better.
    pub(crate) fn has_room(&self, batch_bytes: u64, segment_bytes: u64) -> bool {
        let limit = segment_bytes.min(SEGMENT_BYTES_MAX).max(self.bytes);
        self.end == HEADER_AREA_BYTES as u64 || self.end + batch_bytes <= limit
    }

    pub(crate) fn write(
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
    pub(crate) fn cut_slack(&mut self) -> io::Result<()> {
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
        file.sync_data()?;
        // Where names land in any order, the rename below could otherwise catch an earlier file of
        // the same passing name, whose removal is not durable yet.
        files.sync_dir()
    };
    if let Err(error) = filled() {
        // It has no meaning under this name; if it cannot be removed, the next open does.
        let _ = files.remove(SEGMENT_NEW);
        return Err(error);
    }
    files.rename(SEGMENT_NEW, name)?;
    // From here on the name may be durable, so nothing may be written below it any more: whatever
    // the error is, it is not the harmless "disk full" of before.
    files
        .sync_dir()
        .map_err(|error| io::Error::other(error.to_string()))?;
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
