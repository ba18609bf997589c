//! The ack API over a real store and a real journal, from the outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use countersign_access::{
    Grant, Issuer, KeySet, Options as Expected, Scopes, SigningKey, Verifier,
};
use countersign_driver::journal::{self, NewStore, RealFiles};
use countersign_driver::page::{self, Page};
use countersign_driver::{Bodies, Outlet, Service, open};
use countersign_role_ack::{Options, router};
use countersign_rules::Timestamp;
use countersign_rules::ack::{AckRecord, AckStore, Grew, Post, Stage, decode_record};
use futures_util::stream;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tower::ServiceExt;

const EPOCH: u64 = 1_795_000_000_000_001;
const ID: &str = "01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f";

struct Nobody;

impl Outlet<AckStore> for Nobody {
    fn carry_out(&mut self, _: Grew, _: &Bodies) -> Option<Post> {
        None
    }
}

struct World {
    router: Router,
    service: Service<AckStore>,
    issuer: Issuer,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Bytes,
    body: Value,
}

impl World {
    fn new(directory: &Path) -> Self {
        Self::with_reserve(directory, 0)
    }

    fn with_reserve(directory: &Path, reserve_bytes: u64) -> Self {
        let files = RealFiles::new(directory).unwrap();
        let options = journal::Options {
            reserve_bytes,
            ..journal::Options::default()
        };
        let new = NewStore {
            store_id: [2; 16],
            epoch: EPOCH,
        };
        let opened = open(AckStore::new(), files, options, new).unwrap();
        let service = Service::start(opened, Nobody, Default::default()).unwrap();
        let acks = service.handle();
        let keys = KeySet::new().with_signing_key(SigningKey::generate().unwrap());
        let verifier = Verifier::new(keys.clone(), Expected::new("test", "countersign"));
        let router = router(acks, Arc::new(verifier), Options::default());
        let issuer = Issuer {
            keys,
            issuer: "test".into(),
            audience: "countersign".into(),
        };
        Self {
            router,
            service,
            issuer,
        }
    }

