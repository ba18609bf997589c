//! Many connections at once: whom a message goes to, and what became of it.
//!
//! Promise: a message is written once for each encoding in use, whatever the number of its
//! targets, and nobody waits for a slow one. Whoever cannot take a message is not left with a gap
//! it does not know of: its connection ends, unless the sender says otherwise.
//!
//! Left out on purpose: targets on other servers, and targets that are away.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::Serialize;
use signalr_protocol::Raw;
use tokio::time;
use tracing::debug;

use crate::codec::Codec;
use crate::outbox::CloseCause;
use crate::registry::Registry;
use crate::{ConnectionHandle, PushError};

/// Some connections of a hub: all, a group, a user, or some of those. Made by a
/// [`HubHandle`](crate::HubHandle).
///
/// They are looked up with each message, so a value that is kept reaches whoever is there then.
/// Each connection is a target once, however often it was named.
///
/// Nothing here waits for a client. A message is *taken* when it has joined the queue of a
/// connection; see [`Reach`] for those that did not take it. Nobody there is no error.
///
/// # When a queue is full
///
/// A client that reads more slowly than it is sent to fills its queue
/// ([`Options::outbox_messages_max`](crate::Options::outbox_messages_max)). The original server
/// then lets the sender wait, and so one slow client keeps the message from all others. Here the
/// slow connection is ended: it still gets what was queued, and then a Close message that lets it
/// come back, or nothing if it reads nothing at all within
/// [`Options::send_timeout`](crate::Options::send_timeout). Its client thus knows that it has
/// missed something. Where a gap does no harm, because the next message makes up for it, choose
/// [`WhenFull::SkipMessage`].
///
/// A sender that would rather go as fast as its clients read calls [`Targets::caught_up`] before
/// each message.
#[derive(Clone)]
#[must_use = "targets get nothing until something is pushed"]
pub struct Targets {
    registry: Arc<Registry>,
    chosen: Chosen,
    except: HashSet<Box<str>>,
    when_full: WhenFull,
}

/// Whom a sender named.
#[derive(Debug, Clone)]
pub(crate) enum Chosen {
    All,
    Ids(Vec<Box<str>>),
    Groups(Vec<Box<str>>),
    Users(Vec<Box<str>>),
}

/// What happens to a target whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// Its connection ends as [`Disconnect::SlowReader`](crate::Disconnect::SlowReader), and its
    /// client may come back. The default, because nothing is missed without notice.
    #[default]
    EndConnection,
    /// It misses the message and is not told.
    SkipMessage,
}

/// What became of a message to many: how many connections did what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reach {
    /// Queued it. Delivery beyond that is for a layer above.
    pub taken: usize,
    /// Had a full queue; [`WhenFull`] says what happened to them.
    pub full: usize,
    /// Were about to end.
    pub closed: usize,
    /// Can never take it, because it is larger than
    /// [`Options::message_bytes_max`](crate::Options::message_bytes_max).
    pub too_large: usize,
}

impl Reach {
    /// Whether every target took the message.
    pub fn is_complete(&self) -> bool {
        self.full == 0 && self.closed == 0 && self.too_large == 0
    }
}

impl Targets {
    pub(crate) fn new(registry: Arc<Registry>, chosen: Chosen) -> Self {
        Self {
            registry,
            chosen,
            except: HashSet::new(),
            when_full: WhenFull::default(),
        }
    }

    /// The same without the connections that have these ids.
    pub fn except<I: Into<Box<str>>>(mut self, ids: impl IntoIterator<Item = I>) -> Self {
        self.except.extend(ids.into_iter().map(Into::into));
        self
    }

    /// Sets what happens to a target whose queue is full.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// The targets that are there now, in no order.
    pub fn connections(&self) -> Vec<ConnectionHandle> {
        let mut found = self.found();
        if !self.except.is_empty() {
            found.retain(|connection| !self.except.contains(connection.id()));
        }
        found
    }

    fn found(&self) -> Vec<ConnectionHandle> {
        let live = self.registry.live();
        match &self.chosen {
            Chosen::All => live.all().cloned().collect(),
            Chosen::Ids(ids) => {
                let found = ids.iter().filter_map(|id| live.by_id(id));
                each_once(found.cloned(), ids.len())
            }
            Chosen::Groups(names) => {
                let found = names.iter().flat_map(|name| live.of_group(name));
                each_once(found.cloned(), names.len())
            }
            Chosen::Users(ids) => {
                let found = ids.iter().flat_map(|id| live.of_user(id));
                each_once(found.cloned(), ids.len())
            }
        }
    }

