//! One live connection as the rest of the program sees it: push, ask, close, from any thread.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use signalr_protocol::negotiate::Transport;
use signalr_protocol::{CompletionResult, Encoding, Raw};
use tokio::sync::oneshot;

use crate::codec::Codec;
use crate::outbox::{CloseCause, CloseOrder, Outbox};
use crate::registry::Registry;
use crate::{Identity, PushError};

/// A handle to one connection. Cheap to clone; it does not keep the connection alive.
///
/// No method but [`ConnectionHandle::ask`] waits for anything.
#[derive(Clone)]
pub struct ConnectionHandle {
    inner: Arc<Inner>,
}

/// What the request that opened a connection carried, its token left out.
///
/// Texts of its own: header values as they come share the buffer that the whole request was read
/// into, and would keep it for as long as the connection lives.
#[derive(Debug)]
pub(crate) struct OpeningRequest {
    pub(crate) transport: Transport,
    pub(crate) query: Box<[(Box<str>, Box<str>)]>,
    pub(crate) headers: Box<[(Box<str>, Box<str>)]>,
}

struct Inner {
    id: Arc<str>,
    /// What the newest token says.
    identity: Mutex<Arc<Identity>>,
    /// When the newest token runs out, `None` for never.
    expires_at: Mutex<Option<SystemTime>>,
    request: OpeningRequest,
    codec: Codec,
    outbox: Outbox,
    /// Clients' answers waited for, by the id of the call; `None` when the connection has ended.
    asks: Mutex<Option<HashMap<String, oneshot::Sender<Answer>>>>,
    registry: Arc<Registry>,
}

type Answer = Result<Raw<'static>, AskError>;

/// Why a client gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The question could not be sent.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The client said that it failed; this is its text.
    #[error("{0}")]
    Refused(String),
    /// The client answered without a result.
    #[error("the client's answer has no result")]
    NoResult,
    /// The client's result is not of the type asked for.
    #[error("the client's result cannot be read: {0}")]
    Unreadable(String),
    /// The connection ended before the client answered.
    #[error("the connection ended before the client answered")]
    Disconnected,
    /// The client did not answer in time. It may still do what it was asked to.
    #[error("the client did not answer within {0:?}")]
    TimedOut(Duration),
}

impl ConnectionHandle {
    pub(crate) fn new(
        id: Arc<str>,
        identity: Identity,
        request: OpeningRequest,
        codec: Codec,
        outbox: Outbox,
        registry: Arc<Registry>,
    ) -> Self {
        let asks = Mutex::new(Some(HashMap::new()));
        Self {
            inner: Arc::new(Inner {
                id,
                expires_at: Mutex::new(identity.expires_at()),
                identity: Mutex::new(Arc::new(identity)),
                request,
                codec,
                outbox,
                asks,
                registry,
            }),
        }
    }

