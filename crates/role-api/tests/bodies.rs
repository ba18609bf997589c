//! Large bodies: sent in pieces, referred to by messages, fetched by their recipients, by nobody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use countersign_rules::Timestamp;
use countersign_rules::delivery::Policy;
use futures_util::stream;
use serde_json::{Value, json};
use support::{Answer, World, now_unix_s};

const BYTES: usize = 600_000;

fn document(seed: u8) -> Vec<u8> {
    (0..BYTES).map(|at| (at / 7) as u8 ^ seed).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl World {
    async fn declare(&self, bytes: usize, sha256: &str) -> Answer {
        let body = json!({ "bytes": bytes, "sha256": sha256 });
        self.post("/v1/bodies", body.to_string()).await
    }

    async fn begin(&self, body: &[u8]) -> String {
        let declared = self.declare(body.len(), &hex(body)).await;
        assert_eq!(declared.status, StatusCode::CREATED, "{}", declared.body);
        declared.headers["location"].to_str().unwrap().to_owned()
    }

    async fn patch(&self, at: &str, offset: usize, bytes: impl Into<Body>) -> Answer {
        let request = self.request(Method::PATCH, at);
        let request = request.header("upload-offset", offset);
        self.call(request.body(bytes.into()).unwrap()).await
    }

    /// How far a body has come, and whether it is whole.
    async fn head(&self, at: &str) -> (u16, String, String) {
        let request = self.request(Method::HEAD, at);
        let answer = self.call(request.body(Body::empty()).unwrap()).await;
        let text = |name: &str| {
            let value = answer.headers.get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        (
            answer.status.as_u16(),
            text("upload-offset"),
            text("upload-complete"),
        )
    }

    async fn upload(&self, body: &[u8]) -> String {
        let at = self.begin(body).await;
        let sent = self.patch(&at, 0, body.to_vec()).await;
        assert_eq!(sent.status, StatusCode::NO_CONTENT, "{}", sent.body);
        at.rsplit('/').next().unwrap().to_owned()
    }

    async fn refer(&self, id: &str) -> Answer {
        self.post("/v1/messages", referring(id)).await
    }

    /// What the agent of this token gets of a message's body.
    async fn fetch(&self, token: &str, message: &str, range: Option<&str>) -> Answer {
        let request = Request::get(format!("/v1/messages/{message}/body"));
        let mut request = request.header("authorization", format!("Bearer {token}"));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        self.call(request.body(Body::empty()).unwrap()).await
    }
}

fn referring(id: &str) -> String {
    json!({ "to": { "agent": "lyon" }, "type": "doc.insert", "data_ref": { "id": id }, "content_type": "application/pdf" })
        .to_string()
}

fn id_of(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    answer.body["id"].as_str().unwrap().to_owned()
}

fn code(answer: &Answer) -> (u16, &str) {
    (
        answer.status.as_u16(),
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_body_comes_in_pieces_and_goes_on_where_it_was_cut() {
    let world = World::new().await;
    let body = document(1);
    let at = world.begin(&body).await;
    assert_eq!(world.head(&at).await, (200, "0".into(), "?0".into()));
    let cut = stream::iter([
        Ok(body[..300_000].to_vec()),
        Err(std::io::Error::other("the connection is gone")),
    ]);
    let answer = world.patch(&at, 0, Body::from_stream(cut)).await;
    assert_eq!(code(&answer), (400, "E-BODY"));
    assert_eq!(world.head(&at).await, (200, "300000".into(), "?0".into()));
    let wrong = world.patch(&at, 0, body.clone()).await;
    assert_eq!(code(&wrong), (409, "E-UPLOAD-OFFSET"));
    assert_eq!(wrong.headers["upload-offset"], "300000");
    let rest = world.patch(&at, 300_000, body[300_000..].to_vec()).await;
    assert_eq!(rest.status, StatusCode::NO_CONTENT);
    assert_eq!(rest.headers["upload-complete"], "?1");
    assert_eq!(world.head(&at).await, (200, BYTES.to_string(), "?1".into()));
}

#[tokio::test]
async fn a_message_refers_to_a_body_and_its_recipient_alone_fetches_it() {
    let world = World::new().await;
    let body = document(2);
    let id = world.upload(&body).await;
    let message = id_of(&world.refer(&id).await);
    let lyon = world.agent_token("default", "lyon");
    let whole = world.fetch(&lyon, &message, None).await;
    assert_eq!(whole.status, StatusCode::OK);
    assert_eq!(whole.headers["content-type"], "application/pdf");
    assert_eq!(whole.bytes, body);
    let part = world
        .fetch(&lyon, &message, Some("bytes=262143-262200"))
        .await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers["content-range"], "bytes 262143-262200/600000");
    assert_eq!(part.bytes, &body[262_143..=262_200]);
    let beyond = world.fetch(&lyon, &message, Some("bytes=600000-")).await;
    assert_eq!(code(&beyond), (416, "E-RANGE"));
    for stranger in [
        world.agent_token("default", "nice"),
        world.agent_token("other", "lyon"),
    ] {
        let answer = world.fetch(&stranger, &message, None).await;
        assert_eq!(code(&answer), (404, "E-UNKNOWN-MESSAGE"));
    }
    let sender = world.token("default", "send read");
    let answer = world.fetch(&sender, &message, None).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    // Its own tenant's readers see it as they see any document.
    let data = world.get(&format!("/v1/messages/{message}/data")).await;
    assert_eq!(data.bytes, body);
    let shown = world.get(&format!("/v1/messages/{message}")).await.body;
    assert_eq!(
        (&shown["bytes"], &shown["sha256"]),
        (&json!(BYTES), &json!(hex(&body)))
    );
}

#[tokio::test]
async fn many_messages_refer_to_one_body() {
    let world = World::new().await;
    let body = document(3);
    let id = world.upload(&body).await;
    let lyon = world.agent_token("default", "lyon");
    for _ in 0..3 {
        let message = id_of(&world.refer(&id).await);
        assert_eq!(world.fetch(&lyon, &message, None).await.bytes, body);
    }
    assert_eq!(std::fs::read_dir(world.bodies.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_send_to_many_cannot_refer_to_a_body_alone_or_in_a_batch() {
    let world = World::new().await;
    let id = world.upload(&document(7)).await;
    let to_all = json!({ "to": { "all": true }, "type": "doc.insert", "data_ref": { "id": id } });
    let one = world.post("/v1/messages", to_all.to_string()).await;
    assert_eq!(code(&one), (422, "E-BODY-TO-MANY"));
    let batch = json!({ "messages": [to_all] }).to_string();
    let batch = world.post("/v1/messages/batch", batch).await;
    assert!(
        batch.body.to_string().contains("E-BODY-TO-MANY"),
        "{}",
        batch.body
    );
    id_of(&world.refer(&id).await);
}

#[tokio::test]
async fn nothing_is_kept_of_a_body_that_is_not_what_was_declared() {
    let world = World::new().await;
    let mut body = document(4);
    let at = world.begin(&body).await;
    body[5] ^= 1;
    let answer = world.patch(&at, 0, body.clone()).await;
    assert_eq!(code(&answer), (422, "E-BODY-MISMATCH"));
    assert_eq!(world.head(&at).await.0, 404);
    let id = at.rsplit('/').next().unwrap();
    assert_eq!(code(&world.refer(id).await), (404, "E-UNKNOWN-BODY"));
    assert_eq!(std::fs::read_dir(world.bodies.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn more_than_was_declared_is_refused() {
    let world = World::new().await;
    let body = document(5);
    let at = world.begin(&body[..1000]).await;
    let answer = world.patch(&at, 0, body[..1001].to_vec()).await;
    assert_eq!(code(&answer), (422, "E-BODY-MISMATCH"));
}

#[tokio::test]
async fn a_body_of_which_a_part_is_missing_is_referred_to_by_nobody() {
    let world = World::new().await;
    let body = document(6);
    let at = world.begin(&body).await;
    let half = world.patch(&at, 0, body[..1000].to_vec()).await;
    assert_eq!(
        (half.status, &half.headers["upload-complete"]),
        (StatusCode::NO_CONTENT, &"?0".parse().unwrap())
    );
    let id = at.rsplit('/').next().unwrap();
    assert_eq!(code(&world.refer(id).await), (404, "E-UNKNOWN-BODY"));
}

#[tokio::test]
async fn what_is_declared_has_to_make_sense_and_data_is_given_once() {
    let world = World::new().await;
    let sum = hex(b"x");
    for (bytes, sha256, wanted) in [
        (0, sum.as_str(), (400, "E-FIELD")),
        (5, "abc", (400, "E-FIELD")),
        (65 << 20, sum.as_str(), (413, "E-TOO-LARGE")),
    ] {
        assert_eq!(code(&world.declare(bytes, sha256).await), wanted);
    }
    let both = r#"{"to":{"agent":"lyon"},"type":"a","data":1,"data_ref":{"id":"01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f"}}"#;
    let none = r#"{"to":{"agent":"lyon"},"type":"a"}"#;
    for body in [both, none] {
        assert_eq!(
            code(&world.post("/v1/messages", body).await),
            (400, "E-FIELD")
        );
    }
}

#[tokio::test]
async fn another_tenant_sees_nothing_of_a_body() {
    let world = World::new().await;
    let body = document(7);
    let at = world.begin(&body).await;
    let token = world.token("other", "send");
    let ask = |method: Method| {
        let request = Request::builder().method(method).uri(&at);
        let request = request.header("authorization", format!("Bearer {token}"));
        world.call(
            request
                .header("upload-offset", 0)
                .body(Body::from("x"))
                .unwrap(),
        )
    };
    for method in [Method::HEAD, Method::PATCH, Method::DELETE] {
        assert_eq!(ask(method).await.status, StatusCode::NOT_FOUND);
    }
    world.patch(&at, 0, body).await;
    for method in [Method::HEAD, Method::PATCH, Method::DELETE] {
        assert_eq!(ask(method).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_body_is_given_up_until_it_is_whole() {
    let world = World::new().await;
    let body = document(8);
    let forget = |at: String| {
        world.call(
            world
                .request(Method::DELETE, &at)
                .body(Body::empty())
                .unwrap(),
        )
    };
    let at = world.begin(&body).await;
    assert_eq!(forget(at.clone()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.head(&at).await.0, 404);
    let id = world.upload(&body).await;
    let answer = forget(format!("/v1/bodies/{id}")).await;
    assert_eq!(code(&answer), (409, "E-BODY-WHOLE"));
}

#[tokio::test]
async fn a_disk_without_room_refuses_before_a_byte_is_sent() {
    let world = World::with_reserve(Policy::default(), u64::MAX >> 1).await;
    let answer = world.declare(1000, &hex(b"x")).await;
    assert_eq!(code(&answer), (507, "E-NO-SPACE"));
}

#[tokio::test]
async fn the_same_document_under_the_same_key_is_the_same_message() {
    let world = World::new().await;
    let body = document(9);
    let send = async |id: &str| {
        let request = world.request(Method::POST, "/v1/messages");
        let request = request.header("content-type", "application/json");
        let request = request.header("idempotency-key", "order 7");
        world
            .call(request.body(Body::from(referring(id))).unwrap())
            .await
    };
    let first = send(&world.upload(&body).await).await;
    let second = send(&world.upload(&body).await).await;
    assert_eq!(second.status, StatusCode::OK);
    assert_eq!(first.body["id"], second.body["id"]);
    let other = send(&world.upload(&document(10)).await).await;
    assert_eq!(code(&other), (422, "E-KEY-REUSED"));
}

fn only_file(world: &World) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(world.bodies.path()).unwrap();
    files.next().unwrap().unwrap().path()
}

async fn state(world: &World, message: &str) -> Value {
    world.get(&format!("/v1/messages/{message}")).await.body
}

#[tokio::test]
async fn a_damaged_body_is_not_served_and_its_message_ends_with_the_reason() {
    let world = World::new().await;
    let id = world.upload(&document(11)).await;
    let message = id_of(&world.refer(&id).await);
    let file = only_file(&world);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[400] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    let request = Request::get(format!("/v1/messages/{message}/body"));
    let lyon = world.agent_token("default", "lyon");
    let request = request.header("authorization", format!("Bearer {lyon}"));
    let request = request.body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(world.router.clone(), request)
        .await
        .unwrap();
    let served = axum::body::to_bytes(response.into_body(), usize::MAX).await;
    assert!(served.is_err(), "the answer is cut short");
    let shown = state(&world, &message).await;
    assert_eq!(
        (&shown["state"], &shown["outcome"]["code"]),
        (&json!("dead"), &json!("body-damaged"))
    );
    let gone = world.fetch(&lyon, &message, None).await;
    assert_eq!(code(&gone), (410, "E-ENDED"));
}

#[tokio::test]
async fn a_missing_body_ends_its_message_with_the_reason() {
    let world = World::new().await;
    let id = world.upload(&document(12)).await;
    let message = id_of(&world.refer(&id).await);
    std::fs::remove_file(only_file(&world)).unwrap();
    let lyon = world.agent_token("default", "lyon");
    let answer = world.fetch(&lyon, &message, None).await;
    assert_eq!(code(&answer), (500, "E-UNREADABLE"));
    let shown = state(&world, &message).await;
    assert_eq!(
        (&shown["state"], &shown["outcome"]["code"]),
        (&json!("dead"), &json!("body-missing"))
    );
}

#[tokio::test]
async fn a_start_makes_a_whole_body_known_goes_on_with_a_part_and_gives_up_an_old_one() {
    let world = World::new().await;
    // As after a crash right behind the last byte: whole, and unknown to the centre.
    let (whole, part, old) = (document(13), document(14), document(15));
    let other = World::new().await;
    let whole_id = other.upload(&whole).await;
    let part_at = other.begin(&part).await;
    other.patch(&part_at, 0, part[..1000].to_vec()).await;
    for file in std::fs::read_dir(other.bodies.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), world.bodies.path().join(file.file_name())).unwrap();
    }
    let now = Timestamp(now_unix_s() * 1_000_000);
    world.large.recover(&world.centre, now).await.unwrap();
    assert_eq!(
        world.head(&part_at).await,
        (200, "1000".into(), "?0".into())
    );
    let message = id_of(&world.refer(&whole_id).await);
    let lyon = world.agent_token("default", "lyon");
    assert_eq!(world.fetch(&lyon, &message, None).await.bytes, whole);
    let later = Timestamp((now_unix_s() + 4 * 24 * 3600) * 1_000_000);
    let old_at = world.begin(&old).await;
    world.large.recover(&world.centre, later).await.unwrap();
    while world
        .bodies
        .path()
        .join(format!("{}.part", old_at.rsplit('/').next().unwrap()))
        .exists()
    {
        tokio::task::yield_now().await;
    }
}
