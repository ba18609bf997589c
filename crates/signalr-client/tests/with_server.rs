//! The client and `signalr-server` together, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use signalr_client::{
    CallError, Client, Closed, Connection, Encoding, Error, Options, ReconnectPolicy, State,
};
use signalr_server::{
    Caller, Hub, HubError, HubHandle, HubServer, Identity, Methods, Refusal, TokenVerifier,
};
use support::soon;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

struct Calculator;

impl Hub for Calculator {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods.on("add", add).on("refuse", refuse)
    }
}

async fn add(
    _: Arc<Calculator>,
    _: Caller<Calculator>,
    (a, b): (i32, i32),
) -> Result<i32, HubError> {
    Ok(a + b)
}

async fn refuse(_: Arc<Calculator>, _: Caller<Calculator>, (): ()) -> Result<(), HubError> {
    Err(HubError::new("not today"))
}

struct OnlyGood;

impl TokenVerifier for OnlyGood {
    fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        match token {
            "good" => Ok(Identity::user("ada")),
            _ => Err(Refusal::Unauthenticated {
                detail: "the token is not good".into(),
            }),
        }
    }
}

async fn serve() -> (SocketAddr, HubHandle) {
    let server = HubServer::new(Calculator).auth(OnlyGood);
    let handle = server.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router: axum::Router = server.router("/hub");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, handle)
}

fn options(address: SocketAddr, token: &'static str) -> Options {
    let options = Options::new(&format!("http://{address}/hub")).unwrap();
    options.token(move || async move { Ok::<_, String>(token.to_owned()) })
}

#[tokio::test]
async fn calls_go_both_ways_in_either_encoding() {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        calls_go_both_ways(encoding).await;
    }
}

async fn calls_go_both_ways(encoding: Encoding) {
    let (address, handle) = serve().await;
    let options = options(address, "good").with(|options| options.encoding = encoding);
    let (sender, mut seen) = mpsc::unbounded_channel();
    let client = Client::builder(options)
        .on("news", move |text: String| {
            let sender = sender.clone();
            async move { sender.send(text).unwrap() }
        })
        .answer("double", |n: i64| async move { Ok::<_, String>(n * 2) })
        .start()
        .unwrap();
    let connection = soon(client.connected()).await.unwrap();
    assert_eq!(soon(client.invoke::<i32>("add", (1, 2))).await, Ok(3));
    let refused = soon(client.invoke::<()>("refuse", ())).await.unwrap_err();
    assert!(
        matches!(&refused, CallError::Failed(text) if text.contains("not today")),
        "{refused}"
    );
    let unknown = soon(client.invoke::<()>("nothing", ())).await.unwrap_err();
    assert!(
        matches!(&unknown, CallError::Failed(text) if text.contains("nothing")),
        "{unknown}"
    );

    let peer = handle.connection(connection.id().unwrap()).unwrap();
    for n in 0..1000 {
        peer.push("news", &n.to_string()).unwrap();
    }
    for n in 0..1000 {
        assert_eq!(soon(seen.recv()).await, Some(n.to_string()));
    }
    let doubled: i64 = soon(peer.ask("double", &21, Duration::from_secs(20)))
        .await
        .unwrap();
    assert_eq!(doubled, 42);
    soon(client.stop()).await;
    assert!(!peer.is_open());
}

#[tokio::test]
async fn a_bad_token_is_unauthorised_with_the_servers_reason() {
    let (address, _handle) = serve().await;
    for skip_negotiation in [false, true] {
        let options =
            options(address, "bad").with(|options| options.skip_negotiation = skip_negotiation);
        let error = soon(Connection::connect(options))
            .await
            .map(|_| ())
            .unwrap_err();
        assert!(
            matches!(error, Error::Unauthorised { status: 401, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("not good"), "{error}");
    }
}

#[tokio::test]
async fn a_client_sent_back_by_a_disconnect_returns_and_one_sent_away_does_not() {
    let (address, handle) = serve().await;
    let mut policy = ReconnectPolicy::default();
    policy.ceiling_first = Duration::from_millis(1);
    let client = Client::builder(options(address, "good"))
        .reconnect(policy)
        .start()
        .unwrap();
    let first = soon(client.connected()).await.unwrap();
    assert!(handle.disconnect(first.id().unwrap(), None, true));
    assert_eq!(
        soon(first.ended()).await,
        Closed::ByServer {
            error: None,
            allow_reconnect: true
        }
    );
    let returned =
        |state: &State| matches!(state, State::Connected { id } if id.as_deref() != first.id());
    soon(client.state().wait_for(returned)).await.unwrap();
    let second = soon(client.connected()).await.unwrap();
    assert!(handle.disconnect(second.id().unwrap(), Some("revoked"), false));
    let closed = |state: &State| matches!(state, State::Closed { .. });
    soon(client.state().wait_for(closed)).await.unwrap();
    assert!(client.connected().await.is_err());
}
