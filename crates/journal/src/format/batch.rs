//! Batches: header, record frames, commit.

use sha2::{Digest, Sha256};

use super::fields::{array_at, u32_at, u64_at};
use crate::Position;
use crate::batch::{Batch, PAYLOAD_BYTES_MAX};

pub(crate) const BATCH_MAGIC: u32 = u32::from_le_bytes([0xC3, 0x42, 0x54, 0x81]);
pub(crate) const COMMIT_MAGIC: u32 = u32::from_le_bytes([0xC3, 0x43, 0x4D, 0x82]);
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const COMMIT_BYTES: usize = 48;
pub(crate) const FRAME_BYTES: usize = 16;

/// Chain hash of a batch.
pub(crate) type Hash = [u8; 32];

/// A segment's random bytes; they enter every checksum below its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) [u8; 16]);

impl Salt {
    /// CRC-32C that starts from the salt.
    pub(crate) fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(u32_at(&self.0, 0), bytes)
    }
}

/// A batch header whose CRC holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) bytes: u32,
    pub(crate) count: u32,
    pub(crate) first: Position,
    pub(crate) flushed_through: Position,
    pub(crate) previous: Hash,
}

impl BatchHeader {
    pub(crate) fn encode(&self, salt: Salt) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.flushed_through.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.previous);
        let crc = salt.crc(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, if its checksum holds and it makes sense.
    pub(crate) fn decode(bytes: &[u8], salt: Salt) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        if u32_at(bytes, 0) != BATCH_MAGIC || u32_at(bytes, 4) != salt.crc(&bytes[8..]) {
            return None;
        }
        Self::fields(bytes)
    }

    /// The header at the start of `bytes` with its checksum unseen, where the salt is lost.
    pub(crate) fn guess(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        if u32_at(bytes, 0) == BATCH_MAGIC {
            Self::fields(bytes)
        } else {
            None
        }
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let header = Self {
            bytes: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            first: u64_at(bytes, 16),
            flushed_through: u64_at(bytes, 24),
            previous: array_at(bytes, 32),
        };
        let bytes_min = batch_bytes(header.count as usize, 0);
        let sound = header.count >= 1
            && header.first >= 1
            && header.first.checked_add(u64::from(header.count)).is_some()
            && header.flushed_through < header.first
            && u64::from(header.bytes) >= bytes_min;
        sound.then_some(header)
    }

    pub(crate) fn last(&self) -> Position {
        self.first + u64::from(self.count) - 1
    }
}

/// The end of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) last: Position,
    pub(crate) hash: Hash,
}

impl Commit {
    pub(crate) fn encode(&self, salt: Salt) -> [u8; COMMIT_BYTES] {
        let mut bytes = [0; COMMIT_BYTES];
        bytes[0..4].copy_from_slice(&COMMIT_MAGIC.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.last.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.hash);
        let crc = salt.crc(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], salt: Salt) -> Option<Self> {
        let bytes = bytes.get(..COMMIT_BYTES)?;
        if u32_at(bytes, 0) != COMMIT_MAGIC || u32_at(bytes, 4) != salt.crc(&bytes[8..]) {
            return None;
        }
        Some(Self {
            last: u64_at(bytes, 8),
            hash: array_at(bytes, 16),
        })
    }
}

/// The head of a record frame. Its checksum is checked apart, by [`Frame::holds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) payload_bytes: usize,
    pub(crate) position: Position,
}

impl Frame {
    /// Reads a frame head; `None` when there are too few bytes or this is not a frame.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FRAME_BYTES)?;
        let payload_bytes = u32_at(bytes, 0) as usize;
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return None;
        }
        Some(Self {
            payload_bytes,
            position: u64_at(bytes, 8),
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        FRAME_BYTES + self.payload_bytes
    }

    /// Whether the frame that `bytes` begin with is whole and its checksum holds.
    pub(crate) fn holds(&self, bytes: &[u8], salt: Salt) -> bool {
        bytes
            .get(..self.bytes())
            .is_some_and(|frame| u32_at(frame, 4) == frame_crc(salt, &frame[0..4], &frame[8..]))
    }
}

fn frame_crc(salt: Salt, length: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(salt.crc(length), rest)
}

/// Length on disk of a batch of `count` records with `payload_bytes` in all.
pub(crate) fn batch_bytes(count: usize, payload_bytes: usize) -> u64 {
    (HEADER_BYTES + COMMIT_BYTES) as u64 + (count * FRAME_BYTES + payload_bytes) as u64
}

/// Hash of the batch whose header and frames are `bytes`.
pub(crate) fn batch_hash(salt: Salt, bytes: &[u8]) -> Hash {
    Sha256::new()
        .chain_update(salt.0)
        .chain_update(bytes)
        .finalize()
        .into()
}

/// Writes a batch into `buffer` (emptied first) and returns its hash.
///
/// `on_frame` is told the offset of each frame within the batch and its length.
pub(crate) fn encode_batch(
    buffer: &mut Vec<u8>,
    batch: &Batch,
    salt: Salt,
    flushed_through: Position,
    previous: &Hash,
    mut on_frame: impl FnMut(Position, usize, usize),
) -> Hash {
    let bytes = batch_bytes(batch.len(), batch.payload_bytes());
    let header = BatchHeader {
        bytes: u32::try_from(bytes).expect("the writer refuses longer batches"),
        count: u32::try_from(batch.len()).expect("record ends fit 32 bits, so does their number"),
        first: batch.first(),
        flushed_through,
        previous: *previous,
    };
    buffer.clear();
    buffer.extend_from_slice(&header.encode(salt));
    for index in 0..batch.len() {
        let position = batch.first() + index as u64;
        let offset = buffer.len();
        push_frame(buffer, salt, position, batch.payload_slice(index));
        on_frame(position, offset, buffer.len() - offset);
    }
    let hash = batch_hash(salt, buffer);
    buffer.extend_from_slice(
        &Commit {
            last: batch.last(),
            hash,
        }
        .encode(salt),
    );
    debug_assert_eq!(
        buffer.len() as u64,
        bytes,
        "the length in the header is the length written"
    );
    hash
}

fn push_frame(buffer: &mut Vec<u8>, salt: Salt, position: Position, payload: &[u8]) {
    let start = buffer.len();
    let length = u32::try_from(payload.len()).expect("the writer refuses longer records");
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&position.to_le_bytes());
    buffer.extend_from_slice(payload);
    let crc = frame_crc(salt, &buffer[start..start + 4], &buffer[start + 8..]);
    buffer[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}
