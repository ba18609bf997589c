//! Reading durable records by position, each verified when it is read.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Damage, ReadError, Reason};
use crate::format::{Frame, Salt, SegmentHeader};
use crate::index::Lookup;
use crate::scan::structure_bytes;
use crate::segment::{Segment, SegmentInfo, Shared};
use crate::{Damaged, File, Files, Position};

/// How much [`Reader::replay`] reads at once.
const REPLAY_BYTES: usize = 1 << 20;

/// One record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its position.
    pub position: Position,
    /// Its payload, or why it cannot be served.
    pub payload: Result<Bytes, Damaged>,
}

/// Called for each record of a replay.
pub type OnRecord<'a> = dyn FnMut(Position, Result<&[u8], Damaged>) + 'a;

/// Reads records that are durable. Cheap to clone; any thread may have one.
pub struct Reader<F: Files> {
    shared: Arc<Shared<F>>,
}

impl<F: Files> Clone for Reader<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<F: Files> fmt::Debug for Reader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("durable", &self.shared.durable())
            .finish_non_exhaustive()
    }
}

impl<F: Files> Reader<F> {
    pub(crate) fn new(shared: Arc<Shared<F>>) -> Self {
        Self { shared }
    }

    /// Highest position that can be read.
    pub fn durable_position(&self) -> Position {
        self.shared.durable()
    }

    /// Lowest position that was not trimmed.
    pub fn first_position(&self) -> Position {
        self.shared.first_retained()
    }

    /// Epoch of the store.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Id of the store.
    pub fn store_id(&self) -> [u8; 16] {
        self.shared.store_id
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let segments = crate::segment::read(&self.shared.segments);
        let info = |segment: &Arc<Segment<F>>| SegmentInfo {
            name: segment.name.clone(),
            first: segment.first,
            last: segment.last(),
            bytes: segment.bytes(),
        };
        segments.iter().map(info).collect()
    }

    /// Damage that reads have met since the open; what the open itself found is in
    /// [`crate::Recovered::damaged`].
    pub fn damaged(&self) -> Vec<Damage> {
        self.shared.damaged()
    }

    /// The payload at `position`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]; a damaged record stays damaged.
    pub fn read(&self, position: Position) -> Result<Bytes, ReadError> {
        let record = self.read_some(position, position, 0)?.pop();
        record.map_or(Err(ReadError::NotFound(position)), |record| {
            Ok(record.payload?)
        })
    }

