//! Long polling and server-sent events, request by request.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes, to_bytes};
use axum::http::{HeaderMap, Request};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use signalr_server::{Disconnect, HubServer, Options, Transport};
use support::{Client, PlainTokens, Server, TestHub, patiently};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

const HANDSHAKE: &str = "{\"protocol\":\"json\",\"version\":1}\u{1e}";
const EVENTS: &str = "text/event-stream";
const CLOSE_AND_COME_BACK: &[u8] = b"{\"type\":7,\"allowReconnect\":true}\x1e";

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    fn is_uncached(&self) -> bool {
        self.header("cache-control") == "no-cache, no-store"
            && self.header("pragma") == "no-cache"
            && self.header("expires") == "Thu, 01 Jan 1970 00:00:00 GMT"
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One connection by hand.
#[derive(Clone)]
struct Hand {
    app: Router,
    token: String,
    bearer: &'static str,
}

impl Hand {
    async fn negotiate(server: &Server) -> Self {
        Self::negotiate_as(server, "alice").await
    }

    async fn negotiate_as(server: &Server, bearer: &'static str) -> Self {
        let mut hand = Self {
            app: server.app.clone(),
            token: String::new(),
            bearer,
        };
        let path = "/hub/negotiate?negotiateVersion=1";
        let answer = hand.ask("POST", path, "*/*", Body::empty()).await;
        let offer: Value = serde_json::from_slice(&answer.body).unwrap();
        hand.token = offer["connectionToken"].as_str().unwrap().to_owned();
        hand
    }

    /// Negotiates and shakes hands over polls.
    async fn polling(server: &Server) -> Self {
        let hand = Self::negotiate(server).await;
        assert_eq!(hand.poll().await.status, 200);
        assert_eq!(hand.post(HANDSHAKE).await.status, 200);
        assert_eq!(hand.poll().await.text(), "{}\u{1e}");
        hand
    }

    fn with(&self, bearer: &'static str) -> Self {
        Self {
            bearer,
            ..self.clone()
        }
    }

    fn path(&self) -> String {
        format!("/hub?id={}", self.token)
    }

    async fn poll(&self) -> Answer {
        self.ask("GET", &self.path(), "*/*", Body::empty()).await
    }

    /// A poll that goes on beside the test, and waits already.
    async fn poll_beside(&self) -> JoinHandle<Answer> {
        let hand = self.clone();
        let poll = tokio::spawn(async move { hand.poll().await });
        // On one thread it runs until it waits.
        tokio::task::yield_now().await;
        poll
    }

    async fn post(&self, body: impl Into<Body>) -> Answer {
        self.ask("POST", &self.path(), "*/*", body.into()).await
    }

    async fn delete(&self) -> Answer {
        self.ask("DELETE", &self.path(), "*/*", Body::empty()).await
    }

    async fn stream(&self) -> (HeaderMap, Events) {
        let response = self.send("GET", &self.path(), EVENTS, Body::empty()).await;
        assert_eq!(response.status().as_u16(), 200);
        let (parts, body) = response.into_parts();
        (parts.headers, Events(body.into_data_stream()))
    }

    async fn ask(&self, method: &str, path: &str, accept: &str, body: Body) -> Answer {
        let response = self.send(method, path, accept, body).await;
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: patiently(to_bytes(body, usize::MAX)).await.unwrap(),
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        body: Body,
    ) -> http::Response<Body> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("accept", accept);
        let request = match self.bearer {
            "" => request,
            bearer => request.header("authorization", format!("Bearer {bearer}")),
        };
        let request = request.body(body).unwrap();
        patiently(self.app.clone().oneshot(request)).await.unwrap()
    }
}

struct Events(BodyDataStream);

impl Events {
    /// The next event as it stands in the body; empty at the end.
    async fn next(&mut self) -> String {
        let chunk = patiently(self.0.next()).await;
        let chunk = chunk.map_or_else(Bytes::new, Result::unwrap);
        String::from_utf8(chunk.to_vec()).unwrap()
    }
}

async fn server(change: impl FnOnce(&mut Options)) -> Server {
    Server::start_with(|s: HubServer<TestHub>| s.auth(PlainTokens).with(change)).await
}

fn call(id: &str, target: &str, arguments: Value) -> String {
    let call = json!({"type": 1, "invocationId": id, "target": target, "arguments": arguments});
    format!("{call}\u{1e}")
}

