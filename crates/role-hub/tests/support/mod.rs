//! The hub on a real port over a real engine, and a client that speaks the wire by hand.

use axum::http::StatusCode;
use bytes::Bytes;
use countersign_access::{
    Grant, Issuer, KeySet, Options as Expected, Scopes, SigningKey, Verifier,
};
use countersign_driver::journal::{self, Damaged, NewStore, ReadError, RealFiles, Reason};
use countersign_driver::{Bodies, Handle, Outlet, Service, open};
use countersign_role_hub::{Drain, HubOutlet, HubRole, Options};
use countersign_rules::ack::{Ack, AckItem, Outcome, Stage};
use countersign_rules::delivery::{Centre, Effect, Input, Policy, Push, Reply, Submission, View};
use countersign_rules::{AgentName, LaneName, MessageId, TenantName, Timestamp, TypeName};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Longer than anything here takes: a test that waits so long hangs.
const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const EPOCH: u64 = 1_795_000_000_000_001;

/// Hands pushes to the hub; reading a message back may be told to fail.
struct ToHub {
    hub: HubOutlet,
    reads: Arc<Mutex<Reads>>,
}

/// How the disk gives messages back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Well,
    /// Once, the disk does not answer.
    FailsOnce,
    /// The message with this number is damaged.
    Damaged(u64),
}

impl ToHub {
    fn read(&self, push: &Push, bodies: &Bodies) -> Result<Bytes, ReadError> {
        let position = push.accepted;
        let mut reads = self.reads.lock().unwrap();
        match *reads {
            Reads::FailsOnce => {
                *reads = Reads::Well;
                let error = std::io::Error::other("told to fail");
                Err(ReadError::Io { position, error })
            }
            Reads::Damaged(seq) if seq == push.seq => Err(ReadError::Damaged(Damaged {
                position,
                reason: Reason::Checksum,
            })),
            _ => bodies.read(position),
        }
    }
}

impl Outlet<Centre> for ToHub {
    fn carry_out(&mut self, effect: Effect, bodies: &Bodies) -> Option<Input> {
        match effect {
            Effect::Push(push) => {
                let read = self.read(&push, bodies);
                return self.hub.push(&push, |_| read);
            }
            Effect::Supersede { connection } => self.hub.supersede(connection),
            _ => {}
        }
        None
    }
}

