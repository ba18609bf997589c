//! Connections over requests: polls and event streams down, bodies up.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use signalr_server::{Caller, Hub, HubError, HubServer, Methods, Options, Transport};
use support::PlainTokens;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

const JSON_HANDSHAKE: &str = "{\"protocol\":\"json\",\"version\":1}\u{1e}";

struct Reporting {
    ended: mpsc::UnboundedSender<signalr_server::Disconnect>,
}

impl Hub for Reporting {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods
            .on(
                "echo",
                async |_: Arc<Self>, _: Caller<Self>, value: Value| Ok(value),
            )
            .on("transport", async |_: Arc<Self>, from: Caller<Self>, ()| {
                Ok(from.transport().name())
            })
            .on("leave", async |_: Arc<Self>, from: Caller<Self>, ()| {
                from.close(Some("enough"), false);
                Ok::<_, HubError>(())
            })
    }

    async fn on_disconnected(&self, _: &Caller<Self>, why: signalr_server::Disconnect) {
        let _ = self.ended.send(why);
    }
}

struct World {
    router: Router,
    ended: mpsc::UnboundedReceiver<signalr_server::Disconnect>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn records(&self) -> Vec<Value> {
        records(&self.text)
    }
}

fn records(text: &str) -> Vec<Value> {
    let records = text.split_terminator('\u{1e}');
    records
        .map(|record| serde_json::from_str(record).unwrap())
        .collect()
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let (sender, ended) = mpsc::unbounded_channel();
        let server = HubServer::new(Reporting { ended: sender })
            .with(change)
            .auth_optional(PlainTokens);
        Self {
            router: server.router("/hub"),
            ended,
        }
    }

    async fn send(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str, user: &str, body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !user.is_empty() {
            request = request.header("authorization", format!("Bearer {user}"));
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = self.send(request).await.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// The path of a negotiated connection.
    async fn negotiated(&self) -> String {
        let answer = self
            .ask("POST", "/hub/negotiate?negotiateVersion=1", "", "")
            .await;
        let answer: Value = serde_json::from_str(&answer.text).unwrap();
        format!("/hub?id={}", answer["connectionToken"].as_str().unwrap())
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, "", body).await
    }

    async fn poll(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    /// A connection over polls that has shaken hands.
    async fn polling(&self) -> String {
        let path = self.negotiated().await;
        assert_eq!(self.poll(&path).await.text, "");
        self.post(&path, JSON_HANDSHAKE).await;
        assert_eq!(self.poll(&path).await.records(), [json!({})]);
        path
    }

    async fn call(&self, path: &str, target: &str, argument: Option<&str>) {
        let call = json!({
            "type": 1,
            "invocationId": "1",
            "target": target,
            "arguments": argument.map_or(vec![], |argument| vec![argument]),
        });
        let posted = self.post(path, &format!("{call}\u{1e}")).await;
        assert_eq!((posted.status, &*posted.text), (StatusCode::OK, ""));
        assert_eq!(posted.header("content-type"), "text/plain");
    }

    /// An event stream behind its opening comment.
    async fn events(&self, path: &str) -> BodyDataStream {
        let request = Request::builder()
            .uri(path)
            .header("accept", "text/event-stream");
        let response = self.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache,no-store"),
            ("content-encoding", "identity"),
            ("x-accel-buffering", "no"),
        ] {
            assert_eq!(response.headers()[name], value);
        }
        let mut events = response.into_body().into_data_stream();
        assert_eq!(events.next().await.unwrap().unwrap(), &b":\r\n"[..]);
        events
    }
}

async fn next_event(events: &mut BodyDataStream) -> Vec<Value> {
    let event = events.next().await.unwrap().unwrap();
    let event = String::from_utf8(event.to_vec()).unwrap();
    let data = event.strip_prefix("data: ").unwrap();
    records(data.strip_suffix("\r\n\r\n").unwrap())
}