    /// Calls `target` on each client with one argument. No answer comes.
    ///
    /// # Panics
    ///
    /// When the argument cannot be written, which is a fault in its type.
    pub fn push<T: Serialize + ?Sized>(&self, target: &str, argument: &T) -> Reach {
        self.send(|codec, out| codec.invocation(out, target, &codec.written(argument), None))
    }

    /// Calls `target` on each client with several arguments, given as a tuple or a list. No answer
    /// comes.
    ///
    /// # Panics
    ///
    /// When the arguments cannot be written or are no tuple and no list, which is a fault in their
    /// type.
    pub fn push_args<T: Serialize + ?Sized>(&self, target: &str, arguments: &T) -> Reach {
        self.send(|codec, out| {
            codec.invocation_array(out, target, &codec.written_array(arguments), None);
        })
    }

    /// Calls `target` on each client with one argument, given as JSON; see
    /// [`ConnectionHandle::push_raw`]. No answer comes.
    pub fn push_raw(&self, target: &str, argument: impl AsRef<[u8]>) -> Reach {
        let argument = Raw::json(argument.as_ref());
        self.send(|codec, out| codec.invocation(out, target, &argument, None))
    }

    /// Calls `target` on each client with the arguments of a JSON array. No answer comes.
    pub fn push_array(&self, target: &str, arguments: impl AsRef<[u8]>) -> Reach {
        let arguments = Raw::json(arguments.as_ref());
        self.send(|codec, out| codec.invocation_array(out, target, &arguments, None))
    }

    /// Waits until the queue of each present target is less than half full, so that a message has
    /// room in all of them, but no longer than `within`. Says whether it came to that.
    ///
    /// This is back-pressure for a sender that wants it: one client that reads nothing delays it
    /// by `within` each time, until that client's connection ends.
    pub async fn caught_up(&self, within: Duration) -> bool {
        let connections = self.connections();
        let all = join_all(connections.iter().map(|c| c.outbox().until_half_empty()));
        time::timeout(within, all).await.is_ok()
    }

    fn send(&self, write: impl Fn(Codec, &mut Vec<u8>)) -> Reach {
        let mut message = Written::default();
        let mut reach = Reach::default();
        for connection in self.connections() {
            let codec = connection.codec();
            let bytes = message.in_codec(codec, |out| write(codec, out));
            match connection.outbox().push_shared(bytes) {
                Ok(()) => reach.taken += 1,
                Err(PushError::Closed) => reach.closed += 1,
                Err(PushError::TooLarge { .. }) => reach.too_large += 1,
                Err(PushError::Full) => {
                    reach.full += 1;
                    self.missed(&connection);
                }
            }
        }
        reach
    }

    fn missed(&self, connection: &ConnectionHandle) {
        let id = connection.id();
        match self.when_full {
            WhenFull::EndConnection => {
                debug!(connection = id, "its queue is full: told to come back");
                connection.send_away(CloseCause::SlowReader);
            }
            WhenFull::SkipMessage => debug!(connection = id, "its queue is full: misses a message"),
        }
    }
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Targets")
            .field("chosen", &self.chosen)
            .field("except", &self.except)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}

/// One message in the encodings that were asked for so far.
#[derive(Debug, Default)]
struct Written {
    json: Option<Bytes>,
    messagepack: Option<Bytes>,
}

impl Written {
    fn in_codec(&mut self, codec: Codec, write: impl FnOnce(&mut Vec<u8>)) -> &Bytes {
        let written = match codec {
            Codec::Json => &mut self.json,
            Codec::MessagePack => &mut self.messagepack,
        };
        written.get_or_insert_with(|| {
            let mut out = Vec::new();
            write(&mut out);
            out.into()
        })
    }
}

pub(crate) fn texts<I: Into<Box<str>>>(texts: impl IntoIterator<Item = I>) -> Vec<Box<str>> {
    texts.into_iter().map(Into::into).collect()
}

/// Of several names, some may lead to the same connection.
fn each_once(
    connections: impl Iterator<Item = ConnectionHandle>,
    names: usize,
) -> Vec<ConnectionHandle> {
    if names < 2 {
        return connections.collect();
    }
    let mut seen = HashSet::new();
    connections
        .filter(|connection| seen.insert(Arc::clone(connection.shared_id())))
        .collect()
}
