//! Which connections a hub has: negotiated, attached, live. Those that are live are in [`Live`].
//!
//! Promise: a connection token opens one connection, on this hub, for the user who negotiated it
//! and over one transport; when it has not been used in time it is unknown.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore as _;
use signalr_protocol::negotiate::Transport;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::link::Link;
use crate::live::Live;
use crate::takeover::Takeover;
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
        is_stateful: bool,
        /// Holds what was posted before anything was attached.
        link: Option<Arc<Link>>,
    },
    Attached {
        id: Arc<str>,
        user_id: Option<Arc<str>>,
        carrier: Carrier,
    },
}

/// What carries an attached connection.
#[derive(Debug, Clone)]
enum Carrier {
    Socket,
    /// A WebSocket that another may take over from.
    Stateful(Arc<Takeover>),
    Http(Arc<Link>),
}

/// The ids of a new connection.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    pub(crate) id: Arc<str>,
    pub(crate) token: Arc<str>,
}

/// Why a token is of no use to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttachError {
    Unknown,
    InUse,
    OtherUser,
    /// The connection is carried otherwise.
    OtherTransport,
}

/// What a WebSocket is to a connection.
#[derive(Debug)]
pub(crate) enum SocketRole {
    /// Its first.
    Opens(Attachment),
    /// It takes over from another, with this token.
    TakesOver(Arc<str>, Arc<Takeover>),
}

/// What a poll is to a connection.
#[derive(Debug)]
pub(crate) enum PollRole {
    /// Its first.
    Opens(Attachment, Arc<Link>),
    /// It comes for a frame.
    Takes(Arc<Link>),
}

