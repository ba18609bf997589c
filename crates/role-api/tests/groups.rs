//! Groups, labels, and sends to many, over the API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use countersign_rules::ack::Stage;
use serde_json::{Value, json};
use support::{Answer, World};

impl World {
    async fn as_admin(&self, method: Method, path: &str) -> Answer {
        let token = self.token("default", "admin");
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {token}"));
        self.call(request.body(Body::empty()).unwrap()).await
    }

    /// Lyon, Metz and Nice, members of group north.
    async fn with_north() -> Self {
        let world = Self::new().await;
        for agent in ["lyon", "metz", "nice"] {
            let register = world.request(Method::PUT, &format!("/v1/agents/{agent}"));
            world.call(register.body(Body::empty()).unwrap()).await;
            let path = format!("/v1/groups/north/members/{agent}");
            let added = world.as_admin(Method::PUT, &path).await;
            assert_eq!(added.status, StatusCode::NO_CONTENT, "{}", added.body);
        }
        world
    }

    async fn label(&self, agent: &str, labels: Value) -> Answer {
        let path = format!("/v1/agents/{agent}");
        let request = self
            .request(Method::PATCH, &path)
            .header("content-type", "application/json");
        let body = json!({ "labels": labels }).to_string();
        self.call(request.body(Body::from(body)).unwrap()).await
    }

    async fn send_to(&self, to: Value, rest: Value) -> Answer {
        let mut body = json!({ "to": to, "type": "doc.insert", "data": {"n": 1} });
        for (name, value) in rest.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.post("/v1/messages", body.to_string()).await
    }

    async fn children(&self, id: &str, query: &str) -> Value {
        self.get(&format!("/v1/messages/{id}/children{query}"))
            .await
            .body
    }
}

fn north() -> Value {
    json!({ "group": "north" })
}

#[tokio::test]
async fn a_group_is_changed_by_an_admin_shown_to_a_reader_and_invisible_to_another_tenant() {
    let world = World::with_north().await;
    let shown = world.get("/v1/groups/north").await.body;
    assert_eq!(
        shown,
        json!({"group":"north","version":3,"members":["lyon","metz","nice"]})
    );
    let path = "/v1/groups/north/members/metz";
    let denied = world.call(
        world
            .request(Method::PUT, path)
            .body(Body::empty())
            .unwrap(),
    );
    assert_eq!(denied.await.body["code"], "E-TOKEN-SCOPE");
    let removed = world.as_admin(Method::DELETE, path).await;
    assert_eq!(removed.headers["group-version"], "4");
    let again = world.as_admin(Method::DELETE, path).await;
    assert_eq!(again.headers["group-version"], "4");
    let list = world.get("/v1/groups?limit=1").await.body;
    assert_eq!(
        list["groups"],
        json!([{"group":"north","version":4,"members":2}])
    );
    let next = list["next"].as_str().unwrap();
    assert_eq!(world.get(next).await.body, json!({"groups":[],"next":null}));
    let request = Request::builder().uri("/v1/groups/north");
    let token = format!("Bearer {}", world.token("other", "read"));
    let foreign = request.header("authorization", token);
    let foreign = world.call(foreign.body(Body::empty()).unwrap()).await;
    assert_eq!(foreign.body["code"], "E-UNKNOWN-GROUP");
}

