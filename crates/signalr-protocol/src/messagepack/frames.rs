//! Cutting a byte stream into messages that stand behind their length.
//!
//! Promise: however the stream was cut on its way, the same messages come out. A length over the
//! limit is refused as soon as it is read, and no more than the limit is ever kept.

use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Longest length prefix, in bytes: seven bits each, the lowest first.
const PREFIX_BYTES_MAX: usize = 5;
/// Longest message both official implementations can name.
const LENGTH_MAX: u64 = 0x7FFF_FFFF;

/// Puts messages together again from chunks cut anywhere.
#[derive(Debug)]
pub struct FrameSplitter {
    /// Beginning of a message that has not come entirely, prefix included.
    pending: Vec<u8>,
    /// Prefix included, as the official server counts.
    bytes_max: Option<usize>,
}

/// The stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message is larger than the receiver allows.
    #[error("the maximum message size of {bytes_max} bytes was exceeded")]
    TooLarge {
        /// The limit, prefix included.
        bytes_max: usize,
    },
    /// A length is longer than five bytes or 2 GiB.
    #[error("Messages over 2GB in size are not supported.")]
    BadLength,
}

/// The whole messages of one chunk. What remains of the chunk is kept when the last was taken.
#[derive(Debug)]
pub struct Frames<'s, 'c> {
    splitter: &'s mut FrameSplitter,
    rest: &'c [u8],
    failed: bool,
}

impl FrameSplitter {
    /// Starts at the beginning of a message. `bytes_max` counts the prefix; `None` is unlimited.
    pub fn new(bytes_max: Option<usize>) -> Self {
        Self {
            pending: Vec::new(),
            bytes_max,
        }
    }

    /// Adds a chunk and iterates over the bodies it completes, prefixes removed.
    pub fn feed<'s, 'c>(&'s mut self, chunk: &'c [u8]) -> Frames<'s, 'c> {
        Frames {
            splitter: self,
            rest: chunk,
            failed: false,
        }
    }

    /// Whether part of a message waits for its end.
    pub fn is_amid_message(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Where the body of the message at the front begins and ends; `None` while the prefix is not
    /// whole.
    fn extent(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        let mut length = 0_u64;
        for (at, byte) in bytes.iter().take(PREFIX_BYTES_MAX).enumerate() {
            length |= u64::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                return self.check(at + 1, length).map(Some);
            }
        }
        match bytes.len() < PREFIX_BYTES_MAX {
            true => Ok(None),
            false => Err(FrameError::BadLength),
        }
    }

    fn check(&self, start: usize, length: u64) -> Result<(usize, usize), FrameError> {
        if length > LENGTH_MAX {
            return Err(FrameError::BadLength);
        }
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(start))
            .ok_or(FrameError::BadLength)?;
        match self.bytes_max {
            Some(bytes_max) if end > bytes_max => Err(FrameError::TooLarge { bytes_max }),
            _ => Ok((start, end)),
        }
    }

    /// Takes a message that lies whole in `rest`; keeps what is not whole.
    fn whole<'c>(&mut self, rest: &mut &'c [u8]) -> Result<Option<Cow<'c, [u8]>>, FrameError> {
        let all = core::mem::take(rest);
        match self.extent(all)? {
            Some((start, end)) if end <= all.len() => {
                *rest = &all[end..];
                Ok(Some(Cow::Borrowed(&all[start..end])))
            }
            _ => {
                self.pending.extend_from_slice(all);
                Ok(None)
            }
        }
    }

    /// Completes the message whose beginning is kept.
    fn completed<'c>(&mut self, rest: &mut &'c [u8]) -> Result<Option<Cow<'c, [u8]>>, FrameError> {
        while !rest.is_empty() {
            let missing = match self.extent(&self.pending)? {
                Some((_, end)) => end - self.pending.len(),
                None => 1,
            };
            let (more, after) = rest.split_at(missing.min(rest.len()));
            self.pending.extend_from_slice(more);
            *rest = after;
            if let Some((start, end)) = self.extent(&self.pending)?
                && end == self.pending.len()
            {
                let mut message = core::mem::take(&mut self.pending);
                message.drain(..start);
                return Ok(Some(Cow::Owned(message)));
            }
        }
        Ok(None)
    }
}

impl<'c> Frames<'_, 'c> {
    /// What has not been iterated over yet; it can be fed later instead.
    pub fn rest(&self) -> &'c [u8] {
        self.rest
    }
}

impl<'c> Iterator for Frames<'_, 'c> {
    type Item = Result<Cow<'c, [u8]>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let next = match self.splitter.pending.is_empty() {
            true => self.splitter.whole(&mut self.rest),
            false => self.splitter.completed(&mut self.rest),
        };
        self.failed = next.is_err();
        next.transpose()
    }
}
