//! A hub on a real port and a client that speaks the wire by hand.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use signalr_server::{
    Caller, Disconnect, Hub, HubError, HubHandle, HubServer, Identity, Methods, Refusal,
    TokenVerifier,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Semaphore, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{self, Message};

/// Longer than anything here takes: a test that waits so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What happened to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happened {
    Connected(String),
    Disconnected(String, Disconnect),
    Noted(String),
    /// With the claims that its newest token has.
    Refreshed(String, String),
}

/// A hub that reports what happens to it.
pub(crate) struct TestHub {
    happened: UnboundedSender<Happened>,
    /// What `wait` waits for.
    pub(crate) gate: Semaphore,
    /// What `on_connected` fails with.
    pub(crate) refusal: Mutex<Option<HubError>>,
    /// Whether the connected event may end.
    pub(crate) doors: watch::Sender<bool>,
}

impl Hub for TestHub {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods
            .on(
                "Echo",
                async |_: Arc<Self>, _: Caller<Self>, value: Value| Ok(value),
            )
            .on(
                "Add",
                async |_: Arc<Self>, _: Caller<Self>, (a, b): (i32, i32)| Ok(a + b),
            )
            .on("Nothing", async |_: Arc<Self>, _: Caller<Self>, ()| Ok(()))
            .on(
                "Fail",
                async |_: Arc<Self>, _: Caller<Self>, text: String| {
                    Err::<(), _>(HubError::new(text))
                },
            )
            .on(
                "Break",
                async |_: Arc<Self>, _: Caller<Self>, text: String| {
                    Err::<(), _>(HubError::internal(text))
                },
            )
            .on(
                "Panic",
                async |_: Arc<Self>, _: Caller<Self>, text: String| {
                    if !text.is_empty() {
                        panic!("{text}");
                    }
                    Ok(())
                },
            )
            .on(
                "Note",
                async |hub: Arc<Self>, _: Caller<Self>, text: String| {
                    let _ = hub.happened.send(Happened::Noted(text));
                    Ok(())
                },
            )
            .on("Wait", async |hub: Arc<Self>, _: Caller<Self>, ()| {
                hub.gate.acquire().await?.forget();
                Ok(())
            })
            .on(
                "Query",
                async |_: Arc<Self>, from: Caller<Self>, name: String| {
                    Ok(from.query(&name).map(str::to_owned))
                },
            )
            .on(
                "Header",
                async |_: Arc<Self>, from: Caller<Self>, name: String| {
                    Ok(from.header(&name).map(str::to_owned))
                },
            )
            .on("Transport", async |_: Arc<Self>, from: Caller<Self>, ()| {
                Ok(from.transport().name())
            })
            .on("User", async |_: Arc<Self>, from: Caller<Self>, ()| {
                Ok(from.identity().user_id().map(str::to_owned))
            })
            .on("Leave", async |_: Arc<Self>, from: Caller<Self>, ()| {
                from.close(None, false);
                Ok(())
            })
            .on(
                "Number",
                async |_: Arc<Self>, _: Caller<Self>, text: String| {
                    Ok(vec![None, Some(text.parse::<f64>()?)])
                },
            )
            .on(
                "AskMe",
                async |_: Arc<Self>, from: Caller<Self>, question: Value| {
                    let answer = from.ask::<_, Value>("ask", &question, PATIENCE).await;
                    answer.map_err(|error| HubError::new(error.to_string()))
                },
            )
    }

    async fn on_auth_refreshed(&self, caller: &Caller<Self>) {
        let identity = caller.identity();
        let claims = identity.claims::<String>().cloned().unwrap_or_default();
        assert_ne!(claims, "panic", "the test asks for it");
        let refreshed = Happened::Refreshed(caller.id().to_owned(), claims);
        let _ = self.happened.send(refreshed);
    }

    async fn on_connected(&self, caller: &Caller<Self>) -> Result<(), HubError> {
        let mut doors = self.doors.subscribe();
        let _ = doors.wait_for(|is_open| *is_open).await;
        let _ = self
            .happened
            .send(Happened::Connected(caller.id().to_owned()));
        match self.refusal.lock().unwrap().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn on_disconnected(&self, caller: &Caller<Self>, why: Disconnect) {
        let _ = self
            .happened
            .send(Happened::Disconnected(caller.id().to_owned(), why));
    }
}

