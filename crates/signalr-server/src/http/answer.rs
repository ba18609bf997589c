//! Refusals of HTTP requests: plain text that says what to do.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::Refusal;
use crate::registry::AttachError;

/// A refusal with a sentence for whoever reads the log of the client.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = (status, Body::from(text.into())).into_response();
    let plain = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

pub(super) fn refused(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden { .. } => StatusCode::FORBIDDEN,
        Refusal::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = text(status, refusal.to_string());
    if status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// Only these methods are known here.
pub(super) fn not_allowed(methods: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "");
    let allowed = HeaderValue::from_static(methods);
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// The hub takes no connections at the moment. Whoever reads the header comes back after `wait`, rounded up
/// to whole seconds.
fn unavailable(why: &str, wait: Duration) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// More ask to come in than do; this one may after `wait`.
pub(super) fn crowded(wait: Duration) -> Response {
    unavailable(
        "Too many clients connect at once. Try again after the time that Retry-After says.",
        wait,
    )
}

/// There is no room for another connection. Nobody knows when there will be, so clients are spread.
pub(super) fn full(why: &str) -> Response {
    unavailable(why, Duration::from_secs(rand::random_range(1..=10)))
}

/// The hub takes no connections any more.
pub(super) fn draining() -> Response {
    let another = Duration::from_secs(1);
    unavailable("This server takes no new connections. Try again.", another)
}

pub(super) fn not_attached(error: AttachError) -> Response {
    match error {
        AttachError::Unknown => unknown_id(),
        AttachError::InUse => text(
            StatusCode::CONFLICT,
            "This connection is attached already. Negotiate a new one.",
        ),
        AttachError::OtherTransport => text(
            StatusCode::BAD_REQUEST,
            "Cannot change transports mid-connection",
        ),
        AttachError::OtherUser => text(
            StatusCode::FORBIDDEN,
            "This connection was negotiated by another user. Negotiate a new one with this token.",
        ),
    }
}

pub(super) fn unknown_id() -> Response {
    text(StatusCode::NOT_FOUND, "No Connection with that ID")
}

pub(super) fn id_required() -> Response {
    text(StatusCode::BAD_REQUEST, "Connection ID required")
}
