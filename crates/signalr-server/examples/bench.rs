//! The server that comparisons drive: `Echo(text)` on the hub `/hub`, and
//! `GET /broadcast?count=&size=&rate=`, which calls `m` on everybody.
//!
//! Started as `bench --listen 127.0.0.1:5000`, with `--jwt-secret SECRET` for HS256 tokens. Each
//! broadcast is a text of `size` bytes that starts with `@` and the monotonic clock in
//! nanoseconds, 20 digits. A rate of 0 is as fast as the clients read.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Map, Value};
use signalr_server::{
    Caller, Hub, HubError, HubHandle, HubServer, Identity, Methods, Refusal, TokenVerifier,
};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep_until};

/// As the product has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients of a comparison do not ping, and stay for the length of a run.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Connections that wait to be accepted when thousands come at once.
const BACKLOG: u32 = 4096;

struct Bench;

impl Hub for Bench {
    fn methods(methods: Methods<Self>) -> Methods<Self> {
        methods.on("Echo", echo)
    }
}

async fn echo(_: Arc<Bench>, _: Caller<Bench>, text: String) -> Result<String, HubError> {
    Ok(text)
}

#[derive(Deserialize)]
struct Wanted {
    count: u32,
    size: usize,
    rate: f64,
}

async fn broadcast(State(hub): State<HubHandle>, Query(wanted): Query<Wanted>) -> &'static str {
    tokio::spawn(send(hub, wanted));
    "ok"
}

async fn send(hub: HubHandle, wanted: Wanted) {
    // The stamp, its sign and the quotes of a server without a protocol are 24 bytes.
    let fill = "x".repeat(wanted.size.saturating_sub(24));
    let all = hub.all();
    let start = Instant::now();
    for index in 0..wanted.count {
        if wanted.rate > 0.0 {
            sleep_until(start + Duration::from_secs_f64(f64::from(index) / wanted.rate)).await;
        } else if !all.caught_up(CLIENT_TIMEOUT).await {
            return;
        }
        all.push("m", &format!("@{:020}{fill}", monotonic_ns()));
    }
}

fn monotonic_ns() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

struct SharedSecret(DecodingKey);

impl TokenVerifier for SharedSecret {
    fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_aud = false;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &self.0, &validation);
        let claims = decoded
            .map_err(|error| Refusal::unauthenticated(format!("The token is not good: {error}.")))?
            .claims;
        match claims.get("sub").and_then(Value::as_str) {
            Some(user) => Ok(Identity::user(user)),
            None => Ok(Identity::anonymous()),
        }
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut server = HubServer::new(Bench).with(|options| options.client_timeout = CLIENT_TIMEOUT);
    if let Some(secret) = option("--jwt-secret") {
        server = server.auth(SharedSecret(DecodingKey::from_secret(secret.as_bytes())));
    }
    let control = axum::Router::new()
        .route("/broadcast", get(broadcast))
        .with_state(server.handle());
    let address = option("--listen").unwrap_or_else(|| "127.0.0.1:5000".to_owned());
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.parse().map_err(std::io::Error::other)?)?;
    axum::serve(
        socket.listen(BACKLOG)?,
        server.router("/hub").merge(control),
    )
    .await
}

/// The value behind an option of the command line.
fn option(name: &str) -> Option<String> {
    std::env::args()
        .skip_while(|argument| argument != name)
        .nth(1)
}
