//! An ack API that does what the test tells it, and a token service.

use super::{eventually, serve};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub(crate) struct Acks {
    script: Arc<Script>,
    url: String,
}

#[derive(Default)]
struct Script {
    taken: Mutex<Vec<Value>>,
    requests: Mutex<usize>,
    fails_with: Mutex<Option<u16>>,
    page: Mutex<Option<&'static str>>,
    cannot_read: Mutex<Option<String>>,
    wants_token: Mutex<Option<String>>,
}

impl Acks {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Script::default());
        let router = Router::new().route("/acks/v1/acks", post(take));
        Self {
            url: serve(router.with_state(Arc::clone(&script))).await,
            script,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/acks/v1/acks", self.url)
    }

    /// Answers with this status until told otherwise.
    pub(crate) fn fails_with(&self, status: Option<u16>) {
        *self.script.fails_with.lock().unwrap() = status;
    }

    /// Answers 200 with this page, as a proxy would, until told otherwise.
    pub(crate) fn hides_behind(&self, page: Option<&'static str>) {
        *self.script.page.lock().unwrap() = page;
    }

    /// Answers 400 to whatever names this message.
    pub(crate) fn cannot_read(&self, message: Option<&str>) {
        *self.script.cannot_read.lock().unwrap() = message.map(str::to_owned);
    }

    /// Takes this token only.
    pub(crate) fn wants_token(&self, token: &str) {
        *self.script.wants_token.lock().unwrap() = Some(token.to_owned());
    }

    pub(crate) fn requests(&self) -> usize {
        *self.script.requests.lock().unwrap()
    }

    /// Everything taken so far.
    pub(crate) fn taken(&self) -> Vec<Value> {
        self.script.taken.lock().unwrap().clone()
    }

    /// What was taken about `message`, as stages in the order of arrival.
    pub(crate) fn stages(&self, message: &str) -> Vec<String> {
        let taken = self.taken();
        let its = taken.iter().filter(|ack| ack["message_id"] == message);
        its.map(|ack| ack["stage"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The acknowledgement of `message` with this stage, once it is there.
    pub(crate) async fn of(&self, message: &str, stage: &str) -> Value {
        eventually(&format!("{message} is {stage}"), || {
            let taken = self.taken();
            taken
                .into_iter()
                .find(|ack| ack["message_id"] == message && ack["stage"] == stage)
        })
        .await
    }
}

async fn take(
    State(script): State<Arc<Script>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    *script.requests.lock().unwrap() += 1;
    if let Some(status) = *script.fails_with.lock().unwrap() {
        return (
            StatusCode::from_u16(status).unwrap(),
            "told to fail".to_owned(),
        );
    }
    if let Some(page) = *script.page.lock().unwrap() {
        return (StatusCode::OK, page.to_owned());
    }
    if let Some(token) = script.wants_token.lock().unwrap().as_ref()
        && headers["authorization"] != format!("Bearer {token}")
    {
        return (StatusCode::UNAUTHORIZED, "another token, please".to_owned());
    }
    if script
        .cannot_read
        .lock()
        .unwrap()
        .as_ref()
        .is_some_and(|message| body.contains(message))
    {
        return (StatusCode::BAD_REQUEST, "cannot be read".to_owned());
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    let acks = body["acks"].as_array().unwrap().clone();
    assert!((1..=500).contains(&acks.len()));
    let results: Vec<Value> = acks
        .iter()
        .map(|ack| json!({"message_id": ack["message_id"], "result": "recorded"}))
        .collect();
    script.taken.lock().unwrap().extend(acks);
    (StatusCode::OK, json!({"results": results}).to_string())
}

/// A token service that gives `token-1`, `token-2` and so on, each for so many seconds.
#[derive(Clone)]
pub(crate) struct Tokens {
    given: Arc<Mutex<(u64, u64)>>,
    url: String,
}

impl Tokens {
    pub(crate) async fn start(lifetime_s: u64) -> Self {
        let given = Arc::new(Mutex::new((0, lifetime_s)));
        let router = Router::new().route("/oauth2/token", post(give));
        Self {
            url: serve(router.with_state(Arc::clone(&given))).await,
            given,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/oauth2/token", self.url)
    }

    pub(crate) fn given(&self) -> u64 {
        self.given.lock().unwrap().0
    }
}

async fn give(State(given): State<Arc<Mutex<(u64, u64)>>>, form: String) -> String {
    assert!(form.contains("grant_type=client_credentials") && form.contains("client_id=lyon"));
    let mut given = given.lock().unwrap();
    given.0 += 1;
    json!({"access_token": format!("token-{}", given.0), "token_type": "Bearer", "expires_in": given.1})
        .to_string()
}
