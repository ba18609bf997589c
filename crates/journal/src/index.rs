//! Where a segment's records lie: a sparse map from position to offset.
//!
//! One entry of 8 bytes for every [`RECORDS_PER_ENTRY`] records or [`BYTES_PER_ENTRY`], whichever
//! comes first, so a record of 256 bytes costs about half a byte.

use crate::error::Reason;
use crate::{Damaged, Position};

const RECORDS_PER_ENTRY: u32 = 32;
const BYTES_PER_ENTRY: u32 = 4096;

/// Positions that cannot be served, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) reason: Reason,
}

/// Where to read for a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lookup {
    /// Offset of a frame at or before the wanted one.
    pub(crate) offset: u64,
    /// Position of that frame.
    pub(crate) position: Position,
    /// The wanted frame begins before this offset.
    pub(crate) end: u64,
}

/// The map of one segment.
#[derive(Debug)]
pub(crate) struct Index {
    first: Position,
    next: Position,
    end: u64,
    entries: Vec<(u32, u32)>,
    holes: Vec<Hole>,
    records_since: u32,
    bytes_since: u32,
}

impl Index {
    pub(crate) fn new(first: Position, end: u64) -> Self {
        let (entries, holes) = (Vec::new(), Vec::new());
        Self {
            first,
            next: first,
            end,
            entries,
            holes,
            records_since: 0,
            bytes_since: 0,
        }
    }

    /// First position of the segment.
    pub(crate) fn first(&self) -> Position {
        self.first
    }

    /// Position behind the last one known.
    pub(crate) fn next(&self) -> Position {
        self.next
    }

    /// Offset behind the last batch.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn set_end(&mut self, end: u64) {
        self.end = end;
    }

    pub(crate) fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Adds the record at `position`, in order and without a gap.
    pub(crate) fn push(&mut self, position: Position, offset: u64, frame_bytes: usize) {
        debug_assert_eq!(position, self.next, "records are indexed in order");
        let due = self.entries.is_empty()
            || self.records_since >= RECORDS_PER_ENTRY
            || self.bytes_since >= BYTES_PER_ENTRY;
        if due {
            let delta = u32::try_from(position - self.first).expect("a segment is below 4 GiB");
            let offset = u32::try_from(offset).expect("a segment is below 4 GiB");
            self.entries.push((delta, offset));
            (self.records_since, self.bytes_since) = (0, 0);
        }
        self.next = position + 1;
        self.records_since += 1;
        let frame_bytes = u32::try_from(frame_bytes).unwrap_or(u32::MAX);
        self.bytes_since = self.bytes_since.saturating_add(frame_bytes);
    }

    /// Notes that the records up to `last` cannot be served. The next good one gets an entry of
    /// its own, because it cannot be reached from before.
    pub(crate) fn push_hole(&mut self, last: Position, reason: Reason) {
        debug_assert!(last >= self.next, "a hole has at least one position");
        self.holes.push(Hole {
            first: self.next,
            last,
            reason,
        });
        self.next = last + 1;
        self.interrupt();
    }

    /// The next record gets an entry of its own.
    pub(crate) fn interrupt(&mut self) {
        self.records_since = RECORDS_PER_ENTRY;
    }

    /// The hole `position` lies in.
    pub(crate) fn damaged(&self, position: Position) -> Option<Damaged> {
        let at = self.holes.partition_point(|hole| hole.last < position);
        let hole = self.holes.get(at).filter(|hole| hole.first <= position)?;
        Some(Damaged {
            position,
            reason: hole.reason,
        })
    }

    /// Where to read for `position`, which lies in no hole.
    pub(crate) fn lookup(&self, position: Position) -> Option<Lookup> {
        let delta = u32::try_from(position.checked_sub(self.first)?).ok()?;
        if position >= self.next {
            return None;
        }
        let at = self
            .entries
            .partition_point(|entry| entry.0 <= delta)
            .checked_sub(1)?;
        let (start, offset) = self.entries[at];
        let end = self
            .entries
            .get(at + 1)
            .map_or(self.end, |entry| u64::from(entry.1));
        let position = self.first + u64::from(start);
        Some(Lookup {
            offset: u64::from(offset),
            position,
            end,
        })
    }

    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.entries.len() * size_of::<(u32, u32)>()
    }
}
