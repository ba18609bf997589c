//! The header area of a segment: two copies of one header.

use super::batch::{Hash, Salt};
use super::fields::{all_zero, array_at, u16_at, u32_at, u64_at};
use super::{Bad, VERSION};
use crate::Position;

pub(crate) const HEADER_AREA_BYTES: usize = 4096;
const COPY_OFFSETS: [usize; 2] = [0, 2048];
const COPY_BYTES: usize = 256;
const MAGIC: [u8; 8] = *b"CSJRNSEG";
const FLAG_CHAIN_RESTARTS: u16 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) chain_restarts: bool,
    pub(crate) partition_count: u16,
    pub(crate) store_id: [u8; 16],
    pub(crate) epoch: u64,
    pub(crate) first: Position,
    pub(crate) start_hash: Hash,
    pub(crate) salt: Salt,
}

/// A header area as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderArea {
    pub(crate) header: SegmentHeader,
    /// Offset of the first thing in the area that is not as written.
    pub(crate) damaged_at: Option<u64>,
}

impl SegmentHeader {
    /// The whole area, both copies.
    pub(crate) fn encode_area(&self) -> Vec<u8> {
        let copy = self.encode();
        let mut area = vec![0; HEADER_AREA_BYTES];
        for offset in COPY_OFFSETS {
            area[offset..offset + COPY_BYTES].copy_from_slice(&copy);
        }
        area
    }

    fn encode(&self) -> [u8; COPY_BYTES] {
        let mut bytes = [0; COPY_BYTES];
        let flags = if self.chain_restarts {
            FLAG_CHAIN_RESTARTS
        } else {
            0
        };
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&flags.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.partition_count.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store_id);
        bytes[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first.to_le_bytes());
        bytes[48..80].copy_from_slice(&self.start_hash);
        bytes[80..96].copy_from_slice(&self.salt.0);
        let crc = crc32c::crc32c(&bytes[..248]);
        bytes[248..252].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        if bytes[0..8] != MAGIC || crc32c::crc32c(&bytes[..248]) != u32_at(bytes, 248) {
            return Err(Bad::Damaged);
        }
        let version = u16_at(bytes, 8);
        // An encrypted segment comes from a newer product even if its version were ours.
        if version != VERSION || u16_at(bytes, 96) != 0 {
            return Err(Bad::Version(version));
        }
        Ok(Self {
            chain_restarts: u16_at(bytes, 10) & FLAG_CHAIN_RESTARTS != 0,
            partition_count: u16_at(bytes, 12),
            store_id: array_at(bytes, 16),
            epoch: u64_at(bytes, 32),
            first: u64_at(bytes, 40),
            start_hash: array_at(bytes, 48),
            salt: Salt(array_at(bytes, 80)),
        })
    }
}

impl HeaderArea {
    /// Reads the area at the start of a segment; either copy is enough.
    pub(crate) fn decode(area: &[u8]) -> Result<Self, Bad> {
        let Some(area) = area.get(..HEADER_AREA_BYTES) else {
            return Err(Bad::Damaged);
        };
        let copies = COPY_OFFSETS.map(|at| SegmentHeader::decode(&area[at..at + COPY_BYTES]));
        let (header, damaged_at) = match copies {
            [Ok(header), Ok(other)] if header == other => (header, None),
            [Ok(header), _] => (header, Some(COPY_OFFSETS[1] as u64)),
            [Err(_), Ok(header)] => (header, Some(COPY_OFFSETS[0] as u64)),
            [Err(Bad::Version(version)), _] | [_, Err(Bad::Version(version))] => {
                return Err(Bad::Version(version));
            }
            [Err(Bad::Damaged), Err(Bad::Damaged)] => return Err(Bad::Damaged),
        };
        Ok(Self {
            header,
            damaged_at: damaged_at.or_else(|| stray_byte(area)),
        })
    }
}

/// First byte outside the checked part of the copies that is not zero.
fn stray_byte(area: &[u8]) -> Option<u64> {
    let gaps = [
        252..COPY_OFFSETS[1],
        COPY_OFFSETS[1] + 252..HEADER_AREA_BYTES,
    ];
    let gap = gaps.into_iter().find(|gap| !all_zero(&area[gap.clone()]))?;
    Some(gap.start as u64)
}
