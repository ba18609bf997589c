//! Bodies to write, and ways to write them.
#![allow(dead_code, reason = "each test program uses some of it")]

use aws_lc_rs::digest::{SHA256, digest};
use countersign_claims::{BLOCK_BYTES, BodyStore, Declared, Error};
use countersign_rules::{BodyId, TenantName};

/// Two blocks and a bit.
pub(crate) const BODY_OF_BLOCKS: u64 = 2 * BLOCK_BYTES + 777;

pub(crate) fn id(number: u8) -> BodyId {
    BodyId([number; 16])
}

pub(crate) fn bytes(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(next).collect()
}

pub(crate) fn declared(body: &[u8]) -> Declared {
    let sha256 = digest(&SHA256, body);
    Declared {
        bytes: body.len() as u64,
        sha256: sha256.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        tenant: TenantName::parse("default").expect("it is a name"),
        begun_at_s: 1_700_000_000,
    }
}

pub(crate) fn begin(store: &impl BodyStore, id: BodyId, body: &[u8]) {
    store.begin(id, &declared(body)).expect("the disk works");
}

/// Writes what is missing of `body` and makes it whole.
pub(crate) fn feed(store: &impl BodyStore, id: BodyId, body: &[u8]) -> Result<(), Error> {
    let mut growing = store.resume(id)?;
    let from = usize::try_from(growing.offset()).expect("it is small");
    for piece in body[from..].chunks(100_000) {
        growing.append(piece)?;
    }
    growing.finish()
}

/// The body from `offset` to its end.
pub(crate) fn read(store: &impl BodyStore, id: BodyId, offset: u64) -> Result<Vec<u8>, Error> {
    let mut body = store.open(id)?;
    let mut read = Vec::new();
    loop {
        let more = body.read_from(offset + read.len() as u64)?;
        if more.is_empty() {
            return Ok(read);
        }
        read.extend(more);
    }
}
