//! The routes.

use crate::codes;
use crate::history;
use crate::message::{self, rank, state};
use crate::problem::Problem;
use crate::request::{self, Sender, parse_duration};
use crate::wait::Watchers;
use crate::{batch, submit};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use countersign_access::{Access, Denied, Scope, Verifier, bearer};
use countersign_driver::{Clock, Handle, Health};
use countersign_rules::delivery::{
    Centre, Input, Record, Reply, View, decode_accepted, decode_record,
};
use countersign_rules::{AgentName, MessageId, TenantName, limits};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest wait of one request: shorter than the patience of proxies.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How the API works.
#[derive(Clone)]
pub struct Options {
    /// Largest body of one message in bytes. Default: [`limits::BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// Whether the process is leaving: sends are then refused.
    pub is_draining: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: limits::BODY_BYTES_MAX,
            is_draining: Arc::new(|| false),
            clock: Clock::system(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("body_bytes_max", &self.body_bytes_max)
            .finish_non_exhaustive()
    }
}

/// The send API in front of an engine.
#[derive(Clone, Debug)]
pub struct Api {
    centre: Handle<Centre>,
    verifier: Arc<Verifier>,
    watchers: Arc<Watchers>,
    options: Arc<Options>,
}

const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

/// Room for the fields around a body, and for escapes in a text.
const FIELDS_BYTES: usize = 16 * 1024;

