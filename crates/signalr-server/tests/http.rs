//! The HTTP face: negotiation, tokens, status codes, cross-origin requests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use signalr_server::{Hub, HubServer, Methods, Options, Transport};
use support::{Client, Happened, PlainTokens, Server};
use tower::ServiceExt as _;

struct Empty;

impl Hub for Empty {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn router(change: impl FnOnce(HubServer<Empty>) -> HubServer<Empty>) -> Router {
    change(HubServer::new(Empty)).router("/hub")
}

async fn ask(router: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

async fn negotiate(router: &Router, query: &str) -> Value {
    let answer = ask(router, "POST", &format!("/hub/negotiate{query}"), &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

#[tokio::test]
async fn version_one_has_an_id_a_secret_token_and_what_is_served() {
    let router = router(|s| s);
    let answer = negotiate(&router, "?negotiateVersion=1").await;
    assert_eq!(answer["negotiateVersion"], 1);
    assert_eq!(answer["connectionId"].as_str().unwrap().len(), 22);
    assert_eq!(answer["connectionToken"].as_str().unwrap().len(), 43);
    assert_eq!(
        answer["availableTransports"],
        json!([
            {"transport": "WebSockets", "transferFormats": ["Text", "Binary"]},
            {"transport": "ServerSentEvents", "transferFormats": ["Text"]},
            {"transport": "LongPolling", "transferFormats": ["Text", "Binary"]},
        ])
    );
    let other = negotiate(&router, "?negotiateVersion=1").await;
    assert_ne!(answer["connectionToken"], other["connectionToken"]);
    assert_ne!(answer["connectionId"], other["connectionId"]);
}

#[tokio::test]
async fn older_and_newer_versions_get_what_the_server_has() {
    let router = router(|s| s);
    for query in ["", "?negotiateVersion=0"] {
        let answer = negotiate(&router, query).await;
        assert_eq!(answer["negotiateVersion"], 0);
        assert!(answer["connectionId"].is_string() && answer["connectionToken"].is_null());
    }
    assert_eq!(
        negotiate(&router, "?NEGOTIATEVERSION=7").await["negotiateVersion"],
        1
    );
    for query in [
        "?negotiateVersion=x",
        "?negotiateVersion=1&negotiateVersion=0",
    ] {
        assert_eq!(
            negotiate(&router, query).await,
            json!({"error": "The client requested a non-integer protocol version."})
        );
    }
}

#[tokio::test]
async fn a_trailing_slash_makes_no_difference() {
    let router = router(|s| s);
    assert_eq!(
        ask(&router, "POST", "/hub/negotiate/", &[]).await.status,
        200
    );
    assert_eq!(
        ask(&router, "GET", "/hub/", &[]).await.text,
        "Connection ID required"
    );
}

#[tokio::test]
async fn requests_of_transports_not_offered_are_refused_in_known_words() {
    let router = router(|s| s.with(|o| o.transports = vec![Transport::WebSockets]));
    let id = negotiate(&router, "?negotiateVersion=1").await["connectionToken"].clone();
    let known = format!("/hub?id={}", id.as_str().unwrap());
    let events: &[_] = &[("accept", "text/event-stream")];
    for (method, path, headers, status, text) in [
        ("GET", "/hub", &[][..], 400, "Connection ID required"),
        ("POST", "/hub", &[], 400, "Connection ID required"),
        ("DELETE", "/hub?id=", &[], 400, "Connection ID required"),
        ("GET", "/hub?id=x", &[], 404, "No Connection with that ID"),
        ("POST", "/hub?id=x", &[], 404, "No Connection with that ID"),
        (
            "DELETE",
            "/hub?id=x",
            &[],
            404,
            "No Connection with that ID",
        ),
        (
            "GET",
            &known,
            &[],
            404,
            "LongPolling transport not supported by this end point type",
        ),
        (
            "GET",
            &known,
            events,
            404,
            "ServerSentEvents transport not supported by this end point type",
        ),
        (
            "DELETE",
            &known,
            &[],
            400,
            "Cannot terminate this connection using the DELETE endpoint.",
        ),
    ] {
        let answer = ask(&router, method, path, headers).await;
        assert_eq!(
            (answer.status, &*answer.text),
            (status, text),
            "{method} {path}"
        );
        assert_eq!(answer.header("content-type"), Some("text/plain"));
    }
    assert_eq!(ask(&router, "GET", "/hub/negotiate", &[]).await.status, 405);
    for method in ["PUT", "HEAD"] {
        assert_eq!(ask(&router, method, "/hub", &[]).await.status, 405);
    }
}

#[tokio::test]
async fn the_id_does_not_work_in_place_of_the_token() {
    let server = Server::start().await;
    let router = router(|s| s);
    let id = negotiate(&router, "?negotiateVersion=1").await["connectionId"].clone();
    let path = format!("/hub?id={}", id.as_str().unwrap());
    assert_eq!(ask(&router, "GET", &path, &[]).await.status, 404);
    let refused = Client::refused(&server, server.request("/hub?id=x")).await;
    assert_eq!(refused, (404, "No Connection with that ID".to_owned()));
}

#[tokio::test]
async fn tokens_are_asked_for_checked_and_refused_with_a_reason() {
    let router = router(|s| s.auth(PlainTokens));
    let path = "/hub/negotiate?negotiateVersion=1";
    let answer = ask(&router, "POST", path, &[]).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert!(answer.text.contains("access_token"), "{}", answer.text);

    for (token, status) in [("bad", 401), ("", 401), ("elsewhere", 403), ("alice", 200)] {
        let header = format!("Bearer {token}");
        let answer = ask(&router, "POST", path, &[("authorization", &header)]).await;
        assert_eq!(answer.status, status, "{token}");
        assert!(!answer.text.is_empty());
    }
    let query = format!("{path}&access_token=alice");
    assert_eq!(ask(&router, "POST", &query, &[]).await.status, 200);
    let both = ask(&router, "POST", &query, &[("authorization", "bearer bad")]).await;
    assert_eq!(both.status, 401, "the header wins");
    assert_eq!(ask(&router, "GET", "/hub", &[]).await.status, 401);
}

/// Negotiates over a real socket, as the ids must be known to that server.
/// Posts to the server; gives the status and the body.
async fn post(server: &Server, path: &str, bearer: &str, headers: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\n{headers}\
         content-length: 0\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn token_of(server: &Server, bearer: &str) -> String {
    let path = "/hub/negotiate?negotiateVersion=1";
    let (_, body) = post(server, path, bearer, "").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    body["connectionToken"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_newer_token_of_the_same_user_puts_off_the_end_of_a_connection() {
    let server = Server::start_with(|s| {
        s.auth(PlainTokens)
            .with(|o: &mut Options| o.token_refresh = true)
    })
    .await;
    let token = token_of(&server, "alice/1").await;
    let path = format!("/hub?id={token}&access_token=alice/1");
    let mut client = Client::connect_to(&server, &path).await;
    let header = format!("x-signalr-connection-token: {token}\r\n");
    let (status, _) = post(&server, "/hub/refresh", "bob/60", &header).await;
    assert_eq!(status, 403);
    let (status, _) = post(&server, "/hub/refresh?id=unknown", "alice/60", "").await;
    assert_eq!(status, 404);
    let (status, body) = post(&server, "/hub/refresh", "alice/2", &header).await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(body["connectionId"].is_string());
    let lifetime = body["tokenLifetimeSeconds"].as_u64().unwrap();
    assert!(lifetime <= 2, "{lifetime}");
    // Refreshed for good: the connection is still there when the first token has run out.
    let path = format!("/hub/refresh?id={token}");
    assert_eq!(post(&server, &path, "alice", "").await.0, 200);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    client.call("1", "User", json!([])).await;
    assert_eq!(client.answer("1").await["result"], "alice");
}

#[tokio::test]
async fn the_hub_hears_of_a_newer_token_and_sees_what_it_says() {
    let mut server = Server::start_with(|s| {
        s.auth(PlainTokens)
            .with(|o: &mut Options| o.token_refresh = true)
    })
    .await;
    let token = token_of(&server, "alice+old").await;
    let path = format!("/hub?id={token}&access_token=alice%2Bold");
    let _client = Client::connect_to(&server, &path).await;
    let Happened::Connected(id) = server.happened().await else {
        panic!("it connects first");
    };
    let path = format!("/hub/refresh?id={token}");
    // Refused: the hub hears nothing. A hub that fails at it keeps its connection.
    assert_eq!(post(&server, &path, "bob+new", "").await.0, 403);
    assert_eq!(post(&server, &path, "bad", "").await.0, 401);
    assert_eq!(post(&server, &path, "alice+panic", "").await.0, 200);
    assert_eq!(post(&server, &path, "alice+new", "").await.0, 200);
    let refreshed = Happened::Refreshed(id.clone(), "new".to_owned());
    assert_eq!(server.happened().await, refreshed);
    let connection = server.handle.connection(&id).unwrap();
    assert_eq!(connection.identity().claims::<String>().unwrap(), "new");
    assert_eq!(connection.identity().user_id(), Some("alice"));
}

#[tokio::test]
async fn a_hub_that_takes_no_newer_tokens_says_so() {
    let server = Server::start_with(|s| s.auth(PlainTokens)).await;
    let (status, body) = post(&server, "/hub/refresh?id=x", "alice", "").await;
    assert_eq!(status, 404);
    assert!(body.contains("Connect anew"), "{body}");
}

#[tokio::test]
async fn a_connection_token_opens_one_connection_for_the_user_who_negotiated() {
    let server = Server::start_with(|s| s.auth(PlainTokens)).await;
    let token = token_of(&server, "alice").await;
    let path = |user: &str| format!("/hub?id={token}&access_token={user}&ready=auto");
    let other = Client::refused(&server, server.request(&path("bob"))).await;
    assert_eq!(other.0, 403);
    let mut client = Client::connect_to(&server, &path("alice")).await;
    client.call("1", "Query", json!(["READY"])).await;
    assert_eq!(client.next().await["result"], "auto");
    client.call("2", "Query", json!(["access_token"])).await;
    assert_eq!(
        client.next().await["result"],
        json!(null),
        "secrets are not shown"
    );
    let second = Client::refused(&server, server.request(&path("alice"))).await;
    assert_eq!(second.0, 409);
}

#[tokio::test]
async fn the_token_is_kept_for_those_who_want_it_alone() {
    let server = Server::start_with(|s| {
        s.auth(PlainTokens)
            .with(|o: &mut Options| o.keep_token = true)
    })
    .await;
    let mut client = Client::connect_to(&server, "/hub?access_token=alice&id=").await;
    client.call("1", "Query", json!(["access_token"])).await;
    assert_eq!(client.next().await["result"], "alice");
    let mut request = server.request("/hub");
    let bearer = "Bearer alice".parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let mut client = Client::try_open(&server, request).await.unwrap();
    client.send(r#"{"protocol":"json","version":1}"#).await;
    assert_eq!(client.next().await, json!({}));
    client.call("1", "Header", json!(["authorization"])).await;
    assert_eq!(client.next().await["result"], "Bearer alice");
}

#[tokio::test]
async fn a_negotiated_connection_that_nobody_opens_is_forgotten() {
    let soon = |o: &mut Options| o.attach_timeout = Duration::from_millis(20);
    let server = Server::start_with(|s| s.auth(PlainTokens).with(soon)).await;
    let token = token_of(&server, "alice").await;
    tokio::time::sleep(Duration::from_millis(40)).await;
    let path = format!("/hub?id={token}&access_token=alice");
    assert_eq!(Client::refused(&server, server.request(&path)).await.0, 404);
}

#[tokio::test]
async fn negotiations_that_wait_are_bounded() {
    let router = router(|s| s.with(|o| o.unattached_max = 2));
    for status in [200, 200, 503] {
        assert_eq!(
            ask(&router, "POST", "/hub/negotiate", &[]).await.status,
            status
        );
    }
}

#[tokio::test]
async fn a_crowd_is_told_when_to_come_back() {
    let rate = NonZeroU32::new(2);
    let router = router(|s| s.with(|o| o.admissions_per_second = rate));
    let mut refused = Vec::new();
    for _ in 0..100 {
        let answer = ask(&router, "POST", "/hub/negotiate", &[]).await;
        if answer.status != 200 {
            refused.push(answer);
        }
    }
    let last = refused.last().unwrap();
    assert_eq!(last.status, 503);
    assert!(last.text.contains("Retry-After"), "{}", last.text);
    let wait: u64 = last.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
}

#[tokio::test]
async fn connections_are_bounded_however_they_come() {
    let server =
        Server::start_with(|s| s.auth_optional(PlainTokens).with(|o| o.connections_max = 2)).await;
    let mut first = Client::connect(&server).await;
    // A negotiation counts as long as somebody may come for it.
    let token = token_of(&server, "alice").await;
    let fresh = server.request("/hub");
    assert_eq!(Client::refused(&server, fresh).await.0, 503);
    let (status, text) = post(&server, "/hub/negotiate", "alice", "").await;
    assert_eq!(status, 503);
    assert!(text.contains("as many connections as it takes"), "{text}");
    let path = format!("/hub?id={token}&access_token=alice");
    let _second = Client::connect_to(&server, &path).await;
    first.call("1", "User", json!([])).await;
    assert_eq!(first.answer("1").await["type"], 3);
}

#[tokio::test]
async fn what_nobody_came_for_takes_no_room() {
    let router = router(|s| {
        s.with(|o| {
            o.connections_max = 1;
            o.attach_timeout = Duration::ZERO;
        })
    });
    for _ in 0..3 {
        negotiate(&router, "").await;
    }
}

#[tokio::test]
async fn a_draining_hub_takes_no_negotiations() {
    let server = HubServer::new(Empty);
    let handle = server.handle();
    let router: Router = server.router("/hub");
    handle.drain(Duration::ZERO).await;
    let answer = ask(&router, "POST", "/hub/negotiate", &[]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE.as_u16());
    assert!(answer.header("retry-after").is_some());
}

fn with_origins(server: HubServer<Empty>) -> HubServer<Empty> {
    server.with(|o| o.allowed_origins = vec!["http://allowed.example".to_owned()])
}

#[tokio::test]
async fn allowed_origins_are_granted_credentials_on_refusals_too() {
    let router = router(|s| with_origins(s).auth(PlainTokens));
    let origin = ("origin", "http://allowed.example");
    let asked = ("access-control-request-method", "POST");
    let answer = ask(&router, "OPTIONS", "/hub/negotiate", &[origin, asked]).await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://allowed.example")
    );
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        Some("true")
    );
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET,POST,DELETE")
    );
    let allowed = answer.header("access-control-allow-headers").unwrap();
    for name in ["authorization", "x-requested-with", "x-signalr-user-agent"] {
        assert!(allowed.contains(name), "{name}");
    }
    let refused = ask(&router, "POST", "/hub/negotiate", &[origin]).await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("http://allowed.example")
    );
}

#[tokio::test]
async fn a_page_may_read_that_a_method_is_not_known() {
    let router = router(with_origins);
    let origin = ("origin", "http://allowed.example");
    for method in ["OPTIONS", "HEAD", "PUT", "PATCH"] {
        for (path, methods) in [
            ("/hub", "GET,POST,DELETE,OPTIONS"),
            ("/hub/negotiate", "POST,OPTIONS"),
            ("/hub/refresh", "POST,OPTIONS"),
        ] {
            let answer = ask(&router, method, path, &[origin]).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some(methods));
            assert_eq!(
                answer.header("access-control-allow-origin"),
                Some("http://allowed.example")
            );
        }
    }
}

#[tokio::test]
async fn other_origins_are_granted_nothing_and_open_no_websocket() {
    let router = router(with_origins);
    let evil = ("origin", "http://evil.example");
    let asked = ("access-control-request-method", "POST");
    for (method, headers) in [("OPTIONS", &[evil, asked][..]), ("POST", &[evil])] {
        let answer = ask(&router, method, "/hub/negotiate", headers).await;
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert_eq!(ask(&router, "OPTIONS", "/hub", &[]).await.status, 405);

    let origins = |o: &mut Options| o.allowed_origins = vec!["http://allowed.example".to_owned()];
    let server = Server::start_with(|s| s.with(origins)).await;
    let own = format!("http://{}", server.address);
    for (origin, is_welcome) in [
        ("http://evil.example", false),
        ("http://allowed.example", true),
        (&*own, true),
    ] {
        let mut request = server.request("/hub");
        request
            .headers_mut()
            .insert("origin", origin.parse().unwrap());
        match is_welcome {
            true => drop(Client::try_open(&server, request).await.unwrap()),
            false => assert_eq!(Client::refused(&server, request).await.0, 403),
        }
    }
}

#[tokio::test]
async fn a_refused_upgrade_leaves_no_connection_open() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start_with(|server| server.auth_optional(PlainTokens)).await;
    for (query, status) in [("id=unknown", "404"), ("access_token=bad", "401")] {
        let mut stream = tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap();
        let request = format!(
            "GET /hub?{query} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // Comes to its end because the server closes.
        let read = support::patiently(stream.read_to_string(&mut answer));
        read.await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}