impl Registry {
    /// Draws the ids of a connection that somebody will attach to within `lifetime`. `None` when
    /// `unattached_max` wait already.
    pub(crate) fn negotiate(
        &self,
        identity: &Identity,
        has_own_token: bool,
        is_stateful: bool,
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
            is_stateful,
            link: None,
        };
        slots.by_token.insert(Arc::clone(&ids.token), slot);
        slots.unattached.push_back((now, Arc::clone(&ids.token)));
        slots.unattached_count += 1;
        Some(ids)
    }

    /// Connections that wait for their transport, for at most `lifetime`, or have one.
    pub(crate) fn count(&self, lifetime: Duration) -> usize {
        let mut slots = self.slots();
        slots.sweep(Instant::now(), lifetime);
        slots.by_token.len()
    }

    /// Attaches a WebSocket to a negotiated connection.
    pub(crate) fn attach_socket(
        self: &Arc<Self>,
        token: &str,
        identity: &Identity,
        lifetime: Duration,
    ) -> Result<SocketRole, AttachError> {
        let mut slots = self.slots();
        let (token, slot) = slots.known(token, identity, lifetime)?;
        let is_stateful = match slot {
            Slot::Unattached { is_stateful, .. } => *is_stateful,
            Slot::Attached { carrier, .. } => {
                return match carrier {
                    Carrier::Stateful(takeover) if takeover.is_open() => {
                        Ok(SocketRole::TakesOver(token, Arc::clone(takeover)))
                    }
                    Carrier::Socket | Carrier::Stateful(_) => Err(AttachError::InUse),
                    Carrier::Http(_) => Err(AttachError::OtherTransport),
                };
            }
        };
        let carrier = match is_stateful {
            true => Carrier::Stateful(Arc::default()),
            false => Carrier::Socket,
        };
        Ok(SocketRole::Opens(self.take(slots, token, carrier)))
    }

    /// Attaches a WebSocket to a new connection that was not negotiated.
    pub(crate) fn attach_fresh(self: &Arc<Self>, identity: &Identity) -> Attachment {
        let ids = Ids::draw(true);
        let slot = Slot::Attached {
            id: Arc::clone(&ids.id),
            user_id: identity.user_id().map(Arc::from),
            carrier: Carrier::Socket,
        };
        self.slots().by_token.insert(Arc::clone(&ids.token), slot);
        self.attachment(ids, None)
    }

    /// Attaches an event stream to a negotiated connection.
    pub(crate) fn attach_events(
        self: &Arc<Self>,
        token: &str,
        identity: &Identity,
        lifetime: Duration,
    ) -> Result<(Attachment, Arc<Link>), AttachError> {
        let mut slots = self.slots();
        let (token, slot) = slots.known(token, identity, lifetime)?;
        let link = match slot {
            Slot::Unattached { link, .. } => link.take().unwrap_or_else(Link::new),
            Slot::Attached { carrier, .. } => {
                return Err(match carrier {
                    Carrier::Http(link)
                        if link.transport() == Some(Transport::ServerSentEvents) =>
                    {
                        AttachError::InUse
                    }
                    _ => AttachError::OtherTransport,
                });
            }
        };
        link.settle(Transport::ServerSentEvents);
        let carrier = Carrier::Http(Arc::clone(&link));
        Ok((self.take(slots, token, carrier), link))
    }

    /// Attaches a poll to a negotiated connection, or finds the connection that it is for.
    pub(crate) fn attach_poll(
        self: &Arc<Self>,
        token: &str,
        identity: &Identity,
        lifetime: Duration,
    ) -> Result<PollRole, AttachError> {
        let mut slots = self.slots();
        let (token, slot) = slots.known(token, identity, lifetime)?;
        let link = match slot {
            Slot::Unattached { link, .. } => link.take().unwrap_or_else(Link::new),
            Slot::Attached { carrier, .. } => {
                return match carrier {
                    Carrier::Http(link) if link.transport() == Some(Transport::LongPolling) => {
                        Ok(PollRole::Takes(Arc::clone(link)))
                    }
                    _ => Err(AttachError::OtherTransport),
                };
            }
        };
        link.settle(Transport::LongPolling);
        let carrier = Carrier::Http(Arc::clone(&link));
        Ok(PollRole::Opens(self.take(slots, token, carrier), link))
    }

    pub(crate) fn is_known(&self, token: &str, lifetime: Duration) -> bool {
        let mut slots = self.slots();
        slots.sweep(Instant::now(), lifetime);
        slots.by_token.contains_key(token)
    }

    /// Where a posted body goes: also before anything is attached.
    pub(crate) fn link(
        &self,
        token: &str,
        identity: &Identity,
        lifetime: Duration,
    ) -> Result<Arc<Link>, AttachError> {
        let mut slots = self.slots();
        match slots.known(token, identity, lifetime)?.1 {
            Slot::Unattached { link, .. } => Ok(Arc::clone(link.get_or_insert_with(Link::new))),
            Slot::Attached { carrier, .. } => match carrier {
                Carrier::Http(link) => Ok(Arc::clone(link)),
                Carrier::Socket | Carrier::Stateful(_) => Err(AttachError::OtherTransport),
            },
        }
    }

    /// Ends a connection over polls and forgets its token.
    pub(crate) fn delete(
        &self,
        token: &str,
        identity: &Identity,
        lifetime: Duration,
    ) -> Result<(), AttachError> {
        let mut slots = self.slots();
        let (token, slot) = slots.known(token, identity, lifetime)?;
        match slot {
            Slot::Attached {
                carrier: Carrier::Http(link),
                ..
            } if link.transport() == Some(Transport::LongPolling) => link.delete(),
            _ => return Err(AttachError::OtherTransport),
        }
        slots.by_token.remove(&token);
        Ok(())
    }

    /// Makes an unattached slot an attached one.
    fn take(
        self: &Arc<Self>,
        mut slots: MutexGuard<'_, Slots>,
        token: Arc<str>,
        carrier: Carrier,
    ) -> Attachment {
        let takeover = match &carrier {
            Carrier::Stateful(takeover) => Some(Arc::clone(takeover)),
            Carrier::Socket | Carrier::Http(_) => None,
        };
        slots.unattached_count -= 1;
        let slot = slots.by_token.remove(&token);
        let Some(Slot::Unattached { id, user_id, .. } | Slot::Attached { id, user_id, .. }) = slot
        else {
            unreachable!("the slot was looked at under the same lock");
        };
        let ids = Ids {
            id: Arc::clone(&id),
            token: Arc::clone(&token),
        };
        let slot = Slot::Attached {
            id,
            user_id,
            carrier,
        };
        slots.by_token.insert(token, slot);
        drop(slots);
        self.attachment(ids, takeover)
    }

    pub(crate) fn connection(&self, id: &str) -> Option<ConnectionHandle> {
        self.live().by_id(id).cloned()
    }

    /// The live connection that this token opened.
    pub(crate) fn by_token(&self, token: &str) -> Option<ConnectionHandle> {
        let id = match self.slots().by_token.get(token)? {
            Slot::Attached { id, .. } => Arc::clone(id),
            Slot::Unattached { .. } => return None,
        };
        self.connection(&id)
    }

    /// A request of a live connection brought a token of its user, perhaps a newer one.
    pub(crate) fn put_off_expiry(&self, token: &str, identity: &Identity) {
        if let Some(connection) = self.by_token(token) {
            connection.put_off_expiry(identity.expires_at());
        }
    }

    /// Forgets a token whose client was told that its connection is over.
    pub(crate) fn forget(&self, token: &str) {
        self.slots().by_token.remove(token);
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

    fn attachment(self: &Arc<Self>, ids: Ids, takeover: Option<Arc<Takeover>>) -> Attachment {
        self.attached.fetch_add(1, Ordering::AcqRel);
        Attachment {
            registry: Arc::clone(self),
            ids,
            takeover,
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
    /// The slot of this token, if it is this user's.
    fn known(
        &mut self,
        token: &str,
        identity: &Identity,
        lifetime: Duration,
    ) -> Result<(Arc<str>, &mut Slot), AttachError> {
        self.sweep(Instant::now(), lifetime);
        let known = self.by_token.get_key_value(token);
        let token = known.map(|(token, _)| Arc::clone(token));
        let token = token.ok_or(AttachError::Unknown)?;
        let slot = self.by_token.get_mut(&token).ok_or(AttachError::Unknown)?;
        let (Slot::Unattached { user_id, .. } | Slot::Attached { user_id, .. }) = &*slot;
        match user_id.as_deref() == identity.user_id() {
            true => Ok((token, slot)),
            false => Err(AttachError::OtherUser),
        }
    }

    /// Drops what nobody attached to in time.
    fn sweep(&mut self, now: Instant, lifetime: Duration) {
        while let Some((since, token)) = self.unattached.front() {
            if now.duration_since(*since) < lifetime {
                return;
            }
            if let Some(Slot::Unattached { link, .. }) = self.by_token.get(token) {
                if let Some(link) = link {
                    link.abandon();
                }
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
    /// Where another WebSocket comes to take over, if that was negotiated.
    takeover: Option<Arc<Takeover>>,
}

impl Attachment {
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.ids.id
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(crate) fn takeover(&self) -> Option<&Arc<Takeover>> {
        self.takeover.as_ref()
    }

    /// The connection lives and dies with the WebSocket that it has.
    pub(crate) fn refuse_takeovers(&self) {
        if let Some(takeover) = &self.takeover {
            takeover.close();
        }
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
        self.refuse_takeovers();
        self.registry.forget(&self.ids.token);
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