impl Api {
    /// An API over the engine behind `centre`, told of changes through `watchers`.
    pub fn new(
        options: Options,
        centre: Handle<Centre>,
        verifier: Arc<Verifier>,
        watchers: Arc<Watchers>,
    ) -> Self {
        Self {
            centre,
            verifier,
            watchers,
            options: Arc::new(options),
        }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        let one = self.options.body_bytes_max + FIELDS_BYTES;
        let many = (64 << 20).max(one);
        Router::new()
            .route("/v1/messages", post(send).layer(DefaultBodyLimit::max(one)))
            .route(
                "/v1/messages/batch",
                post(send_batch).layer(DefaultBodyLimit::max(many)),
            )
            .route("/v1/messages/{id}", get(look))
            .route("/v1/messages/{id}/timeline", get(timeline))
            .route("/v1/messages/{id}/data", get(data))
            .route("/v1/agents/{agent}", put(register))
            .route("/v1/counters", get(counters))
            .route(
                "/healthz",
                get(|| async { ([JSON], r#"{"status":"alive"}"#) }),
            )
            .route("/readyz", get(ready))
            .fallback(|| async { Problem::new(codes::UNKNOWN_ROUTE, "nothing is served here") })
            .with_state(self)
    }

    fn access(
        &self,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<(Arc<Access>, TenantName), Problem> {
        let header = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let now_unix_s = self.options.clock.now().0.div_euclid(1_000_000);
        let access = self.verifier.verify(bearer(header)?, now_unix_s)?;
        access.require(scope)?;
        let tenant = TenantName::parse(&access.tenant).map_err(|_| {
            // A token that we signed or trust names its tenant well; any other is of no use here.
            Problem::from(Denied::Malformed {
                what: "its tenant is no name".to_owned(),
            })
        })?;
        Ok((access, tenant))
    }

    fn accepting(&self) -> Result<(), Problem> {
        if (self.options.is_draining)() {
            return Err(Problem::new(
                codes::DRAINING,
                "no new messages are accepted",
            ));
        }
        Ok(())
    }

    async fn view(&self, tenant: &TenantName, id: MessageId) -> Result<View, Problem> {
        match self
            .centre
            .ask(Input::Look {
                tenant: tenant.clone(),
                id,
            })
            .await?
        {
            Reply::Message(Some(view)) => Ok(view),
            _ => Err(Problem::new(
                codes::UNKNOWN_MESSAGE,
                format!("message {id} is not known"),
            )),
        }
    }

    async fn history(&self, view: &View) -> Result<history::History, Problem> {
        let (centre, last) = (self.centre.clone(), view.last);
        let read = tokio::task::spawn_blocking(move || history::read(&centre, last)).await;
        read.map_err(|_| Problem::new(codes::STOPPED, "the process is ending"))
    }

    /// Looks until the message has reached `aim` or the time is over.
    async fn wait_for(
        &self,
        tenant: &TenantName,
        id: MessageId,
        aim: u8,
        until: Instant,
    ) -> Result<View, Problem> {
        let watch = self.watchers.watch(id);
        loop {
            // Listening before looking: a change between the two is not missed.
            let mut changed = pin!(watch.changed());
            changed.as_mut().enable();
            let view = self.view(tenant, id).await?;
            if rank(state(view.place)).is_some_and(|reached| reached >= aim) {
                return Ok(view);
            }
            if timeout_at(until, changed).await.is_err() {
                return Ok(view);
            }
        }
    }
}

async fn send(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (access, tenant) = api.access(&headers, Scope::Send)?;
    api.accepting()?;
    expect_json(&headers)?;
    let body = body.map_err(|error| unreadable(&error, api.options.body_bytes_max))?;
    let text =
        std::str::from_utf8(&body).map_err(|error| Problem::new(codes::BODY, error.to_string()))?;
    let sender = Sender::new(&tenant, &access.subject, &headers)?;
    let id = MessageId(*uuid::Uuid::now_v7().as_bytes());
    let submission = request::read(text, &body, &sender, id, api.options.clock.now())?;
    let agent = submission.to.clone();
    let receipt = submit::submit(&api.centre, submission).await?;
    Ok(submit::response(&receipt, agent.as_str()))
}

async fn send_batch(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (access, tenant) = api.access(&headers, Scope::Send)?;
    api.accepting()?;
    expect_json(&headers)?;
    let body = body.map_err(|error| unreadable(&error, 64 << 20))?;
    let sender = Sender::new(&tenant, &access.subject, &headers)?;
    let results = batch::submit_all(&api.centre, &body, &sender, api.options.clock.now()).await?;
    Ok(([JSON], results).into_response())
}

#[derive(Debug, Deserialize)]
struct Wait {
    wait: Option<String>,
    timeout: Option<String>,
}

async fn look(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let id = message_id(&id)?;
    let view = match &wait.wait {
        None => api.view(&tenant, id).await?,
        Some(aim) => {
            let aim = rank(aim).ok_or_else(|| {
                let states = "accepted, waiting, pushed, stored or acknowledged";
                Problem::new(
                    codes::FIELD,
                    format!("wait={aim} names no state; use {states}"),
                )
            })?;
            let timeout = wait.timeout.as_deref().unwrap_or("30s");
            let timeout = parse_duration(timeout).ok_or_else(|| {
                Problem::new(
                    codes::FIELD,
                    format!("timeout={timeout} is no duration; write 30s"),
                )
            })?;
            api.wait_for(&tenant, id, aim, Instant::now() + timeout.min(WAIT_MAX))
                .await?
        }
    };
    let history = api.history(&view).await?;
    Ok(json_response(&message::describe(&view, &history)))
}

async fn timeline(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let view = api.view(&tenant, message_id(&id)?).await?;
    let history = api.history(&view).await?;
    Ok(json_response(&message::timeline(&view, &history)))
}

/// The document as it was sent.
async fn data(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let view = api.view(&tenant, message_id(&id)?).await?;
    let history = api.history(&view).await?;
    let is_body = |bytes: &Bytes| {
        matches!(
            decode_record(bytes),
            Ok(Record::Accepted(_) | Record::Carried { .. })
        )
    };
    let accepted = history
        .records
        .iter()
        .map(|(_, bytes)| bytes)
        .find(|bytes| is_body(bytes));
    let Some(Ok(accepted)) = accepted.map(|bytes| decode_accepted(bytes)) else {
        let detail = history
            .incomplete
            .unwrap_or_else(|| "its body cannot be read".to_owned());
        return Err(Problem::new(codes::UNKNOWN_MESSAGE, detail));
    };
    let (content_type, body) = match accepted.content_type {
        "" => ("application/json".to_owned(), accepted.data.to_vec()),
        other => {
            let text: String = serde_json::from_slice(accepted.data)
                .map_err(|error| Problem::new(codes::BODY, error.to_string()))?;
            (other.to_owned(), text.into_bytes())
        }
    };
    // A document is somebody else's: a browser must not take it for a page of ours.
    let guards = [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
    ];
    Ok(([(header::CONTENT_TYPE, content_type)], guards, body).into_response())
}

async fn register(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(agent): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Operate)?;
    let agent = AgentName::parse(&agent)
        .map_err(|error| Problem::new(codes::FIELD, format!("{agent:?} is no name: {error}")))?;
    let name = agent.as_str().to_owned();
    match api.centre.ask(Input::Register { tenant, agent }).await? {
        Reply::Registered(result) => result?,
        other => unreachable!("a registration is answered by its own reply, not {other:?}"),
    }
    Ok(json_response(&json!({ "agent": name })))
}

async fn counters(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Problem> {
    api.access(&headers, Scope::Read)?;
    let Reply::Counted(counters) = api.centre.ask(Input::Count).await? else {
        unreachable!("the question is answered by its own reply");
    };
    let mut document = serde_json::to_value(&*counters).unwrap_or_default();
    document["conserved"] = json!(counters.conserved());
    Ok(json_response(&document))
}

async fn ready(State(api): State<Api>) -> Response {
    let mut reasons = Vec::new();
    match api.centre.health() {
        Health::Writable => {}
        Health::NoSpace => reasons.push("the disk is full up to its reserve"),
        _ => reasons.push("the store has stopped"),
    }
    if (api.options.is_draining)() {
        reasons.push("the server is shutting down");
    }
    let (status, word) = match reasons.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unready"),
    };
    (
        status,
        [JSON],
        json!({ "status": word, "reasons": reasons }).to_string(),
    )
        .into_response()
}

fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse()
        .map_err(|error| Problem::new(codes::FIELD, format!("{text:?} is no message id: {error}")))
}

fn json_response(document: &Value) -> Response {
    ([JSON], document.to_string()).into_response()
}

fn unreadable(error: &BytesRejection, bytes_max: usize) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(
            codes::TOO_LARGE,
            format!("a body has at most {bytes_max} bytes"),
        );
    }
    Problem::new(codes::BODY, error.body_text())
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = format!("the content type is {}", content_type.unwrap_or("absent"));
    Err(Problem::new(codes::CONTENT_TYPE, detail))
}
