//! What an application writes: a hub, its methods and its errors.

use std::fmt;
use std::future::{self, Future};

use crate::{Caller, Methods};

/// A set of methods that clients call, and what happens when they come and go.
///
/// One value serves all connections; what belongs to one connection is in its [`Caller`].
pub trait Hub: Send + Sync + Sized + 'static {
    /// Names the methods.
    fn methods(methods: Methods<Self>) -> Methods<Self>;

    /// Runs when a client has shaken hands, before its first call. An error closes the connection
    /// for good, unless it says otherwise: see [`HubError::with_reconnect`].
    fn on_connected(
        &self,
        caller: &Caller<Self>,
    ) -> impl Future<Output = Result<(), HubError>> + Send {
        let _ = caller;
        future::ready(Ok(()))
    }

    /// Runs when a client has shown a newer token (`POST {hub}/refresh`, where
    /// [`Options::token_refresh`](crate::Options) allows it): [`Caller::identity`] says by now what
    /// that token says. The user is the same, or the token would have been refused.
    ///
    /// It runs beside the calls of the connection, and the client does not wait for it; the
    /// connection may end meanwhile.
    ///
    /// [`Caller::identity`]: crate::ConnectionHandle::identity
    fn on_auth_refreshed(&self, caller: &Caller<Self>) -> impl Future<Output = ()> + Send {
        let _ = caller;
        future::ready(())
    }

    /// Runs when a connection has ended, whatever the reason; calls that still run go on beside
    /// it. Pushes to the connection fail by now.
    fn on_disconnected(
        &self,
        caller: &Caller<Self>,
        why: Disconnect,
    ) -> impl Future<Output = ()> + Send {
        let _ = (caller, why);
        future::ready(())
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// The client said goodbye, or closed its WebSocket in order.
    ByClient,
    /// The application closed it.
    ByServer,
    /// The hub is being drained.
    Draining,
    /// The token ran out.
    TokenExpired,
    /// The client was silent for too long.
    ClientTimeout,
    /// The client did not read what was sent to it.
    SlowReader,
    /// The network connection broke.
    TransportLost,
    /// The client broke the protocol; this is how.
    ProtocolError(String),
    /// The hub's connected event failed.
    ConnectedFailed,
}

/// Why a hub method failed, and who may know.
///
/// Any other error turns into an internal one by `?`.
pub struct HubError {
    kind: Kind,
    allow_reconnect: bool,
}

enum Kind {
    ForCaller(String),
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

impl HubError {
    /// An error whose text the caller sees.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::ForCaller(text.into()),
            allow_reconnect: false,
        }
    }

    /// An error whose text stays here, unless detailed errors are switched on.
    pub fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            kind: Kind::Internal(error.into()),
            allow_reconnect: false,
        }
    }

    /// Lets a client come back when this error of [`Hub::on_connected`] closes its connection.
    /// Elsewhere it means nothing.
    #[must_use]
    pub fn with_reconnect(mut self) -> Self {
        self.allow_reconnect = true;
        self
    }

    pub(crate) fn allows_reconnect(&self) -> bool {
        self.allow_reconnect
    }

    /// `text` with as much detail as the caller may know.
    pub(crate) fn told(&self, text: &str, is_detailed: bool) -> String {
        use signalr_protocol::error_text::with_detail;
        match &self.kind {
            Kind::ForCaller(message) => with_detail(text, "HubException", message),
            Kind::Internal(error) if is_detailed => with_detail(text, "Error", &error.to_string()),
            Kind::Internal(_) => text.to_owned(),
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for HubError {
    fn from(error: E) -> Self {
        Self::internal(error)
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::ForCaller(text) => f.write_str(text),
            Kind::Internal(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Debug for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::ForCaller(text) => f.debug_tuple("HubError").field(text).finish(),
            Kind::Internal(error) => f.debug_tuple("HubError").field(error).finish(),
        }
    }
}
