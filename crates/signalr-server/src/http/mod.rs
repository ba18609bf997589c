//! The HTTP face of a hub: negotiation, the transports, refusals and CORS.

mod answer;
mod connect;
mod cors;
mod negotiate;
mod refresh;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::{get, options, post};

use crate::Hub;
use crate::server::Shared;

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
        .head(answer::not_allowed)
        .post(connect::post::<H>)
        .delete(connect::delete::<H>)
        .options(preflight::<H>);
    let negotiation = post(negotiate::negotiate::<H>).merge(options(preflight::<H>));
    let renewal = post(refresh::refresh::<H>).merge(options(preflight::<H>));
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

async fn preflight<H: Hub>(
    axum::extract::State(shared): axum::extract::State<Arc<Shared<H>>>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    debug_assert_eq!(method, Method::OPTIONS, "only preflights are routed here");
    cors::preflight(&headers, &shared.options)
}
