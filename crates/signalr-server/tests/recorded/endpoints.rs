//! The endpoints of the server that was recorded, each a hub of its own.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::Router;
use signalr_server::{HubHandle, HubServer, Identity, Options, Refusal, TokenVerifier, Transport};

use super::hub::{OnConnect, Recorded};

/// A server of its own for each exchange: what one leaves behind no other sees.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    handles: Vec<HubHandle>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    /// What a process does that is told to stop.
    pub(crate) fn shut_down(&self) {
        for handle in self.handles.clone() {
            tokio::spawn(async move { handle.drain(Duration::ZERO).await });
        }
    }
}

pub(crate) async fn serve() -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (handles, app) = app();
    let serving = tokio::spawn(async move {
        axum::serve(listener, app).await.unwrap();
    });
    Server {
        address,
        handles,
        serving,
    }
}

/// Its path, what happens when somebody connects, and its options.
type Endpoint = (&'static str, OnConnect, fn(&mut Options));

fn app() -> (Vec<HubHandle>, Router) {
    let endpoints: [Endpoint; 20] = [
        ("/hub", OnConnect::Nothing, |_| {}),
        ("/detailed", OnConnect::Nothing, detailed),
        ("/par", OnConnect::Nothing, |options| {
            options.parallel_invocations = 5
        }),
        ("/small", OnConnect::Nothing, small),
        ("/smalldetailed", OnConnect::Nothing, |options| {
            small(options);
            detailed(options);
        }),
        ("/nolimit", OnConnect::Nothing, |options| {
            options.receive_bytes_max = 64 << 20;
        }),
        ("/fast", OnConnect::Nothing, |options| {
            options.keep_alive_interval = Duration::from_secs(1);
            options.client_timeout = Duration::from_secs(2);
            options.handshake_timeout = Duration::from_secs(1);
        }),
        ("/stateful", OnConnect::Nothing, stateful),
        ("/statedet", OnConnect::Nothing, |options| {
            stateful(options);
            detailed(options);
        }),
        ("/faststate", OnConnect::Nothing, |options| {
            stateful(options);
            options.keep_alive_interval = Duration::from_secs(1);
            options.client_timeout = Duration::from_secs(3);
        }),
        // There is no choice of protocols.
        ("/jsononly", OnConnect::Nothing, |_| {}),
        ("/lpshort", OnConnect::Nothing, |options| {
            options.poll_timeout = Duration::from_secs(2)
        }),
        ("/minv1", OnConnect::Nothing, |options| {
            options.negotiate_version_min = 1
        }),
        ("/throwconn", OnConnect::Fail, |_| {}),
        ("/throwconnhub", OnConnect::FailAloud, |_| {}),
        ("/throwconndet", OnConnect::Fail, detailed),
        ("/throwdisc", OnConnect::Nothing, |_| {}),
        ("/abortconn", OnConnect::Close, |_| {}),
        ("/sendconn", OnConnect::Push, |_| {}),
        ("/wsonly", OnConnect::Nothing, |options| {
            options.transports = vec![Transport::WebSockets]
        }),
    ];
    let hubs = endpoints
        .into_iter()
        .map(|(path, on_connect, change)| (path, hub(on_connect, change)));
    let named = [
        ("/auth", hub(OnConnect::Nothing, |_| {}).auth(NamedTokens)),
        (
            "/authstate",
            hub(OnConnect::Nothing, stateful).auth_optional(NamedTokens),
        ),
    ];
    let hubs = hubs.chain(named);
    let (handles, routers): (Vec<_>, Vec<_>) = hubs
        .map(|(path, hub)| (hub.handle(), hub.router(path)))
        .unzip();
    (
        handles,
        routers.into_iter().fold(Router::new(), Router::merge),
    )
}

fn hub(on_connect: OnConnect, change: fn(&mut Options)) -> HubServer<Recorded> {
    HubServer::new(Recorded::new(on_connect)).with(|options| {
        options.allowed_origins = vec!["http://allowed.example".to_owned()];
        change(options);
    })
}

fn detailed(options: &mut Options) {
    options.detailed_errors = true;
}

fn small(options: &mut Options) {
    options.receive_bytes_max = 100;
}

fn stateful(options: &mut Options) {
    options.stateful_reconnect = true;
}

/// `NAME.SECONDS` is user NAME for so long; `bad` is refused.
struct NamedTokens;

impl TokenVerifier for NamedTokens {
    fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        let seconds = token
            .split_once('.')
            .and_then(|(name, seconds)| Some((name, seconds.parse().ok()?)));
        let (name, seconds) =
            seconds.ok_or_else(|| Refusal::unauthenticated("The token is not good."))?;
        Ok(Identity::user(name).expiring_at(SystemTime::now() + Duration::from_secs(seconds)))
    }
}
