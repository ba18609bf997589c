//! The routes.

use crate::journal::{self, Query};
use crate::problem::Problem;
use crate::{body, post};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as FromQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post as on_post};
use countersign_access::{Access, Denied, Scope, Verifier, bearer};
use countersign_driver::{Clock, Handle, Health, page};
use countersign_rules::ack::{AckStore, Post, Posted};
use countersign_rules::{AgentName, MessageId, TenantName, limits};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How the ack API works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Largest request in bytes. Default: room for the most and largest acknowledgements allowed.
    pub body_bytes_max: usize,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        // The detail may be escaped throughout, which makes six bytes of one.
        let item = limits::OUTCOME_DATA_BYTES_MAX + 6 * limits::OUTCOME_DETAIL_BYTES_MAX + 1024;
        Self {
            body_bytes_max: limits::ACKS_PER_POST_MAX * item,
            clock: Clock::system(),
        }
    }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

struct Shared {
    acks: Handle<AckStore>,
    verifier: Arc<Verifier>,
    options: Options,
}

/// The ack API over the store behind `acks`.
pub fn router(acks: Handle<AckStore>, verifier: Arc<Verifier>, options: Options) -> Router {
    let shared = Shared {
        acks,
        verifier,
        options,
    };
    Router::new()
        .route("/acks/v1/acks", on_post(post_acks))
        .route("/acks/v1/journal", get(read_journal))
        .route(
            "/healthz",
            get(|| async { ([JSON], r#"{"status":"alive"}"#) }),
        )
        .route("/readyz", get(ready))
        .with_state(Service(Arc::new(shared)))
}

const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

/// How long a request waits for a store that has reported no space, before its sender is told to
/// come back: a post that hangs tells nobody what is wrong.
const NO_SPACE_PATIENCE: Duration = Duration::from_secs(2);

async fn post_acks(State(service): State<Service>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let access = service.access(&parts.headers, Scope::Ack)?;
    let (tenant, agent) = speaker(&access)?;
    let body = body::read_json(&parts.headers, body, service.0.options.body_bytes_max).await?;
    let items = post::read(&body, agent.as_str(), service.0.options.clock.now())?;
    let messages: Vec<MessageId> = items.iter().map(|item| item.message).collect();
    let results = service
        .take_down(Post {
            tenant,
            agent,
            items,
        })
        .await?;
    Ok(([JSON], post::write(&messages, &results)).into_response())
}

async fn read_journal(
    State(service): State<Service>,
    headers: HeaderMap,
    query: Result<FromQuery<Query>, QueryRejection>,
) -> Result<Response, Problem> {
    service.access(&headers, Scope::Pull)?;
    let FromQuery(query) = query.map_err(|error| {
        let hint = "ask with after, limit, wait, confirmed and epoch";
        Problem::new(StatusCode::BAD_REQUEST, "E-QUERY", error.body_text(), hint)
    })?;
    let page = journal::next_page(&service.0.acks, query).await?;
    Ok((
        [(header::CONTENT_TYPE, page::CONTENT_TYPE)],
        page::encode(&page),
    )
        .into_response())
}

async fn ready(State(service): State<Service>) -> Response {
    let (status, body) = match service.0.acks.health() {
        Health::Stopped => (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"status":"unready","reasons":["the store has stopped"]}"#,
        ),
        // Acknowledgements are taken from the reserve.
        _ => (StatusCode::OK, r#"{"status":"ready","reasons":[]}"#),
    };
    (status, [JSON], body).into_response()
}

impl Service {
    fn access(&self, headers: &HeaderMap, scope: Scope) -> Result<Arc<Access>, Denied> {
        let header = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let now_unix_s = self.0.options.clock.now().0.div_euclid(1_000_000);
        let access = self.0.verifier.verify(bearer(header)?, now_unix_s)?;
        access.require(scope)?;
        Ok(access)
    }

    /// Waits until the post is durable; not for ever while there is no room for it.
    async fn take_down(&self, post: Post) -> Result<Vec<Posted>, Problem> {
        let acks = &self.0.acks;
        if acks.health() != Health::NoSpace {
            return Ok(acks.ask(post).await?);
        }
        match timeout(NO_SPACE_PATIENCE, acks.ask(post)).await {
            Ok(results) => Ok(results?),
            Err(_) => Err(Problem::not_now("E-NO-SPACE", "the disk is full")),
        }
    }
}

/// Whom the token speaks for.
fn speaker(access: &Access) -> Result<(TenantName, AgentName), Problem> {
    let refused = |detail: String| {
        let hint = "ask for a token whose claim 'agent' names the agent";
        Problem::new(StatusCode::FORBIDDEN, "E-TOKEN-NO-AGENT", detail, hint)
    };
    let agent = access.agent.as_deref();
    let agent = agent.ok_or_else(|| refused("the token speaks for no agent".to_owned()))?;
    let agent =
        AgentName::parse(agent).map_err(|error| refused(format!("the token's agent: {error}")))?;
    let tenant = TenantName::parse(&access.tenant);
    let tenant = tenant.map_err(|error| refused(format!("the token's tenant: {error}")))?;
    Ok((tenant, agent))
}
