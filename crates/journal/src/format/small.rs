//! The witness and the snapshot header.

use sha2::{Digest, Sha256};

use super::fields::{all_zero, array_at, u16_at, u32_at, u64_at};
use super::{Bad, VERSION};
use crate::Position;

pub(crate) const WITNESS_SLOT_BYTES: usize = 512;
pub(crate) const WITNESS_BYTES: usize = 2 * WITNESS_SLOT_BYTES;
pub(crate) const SNAPSHOT_HEADER_BYTES: usize = 256;
const WITNESS_MAGIC: [u8; 8] = *b"CSJRNWIT";
const SNAPSHOT_MAGIC: [u8; 8] = *b"CSJRNSNP";

/// SHA-256 of a snapshot's body.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// One slot of the witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) store_id: [u8; 16],
    pub(crate) epoch: u64,
    pub(crate) position: Position,
    pub(crate) number: u64,
}

impl Witness {
    pub(crate) fn encode(&self) -> [u8; WITNESS_SLOT_BYTES] {
        let mut bytes = [0; WITNESS_SLOT_BYTES];
        bytes[0..8].copy_from_slice(&WITNESS_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store_id);
        bytes[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.position.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.number.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..56]);
        bytes[56..60].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let Some(bytes) = bytes.get(..WITNESS_SLOT_BYTES) else {
            return Err(Bad::Damaged);
        };
        let sound = bytes[0..8] == WITNESS_MAGIC
            && crc32c::crc32c(&bytes[..56]) == u32_at(bytes, 56)
            && all_zero(&bytes[60..]);
        if !sound {
            return Err(Bad::Damaged);
        }
        match u16_at(bytes, 8) {
            VERSION => Ok(Self {
                store_id: array_at(bytes, 16),
                epoch: u64_at(bytes, 32),
                position: u64_at(bytes, 40),
                number: u64_at(bytes, 48),
            }),
            version => Err(Bad::Version(version)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    pub(crate) store_id: [u8; 16],
    pub(crate) epoch: u64,
    pub(crate) position: Position,
    pub(crate) body_bytes: u64,
    pub(crate) body_hash: [u8; 32],
}

impl SnapshotHeader {
    pub(crate) fn encode(&self) -> [u8; SNAPSHOT_HEADER_BYTES] {
        let mut bytes = [0; SNAPSHOT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&SNAPSHOT_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store_id);
        bytes[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.position.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[56..88].copy_from_slice(&self.body_hash);
        let crc = crc32c::crc32c(&bytes[..248]);
        bytes[248..252].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let Some(bytes) = bytes.get(..SNAPSHOT_HEADER_BYTES) else {
            return Err(Bad::Damaged);
        };
        let sound = bytes[0..8] == SNAPSHOT_MAGIC
            && crc32c::crc32c(&bytes[..248]) == u32_at(bytes, 248)
            && all_zero(&bytes[252..]);
        if !sound {
            return Err(Bad::Damaged);
        }
        match u16_at(bytes, 8) {
            VERSION if u16_at(bytes, 88) == 0 => Ok(Self {
                store_id: array_at(bytes, 16),
                epoch: u64_at(bytes, 32),
                position: u64_at(bytes, 40),
                body_bytes: u64_at(bytes, 48),
                body_hash: array_at(bytes, 56),
            }),
            version => Err(Bad::Version(version)),
        }
    }
}
