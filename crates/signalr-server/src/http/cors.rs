//! Cross-origin requests of browsers, which SignalR clients send with credentials.
//!
//! Refusals carry the headers too, or a page could not read why it was refused.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::Options;

const METHODS: &str = "GET,POST,DELETE";
const HEADERS: &str =
    "authorization,content-type,x-requested-with,x-signalr-user-agent,x-signalr-connection-token";
/// A day: the longest time browsers remember.
const MAX_AGE_SECONDS: &str = "86400";

/// Answers a preflight; `None` for a request that is none.
pub(super) fn preflight(headers: &HeaderMap, options: &Options) -> Option<Response> {
    let asked = header::ACCESS_CONTROL_REQUEST_METHOD;
    if !headers.contains_key(header::ORIGIN) || !headers.contains_key(asked) {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(origin) = allowed(headers, options) {
        grant(&mut response, &origin);
        set(&mut response, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        set(&mut response, header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        set(
            &mut response,
            header::ACCESS_CONTROL_MAX_AGE,
            MAX_AGE_SECONDS,
        );
    }
    Some(response)
}

/// Lets the page that sent the request read the response.
pub(super) fn open(mut response: Response, headers: &HeaderMap, options: &Options) -> Response {
    if let Some(origin) = allowed(headers, options) {
        grant(&mut response, &origin);
    }
    response
}

/// Whether a WebSocket may come from where this one does. Browsers do not ask before they open
/// one, so the server must look; what sends no origin is no browser.
pub(super) fn admits_websocket(headers: &HeaderMap, options: &Options) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    options.allowed_origins.is_empty()
        || allowed(headers, options).is_some()
        || is_own(origin, headers.get(header::HOST))
}

fn is_own(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), host.map(HeaderValue::to_str)) else {
        return false;
    };
    origin
        .split_once("://")
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

fn allowed(headers: &HeaderMap, options: &Options) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let mut known = options.allowed_origins.iter();
    known
        .any(|known| known.as_bytes() == origin.as_bytes())
        .then(|| origin.clone())
}

fn grant(response: &mut Response, origin: &HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    set(response, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
}

fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}
