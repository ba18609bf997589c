//! Bytes on disk, exactly as `docs/storage.md` writes them; no IO.

mod batch;
mod fields;
mod segment;
mod small;

pub(crate) use batch::{
    BATCH_MAGIC, BatchHeader, COMMIT_BYTES, COMMIT_MAGIC, Commit, FRAME_BYTES, Frame, HEADER_BYTES,
    Hash, Salt, batch_bytes, batch_hash, encode_batch,
};
pub(crate) use segment::{HEADER_AREA_BYTES, HeaderArea, SegmentHeader};
pub(crate) use small::{
    SNAPSHOT_HEADER_BYTES, SnapshotHeader, WITNESS_BYTES, WITNESS_SLOT_BYTES, Witness, sha256,
};

/// Version of every file of the store.
pub(crate) const VERSION: u16 = 1;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Not as written.
    Damaged,
    /// Written well, by a newer product.
    Version(u16),
}