#[tokio::test]
async fn the_first_poll_is_answered_at_once_and_the_others_when_there_is_something() {
    let world = World::new();
    let path = world.negotiated().await;
    // What is posted before anything is attached is kept.
    world.post(&path, JSON_HANDSHAKE).await;
    let first = world.poll(&path).await;
    assert_eq!((first.status, &*first.text), (StatusCode::OK, ""));
    assert_eq!(first.header("content-type"), "application/octet-stream");
    assert_eq!(first.header("cache-control"), "no-cache, no-store");
    assert_eq!(first.header("expires"), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(world.poll(&path).await.records(), [json!({})]);
    world.call(&path, "echo", Some("é")).await;
    assert_eq!(world.poll(&path).await.records()[0]["result"], "é");
    world.call(&path, "transport", None).await;
    assert_eq!(
        world.poll(&path).await.records()[0]["result"],
        "LongPolling"
    );
}

#[tokio::test]
async fn a_poll_with_nothing_to_send_ends_empty_and_the_connection_lives() {
    let world = World::with(|options| options.poll_timeout = Duration::ZERO);
    let path = world.negotiated().await;
    world.poll(&path).await;
    let empty = world.poll(&path).await;
    assert_eq!((empty.status, &*empty.text), (StatusCode::OK, ""));
    assert_eq!(empty.header("content-type"), "text/plain");
    assert_eq!(world.poll(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn of_two_polls_the_newer_is_served() {
    let world = World::new();
    let path = world.polling().await;
    let (older, newer) = tokio::join!(world.poll(&path), async {
        tokio::task::yield_now().await;
        let (newer, ()) = tokio::join!(world.poll(&path), world.call(&path, "echo", Some("x")));
        newer
    });
    assert_eq!(older.status, StatusCode::NO_CONTENT);
    assert_eq!(newer.records()[0]["result"], "x");
}

#[tokio::test]
async fn the_end_of_the_hub_s_making_is_told_once_and_then_the_id_is_unknown() {
    let mut world = World::new();
    let path = world.polling().await;
    world.call(&path, "leave", None).await;
    let mut close = json!(null);
    // The answer to the call may come in a poll of its own.
    while close["type"] != 7 {
        let polled = world.poll(&path).await;
        assert_eq!(polled.status, StatusCode::OK);
        close = polled.records().pop().unwrap();
    }
    assert_eq!(
        (&close["type"], &close["error"]),
        (&json!(7), &json!("enough"))
    );
    assert_eq!(world.poll(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        world.ended.recv().await,
        Some(signalr_server::Disconnect::ByServer)
    );
    let mut after = world.poll(&path).await;
    while after.status == StatusCode::NO_CONTENT {
        tokio::task::yield_now().await;
        after = world.poll(&path).await;
    }
    assert_eq!(after.status, StatusCode::NOT_FOUND);
    assert_eq!(world.post(&path, "x").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_client_that_deletes_its_connection_is_answered_at_once_and_known_no_more() {
    let mut world = World::new();
    let path = world.polling().await;
    let (waiting, deleted) = tokio::join!(world.poll(&path), async {
        tokio::task::yield_now().await;
        world.ask("DELETE", &path, "", "").await
    });
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    let close = waiting.records();
    assert_eq!(close, [json!({"type": 7, "allowReconnect": true})]);
    assert_eq!(world.poll(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        world.ended.recv().await,
        Some(signalr_server::Disconnect::ByClient)
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_polling_is_gone() {
    let mut world = World::new();
    let path = world.polling().await;
    assert_eq!(
        world.ended.recv().await,
        Some(signalr_server::Disconnect::TransportLost)
    );
    assert_eq!(world.poll(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_pinged_or_timed_out_over_polls_unless_he_pings_himself() {
    let mut world = World::with(|options| {
        options.poll_timeout = Duration::from_secs(10);
        options.client_timeout = Duration::from_secs(20);
    });
    let path = world.polling().await;
    for _ in 0..20 {
        assert_eq!(world.poll(&path).await.text, "");
    }
    world.post(&path, "{\"type\":6}\u{1e}").await;
    let mut polls = 0;
    while world.poll(&path).await.text.is_empty() {
        polls += 1;
        assert!(polls < 10, "it is not timed out");
    }
    assert_eq!(
        world.ended.recv().await,
        Some(signalr_server::Disconnect::ClientTimeout)
    );
}

#[tokio::test]
async fn events_come_as_they_are_sent_and_the_close_message_is_the_last() {
    let mut world = World::new();
    let path = world.negotiated().await;
    let mut events = world.events(&path).await;
    world.post(&path, JSON_HANDSHAKE).await;
    assert_eq!(next_event(&mut events).await, [json!({})]);
    world.call(&path, "transport", None).await;
    let event = next_event(&mut events).await;
    assert_eq!(event[0]["result"], "ServerSentEvents");
    world.call(&path, "leave", None).await;
    let mut last = json!(null);
    while last["type"] != 7 {
        last = next_event(&mut events).await.pop().unwrap();
    }
    assert!(events.next().await.is_none());
    assert_eq!(
        world.ended.recv().await,
        Some(signalr_server::Disconnect::ByServer)
    );
}

#[tokio::test]
async fn a_client_that_gives_up_its_event_stream_is_gone_at_once() {
    let mut world = World::new();
    let path = world.negotiated().await;
    let mut events = world.events(&path).await;
    world.post(&path, JSON_HANDSHAKE).await;
    next_event(&mut events).await;
    drop(events);
    assert_eq!(
        world.ended.recv().await,
        Some(signalr_server::Disconnect::TransportLost)
    );
    let after = world.post(&path, "x").await;
    assert_eq!(after.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn event_streams_carry_text_alone() {
    let world = World::new();
    let path = world.negotiated().await;
    let mut events = world.events(&path).await;
    world
        .post(&path, "{\"protocol\":\"messagepack\",\"version\":1}\u{1e}")
        .await;
    let error = next_event(&mut events).await[0]["error"].clone();
    assert!(error.as_str().unwrap().contains("'Binary' transfer format"));
}

#[tokio::test]
async fn a_connection_keeps_its_transport() {
    let world = World::new();
    let path = world.polling().await;
    let request = Request::builder()
        .uri(&path)
        .header("accept", "text/event-stream")
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.send(request).await.status(), StatusCode::BAD_REQUEST);

    let path = world.negotiated().await;
    let _events = world.events(&path).await;
    let poll = world.poll(&path).await;
    assert_eq!(poll.status, StatusCode::BAD_REQUEST);
    assert_eq!(poll.text, "Cannot change transports mid-connection");
    let request = Request::builder()
        .uri(&path)
        .header("accept", "text/event-stream")
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.send(request).await.status(), StatusCode::CONFLICT);
    let deleted = world.ask("DELETE", &path, "", "").await;
    assert_eq!(deleted.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn requests_of_another_user_reach_nothing() {
    let world = World::new();
    let path = world.polling().await;
    for method in ["GET", "POST", "DELETE"] {
        let refused = world.ask(method, &path, "eve", "x").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method}");
    }
    let refused = world.ask("GET", &path, "bad", "").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.header("cache-control"), "no-cache, no-store");
    world.call(&path, "echo", Some("still there")).await;
    assert_eq!(
        world.poll(&path).await.records()[0]["result"],
        "still there"
    );
}

#[tokio::test]
async fn a_transport_that_is_not_offered_is_not_served() {
    let world = World::with(|options| options.transports = vec![Transport::LongPolling]);
    let path = world.negotiated().await;
    let request = Request::builder()
        .uri(&path)
        .header("accept", "text/event-stream")
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.send(request).await.status(), StatusCode::NOT_FOUND);
    world.polling().await;
}

#[tokio::test]
async fn the_token_is_kept_for_those_who_want_it_alone() {
    struct Curious;
    impl Hub for Curious {
        fn methods(methods: Methods<Self>) -> Methods<Self> {
            methods.on("token", async |_: Arc<Self>, from: Caller<Self>, ()| {
                let header = from.header("authorization").map(str::to_owned);
                Ok((header, from.query("access_token").map(str::to_owned)))
            })
        }
    }
    for keeps in [false, true] {
        let server = HubServer::new(Curious)
            .with(|options| options.keep_token = keeps)
            .auth_optional(PlainTokens);
        let (_, ended) = mpsc::unbounded_channel();
        let world = World {
            router: server.router("/hub"),
            ended,
        };
        let negotiated = world
            .ask("POST", "/hub/negotiate?negotiateVersion=1", "ada", "")
            .await;
        let negotiated: Value = serde_json::from_str(&negotiated.text).unwrap();
        let id = negotiated["connectionToken"].as_str().unwrap();
        let path = format!("/hub?id={id}&access_token=ada");
        world.ask("GET", &path, "ada", "").await;
        world.post(&path, JSON_HANDSHAKE).await;
        world.poll(&path).await;
        world.call(&path, "token", None).await;
        let seen = world.poll(&path).await.records()[0]["result"].clone();
        let expected = match keeps {
            true => json!(["Bearer ada", "ada"]),
            false => json!([null, null]),
        };
        assert_eq!(seen, expected);
    }
}
