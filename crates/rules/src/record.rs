//! How a record is written: one byte of schema version, then the record in postcard's format.
//!
//! A record once written is read for as long as it is kept, so nothing here changes in place: a
//! new kind goes to the end of its enum, a changed one becomes a new kind or a new version, and
//! each old version keeps a test with its recorded bytes.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Version of the schema that this program writes. It reads this one and all before it.
pub const SCHEMA_VERSION: u8 = 1;

/// Why a record or a saved state was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Written by a newer program. Start that one, or a newer one.
    #[error("written in schema version {found}, this program reads up to {SCHEMA_VERSION}")]
    NewerSchema {
        /// The version found.
        found: u8,
    },
    /// The bytes are not a record of their version, although their checksum was right.
    #[error("not a record of schema version {version}")]
    Malformed {
        /// The version it claims.
        version: u8,
    },
    /// Nothing there.
    #[error("the record is empty")]
    Empty,
    /// The record speaks of something that the records before it did not establish.
    #[error("it does not follow from the records before it: {0}")]
    Inconsistent(&'static str),
}

/// Appends `record`, version byte first, to `to`.
pub(crate) fn encode(record: &impl Serialize, mut to: Vec<u8>) -> Vec<u8> {
    to.push(SCHEMA_VERSION);
    postcard::to_extend(record, to).expect("writing to memory cannot fail")
}

/// Reads what [`encode`] wrote at the beginning of `bytes`, and gives what follows it.
pub(crate) fn decode_first<'a, R: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<(R, &'a [u8]), RecordError> {
    let malformed = |_| RecordError::Malformed {
        version: SCHEMA_VERSION,
    };
    postcard::take_from_bytes(payload(bytes)?).map_err(malformed)
}

/// Reads a record that may borrow from `bytes`.
///
/// # Errors
/// It is empty, of a newer version, or not a record at all.
pub fn decode<'a, R: Deserialize<'a>>(bytes: &'a [u8]) -> Result<R, RecordError> {
    postcard::from_bytes(payload(bytes)?).map_err(|_| RecordError::Malformed {
        version: SCHEMA_VERSION,
    })
}

/// What stands behind the version byte.
fn payload(bytes: &[u8]) -> Result<&[u8], RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Empty),
        Some((&SCHEMA_VERSION, rest)) => Ok(rest),
        Some((&found, _)) if found > SCHEMA_VERSION => Err(RecordError::NewerSchema { found }),
        Some((&version, _)) => Err(RecordError::Malformed { version }),
    }
}
