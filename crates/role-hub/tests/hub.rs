//! The hub from a client's side: what comes, in which order, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use axum::http::StatusCode;
use countersign_rules::ack::Stage;
use countersign_rules::delivery::{End, Place};
use countersign_rules::{LaneName, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use support::{EPOCH, Reads, World};

fn id(envelope: &Value) -> &str {
    envelope["id"].as_str().unwrap()
}

#[tokio::test]
async fn a_message_is_pushed_as_one_invocation_of_its_type_with_its_envelope() {
    let world = World::new().await;
    let mut client = world.connect("ready=auto").await;
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let message = world
        .submit(r#"{"n":1.50}"#, |message| {
            message.lane = LaneName::parse("customer 9").unwrap();
            message.expires_at = Some(Timestamp::from_millis(4_107_542_400_000));
            message.attempts_max = Some(3);
            message.correlation_id = "order \"7\"".into();
            message.traceparent = context.into();
        })
        .await;
    let (target, envelope) = client.push().await;
    assert_eq!(target, "doc.insert");
    let accepted_at = envelope["accepted_at"].as_str().unwrap();
    assert!(
        accepted_at.ends_with('Z') && accepted_at.len() == 24,
        "{accepted_at}"
    );
    let expected = json!({
        "id": message.to_string(),
        "type": "doc.insert",
        "to": "lyon",
        "seq": 1,
        "lane": "customer 9",
        "attempt": 1,
        "generation": 1,
        "accepted_at": accepted_at,
        "expires_at": "2100-03-01T00:00:00.000Z",
        "max_attempts": 3,
        "correlation_id": "order \"7\"",
        "traceparent": context,
        "ack_url": "http://127.0.0.1:7421/acks/v1/acks",
        "data": {"n": 1.50},
    });
    assert_eq!(envelope, expected);
    assert_eq!(world.view(message).await.place, Place::Offered);
}

