//! The connection to the hub: one at a time, for ever.
//!
//! Promise: whatever happens, the agent comes back, the very first connect included, with full
//! jitter; there is never a second connection beside the first. Messages are taken in only after
//! hub and agent have told each other which lives of their stores they speak of (`ready`), so a gap
//! is told and never silent (I13, I24).
//!
//! A token that nears its end is renewed first; then the agent comes back with the new one, at
//! once. What was pushed before is taken in, what was not is pushed again (I15).

use crate::backoff::Backoff;
use crate::envelope::{ResumedLane, number};
use crate::receive::Intake;
use crate::status::Board;
use crate::token::{Token, Tokens};
use countersign_driver::{AskError, Handle};
use countersign_rules::site::{Input, Reply, Site, Standing};
use serde::{Deserialize, Serialize};
use signalr_client::{CallError, Closed, Connection, Connector, Error, Incoming};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Who this program is, for the hub's lists.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClientInfo {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// Keeps the agent connected.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connector: Connector,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) handle: Handle<Site>,
    pub(crate) board: Arc<Board>,
    pub(crate) intake: Intake,
    pub(crate) backoff: Backoff,
    pub(crate) client: ClientInfo,
}

/// What the agent says at `ready`. Epochs are texts: JavaScript rounds large numbers.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    epoch: String,
    floor: u64,
    cursor: u64,
    highest: u64,
    centre_epoch: String,
    client: &'a ClientInfo,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parked: Vec<Parked>,
}

/// A parked lane, and the message whose end parked it.
#[derive(Debug, Serialize)]
struct Parked {
    lane: String,
    id: String,
    generation: u32,
}

/// What the hub answers.
#[derive(Debug, Deserialize)]
struct Welcome {
    #[serde(deserialize_with = "number")]
    epoch: u64,
    #[serde(deserialize_with = "number")]
    oldest_replayable: u64,
    #[serde(default)]
    gap: Option<Gap>,
    #[serde(default)]
    window: u32,
    #[serde(default)]
    waiting: u64,
    #[serde(default)]
    resumed: Vec<ResumedLane>,
}

/// Messages that ended while the agent was away, or about which the hub cannot tell.
#[derive(Debug, Deserialize)]
struct Gap {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    count: Option<u64>,
}

/// How a connection, or the try to get one, ended.
#[derive(Debug)]
enum End {
    /// A new token is at hand: come back at once.
    Renew,
    /// A connection that served was lost, or the hub asked to come back: come back soon.
    Lost { why: String },
    /// It failed, or the hub does not want us: come back after a while, and a longer one each time.
    Failed {
        why: String,
        retry_after: Option<Duration>,
    },
    /// The agent stops, or its store has.
    Over,
}

impl End {
    fn failed(why: impl ToString) -> Self {
        Self::Failed {
            why: why.to_string(),
            retry_after: None,
        }
    }
}

impl From<AskError> for End {
    fn from(_: AskError) -> Self {
        Self::Over
    }
}

impl Link {
    /// Connects again and again until `stop` says so, or the store stops.
    pub(crate) async fn run(mut self, stop: watch::Receiver<bool>) {
        loop {
            let begun = Instant::now();
            let (why, asked) = match self.connect_once(stop.clone()).await {
                End::Over => return,
                End::Renew => {
                    self.board
                        .not_connected(String::from("coming back with a new token"));
                    continue;
                }
                End::Lost { why } => {
                    self.backoff.reset();
                    (why, None)
                }
                End::Failed { why, retry_after } => {
                    // Two agents of one name push each other out again and again: that must become
                    // slow. One that served for long was no failure.
                    if begun.elapsed() > LONG_ENOUGH {
                        self.backoff.reset();
                    }
                    (why, retry_after)
                }
            };
            let wait = self.backoff.after_failure(asked);
            tracing::warn!(
                why,
                failures = self.backoff.failures(),
                ?wait,
                "not connected to the hub"
            );
            self.board.not_connected(why);
            tokio::select! {
                () = sleep(wait) => {}
                () = stopped(stop.clone()) => return,
            }
        }
    }

    async fn connect_once(&mut self, stop: watch::Receiver<bool>) -> End {
        let token = match self.tokens.current().await {
            Ok(token) => token,
            Err(error) => {
                let retry_after = error.retry_after();
                return End::Failed {
                    why: error.to_string(),
                    retry_after,
                };
            }
        };
        let connected = tokio::select! {
            connected = self.connector.connect() => connected,
            () = stopped(stop.clone()) => return End::Over,
        };
        match connected {
            Ok((connection, incoming)) => {
                let end = self.session(&connection, incoming, &token, stop).await;
                // One at a time: the next begins when this one has ended.
                connection.close().await;
                end
            }
            Err(Error::Unauthorised { status, detail }) => {
                self.tokens.refused(&token).await;
                End::failed(format!("the hub answered {status}: {detail}"))
            }
            Err(Error::Unreachable {
                detail,
                retry_after,
            }) => End::Failed {
                why: format!("the hub cannot be reached: {detail}"),
                retry_after,
            },
            Err(error) => End::failed(error),
        }
    }