    /// Records from `from` on, about `bytes_max` of them and at least one if any is durable.
    ///
    /// May return fewer than are there: ask again behind the last one. Empty means `from` is not
    /// durable yet. A damaged record comes as itself, with its position.
    ///
    /// # Errors
    ///
    /// [`ReadError::Trimmed`] and [`ReadError::Io`].
    pub fn read_range(&self, from: Position, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        match self.read_some(from, Position::MAX, bytes_max) {
            Err(ReadError::NotFound(_)) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Calls `on_record` for each durable record from `from` on, in order, damaged ones included;
    /// returns the position behind the last.
    ///
    /// # Errors
    ///
    /// [`ReadError::Trimmed`] and [`ReadError::Io`]; what was called before stands.
    pub fn replay(
        &self,
        from: Position,
        on_record: &mut OnRecord<'_>,
    ) -> Result<Position, ReadError> {
        let mut next = from.max(1);
        loop {
            let records = self.read_range(next, REPLAY_BYTES)?;
            let Some(last) = records.last() else {
                return Ok(next);
            };
            next = last.position + 1;
            for record in &records {
                let payload = record.payload.as_deref().map_err(Clone::clone);
                on_record(record.position, payload);
            }
        }
    }

    /// Records `from..=to`, as many as one read gives, at least one.
    fn read_some(
        &self,
        from: Position,
        to: Position,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let to = to.min(self.shared.durable());
        if from == 0 || from > to {
            return Err(ReadError::NotFound(from));
        }
        let segment = self
            .shared
            .segment_of(from)
            .ok_or(ReadError::Trimmed(from))?;
        let io = |error: io::Error| self.not_read(from, error);
        for _ in 0..2 {
            match self.plan(&segment, from).map_err(io)? {
                Plan::Damaged(damaged) => return Ok(vec![damaged_record(damaged)]),
                Plan::Run { lookup, last, end } => {
                    let to = to.min(last);
                    let file = segment.file(&self.shared).map_err(io)?;
                    let header = segment.header;
                    let run = Run {
                        file: &*file,
                        header,
                        lookup,
                        end,
                        from,
                        to,
                        bytes_max,
                    };
                    let records = run.read(self.shared.trust_everything).map_err(io)?;
                    if !records.is_empty() {
                        return Ok(records);
                    }
                }
            }
            // The bytes are not what the index promised: look at the whole segment again.
            segment.rescan(&self.shared).map_err(io)?;
        }
        Ok(vec![damaged_record(Damaged {
            position: from,
            reason: Reason::Checksum,
        })])
    }

    fn plan(&self, segment: &Segment<F>, from: Position) -> io::Result<Plan> {
        segment.with_index(&self.shared, |index| {
            if let Some(damaged) = index.damaged(from) {
                return Plan::Damaged(damaged);
            }
            let hole = index.holes().iter().find(|hole| hole.first > from);
            let last = hole.map_or(index.next(), |hole| hole.first) - 1;
            match index.lookup(from) {
                Some(lookup) => Plan::Run {
                    lookup,
                    last,
                    end: index.end(),
                },
                None => Plan::Damaged(Damaged {
                    position: from,
                    reason: Reason::Missing,
                }),
            }
        })
    }

    /// An error of a segment that was trimmed meanwhile is not the disk's fault.
    fn not_read(&self, position: Position, error: io::Error) -> ReadError {
        if position < self.shared.first_retained() {
            return ReadError::Trimmed(position);
        }
        ReadError::Io { position, error }
    }
}

fn damaged_record(damaged: Damaged) -> Record {
    Record {
        position: damaged.position,
        payload: Err(damaged),
    }
}

enum Plan {
    Damaged(Damaged),
    Run {
        lookup: Lookup,
        last: Position,
        end: u64,
    },
}

/// One read of neighbouring records.
struct Run<'a, F: File> {
    file: &'a F,
    header: Option<SegmentHeader>,
    lookup: Lookup,
    /// Offset behind the last batch.
    end: u64,
    from: Position,
    to: Position,
    bytes_max: usize,
}

impl<F: File> Run<'_, F> {
    /// The records that are as written, up to the first that is not.
    fn read(&self, trust_everything: bool) -> io::Result<Vec<Record>> {
        let Some(header) = self.header else {
            return Ok(Vec::new());
        };
        let entry_bytes =
            usize::try_from(self.lookup.end - self.lookup.offset).unwrap_or(usize::MAX);
        let mut wanted = entry_bytes.max(self.bytes_max);
        loop {
            let bytes = self.fetch(wanted)?;
            let walked = self.walk(&bytes, header.salt, trust_everything);
            match walked {
                // A record longer than what was fetched: once more, with room for it.
                Walked::TooShort(bytes_min) if bytes_min > bytes.len() && bytes.len() == wanted => {
                    wanted = bytes_min;
                }
                Walked::TooShort(_) => return Ok(Vec::new()),
                Walked::Records(records) => return Ok(records),
            }
        }
    }

    fn fetch(&self, wanted: usize) -> io::Result<Bytes> {
        let there = usize::try_from(self.end - self.lookup.offset).unwrap_or(usize::MAX);
        let mut buffer = vec![0; wanted.min(there)];
        let read = self.file.read_at(self.lookup.offset, &mut buffer)?;
        buffer.truncate(read);
        Ok(buffer.into())
    }

    fn walk(&self, bytes: &Bytes, salt: Salt, trust_everything: bool) -> Walked {
        let mut records = Vec::new();
        let (mut at, mut position) = (0, self.lookup.position);
        while position <= self.to {
            let rest = &bytes[at..];
            if let Some(skip) = tag(rest).and_then(structure_bytes) {
                at = (at + skip).min(bytes.len());
                continue;
            }
            let frame = Frame::decode(rest).filter(|frame| frame.position == position);
            let Some(frame) = frame else {
                break;
            };
            if frame.bytes() > rest.len() {
                if records.is_empty() && position == self.from {
                    return Walked::TooShort(at + frame.bytes());
                }
                break;
            }
            if position >= self.from {
                if !trust_everything && !frame.holds(rest, salt) {
                    break;
                }
                let payload =
                    bytes.slice(at + frame.bytes() - frame.payload_bytes..at + frame.bytes());
                records.push(Record {
                    position,
                    payload: Ok(payload),
                });
            }
            at += frame.bytes();
            position += 1;
        }
        Walked::Records(records)
    }
}

enum Walked {
    Records(Vec<Record>),
    TooShort(usize),
}

fn tag(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}
