//! What a sender of documents sees: each key inserts once, refusals say why, and the control works.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use axum::http::StatusCode;
use serde_json::json;
use support::{Office, post_of};

#[tokio::test]
async fn a_document_is_listed_with_its_checksum_and_can_be_read_back() {
    let office = Office::new();
    let inserted = office
        .post(post_of("key-1", "message-1").body("<Invoice/>"))
        .await;
    assert_eq!(inserted.status, StatusCode::CREATED);
    assert_eq!(inserted.json()["row"], 1);

    let listed = office.get("/documents").await.json();
    let document = &listed["documents"][0];
    assert_eq!(document["message_id"], "message-1");
    assert_eq!(document["idempotency_key"], "key-1");
    assert_eq!(document["type"], "document.insert");
    assert_eq!(document["bytes"], 10);
    assert_eq!(
        document["sha256"],
        "b8dbbfb2620e9346480364a8d935a0ff2038ce9bac7738f5ec58f22e639d2607"
    );
    assert_eq!(document["attempts"], 1);

    let body = office.get("/documents/message-1").await;
    assert_eq!(body.text(), "<Invoice/>");
    assert_eq!(body.header("content-type"), "application/xml");
}

#[tokio::test]
async fn the_same_key_inserts_once_and_gets_the_first_answer_again() {
    let office = Office::new();
    let first = office.post(post_of("key-1", "message-1")).await;
    let again = office.post(post_of("key-1", "message-1")).await;
    assert_eq!(again.status, first.status);
    assert_eq!(again.json(), first.json());
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(first.header("idempotency-replayed"), "");
    assert_eq!(
        office.get("/documents/count").await.json(),
        json!({ "documents": 1, "keys": 1, "calls": 2 })
    );
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused_and_changes_nothing() {
    let office = Office::new();
    office.post(post_of("key-1", "message-1").body("one")).await;
    let other = office.post(post_of("key-1", "message-1").body("two")).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(office.get("/documents/message-1").await.text(), "one");
}

#[tokio::test]
async fn many_calls_at_once_with_few_keys_insert_each_key_once() {
    let office = Office::new();
    let calls = (0..200).map(|call| {
        let office = office.clone();
        tokio::spawn(async move {
            let key = format!("key-{}", call % 20);
            office.post(post_of(&key, &key).body(&key)).await.status
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), StatusCode::CREATED);
    }
    assert_eq!(
        office.get("/documents/count").await.json(),
        json!({ "documents": 20, "keys": 20, "calls": 200 })
    );
}

#[tokio::test]
async fn the_list_is_paged_in_order_of_insertion() {
    let office = Office::new();
    for number in 1..=5 {
        let name = format!("message-{number}");
        office.post(post_of(&name, &name)).await;
    }
    let mut seen = Vec::new();
    let mut after = json!(0);
    while !after.is_null() {
        let page = office
            .get(&format!("/documents?after={after}&limit=2"))
            .await
            .json();
        for document in page["documents"].as_array().unwrap() {
            seen.push(document["message_id"].as_str().unwrap().to_owned());
        }
        after = page["next"].clone();
    }
    assert_eq!(
        seen,
        [
            "message-1",
            "message-2",
            "message-3",
            "message-4",
            "message-5"
        ]
    );
}

#[tokio::test]
async fn lane_and_number_of_the_message_are_kept_when_given() {
    let office = Office::new();
    let post = post_of("key-1", "message-1")
        .header("x-lane", "invoices")
        .header("x-seq", "17");
    office.post(post).await;
    let document = office.get("/documents").await.json()["documents"][0].clone();
    assert_eq!(
        (&document["lane"], &document["seq"]),
        (&json!("invoices"), &json!(17))
    );
}

#[tokio::test]
async fn a_call_without_a_required_header_is_refused_by_name() {
    let office = Office::new();
    for name in ["idempotency-key", "x-message-id", "x-message-type"] {
        let refused = office
            .post(post_of("key-1", "message-1").without(name))
            .await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(refused.text(), format!("the header {name} is missing\n"));
    }
}

#[tokio::test]
async fn the_bad_number_fails_every_time_and_the_tries_are_counted() {
    let office = Office::new();
    for _ in 0..3 {
        let failed = office
            .post(post_of("key-1", "m").json(r#"{"number":"bad"}"#))
            .await;
        assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            failed
                .text()
                .contains("stumbles over the document number \"bad\"")
        );
    }
    assert_eq!(
        office.get("/attempts/key-1").await.json(),
        json!({ "idempotency_key": "key-1", "attempts": 3, "inserted": false })
    );
    let good = office
        .post(post_of("key-2", "m2").json(r#"{"number":"7"}"#))
        .await;
    assert_eq!(good.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_body_declared_as_json_that_is_none_is_refused_for_good() {
    let office = Office::new();
    let refused = office
        .post(post_of("key-1", "m").json("{\"number\":"))
        .await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().contains("declared as JSON and is not"));
}

#[tokio::test]
async fn a_document_over_the_limit_is_refused_with_413() {
    let office = Office::with_bytes_max(100);
    let refused = office
        .post(post_of("key-1", "m").body(&"x".repeat(101)))
        .await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn it_behaves_as_it_is_told_until_it_is_told_otherwise() {
    let office = Office::new();
    for (mode, status) in [
        ("fail", StatusCode::INTERNAL_SERVER_ERROR),
        ("reject", StatusCode::UNPROCESSABLE_ENTITY),
        ("down", StatusCode::SERVICE_UNAVAILABLE),
        ("ok", StatusCode::CREATED),
    ] {
        office.control(json!({ "mode": mode })).await;
        let answer = office.post(post_of("key-1", "m")).await;
        assert_eq!(answer.status, status, "{mode}");
    }
    // Down means that the call never arrived: it is the only one that is not counted.
    assert_eq!(office.get("/attempts/key-1").await.json()["attempts"], 3);
}

#[tokio::test]
async fn what_is_set_for_a_time_ends_by_itself() {
    let office = Office::new();
    office.control(json!({ "mode": "fail", "for_ms": 0 })).await;
    assert_eq!(office.get("/control").await.json()["mode"], "ok");
}

#[tokio::test]
async fn a_slow_back_office_inserts_all_the_same() {
    let office = Office::new();
    office
        .control(json!({ "mode": "slow", "slow_ms": 5 }))
        .await;
    let inserted = office.post(post_of("key-1", "m")).await;
    assert_eq!(inserted.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_behaviour_it_does_not_know_is_refused() {
    let office = Office::new();
    let refused = office.control(json!({ "mode": "sulk" })).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text().contains("sulk"));
}
