//! One connection after the other, for as long as it is wanted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::connect::Connector;
use crate::connection::Shared;
use crate::{Closed, Connection, Error, Incoming, Options, ReconnectPolicy};

/// Where a client stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The first connection is being made.
    Connecting,
    /// There is a connection.
    Connected {
        /// Its public id; `None` without negotiation.
        id: Option<String>,
    },
    /// The connection was lost, or could not be made. Another attempt follows.
    Reconnecting {
        /// How many attempts have failed in a row, a lost connection included.
        failures: u32,
        /// How long after this state was entered the next attempt begins.
        pause: Duration,
        /// What went wrong last.
        why: Error,
    },
    /// It is over.
    Closed {
        /// Why.
        why: Error,
    },
}

/// Gives connections, each when the one before has ended.
pub struct Sessions {
    connector: Connector,
    policy: ReconnectPolicy,
    state: watch::Sender<State>,
    last: Option<Last>,
    /// Failures in a row, and the latest of them.
    failures: u32,
    why: Option<Error>,
}

/// The connection given last.
struct Last {
    shared: Arc<Shared>,
    since: Instant,
}

impl Sessions {
    /// Nothing is connected until [`next`](Self::next) is called.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] when the options cannot work.
    pub fn new(options: Options, policy: ReconnectPolicy) -> Result<Self, Error> {
        Ok(Self::with_connector(Connector::new(options)?, policy))
    }

    /// The same for a connector that is there already.
    #[must_use]
    pub fn with_connector(connector: Connector, policy: ReconnectPolicy) -> Self {
        let state = watch::Sender::new(State::Connecting);
        Self {
            connector,
            policy,
            state,
            last: None,
            failures: 0,
            why: None,
        }
    }

    /// Follows the state. It changes while [`next`](Self::next) runs.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Waits until the connection given before has ended, then makes another, trying for as long as the policy allows.
    ///
    /// Dropped while it waits, it loses nothing but the attempt under way; the pause then begins anew.
    ///
    /// # Errors
    ///
    /// When it gives up: the server sent us away, this side closed the connection, or the policy's attempts are used
    /// up. By default only the first two happen. Calling it again begins anew.
    pub async fn next(&mut self) -> Result<(Connection, Incoming), Error> {
        self.await_end_of_last().await?;
        loop {
            self.pause().await?;
            match self.connector.connect().await {
                Ok(session) => return Ok(self.give(session)),
                Err(error) => self.failed(error),
            }
        }
    }

    async fn await_end_of_last(&mut self) -> Result<(), Error> {
        let Some(last) = &self.last else {
            return Ok(());
        };
        let why = last.shared.ended().await;
        if last.since.elapsed() >= self.policy.stable_after {
            self.failures = 0;
        }
        self.last = None;
        let returns = why.may_return()
            || (self.policy.return_when_sent_away && matches!(why, Closed::ByServer { .. }));
        match returns {
            true => {
                self.failed(why.into());
                Ok(())
            }
            false => Err(self.give_up(why.into())),
        }
    }

    /// Before the first attempt there is nothing to wait for.
    async fn pause(&mut self) -> Result<(), Error> {
        let Some(why) = self.why.clone() else {
            self.state.send_replace(State::Connecting);
            return Ok(());
        };
        if self.policy.gives_up_after(self.failures) {
            return Err(self.give_up(why));
        }
        let retry_after = match &why {
            Error::Unreachable { retry_after, .. } => *retry_after,
            _ => None,
        };
        let pause = self
            .policy
            .pause(self.failures, retry_after, rand::random());
        tracing::debug!(failures = self.failures, ?pause, %why, "trying again");
        self.state.send_replace(State::Reconnecting {
            failures: self.failures,
            pause,
            why,
        });
        sleep(pause).await;
        Ok(())
    }

    fn failed(&mut self, why: Error) {
        self.failures = self.failures.saturating_add(1);
        self.why = Some(why);
    }

    fn give(&mut self, session: (Connection, Incoming)) -> (Connection, Incoming) {
        let shared = Arc::clone(session.0.shared());
        self.state.send_replace(State::Connected {
            id: shared.facts.id.clone(),
        });
        self.last = Some(Last {
            shared,
            since: Instant::now(),
        });
        self.why = None;
        session
    }

    /// Says that this side wants no more of them.
    pub(crate) fn close(&mut self) {
        self.give_up(Closed::ByClient.into());
    }

    fn give_up(&mut self, why: Error) -> Error {
        self.failures = 0;
        self.why = None;
        self.state.send_replace(State::Closed { why: why.clone() });
        why
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}
