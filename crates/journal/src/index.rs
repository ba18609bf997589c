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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(records: u64, frame_bytes: usize) -> Index {
        let mut index = Index::new(1, 0);
        for position in 1..=records {
            index.push(position, (position - 1) * frame_bytes as u64, frame_bytes);
        }
        index.set_end(records * frame_bytes as u64);
        index
    }

    #[test]
    fn a_record_of_256_bytes_costs_less_than_a_byte_of_memory() {
        for frame_bytes in [30, 272] {
            let index = filled(100_000, frame_bytes);
            assert!(size_of_val(index.entries.as_slice()) < 100_000);
        }
    }

    #[test]
    fn a_lookup_reads_at_most_an_entry_and_the_record() {
        for frame_bytes in [16, 30, 272, 5000] {
            let index = filled(1000, frame_bytes);
            for position in 1..=1000 {
                let found = index.lookup(position).expect("the position is there");
                let offset = (position - 1) * frame_bytes as u64;
                assert!(found.position <= position && found.offset <= offset);
                assert!(found.end >= offset + frame_bytes as u64);
                assert!(found.end - found.offset <= 4096 + frame_bytes as u64);
            }
        }
    }

    #[test]
    fn the_record_behind_a_hole_has_an_entry_of_its_own() {
        let mut index = filled(5, 30);
        index.push_hole(7, Reason::Checksum);
        index.push(8, 300, 30);
        index.set_end(330);
        assert_eq!(index.damaged(5), None);
        assert_eq!(index.damaged(6).map(|damaged| damaged.position), Some(6));
        assert_eq!(index.damaged(8), None);
        let found = index.lookup(8).expect("the position is there");
        assert_eq!((found.offset, found.position, found.end), (300, 8, 330));
    }
}
