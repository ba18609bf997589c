//! What the server calls on this side, in the order in which it was sent.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use signalr_protocol::{BindError, Raw, error_text};
use tokio::sync::mpsc;

use crate::connection::{Held, Shared};
use crate::{CallError, args};

/// The invocations of one connection, raw and in order.
///
/// It holds [`Options::incoming_max`](crate::Options::incoming_max) of them. While it is full, nothing is read from
/// the network.
#[derive(Debug)]
pub struct Incoming {
    invocations: mpsc::Receiver<Invocation>,
    /// A consumer without a [`Connection`](crate::Connection) still wants the connection.
    _held: Arc<Held>,
}

impl Incoming {
    pub(crate) fn new(invocations: mpsc::Receiver<Invocation>, held: Arc<Held>) -> Self {
        Self {
            invocations,
            _held: held,
        }
    }

    /// The next invocation; `None` when the connection has ended and all that came before was taken.
    ///
    /// Dropped while it waits, it loses nothing.
    pub async fn next(&mut self) -> Option<Invocation> {
        self.invocations.recv().await
    }
}

/// One call by the server. If the server waits for an answer and this is dropped without one, the server is told that
/// there is none.
pub struct Invocation {
    target: String,
    arguments: Raw<'static>,
    reply: Option<Reply>,
}

impl Invocation {
    pub(crate) fn new(target: String, arguments: Raw<'static>, reply: Option<Reply>) -> Self {
        Self {
            target,
            arguments,
            reply,
        }
    }

    /// The method called, as the server spells it.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The array of the arguments, as it was sent.
    #[must_use]
    pub fn arguments(&self) -> &Raw<'static> {
        &self.arguments
    }

    /// Reads the arguments: a tuple takes one for each of its members, `()` none, anything else exactly one.
    ///
    /// # Errors
    ///
    /// When number or types do not fit.
    pub fn bind<A: DeserializeOwned>(&self) -> Result<A, BindError> {
        self.arguments.bind()
    }

    /// Whether the server waits for an answer.
    #[must_use]
    pub fn wants_answer(&self) -> bool {
        self.reply.is_some()
    }

    /// Answers with a value. Does nothing when no answer is wanted.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the value cannot be sent. The server is told so, unless the connection is gone.
    pub async fn answer(mut self, value: &impl Serialize) -> Result<(), CallError> {
        let Some(reply) = &self.reply else {
            return Ok(());
        };
        let codec = reply.shared.codec;
        let value = args::write(codec.0, value)?;
        reply.shared.send(&codec.result(&reply.id, value)).await?;
        self.forget_reply();
        Ok(())
    }

    /// Answers that the call failed, in words for the server's side. Does nothing when no answer is wanted.
    ///
    /// # Errors
    ///
    /// [`CallError::Closed`] when the connection is gone.
    pub async fn fail(mut self, error: &str) -> Result<(), CallError> {
        let Some(reply) = &self.reply else {
            return Ok(());
        };
        let message = reply.shared.codec.failure(&reply.id, error);
        reply.shared.send(&message).await?;
        self.forget_reply();
        Ok(())
    }

    fn forget_reply(&mut self) {
        if let Some(mut reply) = self.reply.take() {
            reply.is_given = true;
        }
    }
}

impl fmt::Debug for Invocation {
    /// Shows how long the arguments are, and not what they say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("target", &self.target)
            .field("argument_bytes", &self.arguments.as_bytes().len())
            .field("wants_answer", &self.wants_answer())
            .finish()
    }
}

/// The duty to answer once.
pub(crate) struct Reply {
    id: String,
    shared: Arc<Shared>,
    is_given: bool,
}

impl Reply {
    pub(crate) fn new(id: String, shared: Arc<Shared>) -> Self {
        Self {
            id,
            shared,
            is_given: false,
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_given {
            let codec = self.shared.codec;
            let message = codec.failure(&self.id, error_text::CLIENT_GAVE_NO_RESULT);
            // On a connection that is gone nobody waits any more.
            let _ = self.shared.outbox.push_at_once(&message);
        }
    }
}
