//! Fallback from one transport to the next, the transports made of requests, and the refresh of tokens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use serde_json::json;
use signalr_client::{Closed, Connection, Error, Options, Transport};
use support::soon;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, mpsc};

/// A server of requests alone: every WebSocket is refused.
struct Hub {
    offers: Vec<Transport>,
    /// What the client said, one request a line.
    seen: mpsc::UnboundedSender<String>,
    /// What goes down, one poll's answer or one event each.
    down: Mutex<mpsc::UnboundedReceiver<Down>>,
    /// Refuses this one token wherever it comes but at the negotiation.
    refused_token: Option<&'static str>,
    token_lifetime_seconds: Option<u64>,
    has_polled: std::sync::Mutex<bool>,
    posted: Notify,
    /// A goodbye is never answered but from below.
    holds_goodbye: bool,
}

enum Down {
    Data(&'static str),
    End,
}

struct Ends {
    options: Options,
    seen: mpsc::UnboundedReceiver<String>,
    down: mpsc::UnboundedSender<Down>,
}

async fn serve(change: impl FnOnce(&mut Hub)) -> Ends {
    let (seen_sender, seen) = mpsc::unbounded_channel();
    let (down, down_receiver) = mpsc::unbounded_channel();
    let mut hub = Hub {
        offers: vec![
            Transport::WebSockets,
            Transport::ServerSentEvents,
            Transport::LongPolling,
        ],
        seen: seen_sender,
        down: Mutex::new(down_receiver),
        refused_token: None,
        token_lifetime_seconds: None,
        has_polled: false.into(),
        posted: Notify::new(),
        holds_goodbye: false,
    };
    change(&mut hub);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hub", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::new(hub));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let asked = AtomicU32::new(0);
    let options = Options::new(&url).unwrap().token(move || {
        let n = asked.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok::<_, String>(format!("t{n}")) }
    });
    Ends {
        options,
        seen,
        down,
    }
}

