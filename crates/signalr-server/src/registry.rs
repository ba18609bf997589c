//! Which connections a hub has: negotiated, attached, live. Those that are live are in [`Live`].
//!
//! Promise: a connection token opens one connection, once, on this hub, for the user who
//! negotiated it; when it has not been used in time it is unknown.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::live::Live;
use crate::{ConnectionHandle, Identity};

#[derive(Debug, Default)]
pub(crate) struct Registry {
    slots: Mutex<Slots>,
    live: RwLock<Live>,
    /// Connections attached and not yet over, shaken hands or not.
    attached: AtomicUsize,
    is_draining: AtomicBool,
    /// Signalled when the last attached connection is over.
    none_left: Notify,
    asks: AtomicU64,
}

/// Connection tokens in use. A slot is known from negotiation until its connection ends.
#[derive(Debug, Default)]
struct Slots {
    by_token: HashMap<Arc<str>, Slot>,
    /// Oldest first; some may have been attached since.
    unattached: VecDeque<(Instant, Arc<str>)>,
    unattached_count: usize,
}

#[derive(Debug)]
enum Slot {
    Unattached {
        id: Arc<str>,
        user_id: Option<Arc<str>>,
    },
    Attached {
        id: Arc<str>,
    },
}

/// The ids of a new connection.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    pub(crate) id: Arc<str>,
    pub(crate) token: Arc<str>,
}

/// Why a token opens no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttachError {
    Unknown,
    InUse,
    OtherUser,
}

/// Where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    No,
    Unattached,
    Attached,
}

impl Registry {
    /// Draws the ids of a connection that somebody will attach to within `lifetime`. `None` when
    /// `unattached_max` wait already.
    pub(crate) fn negotiate(
        &self,
        identity: &Identity,
        has_own_token: bool,
        lifetime: Duration,
        unattached_max: usize,
    ) -> Option<Ids> {
        let ids = Ids::draw(has_own_token);
        let now = Instant::now();
        let mut slots = self.slots();
        slots.sweep(now, lifetime);
        if slots.unattached_count >= unattached_max {
            return None;
        }
        let user_id = identity.user_id().map(Arc::from);
        let slot = Slot::Unattached {
            id: Arc::clone(&ids.id),
            user_id,
        };
        slots.by_token.insert(Arc::clone(&ids.token), slot);
        slots.unattached.push_back((now, Arc::clone(&ids.token)));
        slots.unattached_count += 1;
        Some(ids)
    }

    /// Attaches to a negotiated connection.
    pub(crate) fn attach(
        self: &Arc<Self>,
        token: &str,
        identity: &Identity,
        lifetime: Duration,
    ) -> Result<Attachment, AttachError> {
        let mut slots = self.slots();
        slots.sweep(Instant::now(), lifetime);
        let (token, slot) = slots
            .by_token
            .get_key_value(token)
            .ok_or(AttachError::Unknown)?;
        let ids = match slot {
            Slot::Attached { .. } => return Err(AttachError::InUse),
            Slot::Unattached { user_id, .. } if user_id.as_deref() != identity.user_id() => {
                return Err(AttachError::OtherUser);
            }
            Slot::Unattached { id, .. } => Ids {
                id: Arc::clone(id),
                token: Arc::clone(token),
            },
        };
        slots.unattached_count -= 1;
        let id = Arc::clone(&ids.id);
        slots
            .by_token
            .insert(Arc::clone(&ids.token), Slot::Attached { id });
        drop(slots);
        Ok(self.attachment(ids))
    }

    /// Attaches to a new connection that was not negotiated.
    pub(crate) fn attach_fresh(self: &Arc<Self>) -> Attachment {
        let ids = Ids::draw(true);
        let id = Arc::clone(&ids.id);
        self.slots()
            .by_token
            .insert(Arc::clone(&ids.token), Slot::Attached { id });
        self.attachment(ids)
    }

    pub(crate) fn known(&self, token: &str, lifetime: Duration) -> Known {
        let mut slots = self.slots();
        slots.sweep(Instant::now(), lifetime);
        match slots.by_token.get(token) {
            None => Known::No,
            Some(Slot::Unattached { .. }) => Known::Unattached,
            Some(Slot::Attached { .. }) => Known::Attached,
        }
    }

    pub(crate) fn connection(&self, id: &str) -> Option<ConnectionHandle> {
        self.live().by_id(id).cloned()
    }

    /// The live connection that this token opened.
    pub(crate) fn by_token(&self, token: &str) -> Option<ConnectionHandle> {
        let id = match self.slots().by_token.get(token)? {
            Slot::Attached { id } => Arc::clone(id),
            Slot::Unattached { .. } => return None,
        };
        self.connection(&id)
    }

    pub(crate) fn next_ask(&self) -> u64 {
        self.asks.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    pub(crate) fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Waits until no connection is attached.
    pub(crate) async fn until_empty(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.attached.load(Ordering::Acquire) == 0 {
                return;
            }
            none_left.await;
        }
    }

    fn attachment(self: &Arc<Self>, ids: Ids) -> Attachment {
        self.attached.fetch_add(1, Ordering::AcqRel);
        Attachment {
            registry: Arc::clone(self),
            ids,
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing of the application runs while this is held.
    pub(crate) fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Registry::live`].
    pub(crate) fn live_mut(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Drops what nobody attached to in time.
    fn sweep(&mut self, now: Instant, lifetime: Duration) {
        while let Some((since, token)) = self.unattached.front() {
            if now.duration_since(*since) < lifetime {
                return;
            }
            if let Some(Slot::Unattached { .. }) = self.by_token.get(token) {
                self.by_token.remove(token);
                self.unattached_count -= 1;
            }
            self.unattached.pop_front();
        }
    }
}

/// One attached connection; its token is forgotten when this is dropped.
#[derive(Debug)]
pub(crate) struct Attachment {
    registry: Arc<Registry>,
    ids: Ids,
}

impl Attachment {
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.ids.id
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Shows the connection to the rest of the program.
    pub(crate) fn enter(&self, connection: ConnectionHandle) -> Presence {
        self.registry.live_mut().enter(connection.clone());
        Presence {
            registry: Arc::clone(&self.registry),
            connection,
        }
    }

    /// Forgets the token before the connection is over, so that nobody dials back to it.
    pub(crate) fn forget_token(&self) {
        self.registry.slots().by_token.remove(&self.ids.token);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.forget_token();
        if self.registry.attached.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.registry.none_left.notify_waiters();
        }
    }
}

/// One live connection; when this is dropped the program sees it no more and its handles refuse.
#[derive(Debug)]
pub(crate) struct Presence {
    registry: Arc<Registry>,
    connection: ConnectionHandle,
}

impl Presence {
    /// Leaves, and gives what was queued and not yet taken.
    pub(crate) fn leave(self) -> Vec<u8> {
        self.connection.shut()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.registry.live_mut().leave(&self.connection);
        self.connection.shut();
    }
}

impl Ids {
    /// 128 random bits to show, 256 to keep secret; without a token the id is both.
    fn draw(has_own_token: bool) -> Self {
        let id: Arc<str> = random_text::<16>().into();
        let token = match has_own_token {
            true => random_text::<32>().into(),
            false => Arc::clone(&id),
        };
        Self { id, token }
    }
}

fn random_text<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