#[tokio::test]
async fn the_first_poll_is_answered_at_once_and_the_others_bring_what_there_is() {
    let server = server(|_| {}).await;
    let hand = Hand::negotiate(&server).await;
    // Posted before any transport is there, it is kept for the one to come.
    let posted = hand.post(HANDSHAKE).await;
    assert_eq!((posted.status, posted.text()), (200, ""));
    assert_eq!(posted.header("content-type"), "text/plain");
    let first = hand.poll().await;
    assert_eq!((first.status, first.body.len()), (200, 0));
    assert_eq!(first.header("content-type"), "application/octet-stream");
    let shaken = hand.poll().await;
    assert_eq!((shaken.status, shaken.text()), (200, "{}\u{1e}"));
    assert!(shaken.is_uncached());
    assert_eq!(shaken.header("content-type"), "application/octet-stream");
    assert_eq!(shaken.header("x-accel-buffering"), "no");
    let poll = hand.poll_beside().await;
    hand.post(call("1", "Echo", json!(["x"]))).await;
    let answer = "{\"type\":3,\"invocationId\":\"1\",\"result\":\"x\"}\u{1e}";
    assert_eq!(poll.await.unwrap().text(), answer);
}

#[tokio::test]
async fn messages_may_be_cut_between_posts_which_queue() {
    let server = server(|_| {}).await;
    let hand = Hand::polling(&server).await;
    let message = call("1", "Echo", json!(["x"]));
    let (one, two) = message.split_at(20);
    for part in [one.to_owned(), two.to_owned()] {
        assert_eq!(hand.post(part).await.status, 200);
    }
    assert!(hand.poll().await.text().contains("\"x\""));
    let posts = (0..20).map(|id| hand.post(call(&id.to_string(), "Echo", json!([id]))));
    let posts = futures_util::future::join_all(posts);
    let answered = async {
        let mut text = String::new();
        while text.matches('\u{1e}').count() < 20 {
            text.push_str(hand.poll().await.text());
        }
        text
    };
    let (posts, answers) = tokio::join!(posts, answered);
    assert!(posts.iter().all(|post| post.status == 200));
    assert!(answers.contains("\"19\""));
}

#[tokio::test]
async fn binary_messages_go_over_polls() {
    let server = server(|_| {}).await;
    let hand = Hand::negotiate(&server).await;
    hand.poll().await;
    hand.post("{\"protocol\":\"messagepack\",\"version\":1}\u{1e}")
        .await;
    assert_eq!(hand.poll().await.text(), "{}\u{1e}");
    // [1, {}, "1", "Echo", [7]]
    hand.post(&b"\x0c\x95\x01\x80\xa11\xa4Echo\x91\x07"[..])
        .await;
    // [3, {}, "1", 3, 7]
    assert_eq!(
        hand.poll().await.body,
        &b"\x07\x95\x03\x80\xa11\x03\x07"[..]
    );
}