/// Takes `user` or `user/seconds` for a token, and refuses `bad` and `elsewhere`.
pub(crate) struct PlainTokens;

impl TokenVerifier for PlainTokens {
    fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        match token {
            "" | "bad" => return Err(Refusal::unauthenticated("The token is not good.")),
            "elsewhere" => return Err(Refusal::forbidden("The token is for another hub.")),
            _ => {}
        }
        let (user, seconds) = token.split_once('/').unwrap_or((token, ""));
        let (user, claims) = user.split_once('+').unwrap_or((user, ""));
        let identity = Identity::user(user).with_claims(claims.to_owned());
        Ok(match seconds.parse() {
            Ok(seconds) => identity
                .expiring_at(std::time::SystemTime::now() + Duration::from_secs_f64(seconds)),
            Err(_) => identity,
        })
    }
}

/// A hub that listens.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The same hub, to be asked without a socket.
    pub(crate) app: axum::Router,
    pub(crate) handle: HubHandle,
    pub(crate) hub: Arc<TestHub>,
    happened: UnboundedReceiver<Happened>,
}

impl Server {
    /// Serves a hub at `/hub`.
    pub(crate) async fn start() -> Self {
        Self::start_with(|server| server).await
    }

    pub(crate) async fn start_with(
        change: impl FnOnce(HubServer<TestHub>) -> HubServer<TestHub>,
    ) -> Self {
        let (sender, happened) = mpsc::unbounded_channel();
        let hub = Arc::new(TestHub {
            happened: sender,
            gate: Semaphore::new(0),
            refusal: Mutex::new(None),
            doors: watch::Sender::new(true),
        });
        let server = change(HubServer::new(Arc::clone(&hub)));
        let handle = server.handle();
        let app: axum::Router = server.router("/hub");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = app.clone();
        tokio::spawn(async move { axum::serve(listener, served).await });
        Self {
            address,
            app,
            handle,
            hub,
            happened,
        }
    }

    pub(crate) async fn happened(&mut self) -> Happened {
        patiently(self.happened.recv()).await.unwrap()
    }

    /// The reason for which the next connection ends.
    pub(crate) async fn disconnected(&mut self) -> Disconnect {
        loop {
            if let Happened::Disconnected(_, why) = self.happened().await {
                return why;
            }
        }
    }

    pub(crate) fn request(&self, path_and_query: &str) -> Request {
        format!("ws://{}{path_and_query}", self.address)
            .into_client_request()
            .unwrap()
    }
}

/// Serves any hub at `/hub`.
pub(crate) async fn serve<H: Hub>(server: HubServer<H>) -> SocketAddr {
    let app: axum::Router = server.router("/hub");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A client without manners of its own.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    records: VecDeque<Value>,
    /// Sizes of the WebSocket messages received.
    pub(crate) frames: Vec<usize>,
}

/// What the server says at the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A Close frame with this code.
    Closed(Option<u16>),
    /// The connection just ended.
    Dropped,
}