#[tokio::test]
async fn a_document_that_is_no_json_comes_as_text_with_its_type() {
    let world = World::new().await;
    let mut client = world.connect("ready=auto").await;
    let xml = |message: &mut countersign_rules::delivery::Submission| {
        message.content_type = "application/xml".into();
    };
    world.submit(r#""<a>\u001e\n</a>""#, xml).await;
    let (_, envelope) = client.push().await;
    assert_eq!(envelope["content_type"], "application/xml");
    assert_eq!(envelope["data"], "<a>\u{1e}\n</a>");
}

#[tokio::test]
async fn nothing_is_pushed_before_the_client_is_ready_and_then_all_in_order() {
    let world = World::new().await;
    let mut sent = Vec::new();
    for n in 0..3 {
        sent.push(world.send(&n.to_string()).await.to_string());
    }
    let mut client = world.connect("").await;
    let (unknown, before) = client.call("nothing", json!(0)).await;
    assert!(
        unknown["error"].is_string() && before.is_empty(),
        "{before:?}"
    );

    let says = json!({"epoch": "5", "floor": 0, "cursor": "0", "client": {"name": "test"}});
    let (answer, before) = client.call("ready", says).await;
    let welcome = &answer["result"];
    assert_eq!(welcome["epoch"], EPOCH.to_string());
    assert_eq!(
        (&welcome["oldest_replayable"], &welcome["waiting"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(welcome["window"], 512);
    assert!(welcome.get("gap").is_none(), "silence means continuity");
    let mut pushed: Vec<_> = before
        .iter()
        .map(|push| id(&push["arguments"][0]).to_owned())
        .collect();
    while pushed.len() < 3 {
        pushed.push(id(&client.push().await.1).to_owned());
    }
    assert_eq!(pushed, sent);
}

#[tokio::test]
async fn numbers_of_another_life_of_the_store_are_told_as_a_gap() {
    let world = World::new().await;
    let mut client = world.connect("").await;
    let says = json!({"epoch": 5, "floor": 3, "cursor": 900, "centre_epoch": 4});
    let (answer, _) = client.call("ready", says).await;
    assert_eq!(answer["result"]["gap"], json!({"reason": "other_epoch"}));
}

#[tokio::test]
async fn what_was_not_received_comes_again_over_the_next_connection_in_order() {
    let world = World::new().await;
    let mut client = world.connect("ready=auto").await;
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(world.send(&n.to_string()).await);
        client.push().await;
    }
    world.acknowledge(sent[0], Stage::Stored).await;
    world.acknowledge(sent[2], Stage::Acknowledged).await;
    client.vanish();
    world.until_offline(sent[1]).await;
    let mut client = world.connect("ready=auto").await;
    for index in [1, 3, 4] {
        let (_, envelope) = client.push().await;
        assert_eq!(id(&envelope), sent[index].to_string());
        assert_eq!(envelope["attempt"], 2);
    }
    let last = world.send("5").await;
    assert_eq!(
        id(&client.push().await.1),
        last.to_string(),
        "nothing else comes"
    );
}

#[tokio::test]
async fn a_newer_connection_replaces_the_older_which_is_told_to_stay_away() {
    let world = World::new().await;
    let mut older = world.connect("ready=auto").await;
    let message = world.send("1").await;
    older.push().await;
    let mut newer = world.connect("ready=auto").await;
    let (_, envelope) = newer.push().await;
    assert_eq!(
        (id(&envelope), &envelope["attempt"]),
        (&message.to_string()[..], &json!(2))
    );
    let close = older.record().await;
    assert_eq!(close["type"], 7);
    assert!(
        close["error"].as_str().unwrap().contains("Superseded"),
        "{close}"
    );
    assert_ne!(close["allowReconnect"], true);
    let next = world.send("2").await;
    assert_eq!(id(&newer.push().await.1), next.to_string());
    assert!(world.view(next).await.online);
}

#[tokio::test]
async fn only_agents_with_a_token_for_the_hub_are_let_in() {
    let world = World::new().await;
    let minute = Duration::from_secs(60);
    for (token, status) in [
        (String::new(), StatusCode::UNAUTHORIZED),
        ("x.y.z".to_owned(), StatusCode::UNAUTHORIZED),
        (
            world.token("ack", Some("lyon"), minute),
            StatusCode::FORBIDDEN,
        ),
        (world.token("hub", None, minute), StatusCode::FORBIDDEN),
        (
            world.token("hub", Some("not a name"), minute),
            StatusCode::FORBIDDEN,
        ),
    ] {
        let refused = world.connect_with(&token, "ready=auto").await;
        assert_eq!(refused.err(), Some(status), "{token}");
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_token_and_the_client_may_come_back() {
    let world = World::with(|_, expected| expected.clock_skew = Duration::ZERO).await;
    let token = world.token("hub", Some("lyon"), Duration::from_secs(2));
    let mut client = world.connect_with(&token, "ready=auto").await.unwrap();
    let close = client.record().await;
    assert_eq!(
        (&close["type"], &close["allowReconnect"]),
        (&json!(7), &json!(true))
    );
    let message = world.send("1").await;
    world.until_offline(message).await;
    let mut client = world.connect("ready=auto").await;
    let (_, envelope) = client.push().await;
    assert_eq!(
        (id(&envelope), &envelope["attempt"]),
        (&message.to_string()[..], &json!(1))
    );
}

#[tokio::test]
async fn a_queue_that_overflows_closes_the_connection_and_loses_nothing() {
    let world = World::with(|options, _| options.outbox_bytes_max = 64 * 1024).await;
    let body = format!(r#""{}""#, "x".repeat(100 * 1024));
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(world.send(&body).await);
    }
    let mut received = 0;
    let mut connections = 0;
    while received < sent.len() {
        connections += 1;
        let mut client = world.connect("ready=auto").await;
        loop {
            let record = client.record().await;
            if record["type"] == 7 {
                assert_eq!(record["allowReconnect"], true, "{record}");
                break;
            }
            let envelope = &record["arguments"][0];
            assert_eq!(
                id(envelope),
                sent[received].to_string(),
                "in order, none left out"
            );
            world.acknowledge(sent[received], Stage::Stored).await;
            received += 1;
            if received == sent.len() {
                break;
            }
        }
    }
    assert!(connections > 1, "the queue was meant to overflow");
}

#[tokio::test]
async fn draining_asks_to_come_back_elsewhere_and_lets_nobody_in() {
    let world = World::new().await;
    let mut client = world.connect("ready=auto").await;
    let drain = world.drain.clone();
    let drained = tokio::spawn(async move { drain.over(Duration::ZERO).await });
    let close = client.record().await;
    assert_eq!(
        (&close["type"], &close["allowReconnect"]),
        (&json!(7), &json!(true))
    );
    client.vanish();
    drained.await.unwrap();
    assert!(world.drain.is_draining());
    let token = world.token("hub", Some("lyon"), Duration::from_secs(60));
    let refused = world.connect_with(&token, "ready=auto").await;
    assert_eq!(refused.err(), Some(StatusCode::SERVICE_UNAVAILABLE));
}

#[tokio::test]
async fn a_message_that_the_disk_does_not_give_now_is_overtaken_by_none_behind_it() {
    let world = World::new().await;
    let mut client = world.connect("ready=auto").await;
    *world.reads.lock().unwrap() = Reads::FailsOnce;
    let mut sent = Vec::new();
    for n in 0..3 {
        sent.push(world.send(&n.to_string()).await.to_string());
    }
    let close = client.record().await;
    assert_eq!(
        (&close["type"], &close["allowReconnect"]),
        (&json!(7), &json!(true)),
        "{close}"
    );
    let mut client = world.connect("ready=auto").await;
    for message in sent {
        assert_eq!(id(&client.push().await.1), message);
    }
}

#[tokio::test]
async fn a_message_that_is_damaged_ends_dead_with_the_reason_and_holds_up_none() {
    let world = World::new().await;
    *world.reads.lock().unwrap() = Reads::Damaged(1);
    let (damaged, whole) = (world.send("1").await, world.send("2").await);
    let mut client = world.connect("ready=auto").await;
    assert_eq!(id(&client.push().await.1), whole.to_string());
    assert_eq!(world.view(damaged).await.place, Place::Ended(End::Dead));
}

#[tokio::test]
async fn a_message_larger_than_any_connection_carries_ends_dead_and_holds_up_none() {
    let world = World::new().await;
    let large = format!("\"{}\"", "x".repeat(17 << 20));
    let (large, small) = (world.send(&large).await, world.send("2").await);
    let mut client = world.connect("ready=auto").await;
    assert_eq!(id(&client.push().await.1), small.to_string());
    assert_eq!(world.view(large).await.place, Place::Ended(End::Dead));
}

#[tokio::test]
async fn a_token_within_the_allowance_for_clocks_lets_a_connection_in() {
    let world = World::with(|_, expected| expected.clock_skew = Duration::from_secs(3600)).await;
    let (ttl, ago) = (Duration::from_secs(60), Duration::from_secs(120));
    let token = world.token_of_old("hub", Some("lyon"), ttl, ago);
    let mut client = world.connect_with(&token, "ready=auto").await.unwrap();
    let message = world.send("1").await;
    assert_eq!(id(&client.push().await.1), message.to_string());
}

#[tokio::test]
async fn a_client_that_meets_a_centre_going_down_is_asked_to_come_back() {
    let mut world = World::new().await;
    world.stop_engine().await;
    let mut client = world.connect("ready=auto").await;
    let close = client.record().await;
    assert_eq!(
        (&close["type"], &close["allowReconnect"]),
        (&json!(7), &json!(true)),
        "{close}"
    );
}

#[tokio::test]
async fn the_late_handshake_of_a_socket_given_up_displaces_no_newer_connection() {
    let world = World::new().await;
    let token = world.token("hub", Some("lyon"), Duration::from_secs(60));
    let mut given_up = world.open(&token, "ready=auto").await.unwrap();
    let mut newer = world.connect("ready=auto").await;
    given_up.shake_hands().await;
    let close = given_up.record().await;
    assert_eq!(close["type"], 7, "{close}");
    let message = world.send("1").await;
    assert_eq!(id(&newer.push().await.1), message.to_string());
}

#[tokio::test]
async fn a_connection_that_was_opened_first_still_comes_in_once_the_later_one_is_gone() {
    let world = World::new().await;
    let token = world.token("hub", Some("lyon"), Duration::from_secs(60));
    let mut first = world.open(&token, "ready=auto").await.unwrap();
    let mut later = world.connect("ready=auto").await;
    let message = world.send("1").await;
    later.push().await;
    later.vanish();
    world.until_offline(message).await;
    first.shake_hands().await;
    assert_eq!(id(&first.push().await.1), message.to_string());
}
