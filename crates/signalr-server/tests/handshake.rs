//! The first message each way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use signalr_server::Options;
use std::time::Duration;
use support::{Client, End, Server};
use tokio_tungstenite::tungstenite::Message;

async fn refusal(request: &str) -> String {
    let server = Server::start().await;
    let mut client = Client::open(&server, "/hub").await;
    client.send(request).await;
    let (records, end) = client.end().await;
    assert_eq!(end, End::Closed(Some(1000)));
    let [record] = &records[..] else {
        panic!("one answer: {records:?}")
    };
    record["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_handshake_may_come_in_pieces() {
    let server = Server::start().await;
    let mut client = Client::open(&server, "/hub").await;
    for piece in ["{\"protocol\":\"js", "on\",\"version\":1}", "\u{1e}"] {
        client.send_frame(piece).await;
    }
    assert_eq!(client.next().await, json!({}));
}

#[tokio::test]
async fn a_handshake_may_share_a_frame_with_the_first_call() {
    let server = Server::start().await;
    let mut client = Client::open(&server, "/hub").await;
    let call = r#"{"type":1,"invocationId":"1","target":"Echo","arguments":["quick"]}"#;
    client
        .send_frame(&format!(
            "{{\"protocol\":\"JSON\",\"version\":0}}\u{1e}{call}\u{1e}"
        ))
        .await;
    assert_eq!(client.next().await, json!({}));
    assert_eq!(client.answer("1").await["result"], "quick");
}

#[tokio::test]
async fn a_handshake_may_come_as_a_binary_frame() {
    let server = Server::start().await;
    let mut client = Client::open(&server, "/hub").await;
    let request = b"{\"protocol\":\"json\",\"version\":1}\x1e".to_vec();
    client.send_message(Message::binary(request)).await;
    assert_eq!(client.next().await, json!({}));
}

#[tokio::test]
async fn protocols_and_versions_that_are_not_spoken_are_refused_by_name() {
    assert_eq!(
        refusal(r#"{"protocol":"smoke","version":1}"#).await,
        "The protocol 'smoke' is not supported."
    );
    assert_eq!(
        refusal(r#"{"protocol":"","version":1}"#).await,
        "The protocol '' is not supported."
    );
    assert_eq!(
        refusal(r#"{"protocol":"json","version":3}"#).await,
        "The server does not support version 3 of the 'json' protocol."
    );
    assert_eq!(
        refusal(r#"{"protocol":"messagepack","version":3}"#).await,
        "The server does not support version 3 of the 'messagepack' protocol."
    );
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_without_saying_why() {
    let text = "An unexpected error occurred during connection handshake.";
    for request in ["rubbish", r#"{"type":6}"#, "[]", r#"{"protocol":"json"}"#] {
        assert_eq!(refusal(request).await, text, "{request}");
    }
}

#[tokio::test]
async fn detailed_mode_says_why() {
    let server = Server::start_with(|s| s.with(|o| o.detailed_errors = true)).await;
    let mut client = Client::open(&server, "/hub").await;
    client.send(r#"{"protocol":"json"}"#).await;
    assert_eq!(
        client.end().await.0[0]["error"],
        "An unexpected error occurred during connection handshake. InvalidDataException: Missing \
         required property 'version'. Message content: {\"protocol\":\"json\"}"
    );
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed() {
    let short = |o: &mut Options| o.handshake_timeout = Duration::from_millis(50);
    let server = Server::start_with(|s| s.with(short)).await;
    let mut client = Client::open(&server, "/hub").await;
    client.send_frame("{\"protocol\":").await;
    let (records, end) = client.end().await;
    assert_eq!(records, [json!({"error": "Handshake was canceled."})]);
    assert_eq!(end, End::Closed(Some(1000)));
}

#[tokio::test]
async fn a_handshake_over_the_limit_is_canceled() {
    assert_eq!(
        refusal(&"x".repeat(40_000)).await,
        "Handshake was canceled."
    );
}

#[tokio::test]
async fn a_connection_is_shown_to_the_program_only_after_its_handshake() {
    let server = Server::start().await;
    let mut client = Client::open(&server, "/hub").await;
    assert!(server.handle.connections().is_empty());
    client.send(r#"{"protocol":"json","version":1}"#).await;
    assert_eq!(client.next().await, json!({}));
    assert_eq!(server.handle.connections().len(), 1);
}