impl Client {
    /// Connects without negotiation and shakes hands.
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::connect_to(server, "/hub").await
    }

    pub(crate) async fn connect_to(server: &Server, path_and_query: &str) -> Self {
        let mut client = Self::open(server, path_and_query).await;
        client.send(r#"{"protocol":"json","version":1}"#).await;
        assert_eq!(client.next().await, json!({}));
        client
    }

    /// Connects without shaking hands.
    pub(crate) async fn open(server: &Server, path_and_query: &str) -> Self {
        Self::try_open(server, server.request(path_and_query))
            .await
            .unwrap()
    }

    /// Connects to the hub at `address` and shakes hands.
    pub(crate) async fn connect_at(address: SocketAddr) -> Self {
        let mut client = Self::open_at(address).await;
        client.send(r#"{"protocol":"json","version":1}"#).await;
        assert_eq!(client.next().await, json!({}));
        client
    }

    pub(crate) async fn open_at(address: SocketAddr) -> Self {
        let request = format!("ws://{address}/hub").into_client_request().unwrap();
        Self::try_open_at(address, request).await.unwrap()
    }

    /// The next WebSocket message, whatever it is.
    pub(crate) async fn frame(&mut self) -> Message {
        patiently(self.socket.next()).await.unwrap().unwrap()
    }

    pub(crate) async fn try_open(
        server: &Server,
        request: Request,
    ) -> Result<Self, tungstenite::Error> {
        Self::try_open_at(server.address, request).await
    }

    async fn try_open_at(
        address: SocketAddr,
        request: Request,
    ) -> Result<Self, tungstenite::Error> {
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = patiently(tokio_tungstenite::client_async(request, stream)).await?;
        Ok(Self {
            socket,
            records: VecDeque::new(),
            frames: Vec::new(),
        })
    }

    /// The status with which the server refuses to upgrade.
    pub(crate) async fn refused(server: &Server, request: Request) -> (u16, String) {
        match Self::try_open(server, request).await.err() {
            Some(tungstenite::Error::Http(response)) => {
                let status = response.status().as_u16();
                let body = response.into_body().unwrap_or_default();
                (status, String::from_utf8(body).unwrap())
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Sends one record in one frame.
    pub(crate) async fn send(&mut self, text: &str) {
        self.send_frame(&format!("{text}\u{1e}")).await;
    }

    pub(crate) async fn send_frame(&mut self, text: &str) {
        patiently(self.socket.send(Message::text(text)))
            .await
            .unwrap();
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        patiently(self.socket.send(message)).await.unwrap();
    }

    pub(crate) async fn call(&mut self, id: &str, target: &str, arguments: Value) {
        let call = json!({"arguments": arguments, "target": target, "invocationId": id, "type": 1});
        self.send(&call.to_string()).await;
    }

    /// The next record that is no ping.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let record = self.next_or_ping().await;
            if record["type"] != 6 {
                return record;
            }
        }
    }

    pub(crate) async fn next_or_ping(&mut self) -> Value {
        loop {
            if let Some(record) = self.records.pop_front() {
                return record;
            }
            match patiently(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => self.keep(&text),
                other => panic!("the connection ended: {other:?}"),
            }
        }
    }

    /// Waits for the answer to `id`, passing over everything else.
    pub(crate) async fn answer(&mut self, id: &str) -> Value {
        loop {
            let record = self.next().await;
            if record["type"] == 3 && record["invocationId"] == id {
                return record;
            }
        }
    }

    /// Reads until the connection ends; gives the records read and how it ended.
    pub(crate) async fn end(&mut self) -> (Vec<Value>, End) {
        loop {
            let end = match patiently(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    self.keep(&text);
                    continue;
                }
                Some(Ok(Message::Close(frame))) => {
                    // Reading on sends the answer that the server waits for.
                    let _ = patiently(self.socket.next()).await;
                    End::Closed(frame.map(|f| f.code.into()))
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => End::Dropped,
            };
            let records = self
                .records
                .drain(..)
                .filter(|record| record["type"] != 6)
                .collect();
            return (records, end);
        }
    }

    /// Every WebSocket message holds whole records, or official clients give up.
    fn keep(&mut self, text: &str) {
        self.frames.push(text.len());
        let records = text.strip_suffix('\u{1e}').expect("whole records");
        for record in records.split('\u{1e}') {
            self.records
                .push_back(serde_json::from_str(record).unwrap());
        }
    }

    pub(crate) async fn close(&mut self) {
        patiently(self.socket.close(None)).await.unwrap();
    }
}

pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing happened for too long")
}
