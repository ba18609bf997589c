//! Cutting a byte stream into messages that end in the record separator.
//!
//! Promise: however the stream was cut on its way, the same records come out, and no more than
//! the limit is ever kept of an unfinished one. A chunk that holds whole records is not copied.

use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The byte that ends each JSON message and each handshake message.
pub const RECORD_SEPARATOR: u8 = 0x1e;

/// Puts records together again from chunks cut anywhere.
#[derive(Debug)]
pub struct RecordSplitter {
    /// Beginning of a record whose separator has not come yet.
    pending: Vec<u8>,
    /// Separator included, as the official server counts.
    bytes_max: Option<usize>,
}

/// A record, finished or not, is larger than the receiver allows. The stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the maximum message size of {bytes_max} bytes was exceeded")]
pub struct RecordTooLarge {
    /// The limit, separator included.
    pub bytes_max: usize,
}

/// The whole records of one chunk. What remains of the chunk is kept when the last was taken.
#[derive(Debug)]
pub struct Records<'s, 'c> {
    splitter: &'s mut RecordSplitter,
    rest: &'c [u8],
    failed: bool,
}

impl RecordSplitter {
    /// Starts at the beginning of a record. `bytes_max` counts the separator; `None` is unlimited.
    pub fn new(bytes_max: Option<usize>) -> Self {
        Self {
            pending: Vec::new(),
            bytes_max,
        }
    }

    /// Adds a chunk and iterates over the records it completes, separators removed.
    pub fn feed<'s, 'c>(&'s mut self, chunk: &'c [u8]) -> Records<'s, 'c> {
        Records {
            splitter: self,
            rest: chunk,
            failed: false,
        }
    }

    /// Whether part of a record waits for its end.
    pub fn is_amid_record(&self) -> bool {
        !self.pending.is_empty()
    }

    fn check(&self, bytes: usize) -> Result<(), RecordTooLarge> {
        match self.bytes_max {
            Some(bytes_max) if bytes > bytes_max => Err(RecordTooLarge { bytes_max }),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), RecordTooLarge> {
        self.check(self.pending.len() + rest.len())?;
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    fn finish<'c>(&mut self, tail: &'c [u8]) -> Result<Cow<'c, [u8]>, RecordTooLarge> {
        self.check(self.pending.len() + tail.len() + 1)?;
        if self.pending.is_empty() {
            return Ok(Cow::Borrowed(tail));
        }
        let mut record = core::mem::take(&mut self.pending);
        record.extend_from_slice(tail);
        Ok(Cow::Owned(record))
    }
}

impl<'c> Records<'_, 'c> {
    /// What has not been iterated over yet; it can be fed later instead.
    pub fn rest(&self) -> &'c [u8] {
        self.rest
    }
}

impl<'c> Iterator for Records<'_, 'c> {
    type Item = Result<Cow<'c, [u8]>, RecordTooLarge>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == RECORD_SEPARATOR);
        let record = match end {
            Some(end) => {
                let (record, rest) = (&self.rest[..end], &self.rest[end + 1..]);
                self.rest = rest;
                self.splitter.finish(record)
            }
            None => match self.splitter.keep(core::mem::take(&mut self.rest)) {
                Ok(()) => return None,
                Err(error) => Err(error),
            },
        };
        self.failed = record.is_err();
        Some(record)
    }
}
