//! One connection, from handshake to goodbye.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use signalr_protocol::Raw;
use tokio::sync::watch;

use crate::calls::Calls;
use crate::codec::Codec;
use crate::connect::Connector;
use crate::outbox::{FRAME_BYTES, NotOpen, Outbox, RESUMABLE_FRAME_BYTES};
use crate::resume::Resumption;
use crate::{Arguments, Call, CallError, Closed, Error, Incoming, Options, Streaming, Transport};

/// A handle to one connection. Clones are the same connection; it closes when the last of them and its [`Incoming`] are
/// gone.
#[derive(Debug, Clone)]
pub struct Connection {
    held: Arc<Held>,
}

/// Closes the connection when nobody holds it any more.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.outbox.close();
    }
}

/// What the handles and the connection's task have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) outbox: Outbox,
    pub(crate) calls: Calls,
    pub(crate) facts: Facts,
    pub(crate) codec: Codec,
    pub(crate) stream_bytes_max: usize,
    /// `None` when the server did not grant it.
    pub(crate) resumption: Option<Resumption>,
    send_bytes_max: Option<usize>,
    ended: watch::Sender<Option<Closed>>,
}

/// What the negotiation said.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) id: Option<String>,
    pub(crate) token_lifetime: Option<Duration>,
    pub(crate) transport: Transport,
    /// Whether another WebSocket may take over.
    pub(crate) is_stateful: bool,
}

impl Connection {
    /// Negotiates, connects and shakes hands, once.
    ///
    /// To connect again and again, keep a [`Connector`] or use [`Sessions`](crate::Sessions): they prepare TLS only once.
    ///
    /// # Errors
    ///
    /// [`Error`], by what can be done about it.
    pub async fn connect(options: Options) -> Result<(Self, Incoming), Error> {
        Connector::new(options)?.connect().await
    }

    pub(crate) fn new(held: Arc<Held>) -> Self {
        Self { held }
    }

    /// The connection's public id, as the server's logs have it. `None` without negotiation.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.shared().facts.id.as_deref()
    }

    /// How its bytes travel.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.shared().facts.transport
    }

    /// How often another WebSocket has taken over from one that was lost, with nothing lost or repeated between. `None`
    /// when stateful reconnect was not asked for or not granted. A loss that could not be mended ends the connection.
    #[must_use]
    pub fn resumptions(&self) -> Option<u32> {
        let resumption = self.shared().resumption.as_ref();
        resumption.map(Resumption::times)
    }

    /// How long the server said at negotiation that it takes the token for good; `None` when it did not say.
    #[must_use]
    pub fn token_lifetime(&self) -> Option<Duration> {
        self.shared().facts.token_lifetime
    }

    /// Calls a method and waits for its result; `()` for a method without one.
    ///
    /// There is no limit to the wait but the connection's end: put a `tokio::time::timeout` around it. The task that
    /// empties [`Incoming`] may wait here too: up to 1 MiB of invocations is read past to find the answer.
    ///
    /// # Errors
    ///
    /// [`CallError`]. After [`CallError::Closed`] nobody knows whether the method ran.
    pub async fn invoke<R: DeserializeOwned>(
        &self,
        target: &str,
        arguments: impl Arguments,
    ) -> Result<R, CallError> {
        self.call(target, arguments).invoke().await
    }

    /// Calls a method and gives its result as it came, in the connection's encoding; null for a method without one.
    ///
    /// # Errors
    ///
    /// As [`invoke`](Self::invoke).
    pub async fn invoke_raw(
        &self,
        target: &str,
        arguments: impl Arguments,
    ) -> Result<Raw<'static>, CallError> {
        self.call(target, arguments).invoke_raw().await
    }

    /// Calls a streaming method and gives its items as they come; see [`Streaming`].
    ///
    /// # Errors
    ///
    /// [`CallError`] when the call could not be put in line. What goes wrong later comes as an item.
    pub async fn stream<T: DeserializeOwned>(
        &self,
        target: &str,
        arguments: impl Arguments,
    ) -> Result<Streaming<T>, CallError> {
        self.call(target, arguments).stream().await
    }

    /// Begins a call with streams among its arguments; see [`Call`].
    #[must_use]
    pub fn call<'a>(&'a self, target: &'a str, arguments: impl Arguments) -> Call<'a> {
        Call::new(self, target, arguments)
    }

    /// Calls a method and wants no answer: none comes, not even an error.
    ///
    /// Done means that the message is in line to be sent, and no more than that.
    ///
    /// # Errors
    ///
    /// [`CallError`] when it could not be put in line.
    pub async fn send(&self, target: &str, arguments: impl Arguments) -> Result<(), CallError> {
        self.call(target, arguments).send().await
    }

    /// Sends what is in line, says goodbye, and waits until the connection has ended. Calls that still wait fail.
    pub async fn close(&self) -> Closed {
        self.shared().outbox.close();
        self.ended().await
    }

    /// Waits until the connection has ended, and says why. Answers at once when it has.
    pub async fn ended(&self) -> Closed {
        self.shared().ended().await
    }

    /// Why the connection ended; `None` while it lives.
    #[must_use]
    pub fn why_ended(&self) -> Option<Closed> {
        self.shared().ended.borrow().clone()
    }

    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.held.shared
    }
}

impl Shared {
    pub(crate) fn new(options: &Options, facts: Facts) -> Self {
        let resumption = facts
            .is_stateful
            .then(|| Resumption::new(options.replay_bytes_max));
        let frame_bytes = match resumption {
            Some(_) => RESUMABLE_FRAME_BYTES,
            None => FRAME_BYTES,
        };
        Self {
            outbox: Outbox::new(options.outbox_bytes_max, frame_bytes),
            calls: Calls::default(),
            facts,
            codec: options.codec(),
            stream_bytes_max: options.stream_bytes_max,
            resumption,
            send_bytes_max: options.send_bytes_max,
            ended: watch::Sender::new(None),
        }
    }

    /// Puts a whole hub message in line.
    pub(crate) async fn send(&self, message: &[u8]) -> Result<(), CallError> {
        self.check_size(message)?;
        self.outbox
            .push(message)
            .await
            .map_err(|NotOpen| self.why_closed().into())
    }

    pub(crate) fn check_size(&self, message: &[u8]) -> Result<(), CallError> {
        match self.send_bytes_max {
            Some(bytes_max) if message.len() > bytes_max => Err(CallError::TooLarge {
                bytes: message.len(),
                bytes_max,
            }),
            _ => Ok(()),
        }
    }

    /// Makes the end known, first to senders, then to those who ask why, then to calls.
    pub(crate) fn end(&self, why: Closed) {
        self.outbox.end();
        self.ended.send_replace(Some(why));
        self.calls.end();
    }

    pub(crate) async fn ended(&self) -> Closed {
        let mut ended = self.ended.subscribe();
        let why = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|why| why.clone());
        why.unwrap_or(Closed::ByClient)
    }

    /// Between the wish to close and the end there is no reason yet but that wish.
    pub(crate) fn why_closed(&self) -> Closed {
        self.ended.borrow().clone().unwrap_or(Closed::ByClient)
    }
}
