//! What a refused request is told (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_access::Denied;
use countersign_driver::AskError;
use serde::Serialize;

/// A refusal: what is wrong, and what to do about it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: &'static str,
    errors: Vec<Fault>,
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
    retry_after_ms: Option<u32>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        let detail = detail.into();
        Self {
            status,
            code,
            detail,
            hint,
            errors: Vec::new(),
            challenge: None,
            retry_after_s: None,
        }
    }

    pub(crate) fn with_errors(mut self, errors: Vec<Fault>) -> Self {
        self.errors = errors;
        self
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let mut problem = Self::new(status, denied.code(), denied.to_string(), denied.hint());
        problem.challenge = Some(denied.challenge());
        problem
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let (code, hint) = match error {
            AskError::NoSpace => (
                "E-NO-SPACE",
                "keep the acknowledgements and post them again later",
            ),
            _ => (
                "E-STORE-STOPPED",
                "keep the acknowledgements and post them again later",
            ),
        };
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            code,
            error.to_string(),
            hint,
        );
        problem.retry_after_s = Some(1);
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: format!("/problems/{}", self.code.to_lowercase()),
            title: self.status.canonical_reason().unwrap_or("Refused"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            hint: self.hint,
            errors: &self.errors,
            retry_after_ms: self.retry_after_s.map(|seconds| seconds * 1000),
        };
        let body = serde_json::to_vec(&document).expect("texts and numbers are JSON");
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, content_type, body).into_response();
        if let Some(value) = self
            .challenge
            .and_then(|text| HeaderValue::try_from(text).ok())
        {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(seconds) = self.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
