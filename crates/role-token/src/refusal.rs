//! What a client is told when it gets no token: RFC 6749 section 5.2.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why no token was given. The client's developer reads the description, programs read the code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request is not as the RFC has it: mend the client.
    #[error("{0}")]
    InvalidRequest(String),
    /// Not a client of ours, or not its secret. Which of the two is not told.
    #[error("unknown client, or not its secret")]
    InvalidClient,
    /// It asks for more than it may have, or for what does not exist.
    #[error("{0}")]
    InvalidScope(String),
    /// Another grant than ours.
    #[error("the grant type {0:?} is not offered here, only \"client_credentials\"")]
    UnsupportedGrantType(String),
    /// Our own fault: try again.
    #[error("the token could not be signed")]
    Unsigned,
}

impl Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidScope(_) => "invalid_scope",
            Self::UnsupportedGrantType(_) => "unsupported_grant_type",
            Self::Unsigned => "server_error",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::Unsigned => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({
            "error": self.code(),
            "error_description": describable(&self.to_string()),
        });
        let mut response = (self.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        if self == Self::InvalidClient {
            let challenge =
                HeaderValue::from_static(r#"Basic realm="countersign", charset="UTF-8""#);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Keeps what section 5.2 lets stand in a description: printable ASCII without quote and backslash.
fn describable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        })
        .collect()
}