pub(crate) struct World {
    pub(crate) centre: Handle<Centre>,
    pub(crate) drain: Drain,
    pub(crate) reads: Arc<Mutex<Reads>>,
    address: SocketAddr,
    issuer: Issuer,
    acks_read: AtomicU64,
    ids: AtomicU64,
    service: Service<Centre>,
    _directory: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options, &mut Expected)) -> Self {
        let directory = TempDir::new().unwrap();
        let files = RealFiles::new(directory.path()).unwrap();
        let journal = journal::Options {
            reserve_bytes: 0,
            ..journal::Options::default()
        };
        let new = NewStore {
            store_id: [1; 16],
            epoch: EPOCH,
        };
        // Larger than a connection carries, for the test of just that.
        let policy = Policy {
            body_bytes_max: 32 << 20,
            window_bytes: 64 << 20,
            ..Policy::default()
        };
        let opened = open(Centre::new(policy), files, journal, new).unwrap();
        let mut expected = Expected::new("test", "countersign");
        let mut options = Options::new("http://127.0.0.1:7421/acks/v1/acks");
        change(&mut options, &mut expected);
        let hub = HubRole::new(options);
        let reads = Arc::new(Mutex::new(Reads::Well));
        let to_hub = ToHub {
            hub: hub.outlet(),
            reads: Arc::clone(&reads),
        };
        let service = Service::start(opened, to_hub, Default::default()).unwrap();
        let centre = service.handle();
        let keys = KeySet::new().with_signing_key(SigningKey::generate().unwrap());
        let verifier = Verifier::new(keys.clone(), expected);
        let (router, drain) = hub.serve(centre.clone(), Arc::new(verifier));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let issuer = Issuer {
            keys,
            issuer: "test".into(),
            audience: "countersign".into(),
        };
        let world = Self {
            centre,
            drain,
            reads,
            address,
            issuer,
            acks_read: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            service,
            _directory: directory,
        };
        let (tenant, agent) = lyon();
        world
            .centre
            .ask(Input::Register { tenant, agent })
            .await
            .unwrap();
        world
    }

    pub(crate) fn token(&self, scopes: &str, agent: Option<&str>, ttl: Duration) -> String {
        self.token_of_old(scopes, agent, ttl, Duration::ZERO)
    }

    /// A token given out so long ago.
    pub(crate) fn token_of_old(
        &self,
        scopes: &str,
        agent: Option<&str>,
        ttl: Duration,
        ago: Duration,
    ) -> String {
        let grant = Grant {
            subject: "the test".into(),
            tenant: "default".into(),
            agent: agent.map(Into::into),
            scopes: Scopes::parse(scopes).unwrap(),
            ttl,
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        self.issuer
            .issue(&grant, (now - ago.as_secs()) as i64)
            .unwrap()
            .token
    }

    /// Sends a message to `lyon` with this body.
    pub(crate) async fn send(&self, data: &str) -> MessageId {
        self.submit(data, |_| {}).await
    }

    pub(crate) async fn submit(
        &self,
        data: &str,
        change: impl FnOnce(&mut Submission),
    ) -> MessageId {
        let (tenant, to) = lyon();
        let number = self.ids.fetch_add(1, Ordering::SeqCst) + 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        let mut submission = Submission {
            rule: countersign_rules::LaneRule::Block,
            id: MessageId(id),
            tenant,
            to,
            kind: TypeName::parse("doc.insert").unwrap(),
            lane: LaneName::default_lane(),
            key: None,
            fingerprint: [0; 16],
            body_sha256: [0; 32],
            body: None,
            expires_at: None,
            not_before: None,
            attempts_max: None,
            correlation_id: String::new(),
            causation_id: String::new(),
            traceparent: String::new(),
            tracestate: String::new(),
            sender: "test".into(),
            content_type: String::new(),
            data: data.to_owned().into(),
        };
        change(&mut submission);
        match self
            .centre
            .ask(Input::Submit(Box::new(submission)))
            .await
            .unwrap()
        {
            Reply::Submitted(Ok(receipt)) => receipt.id,
            other => panic!("{other:?}"),
        }
    }

    /// `lyon` says that `stage` happened to the message.
    pub(crate) async fn acknowledge(&self, message: MessageId, stage: Stage) {
        let (tenant, agent) = lyon();
        let at = Timestamp::from_millis(1_700_000_000_000);
        let item = AckItem {
            next_at: None,
            message,
            stage,
            attempt: 1,
            generation: 1,
            occurred_at: at,
            outcome: Outcome::default(),
            duration_ms: 0,
            traceparent: String::new(),
        };
        let through = self.acks_read.fetch_add(1, Ordering::SeqCst) + 1;
        let acks = vec![Ack {
            at,
            tenant,
            agent,
            item,
        }];
        self.centre
            .ask(Input::Acks {
                source: 7,
                through,
                damaged: vec![],
                acks,
            })
            .await
            .unwrap();
    }

    pub(crate) async fn view(&self, id: MessageId) -> View {
        let (tenant, _) = lyon();
        match self.centre.ask(Input::Look { tenant, id }).await.unwrap() {
            Reply::Message(Some(view)) => view,
            other => panic!("{other:?}"),
        }
    }

    /// The engine ends, while the hub still serves.
    pub(crate) async fn stop_engine(&mut self) {
        self.service.stop();
        self.service.ended().await;
    }

    /// Looks until `lyon` is not connected any more.
    pub(crate) async fn until_offline(&self, message: MessageId) {
        let offline = async { while self.view(message).await.online {} };
        tokio::time::timeout(PATIENCE, offline)
            .await
            .expect("the engine hears of the end");
    }

    /// Connects as `lyon`, through the handshake.
    pub(crate) async fn connect(&self, query: &str) -> Client {
        let token = self.token("hub", Some("lyon"), Duration::from_secs(60));
        self.connect_with(&token, query)
            .await
            .expect("the hub takes the connection")
    }

    pub(crate) async fn connect_with(
        &self,
        token: &str,
        query: &str,
    ) -> Result<Client, StatusCode> {
        let mut client = self.open(token, query).await?;
        client.shake_hands().await;
        Ok(client)
    }

    /// Connects without the handshake.
    pub(crate) async fn open(&self, token: &str, query: &str) -> Result<Client, StatusCode> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/hub?access_token={token}&{query}", self.address);
        let (socket, _) = client_async(url, stream)
            .await
            .map_err(|error| match error {
                Error::Http(response) => response.status(),
                other => panic!("{other}"),
            })?;
        Ok(Client {
            socket,
            records: VecDeque::new(),
            calls: 0,
        })
    }
}

pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    records: VecDeque<Value>,
    calls: u32,
}

impl Client {
    pub(crate) async fn shake_hands(&mut self) {
        self.write(&json!({"protocol": "json", "version": 1})).await;
        assert_eq!(self.record().await, json!({}), "the handshake is answered");
    }

    async fn write(&mut self, record: &Value) {
        let text = format!("{record}\u{1e}");
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next record that is no ping.
    pub(crate) async fn record(&mut self) -> Value {
        loop {
            if let Some(record) = self.records.pop_front() {
                return record;
            }
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let message = message
                .expect("something comes")
                .expect("it is open")
                .unwrap();
            if let Message::Text(text) = message {
                let records = text.as_str().split_terminator('\u{1e}');
                let records = records.map(|record| serde_json::from_str::<Value>(record).unwrap());
                self.records
                    .extend(records.filter(|record| record["type"] != 6));
            }
        }
    }

    /// The next push: its target and its envelope.
    pub(crate) async fn push(&mut self) -> (String, Value) {
        let mut record = self.record().await;
        assert_eq!(record["type"], 1, "{record}");
        assert!(
            record.get("headers").is_none(),
            "headers break older Java clients"
        );
        assert_eq!(record["arguments"].as_array().unwrap().len(), 1);
        (
            record["target"].as_str().unwrap().to_owned(),
            record["arguments"][0].take(),
        )
    }

    /// Calls a hub method; gives its completion, and every push that came before it.
    pub(crate) async fn call(&mut self, target: &str, argument: Value) -> (Value, Vec<Value>) {
        self.calls += 1;
        let id = self.calls.to_string();
        let call =
            json!({"type": 1, "target": target, "invocationId": id, "arguments": [argument]});
        self.write(&call).await;
        let mut before = Vec::new();
        loop {
            let record = self.record().await;
            if record["type"] == 3 && record["invocationId"] == id.as_str() {
                return (record, before);
            }
            before.push(record);
        }
    }

    /// Leaves without a word.
    pub(crate) fn vanish(self) {}
}

pub(crate) fn lyon() -> (TenantName, AgentName) {
    (
        TenantName::parse("default").unwrap(),
        AgentName::parse("lyon").unwrap(),
    )
}
