//! The routes.

use crate::journal::{self, Query};
use crate::post;
use crate::problem::Problem;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query as FromQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post as on_post};
use countersign_access::{Access, Denied, Scope, Verifier, bearer};
use countersign_driver::{Clock, Handle, Health, page};
use countersign_rules::ack::{AckStore, Post};
use countersign_rules::{AgentName, MessageId, TenantName, limits};
use std::sync::Arc;

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
struct Service {
    acks: Handle<AckStore>,
    verifier: Arc<Verifier>,
    options: Arc<Options>,
}

/// The ack API over the store behind `acks`.
pub fn router(acks: Handle<AckStore>, verifier: Arc<Verifier>, options: Options) -> Router {
    let limit = DefaultBodyLimit::max(options.body_bytes_max);
    let service = Service {
        acks,
        verifier,
        options: Arc::new(options),
    };
    Router::new()
        .route("/acks/v1/acks", on_post(post_acks))
        .route("/acks/v1/journal", get(read_journal))
        .route(
            "/healthz",
            get(|| async { ([JSON], r#"{"status":"alive"}"#) }),
        )
        .route("/readyz", get(ready))
        .layer(limit)
        .with_state(service)
}

const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

async fn post_acks(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let access = service.access(&headers, Scope::Ack)?;
    let (tenant, agent) = speaker(&access)?;
    expect_json(&headers)?;
    let body = body.map_err(|error| service.unreadable(&error))?;
    let items = post::read(&body, agent.as_str(), service.options.clock.now())?;
    let messages: Vec<MessageId> = items.iter().map(|item| item.message).collect();
    let results = service
        .acks
        .ask(Post {
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
    FromQuery(query): FromQuery<Query>,
) -> Result<Response, Problem> {
    service.access(&headers, Scope::Pull)?;
    let page = journal::next_page(service.acks, query).await?;
    Ok((
        [(header::CONTENT_TYPE, page::CONTENT_TYPE)],
        page::encode(&page),
    )
        .into_response())
}

async fn ready(State(service): State<Service>) -> Response {
    let (status, body) = match service.acks.health() {
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
        let now_unix_s = self.options.clock.now().0.div_euclid(1_000_000);
        let access = self.verifier.verify(bearer(header)?, now_unix_s)?;
        access.require(scope)?;
        Ok(access)
    }

    fn unreadable(&self, error: &BytesRejection) -> Problem {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let detail = format!("the body is over {} bytes", self.options.body_bytes_max);
            let hint = "post fewer acknowledgements at a time";
            return Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "E-BODY-TOO-LARGE",
                detail,
                hint,
            );
        }
        Problem::new(
            StatusCode::BAD_REQUEST,
            "E-BODY",
            error.body_text(),
            "send the body again",
        )
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
    let detail = format!("the content type is {:?}", content_type.unwrap_or("absent"));
    let hint = "send Content-Type: application/json";
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "E-CONTENT-TYPE",
        detail,
        hint,
    ))
}