#[tokio::test]
async fn the_receipt_of_a_send_to_a_group_proves_who_was_addressed() {
    let world = World::with_north().await;
    let sent = world.send_to(north(), json!({"id": "k"})).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.body);
    assert_eq!(sent.body["to"], north());
    assert_eq!(
        (&sent.body["version"], &sent.body["addressed"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(sent.body["agents"], json!(["lyon", "metz", "nice"]));
    // printf 'lyon\nmetz\nnice\n' | sha256sum
    let digest = "bb2ab603aa1bf4e8646e1a8f12aa1af61abd7cf79359d3030c8c4420a0d07dd2";
    assert_eq!(sent.body["agents_sha256"], digest);
    let again = world.send_to(north(), json!({"id": "k"})).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.body["id"], sent.body["id"]);
    let other = world
        .send_to(json!({"all": true}), json!({"id": "k"}))
        .await;
    assert_eq!(other.body["code"], "E-KEY-REUSED");
}

#[tokio::test]
async fn the_whole_counts_its_messages_and_each_is_a_message_like_any_other() {
    let world = World::with_north().await;
    let id = world.send_to(north(), json!({})).await.body["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let page = world.children(&id, "?limit=2").await;
    assert_eq!(page["children"].as_array().unwrap().len(), 2);
    let child = page["children"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(page["children"][0]["agent"], "lyon");
    let rest = world.get(page["next"].as_str().unwrap()).await.body;
    assert_eq!(
        (&rest["children"][0]["agent"], &rest["next"]),
        (&json!("nice"), &Value::Null)
    );
    world
        .acknowledge("default", "lyon", &child, Stage::Acknowledged, "{}")
        .await;
    let whole = world.get(&format!("/v1/messages/{id}")).await.body;
    assert_eq!(
        (&whole["state"], &whole["type"]),
        (&json!("open"), &json!("doc.insert"))
    );
    assert_eq!(whole["counts"]["acknowledged"], 1);
    assert_eq!(
        whole["missing"],
        json!({"count": 2, "agents": ["metz", "nice"]})
    );
    let message = world.get(&format!("/v1/messages/{child}")).await.body;
    assert_eq!(
        (&message["parent"], &message["agent"]),
        (&json!(id), &json!("lyon"))
    );
    assert_eq!(message["bytes"], 7);
    let timeline = world
        .get(&format!("/v1/messages/{child}/timeline"))
        .await
        .body;
    let steps = timeline["steps"].as_array().unwrap().iter();
    let steps: Vec<_> = steps.map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["sent_to_many", "accepted", "acknowledged"]);
    let data = world.get(&format!("/v1/messages/{child}/data")).await;
    assert_eq!(data.bytes, br#"{"n":1}"#);
    let whole = world.get(&format!("/v1/messages/{id}/timeline")).await;
    assert_eq!(whole.body["code"], "E-FAN-OUT");
    let cancel = world
        .post(&format!("/v1/messages/{id}/cancel"), Body::empty())
        .await;
    assert_eq!(cancel.body["code"], "E-FAN-OUT");
}

#[tokio::test]
async fn whoever_waits_for_the_whole_is_told_of_its_verdict() {
    let world = World::with_north().await;
    let rest = json!({"quorum": {"count": 1}, "deadline": "1h"});
    let sent = world.send_to(north(), rest).await;
    let id = sent.body["id"].as_str().unwrap().to_owned();
    let child = world.children(&id, "").await["children"][1]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/messages/{id}?wait=acknowledged&timeout=60s");
    let waiting = world.get(&path);
    let saying = world.acknowledge("default", "metz", &child, Stage::Acknowledged, "{}");
    let (whole, ()) = tokio::join!(waiting, saying);
    assert_eq!(whole.body["state"], "reached", "{}", whole.body);
    assert_eq!(whole.body["quorum"]["needed"], 1);
    assert!(whole.body["quorum"]["reached_at"].is_string());
}

#[tokio::test]
async fn labels_are_set_taken_away_shown_and_sent_to() {
    let world = World::with_north().await;
    let set = world
        .label("lyon", json!({"tier": "gold", "zone": "1"}))
        .await;
    assert_eq!(set.body["labels"], json!({"tier": "gold", "zone": "1"}));
    let taken = world.label("lyon", json!({"tier": null})).await;
    assert_eq!(taken.body["labels"], json!({"zone": "1"}));
    let to = json!({"labels": {"zone": "1"}});
    let sent = world.send_to(to.clone(), json!({})).await;
    assert_eq!(
        (&sent.body["agents"], &sent.body["to"]),
        (&json!(["lyon"]), &to)
    );
    let nobody = world
        .send_to(json!({"labels": {"zone": "2"}}), json!({}))
        .await;
    assert_eq!(nobody.body["code"], "E-NOBODY");
    let everyone = world.send_to(json!({"all": true}), json!({})).await;
    assert_eq!(everyone.body["addressed"], 3);
    let nothing = world.label("lyon", json!({})).await;
    assert_eq!(nothing.body["code"], "E-FIELD");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_place() {
    let world = World::with_north().await;
    for (to, rest, code) in [
        (
            json!({"agent": "lyon", "group": "north"}),
            json!({}),
            "E-FIELD",
        ),
        (json!({"all": false}), json!({}), "E-FIELD"),
        (json!({"labels": {}}), json!({}), "E-FIELD"),
        (json!({"group": "south"}), json!({}), "E-UNKNOWN-GROUP"),
        (json!({"user": "x"}), json!({}), "E-TARGET"),
        (
            json!({"agent": "lyon"}),
            json!({"deadline": "1h"}),
            "E-FIELD",
        ),
        (north(), json!({"quorum": {"percent": 101}}), "E-FIELD"),
        (north(), json!({"quorum": {"count": 4}}), "E-QUORUM"),
        (
            north(),
            json!({"deadline": "2020-01-01T00:00:00Z"}),
            "E-QUORUM",
        ),
    ] {
        let refused = world.send_to(to.clone(), rest).await;
        assert_eq!(refused.body["code"], code, "{to}: {}", refused.body);
    }
    assert_eq!(world.get("/v1/counters").await.body["accepted"], 0);
}

#[tokio::test]
async fn a_batch_may_hold_sends_to_many() {
    let world = World::with_north().await;
    let body = json!({"messages": [
        {"to": north(), "type": "doc.insert", "data": 1},
        {"to": {"agent": "lyon"}, "type": "doc.insert", "data": 2},
    ]});
    let answer = world
        .post("/v1/messages/batch", body.to_string())
        .await
        .body;
    assert_eq!(answer["results"][0]["message"]["addressed"], 3);
    assert_eq!(answer["results"][1]["message"]["agent"], "lyon");
}
