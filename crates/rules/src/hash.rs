//! The one hasher of this crate: seeded with constants, so that two runs behave alike.
//!
//! Keys are message ids and digests that this side made or hashed itself, so nobody outside can
//! choose colliding ones; and no output depends on the order of a map.

use core::hash::{BuildHasher, Hasher};
use foldhash::fast::FixedState;

/// Builds the same hasher in every process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fixed;

impl BuildHasher for Fixed {
    type Hasher = <FixedState as BuildHasher>::Hasher;
    fn build_hasher(&self) -> Self::Hasher {
        FixedState::with_seed(0x6373_6967).build_hasher()
    }
}

/// A map whose behaviour is the same in every run.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, Fixed>;

/// A hash of an id or a digest, for tables.
pub(crate) fn of(bytes: &[u8; 16]) -> u64 {
    let mut hasher = Fixed.build_hasher();
    hasher.write_u128(u128::from_le_bytes(*bytes));
    hasher.finish()
}

/// A 64-bit digest for best-effort sets; never for identity.
pub(crate) fn digest(parts: &[&[u8]]) -> u64 {
    let mut hasher = Fixed.build_hasher();
    for part in parts {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    hasher.finish()
}
