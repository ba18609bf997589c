//! The HTTP face of a hub: negotiation, the transports, refusals and CORS.

mod answer;
mod connect;
mod cors;
mod negotiate;
mod refresh;
mod request;

use std::future::{self, Ready};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};

use crate::Hub;
use crate::server::Shared;

/// What the hub's own path knows.
const ENDPOINT_METHODS: &str = "GET,POST,DELETE,OPTIONS";

/// What negotiation and refresh know.
const POST_METHODS: &str = "POST,OPTIONS";

/// The routes of a hub. A trailing slash makes no difference, as it makes none to .NET.
pub(crate) fn router<H: Hub, S: Clone + Send + Sync + 'static>(
    shared: Arc<Shared<H>>,
    path: &str,
) -> Router<S> {
    let base = path.trim_matches('/');
    let base = if base.is_empty() {
        String::new()
    } else {
        format!("/{base}")
    };
    // Without a route of its own, HEAD would be a poll whose frame is thrown away.
    let endpoint = get(connect::get::<H>)
        .head(not_allowed(ENDPOINT_METHODS))
        .post(connect::post::<H>)
        .delete(connect::delete::<H>)
        .options(preflight(ENDPOINT_METHODS))
        .fallback(not_allowed(ENDPOINT_METHODS));
    let negotiation = post(negotiate::negotiate::<H>)
        .options(preflight(POST_METHODS))
        .fallback(not_allowed(POST_METHODS));
    let renewal = post(refresh::refresh::<H>)
        .options(preflight(POST_METHODS))
        .fallback(not_allowed(POST_METHODS));
    let mut router = Router::new()
        .route(&format!("{base}/negotiate"), negotiation.clone())
        .route(&format!("{base}/negotiate/"), negotiation)
        .route(&format!("{base}/refresh"), renewal)
        .route(&format!("{base}/"), endpoint.clone());
    if !base.is_empty() {
        router = router.route(&base, endpoint);
    }
    router.with_state(shared)
}

/// Answers what browsers ask before they send a request of another origin.
fn preflight<H: Hub>(methods: &'static str) -> impl Answers<H> {
    move |State(shared): State<Arc<Shared<H>>>, headers: HeaderMap| {
        let preflight = cors::preflight(&headers, &shared.options);
        future::ready(preflight.unwrap_or_else(|| refuse(methods, &headers, &shared)))
    }
}

/// Answers a method that no transport uses.
fn not_allowed<H: Hub>(methods: &'static str) -> impl Answers<H> {
    move |State(shared): State<Arc<Shared<H>>>, headers: HeaderMap| {
        future::ready(refuse(methods, &headers, &shared))
    }
}

/// A page may read that too.
fn refuse<H: Hub>(methods: &'static str, headers: &HeaderMap, shared: &Shared<H>) -> Response {
    cors::open(answer::not_allowed(methods), headers, &shared.options)
}

/// Answers by the head of a request alone.
trait Answers<H: Hub>:
    Fn(State<Arc<Shared<H>>>, HeaderMap) -> Ready<Response> + Clone + Send + Sync + 'static
{
}

impl<H: Hub, F> Answers<H> for F where
    F: Fn(State<Arc<Shared<H>>>, HeaderMap) -> Ready<Response> + Clone + Send + Sync + 'static
{
}
