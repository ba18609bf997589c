//! The service: its options, its routes, and who may use them.

use crate::bodies::LargeBodies;
use crate::problem::Problem;
use crate::request::Types;
use crate::wait::Watchers;
use crate::{
    bodies, codes, fanout, groups, letters, look, metrics, operate, operations, orphans, send,
};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, head, post, put};
use countersign_access::{Access, Denied, Scope, Verifier, bearer};
use countersign_driver::{Clock, Handle, Health};
use countersign_rules::delivery::Centre;
use countersign_rules::{TenantName, Timestamp, limits};
use serde_json::json;
use std::fmt;
use std::sync::Arc;

/// How the API works.
#[derive(Clone)]
pub struct Options {
    /// Largest body of one message in bytes. Default: [`limits::BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// Largest batch request in bytes. Default: 16 MiB, so that a thousand ordinary messages pass
    /// and a few dozen requests at once do not exhaust a small machine.
    pub batch_bytes_max: usize,
    /// What messages of a type get whose sender does not say otherwise. Default: nothing.
    pub types: Types,
    /// Where large bodies are kept. Default: nowhere, so that there are none.
    pub bodies: Option<LargeBodies>,
    /// Whether the process is leaving: sends are then refused.
    pub is_draining: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What else keeps the process from being ready; `/readyz` says so. Default: nothing.
    pub trouble: Arc<dyn Fn() -> Option<&'static str> + Send + Sync>,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: limits::BODY_BYTES_MAX,
            batch_bytes_max: 16 << 20,
            types: Types::new(),
            bodies: None,
            is_draining: Arc::new(|| false),
            trouble: Arc::new(|| None),
            clock: Clock::system(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("body_bytes_max", &self.body_bytes_max)
            .field("batch_bytes_max", &self.batch_bytes_max)
            .finish_non_exhaustive()
    }
}

/// The send API in front of an engine.
#[derive(Clone, Debug)]
pub struct Api {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    centre: Handle<Centre>,
    verifier: Arc<Verifier>,
    watchers: Arc<Watchers>,
    options: Options,
}

pub(crate) const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

/// Room for the fields around a body.
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
            shared: Arc::new(Shared {
                centre,
                verifier,
                watchers,
                options,
            }),
        }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v1/messages", post(send::one))
            .route("/v1/messages/batch", post(send::batch))
            .route("/v1/messages/{id}", get(look::message))
            .route("/v1/messages/{id}/timeline", get(look::timeline))
            .route("/v1/messages/{id}/data", get(look::data))
            .route("/v1/messages/{id}/children", get(fanout::children))
            .route("/v1/messages/{id}/cancel", post(operate::cancel))
            .route("/v1/messages/{id}/replay", post(operate::replay))
            .route(
                "/v1/agents/{agent}",
                put(operate::register)
                    .get(operate::agent)
                    .patch(operate::change_agent),
            )
            .route(
                "/v1/agents/{agent}/lanes/resume",
                post(operate::resume_lane),
            )
            .route("/v1/groups", get(groups::list))
            .route("/v1/groups/{group}", get(groups::one))
            .route(
                "/v1/groups/{group}/members/{agent}",
                put(groups::add).delete(groups::remove),
            )
            .route("/v1/bodies", post(bodies::begin))
            .route(
                "/v1/bodies/{id}",
                head(bodies::look)
                    .patch(bodies::write)
                    .delete(bodies::forget)
                    // Each piece is written as it comes: its length is bounded by what was declared.
                    .layer(DefaultBodyLimit::disable()),
            )
            .route("/v1/dead-letters", get(letters::list))
            .route("/v1/dead-letters/groups", get(letters::groups))
            .route("/v1/dead-letters/{id}", get(letters::one))
            .route(
                "/v1/operations",
                post(operations::begin).get(operations::list),
            )
            .route(
                "/v1/operations/{id}",
                get(operations::one).delete(operations::stop),
            )
            .route("/v1/operations/{id}/results", get(operations::results))
            .route("/v1/counters", get(operate::counters))
            .route("/v1/orphan-acks", get(orphans::list))
            .route(
                "/healthz",
                get(|| async { ([JSON], r#"{"status":"alive"}"#) }),
            )
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics::metrics))
            .fallback(|| async { Problem::new(codes::UNKNOWN_ROUTE, "nothing is served here") })
            .method_not_allowed_fallback(|| async {
                Problem::new(codes::METHOD, "the method is not allowed here")
            })
            .with_state(self)
    }

    /// The routes by which agents fetch large bodies: they are served where the hub is.
    pub fn bodies_router(self) -> Router {
        Router::new()
            .route("/v1/messages/{id}/body", get(bodies::document))
            .with_state(self)
    }

    /// Where large bodies are kept.
    pub(crate) fn large_bodies(&self) -> Result<&LargeBodies, Problem> {
        let bodies = self.shared.options.bodies.as_ref();
        bodies.ok_or_else(|| Problem::new(codes::UNKNOWN_ROUTE, "no large bodies are kept here"))
    }

    /// Who asks, if that one may.
    pub(crate) fn access(
        &self,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<(Arc<Access>, TenantName), Problem> {
        let header = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let now_unix_s = self.now().0.div_euclid(1_000_000);
        let access = self.shared.verifier.verify(bearer(header)?, now_unix_s)?;
        access.require(scope)?;
        let tenant = TenantName::parse(&access.tenant).map_err(|_| {
            // A token that we signed or trust names its tenant well; any other is of no use here.
            Problem::from(Denied::Malformed {
                what: "its tenant is no name".to_owned(),
            })
        })?;
        Ok((access, tenant))
    }

    /// Refuses new messages while the process is leaving.
    pub(crate) fn accepting(&self) -> Result<(), Problem> {
        if (self.shared.options.is_draining)() {
            return Err(Problem::new(
                codes::DRAINING,
                "no new messages are accepted",
            ));
        }
        Ok(())
    }

    pub(crate) fn centre(&self) -> &Handle<Centre> {
        &self.shared.centre
    }

    pub(crate) fn watchers(&self) -> &Arc<Watchers> {
        &self.shared.watchers
    }

    pub(crate) fn types(&self) -> &Types {
        &self.shared.options.types
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.options.clock.now()
    }

    /// Largest request with one message.
    pub(crate) fn one_bytes_max(&self) -> usize {
        self.shared.options.body_bytes_max + FIELDS_BYTES
    }

    /// Largest request with many messages.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        self.shared
            .options
            .batch_bytes_max
            .max(self.one_bytes_max())
    }
}

async fn ready(State(api): State<Api>) -> Response {
    let mut reasons = Vec::new();
    match api.centre().health() {
        Health::Writable => {}
        Health::NoSpace => reasons.push("the disk is full up to its reserve"),
        _ => reasons.push("the store has stopped"),
    }
    if (api.shared.options.is_draining)() {
        reasons.push("the server is shutting down");
    }
    reasons.extend((api.shared.options.trouble)());
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
