//! An API over a real engine and a real journal in a directory of its own, and its callers.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use countersign_access::{
    Grant, Issuer, KeySet, Options as Expected, Scopes, SigningKey, Verifier,
};
use countersign_claims::FolderStore;
use countersign_driver::journal::{self, NewStore, RealFiles};
use countersign_driver::{Bodies, Handle, Outlet, Service, open};
use countersign_role_api::{Api, LargeBodies, Options, Watchers};
use countersign_rules::ack::{Ack, AckItem, Outcome, Stage};
use countersign_rules::delivery::{Centre, Effect, Input, Policy, Push, Reply};
use countersign_rules::{AgentName, MessageId, TenantName, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt;

/// Tells who waits, and hands pushes to the test.
struct Told {
    watchers: Arc<Watchers>,
    pushes: mpsc::UnboundedSender<Push>,
}

impl Outlet<Centre> for Told {
    fn carry_out(&mut self, effect: Effect, _bodies: &Bodies) -> Option<Input> {
        match effect {
            Effect::Changed { id } => self.watchers.changed(id),
            Effect::Push(push) => {
                let _ = self.pushes.send(push);
            }
            _ => {}
        }
        None
    }
}

pub struct World {
    pub router: Router,
    pub centre: Handle<Centre>,
    pub service: Service<Centre>,
    pub pushes: mpsc::UnboundedReceiver<Push>,
    pub draining: Arc<AtomicBool>,
    pub troubled: Arc<AtomicBool>,
    pub directory: TempDir,
    /// Where large bodies are.
    pub bodies: TempDir,
    pub large: LargeBodies,
    issuer: Issuer,
    acks_read: AtomicU64,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    pub body: Value,
}

/// What the process says when it is told to be in trouble.
pub const TROUBLE: &str = "something else is wrong";

pub const ACK_SOURCE: u64 = 77;

impl World {
    /// With the agent `lyon` of the tenant `default` known, and limits small enough to meet.
    pub async fn new() -> Self {
        Self::with(Policy {
            body_bytes_max: 4096,
            ..Policy::default()
        })
        .await
    }

    pub async fn with(policy: Policy) -> Self {
        Self::with_reserve(policy, 0).await
    }

    /// On a disk that has to keep `reserve_bytes` free.
    pub async fn with_reserve(policy: Policy, reserve_bytes: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let files = RealFiles::new(directory.path()).unwrap();
        let options = journal::Options {
            reserve_bytes,
            ..journal::Options::default()
        };
        let body_bytes_max = policy.body_bytes_max;
        let new = NewStore {
            store_id: [1; 16],
            epoch: 1_795_000_000_000_001,
        };
        let opened = open(Centre::new(policy), files, options, new).unwrap();
        let watchers = Arc::new(Watchers::default());
        let (pushes, pushed) = mpsc::unbounded_channel();
        let outlet = Told {
            watchers: Arc::clone(&watchers),
            pushes,
        };
        let service = Service::start(opened, outlet, Default::default()).unwrap();
        let centre = service.handle();
        let keys = KeySet::new().with_signing_key(SigningKey::generate().unwrap());
        let verifier = Verifier::new(keys.clone(), Expected::new("test", "countersign"));
        let draining = Arc::new(AtomicBool::new(false));
        let is_draining = Arc::clone(&draining);
        let troubled = Arc::new(AtomicBool::new(false));
        let is_troubled = Arc::clone(&troubled);
        let bodies = TempDir::new().unwrap();
        let store = Arc::new(FolderStore::open_directory(bodies.path()).unwrap());
        let large = LargeBodies::new(store, reserve_bytes, 64 << 20).unwrap();
        let options = Options {
            body_bytes_max,
            bodies: Some(large.clone()),
            is_draining: Arc::new(move || is_draining.load(Ordering::SeqCst)),
            trouble: Arc::new(move || is_troubled.load(Ordering::SeqCst).then_some(TROUBLE)),
            ..Options::default()
        };
        let api = Api::new(options, centre.clone(), Arc::new(verifier), watchers);
        let router = api.clone().router().merge(api.bodies_router());
        let issuer = Issuer {
            keys,
            issuer: "test".into(),
            audience: "countersign".into(),
        };
        let world = Self {
            router,
            centre,
            service,
            pushes: pushed,
            draining,
            troubled,
            directory,
            bodies,
            large,
            issuer,
            acks_read: AtomicU64::new(0),
        };
        let (tenant, agent) = lyon();
        world
            .centre
            .ask(Input::Register { tenant, agent })
            .await
            .unwrap();
        world
    }

    pub fn token(&self, tenant: &str, scopes: &str) -> String {
        self.token_living(tenant, scopes, Duration::from_secs(60), now_unix_s())
    }

    pub fn token_living(
        &self,
        tenant: &str,
        scopes: &str,
        ttl: Duration,
        from_unix_s: i64,
    ) -> String {
        let grant = Grant {
            subject: "the test".into(),
            tenant: tenant.into(),
            agent: None,
            scopes: Scopes::parse(scopes).unwrap(),
            ttl,
        };
        self.issuer.issue(&grant, from_unix_s).unwrap().token
    }

    /// The token of an agent.
    pub fn agent_token(&self, tenant: &str, agent: &str) -> String {
        let grant = Grant {
            subject: agent.into(),
            tenant: tenant.into(),
            agent: Some(agent.into()),
            scopes: Scopes::parse("hub ack").unwrap(),
            ttl: Duration::from_secs(60),
        };
        self.issuer.issue(&grant, now_unix_s()).unwrap().token
    }

    /// A request of somebody of the tenant `default` who may do everything.
    pub fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let token = self.token("default", "send read operate");
        let request = Request::builder().method(method).uri(path);
        request.header("authorization", format!("Bearer {token}"))
    }

    pub async fn call(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap()
            .to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer {
            status,
            headers,
            bytes,
            body,
        }
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/json");
        self.call(request.body(body.into()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(self.request(Method::GET, path).body(Body::empty()).unwrap())
            .await
    }

    /// Sends a message to `lyon`; gives its id.
    pub async fn send(&self, data: &str) -> String {
        let body = format!(r#"{{"to":{{"agent":"lyon"}},"type":"doc.insert","data":{data}}}"#);
        let answer = self.post("/v1/messages", body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// Connects `lyon`, ready at once, as connection `connection`.
    pub async fn connect(&self, connection: u64) {
        let (tenant, agent) = lyon();
        let token_expires_at = Timestamp((now_unix_s() + 3600) * 1_000_000);
        let connect = Input::Connect {
            tenant,
            agent,
            connection,
            token_expires_at,
        };
        assert!(matches!(
            self.centre.ask(connect).await,
            Ok(Reply::Connected(Ok(_)))
        ));
        let ready = Input::Ready {
            parked: Vec::new(),
            connection,
            agent_epoch: 0,
            floor: 0,
            cursor: 0,
            highest: None,
            centre_epoch: 0,
        };
        self.centre.ask(ready).await.unwrap();
    }

    /// `agent` says that `stage` happened to the message.
    pub async fn acknowledge(&self, tenant: &str, agent: &str, id: &str, stage: Stage, data: &str) {
        let item = AckItem {
            next_at: None,
            message: id.parse().unwrap(),
            stage,
            attempt: 1,
            generation: 1,
            occurred_at: Timestamp::from_millis(1_700_000_000_000),
            outcome: Outcome {
                code: "inserted".into(),
                detail: "row 7".into(),
                data: data.as_bytes().to_vec(),
            },
            duration_ms: 12,
            traceparent: String::new(),
        };
        let ack = Ack {
            at: Timestamp::from_millis(1_700_000_000_500),
            tenant: TenantName::parse(tenant).unwrap(),
            agent: AgentName::parse(agent).unwrap(),
            item,
        };
        let through = self.acks_read.fetch_add(1, Ordering::SeqCst) + 1;
        let acks = Input::Acks {
            damaged: vec![],
            source: ACK_SOURCE,
            through,
            acks: vec![ack],
        };
        self.centre.ask(acks).await.unwrap();
    }
}

/// Seconds since 1970, by the clock of this machine.
pub fn now_unix_s() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    since.as_secs() as i64
}

pub fn lyon() -> (TenantName, AgentName) {
    (
        TenantName::parse("default").unwrap(),
        AgentName::parse("lyon").unwrap(),
    )
}

pub fn id_of(answer: &Answer) -> MessageId {
    answer.body["id"].as_str().unwrap().parse().unwrap()
}
