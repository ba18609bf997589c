//! A hub that does what the test tells it.

use super::{eventually, serve};
use serde_json::{Value, json};
use signalr_server::{
    Caller, ConnectionHandle, Disconnect, Hub as SignalrHub, HubError, HubServer, Identity,
    Methods, Refusal, TokenVerifier,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

#[derive(Clone)]
pub(crate) struct Hub {
    state: Arc<State>,
    url: String,
}

struct State {
    welcome: Mutex<Value>,
    readies: Mutex<Vec<(Value, ConnectionHandle)>>,
    tokens: Mutex<Vec<String>>,
    /// Connections now, and the most there ever were at a time.
    open: Mutex<(usize, usize)>,
}

impl State {
    fn new() -> Arc<Self> {
        let welcome = json!({"epoch": "7", "oldest_replayable": 1, "window": 64, "waiting": 0});
        Arc::new(Self {
            welcome: Mutex::new(welcome),
            readies: Mutex::default(),
            tokens: Mutex::default(),
            open: Mutex::default(),
        })
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let state = State::new();
        Self {
            url: serve(router(&state)).await,
            state,
        }
    }

    /// Starts at this address.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let state = State::new();
        let listener = TcpListener::bind(address).await.unwrap();
        let router = router(&state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            url: format!("http://{address}"),
            state,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/hub", self.url)
    }

    /// What `ready` is answered from now on.
    pub(crate) fn welcomes_with(&self, welcome: Value) {
        *self.state.welcome.lock().unwrap() = welcome;
    }

    /// What the agent said at its `ready` number `count`, once it has said that.
    pub(crate) async fn ready(&self, count: usize) -> Value {
        eventually("the agent is ready", || {
            self.state
                .readies
                .lock()
                .unwrap()
                .get(count - 1)
                .map(|ready| ready.0.clone())
        })
        .await
    }

    /// The connection that was ready last.
    fn connection(&self) -> ConnectionHandle {
        self.state.readies.lock().unwrap().last().unwrap().1.clone()
    }

    /// Pushes over the connection that was ready last.
    pub(crate) fn push(&self, envelope: &str) {
        self.connection()
            .push_raw("document.insert", envelope)
            .unwrap();
    }

    pub(crate) fn close(&self, allow_reconnect: bool) {
        self.connection().close(None, allow_reconnect);
    }

    /// Waits until no agent is connected.
    pub(crate) async fn left(&self) {
        eventually("the agent has left", || {
            (self.state.open.lock().unwrap().0 == 0).then_some(())
        })
        .await;
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        self.state.tokens.lock().unwrap().clone()
    }

    pub(crate) fn most_connections_at_a_time(&self) -> usize {
        self.state.open.lock().unwrap().1
    }
}

fn router(state: &Arc<State>) -> axum::Router {
    let verifier = Tokens(Arc::clone(state));
    HubServer::new(Script(Arc::clone(state)))
        .auth(verifier)
        .router("/hub")
}

struct Tokens(Arc<State>);

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        let mut tokens = self.0.tokens.lock().unwrap();
        if tokens.last().is_none_or(|last| last != token) {
            tokens.push(token.to_owned());
        }
        match token.starts_with("bad") {
            true => Err(Refusal::unauthenticated("The token is bad.")),
            false => Ok(Identity::user("lyon")),
        }
    }
}

struct Script(Arc<State>);

impl SignalrHub for Script {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods.on("ready", ready)
    }

    async fn on_connected(&self, _: &Caller<Self>) -> Result<(), HubError> {
        let mut open = self.0.open.lock().unwrap();
        open.0 += 1;
        open.1 = open.1.max(open.0);
        Ok(())
    }

    async fn on_disconnected(&self, _: &Caller<Self>, _: Disconnect) {
        self.0.open.lock().unwrap().0 -= 1;
    }
}

async fn ready(
    hub: Arc<Script>,
    caller: Caller<Script>,
    (says,): (Value,),
) -> Result<Value, HubError> {
    hub.0
        .readies
        .lock()
        .unwrap()
        .push((says, caller.connection().clone()));
    Ok(hub.0.welcome.lock().unwrap().clone())
}
