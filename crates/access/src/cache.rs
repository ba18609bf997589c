//! Remembers verified tokens, so that one token costs one signature check however often it is shown.
//!
//! Promise: never more than the capacity is held, and a lookup never scans. Each shard keeps two generations: a full
//! young one becomes the old one, the former old one is dropped, and what is used again moves back to the young. That is
//! nearly least-recently-used without a list.
//! Left out: expiry. The caller checks it at each use; an expired entry leaves by ageing.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use hashbrown::HashMap;

use crate::Access;

/// SHA-256 of a token: the token itself is a secret and is not kept.
pub(crate) type Fingerprint = [u8; 32];

pub(crate) fn fingerprint(token: &str) -> Fingerprint {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

type Generation = HashMap<Fingerprint, Arc<Access>, foldhash::fast::RandomState>;

#[derive(Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

pub(crate) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    generation_max: usize,
}

impl Cache {
    /// Holds at most `capacity` tokens, rounded up to a multiple of twice the number of shards; zero holds none.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: Default::default(),
            generation_max: capacity.div_ceil(2 * SHARDS),
        }
    }

    pub(crate) fn find(&self, key: &Fingerprint) -> Option<Arc<Access>> {
        let mut shard = self.shard(key);
        if let Some(access) = shard.young.get(key) {
            return Some(Arc::clone(access));
        }
        let access = shard.old.remove(key)?;
        self.keep(&mut shard, *key, Arc::clone(&access));
        Some(access)
    }

    pub(crate) fn insert(&self, key: Fingerprint, access: Arc<Access>) {
        if self.generation_max > 0 {
            self.keep(&mut self.shard(&key), key, access);
        }
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            *lock(shard) = Shard::default();
        }
    }

    fn keep(&self, shard: &mut Shard, key: Fingerprint, access: Arc<Access>) {
        if shard.young.len() >= self.generation_max {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, access);
    }

    fn shard(&self, key: &Fingerprint) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(key[0]) % SHARDS])
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let held = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(held).sum()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

/// A panic elsewhere cannot leave a shard half-changed in a way that matters: every entry stands alone.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enough that a few threads seldom meet.
const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scopes;

    fn access(n: usize) -> Arc<Access> {
        Arc::new(Access {
            subject: n.to_string(),
            tenant: "default".into(),
            agent: None,
            scopes: Scopes::NONE,
            token_id: String::new(),
            expires_at_unix_s: 0,
            not_before_unix_s: None,
        })
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        let cache = Cache::new(320);
        for n in 0..10_000 {
            cache.insert(fingerprint(&n.to_string()), access(n));
        }
        assert!(cache.len() <= 320, "{} held", cache.len());
    }

    #[test]
    fn a_token_in_use_stays_while_strangers_pass_by() {
        let cache = Cache::new(320);
        let regular = fingerprint("regular");
        cache.insert(regular, access(0));
        for n in 1..10_000 {
            cache.insert(fingerprint(&n.to_string()), access(n));
            assert!(cache.find(&regular).is_some(), "forgotten after {n}");
        }
    }

    #[test]
    fn capacity_zero_remembers_nothing() {
        let cache = Cache::new(0);
        cache.insert(fingerprint("a"), access(0));
        assert!(cache.find(&fingerprint("a")).is_none());
    }
}
