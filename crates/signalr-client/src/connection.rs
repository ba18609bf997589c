//! One connection, from handshake to goodbye.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use signalr_protocol::{CompletionResult, Raw};
use tokio::sync::watch;

use crate::calls::Calls;
use crate::connect::Connector;
use crate::outbox::{NotOpen, Outbox};
use crate::{Arguments, CallError, Closed, Error, Incoming, Options, codec};

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
    send_bytes_max: Option<usize>,
    ended: watch::Sender<Option<Closed>>,
}

/// What the negotiation said.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) id: Option<String>,
    pub(crate) token_lifetime: Option<Duration>,
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
        let result = self.invoke_raw(target, arguments).await?;
        Ok(result.read()?)
    }

    /// Calls a method and gives its result as it came; `null` for a method without one.
    ///
    /// # Errors
    ///
    /// As [`invoke`](Self::invoke).
    pub async fn invoke_raw(
        &self,
        target: &str,
        arguments: impl Arguments,
    ) -> Result<Raw<'static>, CallError> {
        // Encoded before the wait begins, so that the future holds no more than bytes.
        let arguments = encoded(&arguments)?;
        let shared = self.shared();
        let waiting = shared.calls.begin();
        shared
            .send(&codec::invocation(target, Some(&waiting.id()), &arguments))
            .await?;
        match waiting.answer().await {
            Some(CompletionResult::Value(value)) => Ok(value),
            Some(CompletionResult::Void) => Ok(Raw::json(&b"null"[..])),
            Some(CompletionResult::Error(error)) => Err(CallError::Failed(error.into_owned())),
            None => Err(shared.why_closed().into()),
        }
    }

    /// Calls a method and wants no answer: none comes, not even an error.
    ///
    /// Done means that the message is in line to be sent, and no more than that.
    ///
    /// # Errors
    ///
    /// [`CallError`] when it could not be put in line.
    pub async fn send(&self, target: &str, arguments: impl Arguments) -> Result<(), CallError> {
        let arguments = encoded(&arguments)?;
        self.shared()
            .send(&codec::invocation(target, None, &arguments))
            .await
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

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.held.shared
    }
}

impl Shared {
    pub(crate) fn new(options: &Options, facts: Facts) -> Self {
        Self {
            outbox: Outbox::new(options.outbox_bytes_max),
            calls: Calls::default(),
            facts,
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
    fn why_closed(&self) -> Closed {
        self.ended.borrow().clone().unwrap_or(Closed::ByClient)
    }
}

fn encoded(arguments: &impl Arguments) -> Result<Vec<u8>, CallError> {
    let mut out = Vec::new();
    arguments.write(&mut out)?;
    Ok(out)
}