#[tokio::test]
async fn a_poll_gives_way_to_a_newer_one() {
    let server = server(|_| {}).await;
    let hand = Hand::polling(&server).await;
    let older = hand.poll_beside().await;
    let newer = hand.poll_beside().await;
    let older = older.await.unwrap();
    assert_eq!((older.status, older.body.len()), (204, 0));
    assert!(older.is_uncached());
    hand.post(call("1", "Nothing", json!([]))).await;
    assert_eq!(newer.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_poll_with_nothing_to_bring_ends_empty_and_the_connection_goes_on() {
    let server = server(|o| o.poll_timeout = Duration::from_millis(1)).await;
    let hand = Hand::polling(&server).await;
    let empty = hand.poll().await;
    assert_eq!((empty.status, empty.text()), (200, ""));
    assert_eq!(empty.header("content-type"), "text/plain");
    assert!(empty.is_uncached());
    hand.post(call("1", "Nothing", json!([]))).await;
    while hand.poll().await.body.is_empty() {}
}

#[tokio::test]
async fn a_deleted_connection_ends_its_poll_and_is_unknown_afterwards() {
    let mut server = server(|_| {}).await;
    let hand = Hand::polling(&server).await;
    let poll = hand.poll_beside().await;
    let deleted = hand.delete().await;
    assert_eq!((deleted.status, deleted.text()), (202, ""));
    assert_eq!(deleted.header("content-type"), "text/plain");
    assert_eq!(poll.await.unwrap().body, CLOSE_AND_COME_BACK);
    assert_eq!(server.disconnected().await, Disconnect::ByClient);
    for answer in [hand.poll().await, hand.post("x").await, hand.delete().await] {
        let expected = (404, "No Connection with that ID");
        assert_eq!((answer.status, answer.text()), expected);
    }
    assert!(hand.poll().await.is_uncached());
}

#[tokio::test]
async fn a_connection_deleted_while_a_frame_waits_ends_at_once() {
    let mut server = server(|_| {}).await;
    let hand = Hand::polling(&server).await;
    hand.post(call("1", "Note", json!(["here"]))).await;
    while server.happened().await != support::Happened::Noted("here".to_owned()) {}
    assert_eq!(hand.delete().await.status, 202);
    assert_eq!(server.disconnected().await, Disconnect::ByClient);
}

#[tokio::test]
async fn an_end_by_the_server_is_told_then_told_by_204_then_forgotten() {
    let mut server = server(|_| {}).await;
    let hand = Hand::polling(&server).await;
    let poll = hand.poll_beside().await;
    let handle = server.handle.clone();
    let drain = tokio::spawn(async move { handle.drain(Duration::ZERO).await });
    let told = poll.await.unwrap();
    assert_eq!((told.status, &told.body[..]), (200, CLOSE_AND_COME_BACK));
    let last = hand.poll().await;
    assert_eq!((last.status, last.body.len()), (204, 0));
    assert_eq!(hand.poll().await.status, 404);
    assert_eq!(hand.post("x").await.status, 404);
    assert_eq!(server.disconnected().await, Disconnect::Draining);
    patiently(drain).await.unwrap();
}

#[tokio::test]
async fn a_poll_takes_all_that_waits() {
    let mut server = server(|_| {}).await;
    let hand = Hand::polling(&server).await;
    for n in 0..20 {
        let id = n.to_string();
        hand.post(call(&id, "Add", json!([n, 1]))).await;
    }
    // Ends behind all of them.
    hand.post(call("last", "Leave", json!([]))).await;
    assert_eq!(server.disconnected().await, Disconnect::ByServer);
    let poll = hand.poll().await;
    let records: Vec<_> = poll.text().split('\u{1e}').collect();
    assert_eq!(records.len(), 22, "{records:?}");
    assert_eq!(records[20], r#"{"type":7}"#);
}

#[tokio::test]
async fn a_client_that_does_not_poll_again_is_given_up() {
    let mut server = server(|o| o.attach_timeout = Duration::from_millis(50)).await;
    let hand = Hand::polling(&server).await;
    assert_eq!(server.disconnected().await, Disconnect::TransportLost);
    assert_eq!(hand.poll().await.status, 404);
}

#[tokio::test]
async fn nobody_pings_over_polls() {
    let short = Duration::from_millis(5);
    let server = server(|o| {
        o.keep_alive_interval = short;
        o.client_timeout = short;
        o.poll_timeout = Duration::from_millis(50);
    })
    .await;
    let hand = Hand::polling(&server).await;
    assert_eq!(hand.poll().await.text(), "");
    // A client that pings all the same is held to it.
    hand.post("{\"type\":6}\u{1e}").await;
    assert!(
        hand.poll()
            .await
            .text()
            .contains("Connection closed with an error.")
    );
}

#[tokio::test]
async fn each_request_shows_who_sends_it() {
    let server = server(|_| {}).await;
    let hand = Hand::polling(&server).await;
    for (bearer, status) in [("", 401), ("bad", 401), ("bob", 403)] {
        let hand = hand.with(bearer);
        let poll = hand.poll().await;
        assert_eq!(poll.status, status);
        assert!(poll.is_uncached() && !poll.body.is_empty());
        assert_eq!(hand.post("x").await.status, status);
        assert_eq!(hand.delete().await.status, status);
    }
    hand.post(call("1", "User", json!([]))).await;
    assert!(hand.poll().await.text().contains("alice"));
}

#[tokio::test]
async fn a_connection_over_polls_ends_with_its_newest_token() {
    let mut server = server(|_| {}).await;
    let hand = Hand::negotiate_as(&server, "alice/0.3").await;
    hand.poll().await;
    hand.post(HANDSHAKE).await;
    let newer = hand.with("alice/0.6");
    assert_eq!(newer.poll().await.text(), "{}\u{1e}");
    let poll = hand.with("alice/0.4").poll_beside().await;
    let begun = std::time::Instant::now();
    assert_eq!(poll.await.unwrap().body, CLOSE_AND_COME_BACK);
    assert!(begun.elapsed() > Duration::from_millis(400));
    let parting = hand.with("alice").poll().await;
    assert_eq!(parting.status, 204);
    assert_eq!(server.disconnected().await, Disconnect::TokenExpired);
}

#[tokio::test]
async fn a_connection_keeps_its_transport() {
    let server = server(|_| {}).await;
    let changed = (400, "Cannot change transports mid-connection");
    let not_deletable = "Cannot terminate this connection using the DELETE endpoint.";

    let polled = Hand::polling(&server).await;
    let answer = polled
        .ask("GET", &polled.path(), EVENTS, Body::empty())
        .await;
    assert_eq!((answer.status, answer.text()), changed);
    let path = format!("{}&access_token=alice", polled.path());
    let refused = Client::refused(&server, server.request(&path)).await;
    assert_eq!(refused, (changed.0, changed.1.to_owned()));

    let streamed = Hand::negotiate(&server).await;
    let (_, _events) = streamed.stream().await;
    let answer = streamed.poll().await;
    assert_eq!((answer.status, answer.text()), changed);
    assert!(answer.is_uncached());
    let answer = streamed
        .ask("GET", &streamed.path(), EVENTS, Body::empty())
        .await;
    assert_eq!(answer.status, 409);
    let answer = streamed.delete().await;
    assert_eq!((answer.status, answer.text()), (400, not_deletable));

    let socket = Hand::negotiate(&server).await;
    assert_eq!(socket.delete().await.text(), not_deletable);
    let path = format!("{}&access_token=alice", socket.path());
    let _client = Client::open(&server, &path).await;
    let answer = socket.post("x").await;
    let expected = "POST requests are not allowed for WebSocket connections.";
    assert_eq!((answer.status, answer.text()), (405, expected));
    assert_eq!(socket.poll().await.status, 400);
    assert_eq!(socket.delete().await.status, 400);
}

#[tokio::test]
async fn bodies_larger_than_the_hub_takes_are_refused() {
    let server = server(|o| {
        o.receive_bytes_max = 100;
        o.receive_frame_bytes_max = 200;
    })
    .await;
    let hand = Hand::negotiate(&server).await;
    assert_eq!(hand.post("x".repeat(101)).await.status, 400);
    hand.poll().await;
    let refused = hand.post("x".repeat(201)).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("longer than"), "{}", refused.text());
    assert_eq!(hand.post("x".repeat(150)).await.status, 200);
    assert!(hand.poll().await.text().contains("Handshake was canceled."));
    assert_eq!(hand.poll().await.status, 204);
    assert_eq!(hand.poll().await.status, 404);
}

#[tokio::test]
async fn events_carry_whole_messages_and_end_with_the_connection() {
    let mut server = server(|_| {}).await;
    let hand = Hand::negotiate(&server).await;
    let (headers, mut events) = hand.stream().await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache,no-store"),
        ("pragma", "no-cache"),
        ("content-encoding", "identity"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(headers[name], value);
    }
    assert_eq!(events.next().await, ":\r\n");
    assert_eq!(hand.post(HANDSHAKE).await.status, 200);
    assert_eq!(events.next().await, "data: {}\u{1e}\r\n\r\n");
    hand.post(call("1", "Transport", json!([]))).await;
    let answer = r#"{"type":3,"invocationId":"1","result":"ServerSentEvents"}"#;
    let answer = format!("data: {answer}\u{1e}\r\n\r\n");
    assert_eq!(events.next().await, answer);
    let handle = server.handle.clone();
    tokio::spawn(async move { handle.drain(Duration::ZERO).await });
    let goodbye = "data: {\"type\":7,\"allowReconnect\":true}\u{1e}\r\n\r\n";
    assert_eq!(events.next().await, goodbye);
    assert_eq!(events.next().await, "");
    assert_eq!(server.disconnected().await, Disconnect::Draining);
    assert_eq!(hand.post("x").await.status, 404);
}

#[tokio::test]
async fn a_client_that_leaves_its_events_is_gone() {
    let mut server = server(|_| {}).await;
    let hand = Hand::negotiate(&server).await;
    let (_, mut events) = hand.stream().await;
    hand.post(HANDSHAKE).await;
    events.next().await;
    events.next().await;
    drop(events);
    assert_eq!(server.disconnected().await, Disconnect::TransportLost);
    assert_eq!(hand.post("x").await.status, 404);
}

#[tokio::test]
async fn binary_messages_do_not_go_over_events() {
    let server = server(|_| {}).await;
    let hand = Hand::negotiate(&server).await;
    let (_, mut events) = hand.stream().await;
    hand.post("{\"protocol\":\"messagepack\",\"version\":1}\u{1e}")
        .await;
    events.next().await;
    let refusal = events.next().await;
    assert!(refusal.contains("does not support 'Binary'"), "{refusal}");
    assert_eq!(events.next().await, "");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_events_is_dropped() {
    let mut server = server(|o| {
        o.send_timeout = Duration::from_millis(20);
    })
    .await;
    let hand = Hand::negotiate(&server).await;
    let (_, mut events) = hand.stream().await;
    hand.post(HANDSHAKE).await;
    events.next().await;
    events.next().await;
    hand.post(call("1", "Nothing", json!([]))).await;
    assert_eq!(server.disconnected().await, Disconnect::SlowReader);
}

#[tokio::test]
async fn the_transports_offered_are_those_of_the_options() {
    let server = server(|o| o.transports = vec![Transport::LongPolling]).await;
    let hand = Hand::polling(&server).await;
    let answer = hand.ask("GET", &hand.path(), EVENTS, Body::empty()).await;
    let refusal = "ServerSentEvents transport not supported by this end point type";
    assert_eq!((answer.status, answer.text()), (404, refusal));
    let refused = Client::refused(&server, server.request("/hub?access_token=alice")).await;
    assert_eq!(refused.0, 404);
}