    fn token(&self, scopes: &str, agent: Option<&str>) -> String {
        let grant = Grant {
            subject: "the test".into(),
            tenant: "default".into(),
            agent: agent.map(Into::into),
            scopes: Scopes::parse(scopes).unwrap(),
            ttl: Duration::from_secs(60),
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        format!(
            "Bearer {}",
            self.issuer.issue(&grant, now as i64).unwrap().token
        )
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer {
            status,
            headers,
            bytes,
            body,
        }
    }

    async fn post(&self, body: impl Into<Body>) -> Answer {
        let token = self.token("ack", Some("lyon"));
        let request = Request::post("/acks/v1/acks").header("authorization", token);
        let request = request.header("content-type", "application/json");
        self.call(request.body(body.into()).unwrap()).await
    }

    async fn journal(&self, query: &str) -> Page {
        let token = self.token("pull", None);
        let request = Request::get(format!("/acks/v1/journal?{query}"));
        let request = request
            .header("authorization", token)
            .body(Body::empty())
            .unwrap();
        let answer = self.call(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.headers["content-type"], page::CONTENT_TYPE);
        page::decode(answer.bytes).unwrap()
    }
}

fn world() -> (World, TempDir) {
    let directory = TempDir::new().unwrap();
    (World::new(directory.path()), directory)
}

fn given(page: &Page) -> Vec<countersign_rules::ack::Ack> {
    let acks = page
        .records
        .iter()
        .filter_map(|(_, record)| match decode_record(record).unwrap() {
            AckRecord::Given(ack) => Some(ack),
            _ => None,
        });
    acks.collect()
}

#[tokio::test]
async fn what_an_agent_says_is_taken_down_with_every_field_and_answered_item_by_item() {
    let (world, _directory) = world();
    let body = json!({"acks": [
        {"message_id": ID, "stage": "stored", "attempt": 1, "occurred_at": "2026-11-23T09:00:00.123456Z"},
        {"message_id": ID, "stage": "rejected", "attempt": 2, "generation": 3, "agent": "lyon",
         "occurred_at": "2026-11-23T10:00:01+01:00", "duration_ms": 12, "traceparent": "00-a-b-01",
         "outcome": {"code": "http-422", "detail": "no such \"customer\"", "data": {"n": 7}}},
    ]});
    let answer = world.post(body.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let results = json!([
        {"message_id": ID, "result": "recorded"},
        {"message_id": ID, "result": "recorded"},
    ]);
    assert_eq!(answer.body["results"], results);
    let acks = given(&world.journal("after=0").await);
    assert_eq!(acks.len(), 2);
    assert_eq!(
        (acks[0].tenant.as_str(), acks[0].agent.as_str()),
        ("default", "lyon")
    );
    assert_eq!(acks[0].item.stage, Stage::Stored);
    assert_eq!(
        acks[0].item.occurred_at.to_string(),
        "2026-11-23T09:00:00.123Z"
    );
    assert_eq!(
        acks[0].item.occurred_at.0 % 1000,
        456,
        "microseconds are kept"
    );
    let item = &acks[1].item;
    assert_eq!(item.occurred_at.to_string(), "2026-11-23T09:00:01.000Z");
    assert_eq!(
        (item.attempt, item.generation, item.duration_ms),
        (2, 3, 12)
    );
    assert_eq!(item.outcome.detail, "no such \"customer\"");
    assert_eq!(
        (&item.outcome.data[..], &item.traceparent[..]),
        (&br#"{"n":7}"#[..], "00-a-b-01")
    );
}

#[tokio::test]
async fn the_same_again_is_a_duplicate_also_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let body = json!({"acks": [{"message_id": ID, "stage": "acknowledged", "attempt": 1,
        "occurred_at": "2026-11-23T09:00:00Z"}]})
    .to_string();
    let mut world = World::new(directory.path());
    assert_eq!(
        world.post(body.clone()).await.body["results"][0]["result"],
        "recorded"
    );
    assert_eq!(
        world.post(body.clone()).await.body["results"][0]["result"],
        "duplicate"
    );
    world.service.stop();
    world.service.ended().await;
    let world = World::new(directory.path());
    assert_eq!(
        world.post(body).await.body["results"][0]["result"],
        "duplicate"
    );
    assert_eq!(given(&world.journal("after=0").await).len(), 1);
}

#[tokio::test]
async fn an_instant_that_is_not_given_is_now() {
    let (world, _directory) = world();
    let before = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros() as i64;
    let body = json!({"acks": [{"message_id": ID, "stage": "stored", "attempt": 1}]});
    assert_eq!(world.post(body.to_string()).await.status, StatusCode::OK);
    let acks = given(&world.journal("after=0").await);
    assert!(acks[0].item.occurred_at >= Timestamp(before));
}

#[tokio::test]
async fn one_wrong_item_is_named_and_nothing_is_taken() {
    let (world, _directory) = world();
    let good = json!({"message_id": ID, "stage": "stored", "attempt": 1});
    for (wrong, pointers) in [
        (
            json!({"message_id": "7", "stage": "done", "attempt": 1}),
            vec!["/acks/1/message_id"],
        ),
        (
            json!({"message_id": ID, "stage": "done", "attempt": 1}),
            vec!["/acks/1/stage"],
        ),
        (
            json!({"message_id": ID, "stage": "stored", "attempt": "1"}),
            vec!["/acks/1/attempt"],
        ),
        (
            json!({"message_id": ID, "stage": "stored", "attempt": -1}),
            vec!["/acks/1/attempt"],
        ),
        (
            json!({"message_id": ID, "stage": "stored", "attempt": 1, "occurred_at": "noon"}),
            vec!["/acks/1/occurred_at"],
        ),
        (
            json!({"message_id": ID, "stage": "rejected", "attempt": 1, "outcome": {"code": 7}}),
            vec!["/acks/1/outcome/code"],
        ),
    ] {
        let answer = world
            .post(json!({ "acks": [good, wrong] }).to_string())
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["code"], "E-ACK-ITEM", "{}", answer.body);
        let errors = answer.body["errors"].as_array().unwrap();
        let found: Vec<_> = errors
            .iter()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(found, pointers, "{wrong}");
    }
    let unknown = json!({"acks": [{"message_id": ID, "stage": "stored", "atempt": 1}]});
    let answer = world.post(unknown.to_string()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer.body["detail"].as_str().unwrap().contains("atempt"),
        "{}",
        answer.body
    );
    assert_eq!(world.post("{").await.body["code"], "E-BODY");
    assert!(given(&world.journal("after=0").await).is_empty());
}

#[tokio::test]
async fn none_and_too_many_are_refused_with_the_limit() {
    let (world, _directory) = world();
    let none = world.post(r#"{"acks":[]}"#).await;
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
    let item = json!({"message_id": ID, "stage": "stored", "attempt": 1});
    let many = world
        .post(json!({ "acks": vec![item.clone(); 501] }).to_string())
        .await;
    assert_eq!(many.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(many.body["detail"].as_str().unwrap().contains("500"));
    let most = world
        .post(json!({ "acks": vec![item; 500] }).to_string())
        .await;
    assert_eq!(
        (most.status, most.body["results"].as_array().unwrap().len()),
        (StatusCode::OK, 500)
    );
}

#[tokio::test]
async fn an_agent_speaks_for_itself_alone_and_nobody_is_read_before_his_token() {
    let (world, _directory) = world();
    let body =
        json!({"acks": [{"message_id": ID, "stage": "stored", "attempt": 1, "agent": "nice"}]});
    let answer = world.post(body.to_string()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    for (token, status, code) in [
        (None, 401, "E-TOKEN-MISSING"),
        (Some(world.token("hub", Some("lyon"))), 403, "E-TOKEN-SCOPE"),
        (Some(world.token("ack", None)), 403, "E-TOKEN-NO-AGENT"),
    ] {
        let mut request = Request::post("/acks/v1/acks").header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let answer = world.call(request.body(never).unwrap()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["code"]),
            (status, &json!(code))
        );
    }
    assert!(given(&world.journal("after=0").await).is_empty());
}

#[tokio::test]
async fn bodies_of_another_type_or_over_the_limit_are_refused() {
    let (world, _directory) = world();
    let token = world.token("ack", Some("lyon"));
    let request = Request::post("/acks/v1/acks").header("authorization", &token);
    let answer = world.call(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let request = Request::post("/acks/v1/acks").header("authorization", &token);
    let request = request.header("content-type", "application/json");
    let request = request.header("content-length", "999999999");
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let answer = world.call(request.body(never).unwrap()).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let limit = Options::default().body_bytes_max;
    assert_eq!(answer.body["limit_bytes"], limit);
}

#[tokio::test]
async fn acknowledgements_are_taken_from_the_reserve_of_a_full_disk() {
    let directory = TempDir::new().unwrap();
    let world = World::with_reserve(directory.path(), u64::MAX);
    for stage in ["stored", "acknowledged"] {
        let body = json!({"acks": [{"message_id": ID, "stage": stage, "attempt": 1}]});
        assert_eq!(world.post(body.to_string()).await.status, StatusCode::OK);
    }
    let ready = world
        .call(Request::get("/readyz").body(Body::empty()).unwrap())
        .await;
    assert_eq!(ready.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stopped_store_asks_to_come_back() {
    let (mut world, _directory) = world();
    world.service.stop();
    world.service.ended().await;
    let body = json!({"acks": [{"message_id": ID, "stage": "stored", "attempt": 1}]});
    let answer = world.post(body.to_string()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (&answer.body["code"], &answer.body["retry_after_ms"]),
        (&json!("E-STORE-STOPPED"), &json!(1000))
    );
    assert!(answer.headers.contains_key("retry-after"));
    let ready = world
        .call(Request::get("/readyz").body(Body::empty()).unwrap())
        .await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_journal_is_read_page_by_page_and_waits_for_what_is_new() {
    let (world, _directory) = world();
    let post = |n: u8| {
        let id = format!("01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a{n:02x}");
        let body = json!({"acks": [{"message_id": id, "stage": "stored", "attempt": 1}]});
        world.post(body.to_string())
    };
    for n in 0..5 {
        assert_eq!(post(n).await.status, StatusCode::OK);
    }
    let (mut after, mut read) = (0, 0);
    while read < 5 {
        let page = world
            .journal(&format!(
                "after={after}&limit=1&confirmed={after}&epoch={EPOCH}"
            ))
            .await;
        assert_eq!(page.epoch, EPOCH);
        assert!(page.through > after);
        (after, read) = (page.through, read + given(&page).len());
    }
    let empty = world.journal(&format!("after={after}")).await;
    assert_eq!((empty.through, empty.records.len()), (after, 0));
    // Whoever waits is answered as soon as something is durable.
    let query = format!("after={after}&wait=30");
    let (page, posted) = tokio::join!(world.journal(&query), post(9));
    assert_eq!((given(&page).len(), posted.status), (1, StatusCode::OK));
}

#[tokio::test]
async fn a_reader_of_another_life_of_the_store_learns_of_it_at_once() {
    let (world, _directory) = world();
    let page = world
        .journal("after=900&confirmed=900&wait=30&epoch=5")
        .await;
    assert_eq!(
        (page.epoch, page.through, page.records.len()),
        (EPOCH, 0, 0)
    );
}

#[tokio::test]
async fn a_confirmation_of_what_was_never_written_is_harmless() {
    let (world, _directory) = world();
    let page = world
        .journal(&format!("after=0&confirmed={}", u64::MAX))
        .await;
    assert_eq!(page.epoch, EPOCH);
    world
        .journal(&format!("after={}&confirmed=1", u64::MAX))
        .await;
}

#[tokio::test]
async fn only_the_centre_reads_the_journal() {
    let (world, _directory) = world();
    for token in [world.token("ack", Some("lyon")), world.token("read", None)] {
        let request = Request::get("/acks/v1/journal").header("authorization", token);
        let answer = world.call(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    let request = Request::get("/acks/v1/journal?aftr=7");
    let request = request.header("authorization", world.token("pull", None));
    let answer = world.call(request.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (StatusCode::BAD_REQUEST, &json!("E-QUERY"))
    );
}
