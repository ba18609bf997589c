//! What operators decide: later, not at all, once more, not now.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use countersign_rules::ack::Stage;
use serde_json::json;
use support::{Answer, World};

impl World {
    async fn operate(&self, id: &str, step: &str) -> Answer {
        self.post(&format!("/v1/messages/{id}/{step}"), Body::empty())
            .await
    }

    async fn patch(&self, path: &str, body: &str) -> Answer {
        let request = self
            .request(Method::PATCH, path)
            .header("content-type", "application/json");
        self.call(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    async fn steps(&self, id: &str) -> Vec<String> {
        let timeline = self.get(&format!("/v1/messages/{id}/timeline")).await.body;
        let steps = timeline["steps"].as_array().unwrap().iter();
        steps
            .map(|step| step["step"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn a_message_for_later_is_accepted_shown_and_taken_back() {
    let world = World::new().await;
    let body = json!({
        "to": {"agent": "lyon"},
        "type": "doc.insert",
        "data": 1,
        "not_before": "2126-01-01T00:00:00Z",
    });
    let sent = world.post("/v1/messages", body.to_string()).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED);
    let id = sent.body["id"].as_str().unwrap().to_owned();
    let shown = world.get(&format!("/v1/messages/{id}")).await.body;
    assert_eq!(shown["state"], "waiting");
    assert_eq!(shown["waiting_for"], "its time");
    assert_eq!(shown["not_before"], "2126-01-01T00:00:00.000Z");
    assert!(shown.get("seq").is_none());
    let lyon = world.get("/v1/agents/lyon").await.body;
    assert_eq!((&lyon["waiting"], &lyon["held"]), (&json!(0), &json!(1)));

    let cancelled = world.operate(&id, "cancel").await;
    assert_eq!(cancelled.status, StatusCode::OK);
    assert_eq!(cancelled.body["state"], "cancelled");
    assert_eq!(cancelled.body["outcome"]["detail"], "by the test");
    assert_eq!(world.steps(&id).await, ["accepted", "cancelled"]);
}

#[tokio::test]
async fn an_instant_that_is_none_is_refused_with_its_field() {
    let world = World::new().await;
    let body = r#"{"to":{"agent":"lyon"},"type":"doc.insert","data":1,"not_before":"soon"}"#;
    let refused = world.post("/v1/messages", body).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.body["errors"][0]["pointer"], "/not_before");
}

#[tokio::test]
async fn the_same_key_with_another_instant_is_another_content() {
    let world = World::new().await;
    let send = |at: &str| {
        let body = format!(
            r#"{{"id":"k","to":{{"agent":"lyon"}},"type":"t","data":1,"not_before":"{at}"}}"#
        );
        world.post("/v1/messages", body)
    };
    assert_eq!(
        send("2126-01-01T00:00:00Z").await.status,
        StatusCode::ACCEPTED
    );
    assert_eq!(send("2126-01-01T00:00:00Z").await.status, StatusCode::OK);
    let other = send("2127-01-01T00:00:00Z").await;
    assert_eq!(other.body["code"], "E-KEY-REUSED");
}

#[tokio::test]
async fn what_its_agent_has_cannot_be_cancelled_and_what_is_under_way_not_replayed() {
    let mut world = World::new().await;
    let id = world.send("1").await;
    let refused = world.operate(&id, "replay").await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (StatusCode::CONFLICT, &json!("E-NOT-ENDED"))
    );
    world.connect(1).await;
    world.pushes.recv().await.unwrap();
    let refused = world.operate(&id, "cancel").await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (StatusCode::CONFLICT, &json!("E-TOO-LATE"))
    );
}

#[tokio::test]
async fn a_dead_message_is_replayed_as_another_life_of_its_own() {
    let mut world = World::new().await;
    let id = world.send(r#"{"n":1}"#).await;
    world.connect(1).await;
    world.pushes.recv().await.unwrap();
    for stage in [Stage::Stored, Stage::Dead] {
        world.acknowledge("default", "lyon", &id, stage, "").await;
    }
    let replayed = world.operate(&id, "replay").await;
    assert_eq!(replayed.status, StatusCode::ACCEPTED);
    assert_eq!(
        replayed.headers["location"],
        format!("/v1/messages/{id}").as_str()
    );
    let push = world.pushes.recv().await.unwrap();
    assert_eq!((push.generation, push.attempt), (2, 1));
    let shown = world.get(&format!("/v1/messages/{id}")).await.body;
    assert_eq!(
        (&shown["state"], &shown["generation"], &shown["pushes"]),
        (&json!("pushed"), &json!(2), &json!(1))
    );
    assert!(shown.get("outcome").is_none() && shown.get("stored_at").is_none());
    assert_eq!(
        world.steps(&id).await,
        ["accepted", "pushed", "stored", "dead", "replayed", "pushed"]
    );
    let data = world.get(&format!("/v1/messages/{id}/data")).await;
    assert_eq!(data.bytes, br#"{"n":1}"#);
}

#[tokio::test]
async fn a_paused_agent_gets_nothing_until_it_is_let_go() {
    let mut world = World::new().await;
    world.connect(1).await;
    let paused = world
        .patch(
            "/v1/agents/lyon",
            r#"{"paused":true,"reason":"stocktaking"}"#,
        )
        .await;
    assert_eq!(paused.status, StatusCode::OK);
    assert_eq!(
        (&paused.body["paused"], &paused.body["online"]),
        (&json!(true), &json!(true))
    );
    let id = world.send("1").await;
    let shown = world.get(&format!("/v1/messages/{id}")).await.body;
    assert_eq!(shown["waiting_for"], "agent paused");
    assert!(world.pushes.try_recv().is_err());
    world.patch("/v1/agents/lyon", r#"{"paused":false}"#).await;
    assert_eq!(world.pushes.recv().await.unwrap().id.to_string(), id);
}

#[tokio::test]
async fn changes_of_an_agent_that_make_no_sense_are_refused_with_their_cause() {
    let world = World::new().await;
    for (body, code) in [
        ("{}", "E-FIELD"),
        (r#"{"paused":1}"#, "E-FIELD"),
        (r#"{"paused":true,"window":3}"#, "E-FIELD"),
        ("paused", "E-BODY"),
    ] {
        let refused = world.patch("/v1/agents/lyon", body).await;
        assert_eq!(refused.body["code"], code, "{body}");
    }
    let long = format!(r#"{{"paused":true,"reason":"{}"}}"#, "x".repeat(3000));
    let refused = world.patch("/v1/agents/lyon", &long).await;
    assert_eq!(refused.body["errors"][0]["pointer"], "/reason");
    let unknown = world.patch("/v1/agents/nice", r#"{"paused":true}"#).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(
        world.get("/v1/agents/nice").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn whoever_may_only_send_and_read_decides_nothing() {
    let world = World::new().await;
    let id = world.send("1").await;
    let token = world.token("default", "send read");
    for (method, path) in [
        (Method::POST, format!("/v1/messages/{id}/cancel")),
        (Method::POST, format!("/v1/messages/{id}/replay")),
        (Method::PATCH, "/v1/agents/lyon".to_owned()),
    ] {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(&path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from(r#"{"paused":true}"#))
            .unwrap();
        assert_eq!(
            world.call(request).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
}
