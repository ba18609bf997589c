//! What a client can call, and what the engine hears of its coming and going.

use crate::connections::{Connections, Late};
use crate::outlet::{ResumedLane, SUPERSEDED};
use crate::tokens::Client;
use countersign_driver::{AskError, Handle};
use countersign_rules::delivery::{Centre, Gap, Input, Refusal, Reply, Welcome};
use countersign_rules::limits::PARKED_LANES_TOLD_MAX;
use countersign_rules::site::ParkedLane;
use countersign_rules::{LaneName, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use signalr_server::{Caller, ConnectionHandle, Disconnect, Hub, HubError, Methods};
use std::sync::Arc;

pub(crate) struct DeliveryHub {
    centre: Handle<Centre>,
    connections: Arc<Connections>,
}

/// What a client says of itself. Epochs are texts on the wire: JavaScript rounds large numbers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReadyRequest {
    /// Life of the client's store; absent or zero when it keeps none.
    #[serde(deserialize_with = "number_or_text")]
    epoch: u64,
    /// It remembers every message from this number on.
    #[serde(deserialize_with = "number_or_text")]
    floor: u64,
    /// Highest number below which it has all.
    #[serde(deserialize_with = "number_or_text")]
    cursor: u64,
    /// Highest number it has, when it says so.
    #[serde(deserialize_with = "number_or_text_if_any")]
    highest: Option<u64>,
    /// The centre's epoch that the numbers belong to.
    #[serde(deserialize_with = "number_or_text")]
    centre_epoch: u64,
    /// Its parked lanes.
    parked: Vec<ParkedRequest>,
}

/// A lane that the client has parked.
#[derive(Debug, Deserialize)]
struct ParkedRequest {
    lane: String,
    /// The message whose end parked it.
    id: String,
    generation: u32,
}

impl ParkedRequest {
    /// One that cannot be read is left out: it is parked at the client all the same.
    fn read(&self) -> Option<ParkedLane> {
        Some(ParkedLane {
            lane: LaneName::parse(&self.lane).ok()?,
            by: self.id.parse().ok()?,
            generation: self.generation,
            held: 0,
        })
    }
}

/// Why a connection is not let in.
enum Unwelcome {
    /// It would be the same the next time.
    ForGood(HubError),
    /// Its client is to come back.
    ComeBack(&'static str),
    /// A connection that its agent opened later is in already.
    Late,
}

/// What a client is told whose token ended while it came in.
const TOKEN_ENDED: &str = "The token has ended: come back with a new one.";

/// What a client is told that meets a centre going down, or unable to write.
const NOT_NOW: &str = "The centre takes no connection at the moment: come back.";

impl From<HubError> for Unwelcome {
    fn from(error: HubError) -> Self {
        Self::ForGood(error)
    }
}

impl From<AskError> for Unwelcome {
    fn from(_: AskError) -> Self {
        Self::ComeBack(NOT_NOW)
    }
}

impl From<Late> for Unwelcome {
    fn from(Late: Late) -> Self {
        Self::Late
    }
}

/// What it is answered.
#[derive(Debug, Serialize)]
struct ReadyAnswer {
    epoch: String,
    oldest_replayable: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<GapAnswer>,
    window: u32,
    waiting: u64,
    /// Lanes that go on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resumed: Vec<ResumedLane>,
}

#[derive(Debug, Serialize)]
struct GapAnswer {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl DeliveryHub {
    pub(crate) fn new(centre: Handle<Centre>, connections: Arc<Connections>) -> Self {
        Self {
            centre,
            connections,
        }
    }

