//! Reading records back: from the last batches while they are still in memory, else from disk.

use bytes::Bytes;
use countersign_journal::{Batch, ReadError, Reader, RealFiles};
use countersign_rules::Position;
use std::collections::VecDeque;

/// Durable records by position.
#[derive(Debug)]
pub struct Bodies {
    recent: VecDeque<Batch>,
    recent_bytes: usize,
    recent_bytes_max: usize,
    reader: Reader<RealFiles>,
}

impl Bodies {
    pub(crate) fn new(reader: Reader<RealFiles>, recent_bytes_max: usize) -> Self {
        Self {
            recent: VecDeque::new(),
            recent_bytes: 0,
            recent_bytes_max,
            reader,
        }
    }

    /// The payload of the record at `position`.
    ///
    /// # Errors
    /// It was trimmed, was never written, is damaged, or the disk failed.
    pub fn read(&self, position: Position) -> Result<Bytes, ReadError> {
        match self.in_memory(position) {
            Some(payload) => Ok(payload),
            None => self.reader.read(position),
        }
    }

    fn in_memory(&self, position: Position) -> Option<Bytes> {
        let after = self
            .recent
            .partition_point(|batch| batch.first() <= position);
        let batch = self.recent.get(after.checked_sub(1)?)?;
        let index = usize::try_from(position - batch.first()).ok()?;
        (index < batch.len()).then(|| batch.payload(index))
    }

    /// Takes in a batch that has just become durable.
    pub(crate) fn remember(&mut self, batch: Batch) {
        self.recent_bytes += batch.payload_bytes();
        self.recent.push_back(batch);
        while self.recent_bytes > self.recent_bytes_max && self.recent.len() > 1 {
            if let Some(oldest) = self.recent.pop_front() {
                self.recent_bytes -= oldest.payload_bytes();
            }
        }
    }
}
