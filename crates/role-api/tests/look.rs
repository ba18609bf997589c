//! Looking: where a message is, what happened to it, and waiting for what will.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use countersign_rules::ack::Stage;
use countersign_rules::delivery::Input;
use serde_json::json;
use std::sync::Arc;
use support::World;

fn path(id: &str) -> String {
    format!("/v1/messages/{id}")
}

#[tokio::test]
async fn a_message_is_shown_with_what_was_sent_and_what_happened() {
    let mut world = World::new().await;
    let body = json!({
        "to": {"agent": "lyon"},
        "type": "document.insert",
        "data": "<a>é\n</a>",
        "content_type": "application/xml",
        "correlation_id": "order \"7\"",
        "causation_id": "cart",
        "order_key": "customer 9",
        "expires_in": "24h",
        "max_attempts": 3,
    });
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = world
        .request(Method::POST, "/v1/messages")
        .header("traceparent", context);
    let request = request.header("content-type", "application/json");
    let sent = world
        .call(request.body(Body::from(body.to_string())).unwrap())
        .await;
    let id = sent.body["id"].as_str().unwrap().to_owned();

    let waiting = world.get(&path(&id)).await.body;
    assert_eq!(waiting["state"], "waiting");
    assert_eq!(waiting["waiting_for"], "agent offline");
    assert_eq!(waiting["type"], "document.insert");
    assert_eq!(waiting["tenant"], "default");
    assert_eq!(waiting["agent"], "lyon");
    assert_eq!(waiting["lane"], "customer 9");
    assert_eq!(waiting["correlation_id"], "order \"7\"");
    assert_eq!(waiting["causation_id"], "cart");
    assert_eq!(waiting["traceparent"], context);
    assert_eq!(waiting["content_type"], "application/xml");
    assert_eq!(
        (&waiting["seq"], &waiting["generation"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&waiting["max_attempts"], &waiting["pushes"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(waiting["sha256"].as_str().unwrap().len(), 64);
    assert!(waiting["expires_at"].as_str().unwrap().ends_with('Z'));
    assert!(waiting.get("pushed_at").is_none() && waiting.get("outcome").is_none());

    world.connect(1).await;
    assert_eq!(world.pushes.recv().await.unwrap().id.to_string(), id);
    let pushed = world.get(&path(&id)).await.body;
    assert_eq!(
        (&pushed["state"], &pushed["pushes"]),
        (&json!("pushed"), &json!(1))
    );
    assert!(pushed["pushed_at"].is_string() && pushed.get("waiting_for").is_none());

    world
        .acknowledge("default", "lyon", &id, Stage::Stored, "")
        .await;
    world
        .acknowledge(
            "default",
            "lyon",
            &id,
            Stage::Acknowledged,
            r#"{"row":1.50}"#,
        )
        .await;
    let done = world.get(&path(&id)).await;
    assert_eq!(done.body["state"], "acknowledged");
    assert!(done.body["stored_at"].is_string() && done.body["acknowledged_at"].is_string());
    assert_eq!(done.body["outcome"]["code"], "inserted");
    assert_eq!(
        (&done.body["attempts"], &done.body["duration_ms"]),
        (&json!(1), &json!(12))
    );
    let text = String::from_utf8(done.bytes).unwrap();
    assert!(
        text.contains(r#""data":{"row":1.50}"#),
        "outcome data keeps its digits: {text}"
    );

    let data = world.get(&format!("{}/data", path(&id))).await;
    assert_eq!(data.headers["content-type"], "application/xml");
    assert_eq!(data.headers["x-content-type-options"], "nosniff");
    assert_eq!(String::from_utf8(data.bytes).unwrap(), "<a>é\n</a>");
}

#[tokio::test]
async fn the_timeline_tells_every_step_in_order_with_both_clocks() {
    let mut world = World::new().await;
    let id = world.send(r#"{"n":1}"#).await;
    world.connect(1).await;
    world.pushes.recv().await.unwrap();
    world
        .centre
        .ask(Input::Disconnect { connection: 1 })
        .await
        .unwrap();
    world.connect(2).await;
    world.pushes.recv().await.unwrap();
    world
        .acknowledge("default", "lyon", &id, Stage::Stored, "")
        .await;
    world
        .acknowledge("default", "lyon", &id, Stage::Rejected, "")
        .await;
    world
        .acknowledge("default", "lyon", &id, Stage::Acknowledged, "")
        .await;
    world
        .acknowledge("elsewhere", "nosy", &id, Stage::Acknowledged, "")
        .await;

    let timeline = world.get(&format!("{}/timeline", path(&id))).await.body;
    assert_eq!(timeline["state"], "rejected");
    assert!(timeline.get("incomplete").is_none());
    let steps = timeline["steps"].as_array().unwrap();
    let names: Vec<_> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "accepted", "pushed", "pushed", "stored", "rejected", "ack_kept", "ack_kept"
        ]
    );
    assert!(
        steps
            .iter()
            .all(|step| step["at"].is_string() && step["position"].is_u64())
    );
    assert!(
        steps
            .windows(2)
            .all(|two| two[0]["position"].as_u64() < two[1]["position"].as_u64())
    );
    assert_eq!(
        (&steps[1]["cause"], &steps[1]["term"]),
        (&json!("new"), &json!(1))
    );
    assert_eq!(
        (&steps[2]["cause"], &steps[2]["attempt"]),
        (&json!("disconnected"), &json!(2))
    );
    assert_eq!(steps[3]["occurred_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!(steps[4]["outcome"]["code"], "inserted");
    assert_eq!(
        (&steps[5]["why"], &steps[5]["by"]),
        (&json!("conflict"), &json!("lyon"))
    );
    assert_eq!(steps[6]["why"], "foreign");
    assert!(
        steps[6].get("by").is_none(),
        "another tenant's names are its own"
    );
}

#[tokio::test]
async fn another_tenants_message_is_as_unknown_as_one_that_never_was() {
    let world = World::new().await;
    let id = world.send("1").await;
    let token = world.token("elsewhere", "read");
    for suffix in ["", "/timeline", "/data", "?wait=stored&timeout=1ms"] {
        let request = Request::get(format!("{}{suffix}", path(&id)));
        let request = request.header("authorization", format!("Bearer {token}"));
        let foreign = world.call(request.body(Body::empty()).unwrap()).await;
        assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{suffix}");
        assert_eq!(foreign.body["code"], "E-UNKNOWN-MESSAGE");
    }
    let never = world
        .get(&path("01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f"))
        .await;
    assert_eq!(
        (never.status, &never.body["code"]),
        (StatusCode::NOT_FOUND, &json!("E-UNKNOWN-MESSAGE"))
    );
    assert_eq!(world.get(&path("7")).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn waiting_ends_when_the_state_is_reached() {
    let world = Arc::new(World::new().await);
    let id = world.send("1").await;
    let wait = |aim: &str| {
        let (world, path) = (
            Arc::clone(&world),
            format!("{}?wait={aim}&timeout=60s", path(&id)),
        );
        tokio::spawn(async move { world.get(&path).await.body["state"].clone() })
    };
    assert_eq!(
        wait("accepted").await.unwrap(),
        "waiting",
        "it is past that already"
    );
    let (pushed, stored, ended) = (wait("pushed"), wait("stored"), wait("acknowledged"));
    world.connect(1).await;
    assert_eq!(pushed.await.unwrap(), "pushed");
    world
        .acknowledge("default", "lyon", &id, Stage::Stored, "")
        .await;
    assert_eq!(stored.await.unwrap(), "stored");
    // A final state ends the waiting for any other.
    world
        .acknowledge("default", "lyon", &id, Stage::Rejected, "")
        .await;
    assert_eq!(ended.await.unwrap(), "rejected");
    assert_eq!(wait("stored").await.unwrap(), "rejected");
}

#[tokio::test]
async fn waiting_too_long_answers_with_the_state_it_is_in() {
    let world = World::new().await;
    let id = world.send("1").await;
    let answer = world
        .get(&format!("{}?wait=stored&timeout=10ms", path(&id)))
        .await;
    assert_eq!(
        (answer.status, &answer.body["state"]),
        (StatusCode::OK, &json!("waiting"))
    );
}

#[tokio::test]
async fn waiting_ends_with_the_store() {
    let mut world = World::new().await;
    let id = world.send("1").await;
    let (router, path) = (
        world.router.clone(),
        format!("{}?wait=stored&timeout=60s", path(&id)),
    );
    let request = world
        .request(Method::GET, &path)
        .body(Body::empty())
        .unwrap();
    let waiting = tokio::spawn(tower::ServiceExt::oneshot(router, request));
    world.service.stop();
    world.service.ended().await;
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused_with_a_problem() {
    let world = World::new().await;
    let id = world.send("1").await;
    for query in ["wait=done", "wait=stored&timeout=soon", "wiat=stored"] {
        let answer = world.get(&format!("{}?{query}", path(&id))).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (StatusCode::BAD_REQUEST, &json!("E-FIELD"))
        );
    }
    let answer = world.get("/v1/nothing").await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (StatusCode::NOT_FOUND, &json!("E-UNKNOWN-ROUTE"))
    );
    let answer = world.get("/v1/messages").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.body["code"], "E-METHOD");
}

#[tokio::test]
async fn the_counters_add_up() {
    let world = World::new().await;
    let id = world.send("1").await;
    world.send("2").await;
    world
        .acknowledge("default", "lyon", &id, Stage::Acknowledged, "")
        .await;
    let counters = world.get("/v1/counters").await.body;
    assert_eq!(counters["accepted"], 2);
    assert_eq!(
        (&counters["pending"], &counters["processed"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(counters["conserved"], true);
}

#[tokio::test]
async fn a_message_whose_records_are_damaged_is_shown_as_far_as_it_is_known() {
    let world = World::new().await;
    let id = world.send(r#""a body to be found in the file""#).await;
    world.connect(1).await;
    let segment = std::fs::read_dir(world.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| {
        std::fs::read(path).is_ok_and(|bytes| find(&bytes, b"a body to be found").is_some())
    });
    let segment = segment.unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = find(&bytes, b"a body to be found").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let shown = world.get(&path(&id)).await.body;
    assert_eq!(
        (&shown["state"], &shown["incomplete"]),
        (&json!("pushed"), &json!(true))
    );
    let timeline = world.get(&format!("{}/timeline", path(&id))).await.body;
    assert_eq!(timeline["incomplete"], true);
    assert!(timeline["missing"]["position"].is_u64() && timeline["missing"]["reason"].is_string());
    assert_eq!(timeline["steps"][0]["step"], "pushed");
    let data = world.get(&format!("{}/data", path(&id))).await;
    assert_eq!(data.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(data.body["code"], "E-UNREADABLE");
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// The samples of a page of metrics, by name and labels.
fn samples(page: &str) -> std::collections::BTreeMap<String, u64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    samples.collect()
}

#[tokio::test]
async fn metrics_add_up_and_are_told_to_those_who_may_read() {
    let world = World::new().await;
    for data in ["1", "2", "3"] {
        world.send(data).await;
    }
    let page = String::from_utf8(world.get("/metrics").await.bytes).unwrap();
    let samples = samples(&page);
    assert_eq!(samples["countersign_accepted_total"], 3);
    assert_eq!(samples["countersign_messages{state=\"pending\"}"], 3);
    assert_eq!(samples["countersign_conservation_difference"], 0);
    let states = samples.iter();
    let states = states.filter(|(name, _)| name.starts_with("countersign_messages{"));
    assert_eq!(states.map(|(_, count)| count).sum::<u64>(), 3);
    for name in samples.keys() {
        let family = name.split('{').next().unwrap();
        assert!(page.contains(&format!("# TYPE {family} ")), "{family}");
    }
    let anonymous = Request::get("/metrics").body(Body::empty()).unwrap();
    assert_eq!(world.call(anonymous).await.status, StatusCode::UNAUTHORIZED);
}