    /// Lets a connection in: its term is durable when this returns.
    async fn connect(&self, connection: &ConnectionHandle) -> Result<u64, Unwelcome> {
        let Some(client) = connection.identity().claims::<Client>().cloned() else {
            return Err(HubError::new("the token speaks for no agent").into());
        };
        self.connections.rested().await;
        let answer = {
            let _in_order = self.connections.entering.lock().await;
            let who = (client.tenant.clone(), client.agent.clone());
            let number = self.connections.add(connection, who, client.opened)?;
            let input = Input::Connect {
                tenant: client.tenant,
                agent: client.agent,
                connection: number,
                token_expires_at: Timestamp(
                    client.token_expires_at_unix_s.saturating_mul(1_000_000),
                ),
            };
            (number, self.centre.bring(input).await?)
        };
        let (number, answer) = answer;
        match answer.await? {
            Reply::Connected(Ok(_)) => Ok(number),
            Reply::Connected(Err(Refusal::TokenExpired)) => Err(Unwelcome::ComeBack(TOKEN_ENDED)),
            Reply::Connected(Err(refusal)) => Err(HubError::new(refusal.to_string()).into()),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn enter(&self, connection: &ConnectionHandle) -> Result<(), Unwelcome> {
        let number = self.connect(connection).await?;
        if connection
            .query("ready")
            .is_some_and(|value| value.eq_ignore_ascii_case("auto"))
        {
            self.ready(number, &ReadyRequest::default()).await?;
        }
        Ok(())
    }

    async fn ready(&self, connection: u64, says: &ReadyRequest) -> Result<ReadyAnswer, Unwelcome> {
        let parked = says.parked.iter().take(PARKED_LANES_TOLD_MAX);
        let input = Input::Ready {
            connection,
            agent_epoch: says.epoch,
            floor: says.floor,
            cursor: says.cursor,
            highest: says.highest,
            centre_epoch: says.centre_epoch,
            parked: parked.filter_map(ParkedRequest::read).collect(),
        };
        match self.centre.ask(input).await? {
            Reply::Ready(Some(welcome)) => Ok(welcome.into()),
            Reply::Ready(None) => {
                Err(HubError::new("this connection was replaced by a newer one").into())
            }
            other => Err(unexpected(&other).into()),
        }
    }
}

impl Hub for DeliveryHub {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods.on("ready", ready)
    }

    async fn on_connected(&self, caller: &Caller<Self>) -> Result<(), HubError> {
        let connection = caller.connection();
        match self.enter(connection).await {
            Ok(()) => Ok(()),
            // An error would close the connection for good.
            Err(Unwelcome::ComeBack(why)) => {
                connection.close(Some(why), true);
                Ok(())
            }
            Err(Unwelcome::Late) => {
                connection.close(Some(SUPERSEDED), false);
                Ok(())
            }
            Err(Unwelcome::ForGood(error)) => Err(error),
        }
    }

    async fn on_disconnected(&self, caller: &Caller<Self>, why: Disconnect) {
        let identity = caller.connection().identity();
        let Some(client) = identity.claims::<Client>() else {
            return;
        };
        let who = (client.tenant.clone(), client.agent.clone());
        let Some(connection) = self.connections.remove(caller.connection(), &who) else {
            return;
        };
        tracing::debug!(connection, ?why, "a connection ended");
        if let Err(AskError::Stopped) = self.centre.tell(Input::Disconnect { connection }).await {
            tracing::debug!(
                connection,
                "the engine has stopped: its restart ends every connection"
            );
        }
    }
}

async fn ready(
    hub: Arc<DeliveryHub>,
    caller: Caller<DeliveryHub>,
    (says,): (ReadyRequest,),
) -> Result<ReadyAnswer, HubError> {
    let connection = hub.connections.number_of(caller.connection());
    let connection = connection.ok_or_else(|| HubError::new("this connection has ended"))?;
    hub.ready(connection, &says)
        .await
        .map_err(|unwelcome| match unwelcome {
            Unwelcome::ForGood(error) => error,
            Unwelcome::ComeBack(why) => HubError::new(why),
            Unwelcome::Late => HubError::new(SUPERSEDED),
        })
}

impl From<Welcome> for ReadyAnswer {
    fn from(welcome: Welcome) -> Self {
        let gap = welcome.gap.map(|gap| match gap {
            Gap::Ended { count } => GapAnswer {
                reason: "ended",
                count: Some(count),
            },
            _ => GapAnswer {
                reason: "other_epoch",
                count: None,
            },
        });
        Self {
            epoch: welcome.epoch.to_string(),
            oldest_replayable: welcome.oldest_replayable,
            gap,
            window: welcome.window_messages,
            waiting: welcome.waiting,
            resumed: welcome.resumed.iter().map(ResumedLane::from).collect(),
        }
    }
}

fn unexpected(reply: &Reply) -> HubError {
    HubError::internal(format!("the engine answered with {reply:?}"))
}

fn number_or_text<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Ok(number_or_text_if_any(from)?.unwrap_or(0))
}

fn number_or_text_if_any<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
        Nothing,
    }
    match Either::deserialize(from)? {
        Either::Number(number) => Ok(Some(number)),
        Either::Text(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        Either::Nothing => Ok(None),
    }
}
