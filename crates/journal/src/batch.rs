//! A batch: what one append writes, all of it or nothing.

use bytes::Bytes;

/// Number of a record, from 1, without gaps over the life of a store. 0 stands before the first.
pub type Position = u64;

/// Longest payload of one record in bytes: the frame's length field keeps its top bits clear.
pub(crate) const PAYLOAD_BYTES_MAX: usize = (1 << 30) - 1;

/// Records that are appended together, concatenated in one buffer.
///
/// Cloning is cheap: the payloads are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    first: Position,
    payloads: Bytes,
    ends: Vec<u32>,
}

impl Batch {
    /// Takes payloads laid end to end; `ends[i]` is where record `i` ends in `payloads`.
    ///
    /// # Panics
    ///
    /// When the batch is empty, `first` is 0, or `ends` is not ascending up to `payloads.len()`:
    /// a batch is built by our own code, so this is a broken promise and not an outside fault.
    pub fn new(first: Position, payloads: Bytes, ends: Vec<u32>) -> Self {
        assert!(first >= 1, "positions begin at 1");
        assert!(!ends.is_empty(), "a batch holds at least one record");
        assert!(ends.is_sorted(), "record ends ascend");
        assert_eq!(
            ends.last().map(|end| *end as usize),
            Some(payloads.len()),
            "the last record ends where the payloads end"
        );
        Self {
            first,
            payloads,
            ends,
        }
    }

    /// A batch from separate payloads, for callers that do not build one buffer themselves.
    ///
    /// # Panics
    ///
    /// As [`Batch::new`], and when the payloads together pass 4 GiB.
    pub fn from_payloads<P: AsRef<[u8]>>(
        first: Position,
        payloads: impl IntoIterator<Item = P>,
    ) -> Self {
        let mut buffer = Vec::new();
        let mut ends = Vec::new();
        for payload in payloads {
            buffer.extend_from_slice(payload.as_ref());
            ends.push(u32::try_from(buffer.len()).expect("a batch stays below 4 GiB"));
        }
        Self::new(first, buffer.into(), ends)
    }

    /// Number of records, at least 1.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Always false; a batch holds at least one record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Position of the first record.
    pub fn first(&self) -> Position {
        self.first
    }

    /// Position of the last record.
    pub fn last(&self) -> Position {
        self.first + self.ends.len() as u64 - 1
    }

    /// Bytes of all payloads together.
    pub fn payload_bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Payload of record `index` (0 is the first), without copying.
    ///
    /// # Panics
    ///
    /// When `index` is not below [`Batch::len`].
    pub fn payload(&self, index: usize) -> Bytes {
        self.payloads.slice(self.range(index))
    }

    /// Payload of record `index` as a slice.
    pub(crate) fn payload_slice(&self, index: usize) -> &[u8] {
        &self.payloads[self.range(index)]
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        start..self.ends[index] as usize
    }
}