    /// The public id, which the client knows as its `connectionId` when it negotiated.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Who is at the other end: what the token of the opening request said, or a newer one that the
    /// client sent with `POST {hub}/refresh`. The user is always the same.
    ///
    /// A token that comes with a poll, or with a WebSocket that takes over, only puts off the end
    /// of the connection.
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.newest_identity())
    }

    /// Takes what a newer token of the same user says.
    pub(crate) fn renew(&self, identity: Identity) {
        self.put_off_expiry(identity.expires_at());
        *self.newest_identity() = Arc::new(identity);
    }

    fn newest_identity(&self) -> MutexGuard<'_, Arc<Identity>> {
        let identity = self.inner.identity.lock();
        identity.unwrap_or_else(PoisonError::into_inner)
    }

    /// What carries it.
    pub fn transport(&self) -> Transport {
        self.inner.request.transport
    }

    /// A value from the query of the request that opened the connection, by its name without
    /// regard to ASCII case; the first of several.
    pub fn query(&self, name: &str) -> Option<&str> {
        find(&self.inner.request.query, name)
    }

    /// A header of the request that opened the connection, when it is text; the first of several.
    /// Those that belong to the token and to the upgrade itself are not kept.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.inner.request.headers, name)
    }

    /// How messages on this connection are written, as the client asked for in its handshake.
    pub fn encoding(&self) -> Encoding {
        self.inner.codec.encoding()
    }

    /// Whether messages are still taken.
    pub fn is_open(&self) -> bool {
        self.inner.outbox.is_open()
    }

    /// How many messages, and how many bytes, were taken and have not gone to the network yet.
    pub fn queued(&self) -> (usize, usize) {
        self.inner.outbox.queued()
    }

    /// Calls `target` on the client with one argument, given as JSON. No answer comes.
    ///
    /// The text is sent as it is, or as the same value in MessagePack where the client asked for
    /// that; the caller promises that it is one JSON value in UTF-8.
    ///
    /// # Errors
    ///
    /// When the message was not queued.
    pub fn push_raw(&self, target: &str, argument: impl AsRef<[u8]>) -> Result<(), PushError> {
        let codec = self.inner.codec;
        self.inner
            .outbox
            .push(|out| codec.invocation(out, target, &Raw::json(argument.as_ref()), None))
    }

    /// Calls `target` on the client with the arguments of a JSON array. No answer comes.
    ///
    /// # Errors
    ///
    /// When the message was not queued.
    pub fn push_array(&self, target: &str, arguments: impl AsRef<[u8]>) -> Result<(), PushError> {
        let codec = self.inner.codec;
        self.inner
            .outbox
            .push(|out| codec.invocation_array(out, target, &Raw::json(arguments.as_ref()), None))
    }

    /// Sends one whole hub message that is in the connection's encoding already, its separator or
    /// length included. It must be of types 1 to 5: a connection that can be resumed counts it.
    ///
    /// # Errors
    ///
    /// When the message was not queued.
    pub fn push_encoded(&self, message: impl AsRef<[u8]>) -> Result<(), PushError> {
        self.inner
            .outbox
            .push(|out| out.extend_from_slice(message.as_ref()))
    }

    /// Calls `target` on the client with one argument. No answer comes.
    ///
    /// # Errors
    ///
    /// When the message was not queued.
    ///
    /// # Panics
    ///
    /// When the argument cannot be written, which is a fault in its type.
    pub fn push<T: Serialize + ?Sized>(&self, target: &str, argument: &T) -> Result<(), PushError> {
        let codec = self.inner.codec;
        let argument = codec.written(argument);
        self.inner
            .outbox
            .push(|out| codec.invocation(out, target, &argument, None))
    }

    /// Calls `target` on the client with several arguments, given as a tuple or a list. No answer
    /// comes.
    ///
    /// # Errors
    ///
    /// When the message was not queued.
    ///
    /// # Panics
    ///
    /// When the arguments cannot be written or are no tuple and no list, which is a fault in their
    /// type.
    pub fn push_args<T: Serialize + ?Sized>(
        &self,
        target: &str,
        arguments: &T,
    ) -> Result<(), PushError> {
        let codec = self.inner.codec;
        let array = codec.written_array(arguments);
        self.inner
            .outbox
            .push(|out| codec.invocation_array(out, target, &array, None))
    }

    /// Makes this connection a member of a group; joining twice is one membership. It ends with
    /// the connection. Says whether the connection is a member now: not when it has ended.
    ///
    /// A group is a name; it is there while it has members. Names are compared with case, and an
    /// empty one is a name like any other.
    pub fn join(&self, group: &str) -> bool {
        self.inner.registry.live_mut().join(self.id(), group)
    }

    /// Takes this connection out of a group. Says whether it was in it.
    pub fn leave(&self, group: &str) -> bool {
        self.inner.registry.live_mut().leave_group(self.id(), group)
    }

    /// The groups that this connection is in, in the order in which it joined them.
    pub fn groups(&self) -> Vec<Arc<str>> {
        self.inner.registry.live().groups_of(self.id()).to_vec()
    }

    /// Calls `target` on the client with one argument, given as JSON, and waits for its result.
    ///
    /// # Errors
    ///
    /// When the client cannot be asked, fails, leaves or does not answer `within` that time.
    pub async fn ask_raw(
        &self,
        target: &str,
        argument: impl AsRef<[u8]>,
        within: Duration,
    ) -> Result<Bytes, AskError> {
        let argument = Raw::json(argument.as_ref());
        let answer = self.question(target, &argument, within).await?;
        Ok(Bytes::from(answer.to_json().into_owned()))
    }

    async fn question(
        &self,
        target: &str,
        argument: &Raw<'_>,
        within: Duration,
    ) -> Result<Raw<'static>, AskError> {
        let (id, answer) = self.expect_answer()?;
        let _forget = Forget {
            connection: self,
            id: &id,
        };
        let codec = self.inner.codec;
        self.inner
            .outbox
            .push(|out| codec.invocation(out, target, argument, Some(&id)))?;
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AskError::Disconnected),
            Err(_) => Err(AskError::TimedOut(within)),
        }
    }

    /// Calls `target` on the client with one argument and waits for its result.
    ///
    /// # Errors
    ///
    /// As [`ConnectionHandle::ask_raw`], and when the result is not an `R`.
    ///
    /// # Panics
    ///
    /// When the argument cannot be written, which is a fault in its type.
    pub async fn ask<T: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        target: &str,
        argument: &T,
        within: Duration,
    ) -> Result<R, AskError> {
        let argument = self.inner.codec.written(argument);
        let answer = self.question(target, &argument, within).await?;
        let result = answer.read();
        result.map_err(|error| AskError::Unreadable(error.to_string()))
    }

    /// Ends the connection after what is queued already. A client with automatic reconnect comes
    /// back only when `allow_reconnect` is set. Nothing can be pushed from now on.
    pub fn close(&self, error: Option<&str>, allow_reconnect: bool) {
        self.inner.outbox.close(CloseOrder {
            error: error.map(str::to_owned),
            allow_reconnect,
            cause: CloseCause::Application,
        });
    }

    pub(crate) fn drain(&self) {
        self.send_away(CloseCause::Drain);
    }

    /// Ends the connection after what is queued; the client may come back.
    pub(crate) fn send_away(&self, cause: CloseCause) {
        self.inner.outbox.close(CloseOrder {
            error: None,
            allow_reconnect: true,
            cause,
        });
    }

    /// When the newest token runs out, `None` for never.
    pub(crate) fn expires_at(&self) -> Option<SystemTime> {
        *self.expiry()
    }

    /// Takes the end of a newer token for that of the connection. It is never put forward, because
    /// the older token is still good.
    pub(crate) fn put_off_expiry(&self, expires_at: Option<SystemTime>) {
        let mut expiry = self.expiry();
        *expiry = match (*expiry, expires_at) {
            (Some(old), Some(new)) => Some(old.max(new)),
            _ => None,
        };
    }

    fn expiry(&self) -> MutexGuard<'_, Option<SystemTime>> {
        let expiry = self.inner.expires_at.lock();
        expiry.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shared_id(&self) -> &Arc<str> {
        &self.inner.id
    }

    pub(crate) fn codec(&self) -> Codec {
        self.inner.codec
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.inner.outbox
    }

    /// Hands a completion to whoever asked for it; one that nobody asked for is ignored.
    pub(crate) fn answer(&self, id: &str, result: CompletionResult<'_>) {
        let asked = self.asks().as_mut().and_then(|asks| asks.remove(id));
        if let Some(asked) = asked {
            let answer = match result {
                CompletionResult::Value(value) => Ok(value.into_owned()),
                CompletionResult::Error(text) => Err(AskError::Refused(text.into_owned())),
                CompletionResult::Void => Err(AskError::NoResult),
            };
            // Whoever asked may have stopped waiting this very moment; then nobody cares.
            let _ = asked.send(answer);
        }
    }

    /// Refuses everything from now on, fails what waits for an answer, and gives what was unsent.
    pub(crate) fn shut(&self) -> Vec<u8> {
        *self.asks() = None;
        self.inner.outbox.shut()
    }

    fn expect_answer(&self) -> Result<(String, oneshot::Receiver<Answer>), AskError> {
        let id = format!("s{}", self.inner.registry.next_ask());
        let (asked, answer) = oneshot::channel();
        match self.asks().as_mut() {
            Some(asks) => asks.insert(id.clone(), asked),
            None => return Err(AskError::Push(PushError::Closed)),
        };
        Ok((id, answer))
    }

    fn asks(&self) -> MutexGuard<'_, Option<HashMap<String, oneshot::Sender<Answer>>>> {
        self.inner
            .asks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionHandle")
            .field("id", &self.inner.id)
            .field("identity", &self.newest_identity())
            .finish_non_exhaustive()
    }
}

/// Forgets a question nobody waits for any more, however the waiting ended.
struct Forget<'a> {
    connection: &'a ConnectionHandle,
    id: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(asks) = self.connection.asks().as_mut() {
            asks.remove(self.id);
        }
    }
}

fn find<'a>(pairs: &'a [(Box<str>, Box<str>)], name: &str) -> Option<&'a str> {
    let pair = pairs
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(&pair.1)
}