    async fn session(
        &mut self,
        connection: &Connection,
        mut incoming: Incoming,
        token: &Token,
        stop: watch::Receiver<bool>,
    ) -> End {
        match timeout(READY_TIMEOUT, self.ready(connection)).await {
            Ok(Ok(())) => {}
            Ok(Err(end)) => return end,
            Err(_) => return End::failed("the hub did not answer to 'ready'"),
        }
        let tokens = Arc::clone(&self.tokens);
        let intake = self.intake.run(&mut incoming);
        tokio::pin!(intake);
        let end = tokio::select! {
            taken = &mut intake => return match taken {
                Ok(()) => ended(connection.ended().await),
                Err(stopped) => stopped.into(),
            },
            () = renewed(&tokens, token) => End::Renew,
            () = stopped(stop) => End::Over,
        };
        // What has arrived already is worth keeping: it need not come twice.
        let _ = timeout(DRAIN_TIMEOUT, async {
            tokio::join!(connection.close(), &mut intake).1
        })
        .await;
        end
    }

    /// Tells the hub where this site stands, and the site where the hub stands.
    async fn ready(&self, connection: &Connection) -> Result<(), End> {
        let Reply::Standing(standing) = self.handle.ask(Input::LookStanding).await? else {
            return Err(End::failed("the store gave no standing"));
        };
        let Standing {
            epoch,
            centre_epoch,
            floor,
            cursor,
            highest,
            parked,
        } = standing;
        let parked = parked.iter().map(|lane| Parked {
            lane: lane.lane.to_string(),
            id: lane.by.to_string(),
            generation: lane.generation,
        });
        let ready = Ready {
            epoch: epoch.to_string(),
            floor,
            cursor,
            highest,
            centre_epoch: centre_epoch.to_string(),
            client: &self.client,
            parked: parked.collect(),
        };
        let welcome: Result<Welcome, CallError> = connection.invoke("ready", (ready,)).await;
        let welcome = welcome.map_err(|error| End::failed(format!("'ready' failed: {error}")))?;
        let gap = self.tell_gap(&welcome, centre_epoch);
        let Welcome {
            epoch: centre_epoch,
            oldest_replayable,
            window,
            waiting,
            resumed,
            ..
        } = welcome;
        self.handle
            .ask(Input::Welcomed {
                centre_epoch,
                oldest_replayable,
            })
            .await?;
        if !resumed.is_empty() {
            let resumed = resumed.iter().filter_map(ResumedLane::read).collect();
            self.handle.ask(Input::Resumed(resumed)).await?;
        }
        tracing::info!(
            connection = connection.id(),
            window,
            waiting,
            cursor,
            "connected to the hub"
        );
        self.board.connected(gap);
        Ok(())
    }

    fn tell_gap(&self, welcome: &Welcome, known_epoch: u64) -> u64 {
        if known_epoch != 0 && known_epoch != welcome.epoch {
            tracing::warn!(
                before = known_epoch,
                now = welcome.epoch,
                "the hub's store began a new life; messages that come again are told apart by id"
            );
        }
        let Some(gap) = &welcome.gap else { return 0 };
        let (count, reason) = (gap.count.unwrap_or(0), gap.reason.as_str());
        tracing::warn!(count, reason, "messages ended while this site was away");
        count
    }
}

fn ended(why: Closed) -> End {
    match why.may_return() {
        true => End::Lost {
            why: why.to_string(),
        },
        false => End::failed(why),
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // Without a sender nobody will ever say so, and the agent is gone: that is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits until `token` nears its end and another one is at hand. A source that has none yet is
/// asked again until the hub itself ends the connection.
async fn renewed(tokens: &Tokens, token: &Token) {
    let Some(at) = token.renew_at else {
        return std::future::pending().await;
    };
    sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await;
    let mut backoff = Backoff::new(RENEW_PAUSE, RENEW_PAUSE_MAX);
    loop {
        match tokens.current().await {
            Ok(new) if new.text != token.text => return,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the token could not be renewed"),
        }
        sleep(backoff.after_failure(Some(RENEW_PAUSE))).await;
    }
}

/// A connection that lived so long was a success.
const LONG_ENOUGH: Duration = Duration::from_secs(60);
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// What the intake may take for what arrived before a connection is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
const RENEW_PAUSE: Duration = Duration::from_secs(1);
const RENEW_PAUSE_MAX: Duration = Duration::from_secs(15);