async fn answer(
    State(hub): State<Arc<Hub>>,
    method: Method,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    };
    let token = text("authorization")
        .trim_start_matches("Bearer ")
        .to_owned();
    let accept = text("accept");
    let kind = match (uri.path(), &method) {
        ("/hub/negotiate", _) => "negotiate",
        ("/hub/refresh", _) => "refresh",
        (_, &Method::GET) if headers.contains_key(header::UPGRADE) => "websocket",
        (_, &Method::GET) if accept == "text/event-stream" => "events",
        (_, &Method::GET) => "poll",
        (_, &Method::DELETE) => "delete",
        _ => "post",
    };
    let said = String::from_utf8_lossy(&body).replace('\u{1e}', "|");
    let _ = hub
        .seen
        .send(format!("{kind} {token} {said}").trim_end().to_owned());
    if kind != "negotiate" && hub.refused_token == Some(token.as_str()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let id_is_right = query.as_deref() == Some("id=secret");
    match kind {
        "negotiate" => negotiation(&hub),
        "refresh" => {
            assert_eq!(text("x-signalr-connection-token"), "secret");
            assert_eq!(query, None);
            let lifetime = hub.token_lifetime_seconds;
            Json(json!({"connectionId": "public", "tokenLifetimeSeconds": lifetime}))
                .into_response()
        }
        "websocket" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "events" if id_is_right => events(hub),
        "poll" if id_is_right => poll(&hub).await,
        "post" if id_is_right => {
            hub.posted.notify_one();
            if hub.holds_goodbye && said == "{\"type\":7}|" {
                std::future::pending::<()>().await;
            }
            StatusCode::OK.into_response()
        }
        "delete" if id_is_right => StatusCode::ACCEPTED.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn negotiation(hub: &Hub) -> Response {
    let offer =
        |transport: &Transport| json!({"transport": transport.name(), "transferFormats": ["Text"]});
    let offers: Vec<_> = hub.offers.iter().map(offer).collect();
    let mut answer = json!({"negotiateVersion": 1, "connectionId": "public", "connectionToken": "secret",
        "availableTransports": offers});
    if let Some(seconds) = hub.token_lifetime_seconds {
        answer["tokenLifetimeSeconds"] = seconds.into();
    }
    Json(answer).into_response()
}

fn events(hub: Arc<Hub>) -> Response {
    let events = stream::unfold(hub, |hub| async move {
        let next = hub.down.lock().await.recv().await;
        match next {
            Some(Down::Data(data)) => Some((format!("data: {data}\r\n\r\n"), hub)),
            Some(Down::End) | None => None,
        }
    });
    let body = stream::iter([":\r\n".to_owned()])
        .chain(events)
        .map(Ok::<_, String>);
    (
        [(header::CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(body),
    )
        .into_response()
}

async fn poll(hub: &Hub) -> Response {
    if !std::mem::replace(&mut *hub.has_polled.lock().unwrap(), true) {
        return StatusCode::OK.into_response();
    }
    match hub.down.lock().await.recv().await {
        Some(Down::Data(data)) => data.into_response(),
        Some(Down::End) | None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn next(ends: &mut Ends) -> String {
    soon(ends.seen.recv()).await.unwrap()
}

const HELLO: &str = r#"{"protocol":"json","version":1}|"#;
const GOODBYE: &str = "{\"type\":7}\u{1e}";

#[tokio::test]
async fn a_transport_that_does_not_start_is_passed_over_after_another_negotiation() {
    let mut ends = serve(|_| {}).await;
    ends.down.send(Down::Data("{}\u{1e}")).unwrap();
    let (connection, mut incoming) = soon(Connection::connect(ends.options.clone()))
        .await
        .unwrap();
    assert_eq!(connection.transport(), Transport::ServerSentEvents);
    for expected in [
        "negotiate t1".to_owned(),
        "websocket t2".to_owned(),
        "negotiate t3".to_owned(),
        "events t4".to_owned(),
        format!("post t4 {HELLO}"),
        r#"post t4 {"type":6}|"#.to_owned(),
    ] {
        assert_eq!(next(&mut ends).await, expected);
    }
    let call = "{\"type\":1,\"target\":\"hear\",\"arguments\":[]}\u{1e}";
    ends.down.send(Down::Data(call)).unwrap();
    assert_eq!(soon(incoming.next()).await.unwrap().target(), "hear");
    ends.down.send(Down::End).unwrap();
    assert!(matches!(
        soon(connection.ended()).await,
        Closed::Lost { .. }
    ));
}

#[tokio::test]
async fn long_polling_begins_with_an_empty_poll_and_is_never_pinged() {
    let mut ends = serve(|hub| hub.offers = vec![Transport::LongPolling]).await;
    ends.down.send(Down::Data("{}\u{1e}")).unwrap();
    // An empty answer means: ask again.
    ends.down.send(Down::Data("")).unwrap();
    let options = ends.options.clone().with(|options| {
        options.keep_alive_interval = std::time::Duration::from_millis(1);
        options.server_timeout = std::time::Duration::from_millis(1);
    });
    let (connection, _incoming) = soon(Connection::connect(options)).await.unwrap();
    connection.send("hello", ()).await.unwrap();
    let call = r#"post t2 {"type":1,"target":"hello","arguments":[]}|"#;
    let mut posts = Vec::new();
    while posts.last().is_none_or(|last| last != call) {
        let request = next(&mut ends).await;
        if request.starts_with("post") {
            posts.push(request);
        }
    }
    assert_eq!(posts, [format!("post t2 {HELLO}"), call.to_owned()]);
    ends.down.send(Down::Data(GOODBYE)).unwrap();
    ends.down.send(Down::End).unwrap();
    let why = soon(connection.ended()).await;
    assert!(
        matches!(
            why,
            Closed::ByServer {
                allow_reconnect: false,
                ..
            }
        ),
        "{why}"
    );
}

#[tokio::test]
async fn a_chain_of_polls_is_ended_by_a_goodbye_and_a_delete() {
    let mut ends = serve(|hub| hub.offers = vec![Transport::LongPolling]).await;
    ends.down.send(Down::Data("{}\u{1e}")).unwrap();
    let (connection, _incoming) = soon(Connection::connect(ends.options.clone()))
        .await
        .unwrap();
    let closing = tokio::spawn(async move { connection.close().await });
    while next(&mut ends).await != "post t2 {\"type\":7}|" {}
    while next(&mut ends).await != "delete t2" {}
    ends.down.send(Down::End).unwrap();
    assert_eq!(soon(closing).await.unwrap(), Closed::ByClient);
}

#[tokio::test]
async fn who_says_goodbye_has_closed_it_also_when_the_answer_comes_before_the_goodbye_is_through() {
    for last in [Down::Data(GOODBYE), Down::End] {
        let mut ends = serve(|hub| {
            hub.offers = vec![Transport::LongPolling];
            hub.holds_goodbye = true;
        })
        .await;
        ends.down.send(Down::Data("{}\u{1e}")).unwrap();
        let (connection, _incoming) = soon(Connection::connect(ends.options.clone()))
            .await
            .unwrap();
        let closing = tokio::spawn(async move { connection.close().await });
        while next(&mut ends).await != "post t2 {\"type\":7}|" {}
        ends.down.send(last).unwrap();
        while next(&mut ends).await != "delete t2" {}
        ends.down.send(Down::End).unwrap();
        assert_eq!(soon(closing).await.unwrap(), Closed::ByClient);
    }
}

#[tokio::test]
async fn a_request_whose_token_is_refused_is_repeated_once_with_another() {
    for transport in [Transport::LongPolling, Transport::ServerSentEvents] {
        let mut ends = serve(|hub| {
            hub.offers = vec![transport];
            hub.refused_token = Some("t2");
        })
        .await;
        ends.down.send(Down::Data("{}\u{1e}")).unwrap();
        soon(Connection::connect(ends.options.clone()))
            .await
            .unwrap();
        assert_eq!(next(&mut ends).await, "negotiate t1");
        assert!(next(&mut ends).await.ends_with("t2"));
        assert!(next(&mut ends).await.ends_with("t3"));
    }
}

#[tokio::test]
async fn all_that_failed_is_told_and_a_refused_token_ends_the_search_at_once() {
    let ends = serve(|hub| hub.offers = vec![Transport::WebSockets]).await;
    let error = soon(Connection::connect(ends.options))
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let mut ends = serve(|hub| hub.refused_token = Some("t2")).await;
    let error = soon(Connection::connect(ends.options.clone()))
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, Error::Unauthorised { .. }), "{error:?}");
    assert_eq!(next(&mut ends).await, "negotiate t1");
    assert_eq!(next(&mut ends).await, "websocket t2");
    assert!(ends.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_token_is_refreshed_ahead_of_its_end_for_as_long_as_the_connection_lives() {
    let mut ends = serve(|hub| {
        hub.offers = vec![Transport::ServerSentEvents];
        hub.token_lifetime_seconds = Some(2);
    })
    .await;
    ends.down.send(Down::Data("{}\u{1e}")).unwrap();
    let (connection, _incoming) = soon(Connection::connect(ends.options.clone()))
        .await
        .unwrap();
    while next(&mut ends).await != "refresh t3" {}
    while next(&mut ends).await != "refresh t4" {}
    assert_eq!(connection.why_ended(), None);
    // What is posted from now on carries the new token.
    connection.send("hello", ()).await.unwrap();
    loop {
        let request = next(&mut ends).await;
        if request.contains("hello") {
            assert!(request.starts_with("post t4"), "{request}");
            break;
        }
    }
}
