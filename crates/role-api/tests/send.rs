//! Sending: what is accepted, what is answered, what is refused and why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode};
use countersign_rules::delivery::{Input, Policy, Reply};
use futures_util::stream;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{World, now_unix_s};

const SEND: &str = r#"{"to":{"agent":"lyon"},"type":"doc.insert","data":{"n":1.50}}"#;

async fn accepted(world: &World) -> u64 {
    match world.centre.ask(Input::Count).await.unwrap() {
        Reply::Counted(counters) => counters.accepted,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_accepted_with_a_receipt_and_its_place() {
    let world = World::new().await;
    let answer = world.post("/v1/messages", SEND).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let id = answer.body["id"].as_str().unwrap();
    assert_eq!(answer.headers["location"], format!("/v1/messages/{id}"));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.body["state"], "accepted");
    assert_eq!(answer.body["agent"], "lyon");
    assert_eq!(answer.body["seq"], 1);
    assert_eq!(answer.body["online"], false);
    assert_eq!(
        answer.body["epoch"], "1795000000000001",
        "a text: JavaScript rounds numbers"
    );
    assert_eq!(answer.body["links"]["self"], format!("/v1/messages/{id}"));
    assert!(answer.body["position"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn the_same_key_and_content_give_the_same_message_and_another_content_is_refused() {
    let world = World::new().await;
    let send = |body: &'static str| {
        let request = world.request(Method::POST, "/v1/messages");
        let request = request.header("content-type", "application/json");
        let request = request
            .header("idempotency-key", "order 7")
            .body(Body::from(body));
        world.call(request.unwrap())
    };
    let first = send(SEND).await;
    let second = send(SEND).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    assert_eq!(second.status, StatusCode::OK);
    assert_eq!(second.headers["idempotency-replayed"], "true");
    assert_eq!(first.body["id"], second.body["id"]);
    assert_eq!(first.body["position"], second.body["position"]);
    let other = send(r#"{"to":{"agent":"lyon"},"type":"doc.insert","data":{"n":2}}"#).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.body["code"], "E-KEY-REUSED");
    assert_eq!(accepted(&world).await, 1);
}

#[tokio::test]
async fn an_id_in_the_body_is_the_messages_id_and_a_key_at_the_same_time() {
    let world = World::new().await;
    let id = "01935D3C-7A2E-7C4B-9F10-5B0E8C1D2A3F";
    let body = |data: &str| {
        format!(r#"{{"to":{{"agent":"lyon"}},"type":"doc.insert","data":{data},"id":"{id}"}}"#)
    };
    let first = world.post("/v1/messages", body("1")).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    assert_eq!(first.body["id"], id.to_lowercase());
    let again = world.post("/v1/messages", body("1")).await;
    assert_eq!(
        (again.status, &again.body["id"]),
        (StatusCode::OK, &first.body["id"])
    );
    let other = world.post("/v1/messages", body("2")).await;
    assert_eq!(other.body["code"], "E-KEY-REUSED");
    // With a key of its own, it is another message, which cannot have the same id.
    let request = world
        .request(Method::POST, "/v1/messages")
        .header("idempotency-key", "k");
    let request = request.header("content-type", "application/json");
    let taken = world
        .call(request.body(Body::from(body("1"))).unwrap())
        .await;
    assert_eq!(
        (taken.status, &taken.body["code"]),
        (StatusCode::CONFLICT, &json!("E-ID-TAKEN"))
    );
    // Any other text is a key and no id.
    let body = r#"{"to":{"agent":"lyon"},"type":"doc.insert","data":1,"id":"order 7"}"#;
    let first = world.post("/v1/messages", body).await;
    let again = world.post("/v1/messages", body).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    assert_eq!(
        (again.status, &again.body["id"]),
        (StatusCode::OK, &first.body["id"])
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_refused_and_not_taken_for_none() {
    let world = World::new().await;
    for key in [&b""[..], &[0xe9, 0x31], &[b'x'; 257]] {
        let request = world
            .request(Method::POST, "/v1/messages")
            .header("idempotency-key", key);
        let request = request.header("content-type", "application/json");
        let answer = world.call(request.body(Body::from(SEND)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{key:?}");
    }
    assert_eq!(accepted(&world).await, 0);
}

#[tokio::test]
async fn faults_of_the_body_are_named_with_their_place() {
    let world = World::new().await;
    for (body, code, pointer) in [
        ("{", "E-BODY", None),
        ("no json", "E-BODY", None),
        (
            r#"{"to":{"agent":"lyon"},"type":"doc.insert"}"#,
            "E-FIELD",
            Some("/data"),
        ),
        (
            r#"{"to":{"agent":"lyon"},"type":7,"data":1}"#,
            "E-FIELD",
            Some("/type"),
        ),
        (
            r#"{"to":{"agent":"lyon"},"type":"Doc","data":1}"#,
            "E-FIELD",
            Some("/type"),
        ),
        (
            r#"{"to":{"agent":"l y"},"type":"doc","data":1}"#,
            "E-FIELD",
            Some("/to/agent"),
        ),
        (
            r#"{"to":{"agent":1},"type":"doc","data":1}"#,
            "E-FIELD",
            Some("/to/agent"),
        ),
        (r#"{"to":{},"type":"doc","data":1}"#, "E-FIELD", Some("/to")),
        (
            r#"{"to":{"agent":"lyon"},"type":"doc","data":1,"max_attempts":0}"#,
            "E-FIELD",
            Some("/max_attempts"),
        ),
        (
            r#"{"to":{"agent":"lyon"},"type":"doc","data":1,"max_attempts":-1}"#,
            "E-FIELD",
            Some("/max_attempts"),
        ),
        (
            r#"{"to":{"agent":"lyon"},"type":"doc","data":1,"expires_in":"soon"}"#,
            "E-FIELD",
            Some("/expires_in"),
        ),
        (
            r#"{"to":{"agent":"lyon"},"type":"doc","data":1,"expires_at":"tomorrow"}"#,
            "E-FIELD",
            Some("/expires_at"),
        ),
        (
            r#"{"to":{"agent":"lyon"},"type":"doc","data":1,"content_type":"text/xml"}"#,
            "E-FIELD",
            Some("/data"),
        ),
        (
            r#"{"to":{"agent":"lyon"},"type":"doc","data":"","content_type":"a/b\nc"}"#,
            "E-FIELD",
            Some("/content_type"),
        ),
    ] {
        let answer = world.post("/v1/messages", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["code"], code, "{body}: {}", answer.body);
        assert_eq!(
            answer.body["errors"][0]["pointer"].as_str(),
            pointer,
            "{body}"
        );
        for member in ["type", "title", "detail", "hint"] {
            assert!(
                !answer.body[member].as_str().unwrap().is_empty(),
                "{body}: {member}"
            );
        }
        assert_eq!(answer.body["status"], 400);
    }
    assert_eq!(accepted(&world).await, 0);
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_its_name() {
    let world = World::new().await;
    let body = r#"{"to":{"agent":"lyon"},"type":"doc","data":1,"expries_in":"24h"}"#;
    let answer = world.post("/v1/messages", body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("expries_in"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn users_cannot_be_addressed() {
    let world = World::new().await;
    let body = r#"{"to":{"user":"u"},"type":"doc","data":1}"#;
    let answer = world.post("/v1/messages", body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.body["code"], "E-TARGET");
}

#[tokio::test]
async fn an_unknown_recipient_is_refused_until_it_is_registered() {
    let world = World::new().await;
    let body = SEND.replace("lyon", "nice");
    let refused = world.post("/v1/messages", body.clone()).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert_eq!(refused.body["code"], "E-UNKNOWN-RECIPIENT");
    let put = world
        .request(Method::PUT, "/v1/agents/nice")
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.call(put).await.status, StatusCode::OK);
    assert_eq!(
        world.post("/v1/messages", body).await.status,
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn whoever_has_no_good_token_is_refused_before_the_body_is_read() {
    let world = World::new().await;
    let expired = world.token_living("default", "send", Duration::from_secs(1), now_unix_s() - 99);
    for (authorization, status, code) in [
        (None, 401, "E-TOKEN-MISSING"),
        (Some("Bearer x.y.z".to_owned()), 401, "E-TOKEN-MALFORMED"),
        (Some(format!("Bearer {expired}")), 401, "E-TOKEN-EXPIRED"),
        (
            Some(format!("Bearer {}", world.token("default", "read"))),
            403,
            "E-TOKEN-SCOPE",
        ),
    ] {
        let mut request = Request::post("/v1/messages").header("content-type", "application/json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        // A body that never comes: an answer proves that nobody waited for it.
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let answer = world.call(request.body(never).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{code}");
        assert_eq!(answer.body["code"], code);
        assert!(
            answer.headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer")
        );
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_the_limit_and_unread_when_it_says_its_length() {
    let world = World::new().await;
    let long = format!(
        r#"{{"to":{{"agent":"lyon"}},"type":"doc","data":"{}"}}"#,
        "x".repeat(4096)
    );
    let answer = world.post("/v1/messages", long).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        (&answer.body["code"], &answer.body["limit_bytes"]),
        (&json!("E-TOO-LARGE"), &json!(4096))
    );

    let request = world.request(Method::POST, "/v1/messages");
    let request = request
        .header("content-type", "application/json")
        .header("content-length", "30000");
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let answer = world.call(request.body(never).unwrap()).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);

    let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 10_000]));
    let pieces = Body::from_stream(stream::repeat_with(piece));
    let answer = world.post("/v1/messages", pieces).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.body["limit_bytes"], 4096 + 16 * 1024);
}

#[tokio::test]
async fn a_body_in_pieces_is_the_same_body() {
    let world = World::new().await;
    let pieces = SEND
        .as_bytes()
        .chunks(7)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
    let answer = world
        .post("/v1/messages", Body::from_stream(stream::iter(pieces)))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let path = format!("/v1/messages/{}/data", answer.body["id"].as_str().unwrap());
    assert_eq!(world.get(&path).await.bytes, br#"{"n":1.50}"#);
}

#[tokio::test]
async fn another_content_type_than_json_is_refused() {
    let world = World::new().await;
    for content_type in [
        None,
        Some("application/xml"),
        Some("application/x-www-form-urlencoded"),
    ] {
        let mut request = world.request(Method::POST, "/v1/messages");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = world.call(request.body(Body::from(SEND)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(answer.body["code"], "E-CONTENT-TYPE");
    }
    let request = world.request(Method::POST, "/v1/messages");
    let request = request.header("content-type", "Application/JSON; charset=utf-8");
    let answer = world.call(request.body(Body::from(SEND)).unwrap()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_message_that_would_be_expired_at_once_is_refused() {
    let world = World::new().await;
    let body = SEND.replace("\"data\"", r#""expires_at":"2020-01-01T00:00:00Z","data""#);
    let answer = world.post("/v1/messages", body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.body["code"], "E-EXPIRED");
}

#[tokio::test]
async fn a_problem_names_the_trace_of_its_request() {
    let world = World::new().await;
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = world
        .request(Method::POST, "/v1/messages")
        .header("traceparent", context);
    let request = request.header("content-type", "application/json");
    let answer = world.call(request.body(Body::from("{")).unwrap()).await;
    assert_eq!(answer.body["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[tokio::test]
async fn a_full_store_refuses_with_507_and_a_leaving_server_with_503() {
    let world = World::with(Policy {
        pending_max: 1,
        ..Policy::default()
    })
    .await;
    world.send("1").await;
    let full = world.post("/v1/messages", SEND).await;
    assert_eq!(
        (full.status.as_u16(), &full.body["code"]),
        (507, &json!("E-FULL"))
    );
    world.draining.store(true, Ordering::SeqCst);
    let leaving = world.post("/v1/messages", SEND).await;
    assert_eq!(
        (leaving.status.as_u16(), &leaving.body["code"]),
        (503, &json!("E-DRAINING"))
    );
    assert!(leaving.headers.contains_key("retry-after"));
    let ready = world.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        ready.body["reasons"],
        json!(["the server is shutting down"])
    );
    assert_eq!(world.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_disk_without_its_reserve_refuses_sends_with_507_and_goes_on_with_the_rest() {
    let world = World::with_reserve(Policy::default(), u64::MAX).await;
    let answer = world.post("/v1/messages", SEND).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["code"]),
        (507, &json!("E-NO-SPACE"))
    );
    assert!(answer.headers.contains_key("retry-after"));
    let batch = json!({"messages": [serde_json::from_str::<Value>(SEND).unwrap()]}).to_string();
    let answer = world.post("/v1/messages/batch", batch).await;
    assert_eq!(answer.body["results"][0]["status"], 507);
    let ready = world.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        ready.body["reasons"],
        json!(["the disk is full up to its reserve"])
    );
    assert_eq!(world.get("/v1/counters").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stopped_store_answers_503_and_is_not_ready() {
    let mut world = World::new().await;
    assert_eq!(world.get("/readyz").await.status, StatusCode::OK);
    world.service.stop();
    world.service.ended().await;
    let answer = world.post("/v1/messages", SEND).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["code"]),
        (503, &json!("E-STORE-STOPPED"))
    );
    assert_eq!(
        world.get("/readyz").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn a_process_in_trouble_is_not_ready_and_says_why() {
    let world = World::new().await;
    assert_eq!(world.get("/readyz").await.status, StatusCode::OK);
    world.troubled.store(true, Ordering::SeqCst);
    let ready = world.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.body["reasons"], json!([support::TROUBLE]));
}

#[tokio::test]
async fn a_batch_is_judged_message_by_message_and_keeps_its_order() {
    let world = World::new().await;
    let one = |n: usize| json!({"to":{"agent":"lyon"},"type":"doc.insert","data":n});
    let mut messages: Vec<Value> = (0..1000).map(one).collect();
    messages[3] = json!({"to":{"agent":"nice"},"type":"doc.insert","data":3});
    messages[5] = json!({"to":{"agent":"lyon"},"type":"doc.insert","datum":5});
    messages[7]["id"] = json!("twice");
    messages[8] = messages[7].clone();
    let body = json!({ "messages": messages }).to_string();
    let answer = world.post("/v1/messages/batch", body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let results = answer.body["results"].as_array().unwrap();
    assert_eq!(results.len(), 1000);
    assert_eq!(results[3]["status"], 404);
    assert_eq!(results[3]["problem"]["code"], "E-UNKNOWN-RECIPIENT");
    assert_eq!(results[5]["status"], 400);
    assert_eq!(results[8]["status"], 200);
    assert_eq!(results[8]["message"]["id"], results[7]["message"]["id"]);
    let new = results.iter().filter(|result| result["status"] == 202);
    let seqs: Vec<u64> = new
        .map(|result| result["message"]["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(
        seqs,
        (1..=997).collect::<Vec<_>>(),
        "numbers follow the order of the request"
    );
}

#[tokio::test]
async fn a_batch_of_too_many_messages_is_refused_whole() {
    let world = World::new().await;
    let messages = vec![json!({"to":{"agent":"lyon"},"type":"d","data":1}); 1001];
    let answer = world
        .post(
            "/v1/messages/batch",
            json!({ "messages": messages }).to_string(),
        )
        .await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.body["detail"].as_str().unwrap().contains("1000"));
    assert_eq!(accepted(&world).await, 0);
}
