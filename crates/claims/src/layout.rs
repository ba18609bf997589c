//! The file of a body: a header, the body, the SHA-256 of each of its blocks.
//!
//! ```text
//! offset      bytes            what
//! 0           8                "CSBODY01"
//! 8           16               id
//! 24          8                length of the body, little-endian, as all numbers here
//! 32          32               SHA-256 of the body
//! 64          8                when it was begun, seconds since 1970
//! 72          1                length of the tenant's name
//! 73          128              the tenant's name, zeros behind it
//! 201         51               zeros
//! 252         4                CRC-32C of the bytes before
//! 256         length           the body
//! 256+length  32 a block       SHA-256 of each block of 256 KiB, the last one shorter
//! ```
//!
//! An unfinished one is named `<id>.part`, a whole one `<id>.body`.

use crate::{Declared, Error};
use countersign_rules::{BodyId, TenantName};

/// Bytes that are checked together: what one read holds in memory.
pub const BLOCK_BYTES: u64 = 256 * 1024;

pub(crate) const HEADER_BYTES: u64 = 256;
pub(crate) const DIGEST_BYTES: u64 = 32;
const MAGIC: &[u8; 8] = b"CSBODY01";
const PART: &str = ".part";
const WHOLE: &str = ".body";

pub(crate) fn part_name(id: BodyId) -> String {
    format!("{id}{PART}")
}

pub(crate) fn whole_name(id: BodyId) -> String {
    format!("{id}{WHOLE}")
}

/// The body that a file is, and whether it is whole; `None` for a file that is none of ours.
pub(crate) fn read_name(name: &str) -> Option<(BodyId, bool)> {
    let (id, is_whole) = match name.strip_suffix(WHOLE) {
        Some(id) => (id, true),
        None => (name.strip_suffix(PART)?, false),
    };
    Some((id.parse().ok()?, is_whole))
}

pub(crate) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES)
}

/// Where the digest of a block stands.
pub(crate) fn digest_at(bytes: u64, block: u64) -> u64 {
    HEADER_BYTES + bytes + block * DIGEST_BYTES
}

pub(crate) fn file_bytes(bytes: u64) -> u64 {
    digest_at(bytes, blocks(bytes))
}

pub(crate) fn header(id: BodyId, declared: &Declared) -> [u8; HEADER_BYTES as usize] {
    let mut to = [0; HEADER_BYTES as usize];
    let tenant = declared.tenant.as_str().as_bytes();
    to[..8].copy_from_slice(MAGIC);
    to[8..24].copy_from_slice(&id.0);
    to[24..32].copy_from_slice(&declared.bytes.to_le_bytes());
    to[32..64].copy_from_slice(&declared.sha256);
    to[64..72].copy_from_slice(&declared.begun_at_s.to_le_bytes());
    to[72] = u8::try_from(tenant.len()).expect("a name has at most 128 bytes");
    to[73..73 + tenant.len()].copy_from_slice(tenant);
    let sum = crc32c::crc32c(&to[..252]);
    to[252..].copy_from_slice(&sum.to_le_bytes());
    to
}

pub(crate) fn read_header(id: BodyId, header: &[u8]) -> Result<Declared, Error> {
    let field = |from: usize, to: usize| header.get(from..to);
    let short = || Error::damaged("its header is cut");
    let sum = field(252, 256).ok_or_else(short)?;
    if crc32c::crc32c(&header[..252]).to_le_bytes() != sum {
        return Err(Error::damaged("its header fails its checksum"));
    }
    if &header[..8] != MAGIC {
        return Err(Error::damaged("it is of another format"));
    }
    if header[8..24] != id.0 {
        return Err(Error::damaged(
            "the file holds another body than its name says",
        ));
    }
    let number = |from: usize| <[u8; 8]>::try_from(&header[from..from + 8]).unwrap_or_default();
    let tenant = field(73, 73 + usize::from(header[72]));
    let tenant = tenant.and_then(|name| std::str::from_utf8(name).ok());
    let tenant = tenant.and_then(|name| TenantName::parse(name).ok());
    Ok(Declared {
        bytes: u64::from_le_bytes(number(24)),
        sha256: header[32..64].try_into().map_err(|_| short())?,
        tenant: tenant.ok_or_else(|| Error::damaged("its tenant has no name"))?,
        begun_at_s: i64::from_le_bytes(number(64)),
    })
}
