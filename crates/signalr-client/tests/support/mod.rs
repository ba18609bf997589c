//! A server that does what a test tells it, and remembers what it was asked.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub(crate) mod tls;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use signalr_client::Options;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub(crate) const OFFER: &str = r#"{"negotiateVersion":1,"connectionId":"public","connectionToken":"secret","availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]}]}"#;

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) what: &'static str,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

type Canned = (u16, Vec<(&'static str, String)>, String);

#[derive(Default)]
struct Script {
    negotiations: VecDeque<Canned>,
    upgrades: VecDeque<Canned>,
    seen: Vec<Seen>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    peers: mpsc::UnboundedReceiver<Peer>,
}

#[derive(Clone)]
struct Shared {
    script: Arc<Mutex<Script>>,
    peers: mpsc::UnboundedSender<Peer>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let script = Arc::<Mutex<Script>>::default();
        let (sender, peers) = mpsc::unbounded_channel();
        let address = listener.local_addr().unwrap();
        let shared = Shared {
            script: script.clone(),
            peers: sender,
        };
        let router = Router::new()
            .route("/hub", get(connect))
            .route("/hub/negotiate", post(negotiate))
            .route("/other/negotiate", post(negotiate))
            .route("/other", get(connect))
            .with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            script,
            peers,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hub", self.address)
    }

    pub(crate) fn options(&self) -> Options {
        Options::new(&self.url()).unwrap()
    }

    /// Answers the next negotiation with this instead of an offer.
    pub(crate) fn negotiation(
        &self,
        status: u16,
        headers: &[(&'static str, &str)],
        body: impl Into<String>,
    ) {
        let canned = (status, owned(headers), body.into());
        self.script.lock().unwrap().negotiations.push_back(canned);
    }

    /// Answers the next upgrade with this instead of a WebSocket.
    pub(crate) fn upgrade(&self, status: u16, headers: &[(&'static str, &str)], body: &str) {
        let canned = (status, owned(headers), body.to_owned());
        self.script.lock().unwrap().upgrades.push_back(canned);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    /// The next WebSocket, before its handshake.
    pub(crate) async fn raw_peer(&mut self) -> Peer {
        self.peers.recv().await.unwrap()
    }

    /// The next WebSocket, after its handshake.
    pub(crate) async fn peer(&mut self) -> Peer {
        let mut peer = self.raw_peer().await;
        let hello = peer.any_record().await.unwrap();
        assert_eq!(hello, json!({"protocol": "json", "version": 1}));
        peer.send_text("{}\u{1e}").await;
        peer
    }
}

fn owned(headers: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect()
}

async fn negotiate(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let mut script = shared.script.lock().unwrap();
    let query = query.unwrap_or_default();
    script.seen.push(Seen {
        what: "negotiate",
        query,
        headers,
    });
    match script.negotiations.pop_front() {
        Some(canned) => response(canned),
        None => OFFER.into_response(),
    }
}

async fn connect(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let mut script = shared.script.lock().unwrap();
    let query = query.unwrap_or_default();
    script.seen.push(Seen {
        what: "connect",
        query,
        headers,
    });
    if let Some(canned) = script.upgrades.pop_front() {
        return response(canned);
    }
    let peers = shared.peers.clone();
    upgrade.on_upgrade(move |socket| async move {
        let _ = peers.send(Peer {
            socket,
            records: VecDeque::new(),
            end: None,
        });
    })
}

fn response((status, headers, body): Canned) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// The server's end of one WebSocket.
pub(crate) struct Peer {
    socket: WebSocket,
    records: VecDeque<Value>,
    /// How the client ended it: the code of its Close frame, or none.
    pub(crate) end: Option<Option<u16>>,
}

impl Peer {
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.socket
            .send(Message::binary(bytes.to_vec()))
            .await
            .unwrap();
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(&format!("{message}\u{1e}")).await;
    }

    /// Calls a method of the client and wants no answer.
    pub(crate) async fn call(&mut self, target: &str, arguments: Value) {
        self.send(json!({"type": 1, "target": target, "arguments": arguments}))
            .await;
    }

    /// The next hub message that is no ping; `None` when the client has ended the connection.
    pub(crate) async fn record(&mut self) -> Option<Value> {
        loop {
            let record = self.any_record().await?;
            if record != json!({"type": 6}) {
                return Some(record);
            }
        }
    }

    /// The next hub message, pings too.
    pub(crate) async fn any_record(&mut self) -> Option<Value> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Some(record);
            }
            let text = match soon(self.socket.recv()).await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(frame))) => {
                    self.end = Some(frame.map(|frame| frame.code));
                    // Only a further read sends the answer to the Close frame.
                    let _ = soon(self.socket.recv()).await;
                    return None;
                }
                None | Some(Err(_)) => return None,
                Some(Ok(_)) => continue,
            };
            let whole = text
                .strip_suffix('\u{1e}')
                .expect("a frame holds whole messages");
            let read = |record| serde_json::from_str(record).unwrap();
            self.records.extend(whole.split('\u{1e}').map(read));
        }
    }

    /// The bytes of the next data frame; `None` when the client has ended the connection.
    pub(crate) async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            match soon(self.socket.recv()).await {
                Some(Ok(Message::Binary(bytes))) => return Some(bytes.to_vec()),
                Some(Ok(Message::Text(text))) => panic!("a Text frame: {text}"),
                None | Some(Ok(Message::Close(_)) | Err(_)) => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Closes the WebSocket in order, without a Close message.
    pub(crate) async fn close_frame(mut self) {
        let _ = self.socket.send(Message::Close(None)).await;
        while let Some(Ok(_)) = self.socket.recv().await {}
    }
}

/// What does not happen within this time does not happen: a guard against hanging, not a measurement.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("it takes too long")
}
