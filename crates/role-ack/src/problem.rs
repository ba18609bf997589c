//! What a refused request is told (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_access::Denied;
use countersign_driver::AskError;
use serde::Serialize;

/// A refusal: what is wrong, and what to do about it.
#[derive(Debug)]
pub(crate) struct Problem(Box<Told>);

#[derive(Debug)]
struct Told {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: &'static str,
    errors: Vec<Fault>,
    limit_bytes: Option<u64>,
    challenge: Option<String>,
    retry_after_s: Option<u32>,
}

/// One fault in a body, by JSON pointer (RFC 6901).
#[derive(Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) pointer: String,
    pub(crate) message: String,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    hint: &'a str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self(Box::new(Told {
            status,
            code,
            detail: detail.into(),
            hint,
            errors: Vec::new(),
            limit_bytes: None,
            challenge: None,
            retry_after_s: None,
        }))
    }

    pub(crate) fn with_errors(mut self, errors: Vec<Fault>) -> Self {
        self.0.errors = errors;
        self
    }

    pub(crate) fn with_limit(mut self, bytes: u64) -> Self {
        self.0.limit_bytes = Some(bytes);
        self
    }

    /// The store takes nothing at the moment; whether it took this is unknown, and posting it again
    /// is harmless.
    pub(crate) fn not_now(code: &'static str, detail: impl Into<String>) -> Self {
        let hint = "keep the acknowledgements and post them again later";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail, hint);
        problem.0.retry_after_s = Some(1);
        problem
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let mut problem = Self::new(status, denied.code(), denied.to_string(), denied.hint());
        problem.0.challenge = Some(denied.challenge());
        problem
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoSpace => Self::not_now("E-NO-SPACE", error.to_string()),
            _ => Self::not_now("E-STORE-STOPPED", error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let told = *self.0;
        let document = Document {
            r#type: format!("/problems/{}", told.code.to_lowercase()),
            title: told.status.canonical_reason().unwrap_or("Refused"),
            status: told.status.as_u16(),
            detail: &told.detail,
            code: told.code,
            hint: told.hint,
            errors: &told.errors,
            limit_bytes: told.limit_bytes,
            retry_after_ms: told.retry_after_s.map(|seconds| seconds * 1000),
        };
        let body = serde_json::to_vec(&document).expect("texts and numbers are JSON");
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (told.status, content_type, body).into_response();
        let headers = response.headers_mut();
        if let Some(value) = told
            .challenge
            .and_then(|text| HeaderValue::try_from(text).ok())
        {
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(seconds) = told.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
