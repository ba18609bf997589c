//! Another WebSocket takes over where one was lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, header};
use serde_json::{Value, json};
use signalr_server::{Disconnect, HubServer, Options};
use support::{Client, End, Happened, PlainTokens, Server, TestHub, patiently};
use tower::ServiceExt as _;

async fn server(change: impl FnOnce(&mut Options)) -> Server {
    Server::start_with(|s: HubServer<TestHub>| {
        s.auth(PlainTokens).with(|o| {
            o.stateful_reconnect = true;
            change(o);
        })
    })
    .await
}

/// A connection that can be resumed.
struct Path(String);

impl Path {
    async fn negotiate(server: &Server) -> Self {
        let offer = negotiate(server).await;
        assert_eq!(offer["useStatefulReconnect"], true);
        Self(format!(
            "/hub?id={}",
            offer["connectionToken"].as_str().unwrap()
        ))
    }

    async fn open(&self, server: &Server) -> Client {
        Client::open(server, &self.of("alice")).await
    }

    /// The first WebSocket.
    async fn connect(&self, server: &Server) -> Client {
        let mut client = self.open(server).await;
        client.send(r#"{"protocol":"json","version":2}"#).await;
        assert_eq!(client.next().await, json!({}));
        client
    }

    /// Another, which says that it begins with this number, and hears with which the server does.
    async fn resume(&self, server: &Server, first: i64, server_first: i64) -> Client {
        let mut client = self.open(server).await;
        client.send(&sequence(first)).await;
        let expected = json!({"type": 9, "sequenceId": server_first});
        assert_eq!(client.next().await, expected);
        client
    }

    async fn refused(&self, server: &Server) -> u16 {
        let request = server.request(&self.of("alice"));
        Client::refused(server, request).await.0
    }

    fn of(&self, user: &str) -> String {
        format!("{}&access_token={user}", self.0)
    }
}

async fn negotiate(server: &Server) -> Value {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/hub/negotiate?negotiateVersion=1&useStatefulReconnect=True")
        .header(header::AUTHORIZATION, "Bearer alice")
        .body(Body::empty())
        .unwrap();
    let answer = server.app.clone().oneshot(request).await.unwrap();
    let answer = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

fn sequence(number: i64) -> String {
    json!({"type": 9, "sequenceId": number}).to_string()
}

fn ack(number: i64) -> String {
    json!({"type": 8, "sequenceId": number}).to_string()
}

/// Calls `Note` and waits for nothing.
async fn note(client: &mut Client, text: &str) {
    let call = json!({"type": 1, "target": "Note", "arguments": [text]});
    client.send(&call.to_string()).await;
}

async fn noted(server: &mut Server) -> String {
    loop {
        match server.happened().await {
            Happened::Noted(text) => return text,
            Happened::Connected(_) | Happened::Refreshed(..) => {}
            Happened::Disconnected(_, why) => panic!("disconnected: {why:?}"),
        }
    }
}

/// What the client was called with next, pings and acknowledgements passed over.
async fn called(client: &mut Client) -> Value {
    loop {
        let record = client.next().await;
        if record["type"] != 8 {
            return record["arguments"][0].clone();
        }
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_from_its_first_number() {
    let server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut client = path.connect(&server).await;
    let push = |text: &str| {
        let reach = server.handle.all().push("news", text);
        assert_eq!(reach.taken, 1);
    };
    for text in ["a", "b", "c"] {
        push(text);
        assert_eq!(called(&mut client).await, text);
    }
    client.send(&ack(1)).await;
    client.call("1", "Nothing", json!([])).await;
    client.answer("1").await;
    drop(client);
    push("d");
    let mut client = path.resume(&server, 2, 2).await;
    assert_eq!(called(&mut client).await, "b");
    assert_eq!(called(&mut client).await, "c");
    assert_eq!(client.next().await["invocationId"], "1");
    assert_eq!(called(&mut client).await, "d");
    push("e");
    assert_eq!(called(&mut client).await, "e");
    // All of it acknowledged: nothing comes again, and the numbers go on.
    client.send(&ack(6)).await;
    client.call("2", "Nothing", json!([])).await;
    client.answer("2").await;
    drop(client);
    let mut client = path.resume(&server, 3, 7).await;
    assert_eq!(client.next().await["invocationId"], "2");
}

#[tokio::test]
async fn of_a_frame_of_several_messages_only_those_missing_come_again() {
    let server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut client = path.connect(&server).await;
    // Pushed at once, they go out as one frame.
    for text in ["a", "b", "c"] {
        server.handle.all().push("news", text);
    }
    for text in ["a", "b", "c"] {
        assert_eq!(called(&mut client).await, text);
    }
    client.send(&ack(2)).await;
    client.call("1", "Nothing", json!([])).await;
    client.answer("1").await;
    drop(client);
    let mut client = path.resume(&server, 2, 3).await;
    assert_eq!(called(&mut client).await, "c");
}

#[tokio::test]
async fn what_the_client_sends_twice_is_done_once_and_acknowledged() {
    let mut server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut client = path.connect(&server).await;
    note(&mut client, "1").await;
    note(&mut client, "2").await;
    assert_eq!(noted(&mut server).await, "1");
    assert_eq!(noted(&mut server).await, "2");
    assert_eq!(client.next().await, json!({"type": 8, "sequenceId": 2}));
    drop(client);
    let mut client = path.resume(&server, 1, 1).await;
    for text in ["1", "2", "3"] {
        note(&mut client, text).await;
    }
    assert_eq!(noted(&mut server).await, "3");
    assert_eq!(client.next().await, json!({"type": 8, "sequenceId": 3}));
}

#[tokio::test]
async fn a_second_socket_takes_over_from_one_that_looks_alive_and_gets_no_close_frame() {
    let mut server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut old = path.connect(&server).await;
    note(&mut old, "old").await;
    assert_eq!(noted(&mut server).await, "old");
    let mut new = path.resume(&server, 2, 1).await;
    assert_eq!(old.end().await.1, End::Dropped);
    note(&mut new, "new").await;
    assert_eq!(noted(&mut server).await, "new");
    // And once more, so that it is no accident.
    let mut newer = path.resume(&server, 3, 1).await;
    note(&mut newer, "newer").await;
    assert_eq!(noted(&mut server).await, "newer");
}

#[tokio::test]
async fn half_a_message_of_a_lost_socket_is_forgotten() {
    let mut server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut client = path.connect(&server).await;
    let call = json!({"type": 1, "target": "Note", "arguments": ["whole"]}).to_string();
    let echo = r#"{"type":1,"invocationId":"1","target":"Nothing","arguments":[]}"#;
    // In one WebSocket message, so that the half has arrived when the answer comes.
    client
        .send_frame(&format!("{echo}\u{1e}{}", &call[..20]))
        .await;
    client.answer("1").await;
    drop(client);
    let mut client = path.resume(&server, 2, 1).await;
    client.send(&call).await;
    assert_eq!(noted(&mut server).await, "whole");
}

#[tokio::test]
async fn a_socket_lost_before_the_handshake_gives_way_to_another_on_which_to_shake_hands() {
    let mut server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut first = path.open(&server).await;
    // Half of the request, which must not be taken for the beginning of the next one.
    first.send_frame(r#"{"protocol":"json","#).await;
    drop(first);
    let mut client = path.connect(&server).await;
    note(&mut client, "a").await;
    assert_eq!(noted(&mut server).await, "a");
    drop(client);
    let mut client = path.resume(&server, 2, 1).await;
    note(&mut client, "b").await;
    assert_eq!(noted(&mut server).await, "b");
}

#[tokio::test]
async fn of_two_sockets_that_have_not_shaken_hands_the_newer_one_may() {
    let server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut old = path.open(&server).await;
    let _client = path.connect(&server).await;
    assert_eq!(old.end().await.1, End::Dropped);
}

#[tokio::test]
async fn who_does_not_come_back_to_shake_hands_is_forgotten() {
    let server = server(|o| o.attach_timeout = Duration::from_millis(50)).await;
    let path = Path::negotiate(&server).await;
    drop(path.open(&server).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(path.refused(&server).await, 404);
}

#[tokio::test]
async fn a_handshake_of_version_1_ends_the_chance_to_take_over() {
    let server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut client = path.open(&server).await;
    client.send(r#"{"protocol":"json","version":1}"#).await;
    assert_eq!(client.next().await, json!({}));
    assert_eq!(path.refused(&server).await, 409);
}

#[tokio::test]
async fn a_client_that_resumes_without_a_word_goes_on_with_its_old_numbers() {
    let mut server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut client = path.connect(&server).await;
    note(&mut client, "a").await;
    assert_eq!(noted(&mut server).await, "a");
    drop(client);
    let mut client = path.open(&server).await;
    assert_eq!(client.next().await, json!({"type": 9, "sequenceId": 1}));
    note(&mut client, "b").await;
    assert_eq!(noted(&mut server).await, "b");
    assert_eq!(client.next().await, json!({"type": 8, "sequenceId": 2}));
}

#[tokio::test]
async fn a_full_replay_buffer_holds_messages_back_but_not_pings() {
    let server = server(|o| {
        o.stateful_bytes_max = 5_000;
        o.keep_alive_interval = Duration::from_millis(10);
    })
    .await;
    let path = Path::negotiate(&server).await;
    let mut client = path.connect(&server).await;
    let text = |n: usize| n.to_string().repeat(5_000);
    for n in 0..4 {
        assert_eq!(server.handle.all().push("news", &text(n)).taken, 1);
    }
    assert_eq!(called(&mut client).await, text(0));
    for _ in 0..3 {
        assert_eq!(client.next_or_ping().await["type"], 6);
    }
    for n in 1..4_u8 {
        client.send(&ack(n.into())).await;
        assert_eq!(called(&mut client).await, text(n.into()));
    }
}

#[tokio::test]
async fn frames_are_small_where_messages_allow_it() {
    let server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut client = path.connect(&server).await;
    for _ in 0..100 {
        server.handle.all().push("news", &"x".repeat(500));
    }
    server.handle.all().push("news", &"y".repeat(9_000));
    for _ in 0..101 {
        called(&mut client).await;
    }
    let large = client.frames.iter().filter(|bytes| **bytes > 4096);
    assert_eq!(large.count(), 1, "{:?}", client.frames);
}

#[tokio::test]
async fn a_gap_in_the_numbers_ends_the_connection_for_good() {
    let mut server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    drop(path.connect(&server).await);
    let mut client = path.resume(&server, 5, 1).await;
    let expected = json!({
        "type": 7, "error": "Connection closed with an error.", "allowReconnect": true
    });
    assert_eq!(
        client.end().await,
        (vec![expected], End::Closed(Some(1000)))
    );
    assert!(matches!(
        server.disconnected().await,
        Disconnect::ProtocolError(_)
    ));
    assert_eq!(path.refused(&server).await, 404);
}

#[tokio::test]
async fn only_the_user_who_opened_a_connection_resumes_it() {
    let mut server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut client = path.connect(&server).await;
    for (user, status) in [("bob", 403), ("bad", 401)] {
        let request = server.request(&path.of(user));
        assert_eq!(Client::refused(&server, request).await.0, status);
    }
    note(&mut client, "still here").await;
    assert_eq!(noted(&mut server).await, "still here");
}

#[tokio::test]
async fn a_client_that_does_not_come_back_is_given_up() {
    let mut server = server(|o| o.attach_timeout = Duration::from_millis(50)).await;
    let path = Path::negotiate(&server).await;
    drop(path.connect(&server).await);
    assert_eq!(server.disconnected().await, Disconnect::TransportLost);
    assert_eq!(path.refused(&server).await, 404);
}

#[tokio::test]
async fn silence_does_not_count_while_the_client_is_away() {
    let mut server = server(|o| o.client_timeout = Duration::from_millis(100)).await;
    let path = Path::negotiate(&server).await;
    drop(path.connect(&server).await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut client = path.resume(&server, 1, 1).await;
    note(&mut client, "back").await;
    assert_eq!(noted(&mut server).await, "back");
}

#[tokio::test]
async fn a_goodbye_is_for_good() {
    let mut server = server(|_| {}).await;
    for by_frame in [false, true] {
        let path = Path::negotiate(&server).await;
        let mut client = path.connect(&server).await;
        match by_frame {
            true => client.close().await,
            false => client.send(r#"{"type":7}"#).await,
        }
        assert_eq!(server.disconnected().await, Disconnect::ByClient);
        assert_eq!(path.refused(&server).await, 404);
    }
}

#[tokio::test]
async fn a_drain_waits_for_nobody_who_is_away() {
    let mut server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    drop(path.connect(&server).await);
    server.handle.all().push("news", "never read");
    patiently(server.handle.drain(Duration::ZERO)).await;
    assert_eq!(server.disconnected().await, Disconnect::Draining);
}

#[tokio::test]
async fn the_older_protocol_is_served_without_resumption() {
    let mut server = server(|_| {}).await;
    let path = Path::negotiate(&server).await;
    let mut client = path.open(&server).await;
    client.send(r#"{"protocol":"json","version":1}"#).await;
    assert_eq!(client.next().await, json!({}));
    assert_eq!(path.refused(&server).await, 409);
    drop(client);
    assert_eq!(server.disconnected().await, Disconnect::TransportLost);
    assert_eq!(path.refused(&server).await, 404);
}

#[tokio::test]
async fn resumption_is_offered_only_where_it_is_switched_on() {
    let server = server(|o| o.stateful_reconnect = false).await;
    let offer = negotiate(&server).await;
    assert!(offer["useStatefulReconnect"].is_null());
}
