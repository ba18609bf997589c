//! What a refused request is told (RFC 9457).

use crate::codes::{self, Code};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_access::Denied;
use countersign_driver::AskError;
use countersign_rules::delivery::Refusal;
use serde_json::{Value, json};

/// A refusal of one request, or of one message in a batch.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    pointer: Option<&'static str>,
    challenge: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            pointer: None,
            challenge: None,
        }
    }

    /// A fault of the field at `pointer` (RFC 6901).
    pub(crate) fn field(pointer: &'static str, message: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer),
            ..Self::new(codes::FIELD, message)
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.code.status
    }

    pub(crate) fn document(&self) -> Value {
        let Code {
            name,
            status,
            title,
            hint,
            retry_after_s,
        } = self.code;
        let mut document = json!({
            "type": format!("/problems/{}", name.to_lowercase()),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "code": name,
            "hint": hint,
        });
        if let Some(pointer) = self.pointer {
            document["errors"] = json!([{ "pointer": pointer, "message": self.detail }]);
        }
        if let Some(seconds) = retry_after_s {
            document["retry_after_ms"] = json!(seconds * 1000);
        }
        document
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let code = Code {
            name: denied.code(),
            status: StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED),
            title: "Not authorised",
            hint: denied.hint(),
            retry_after_s: None,
        };
        Self {
            challenge: Some(denied.challenge()),
            ..Self::new(code, denied.to_string())
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let code = if error == AskError::NoSpace {
            codes::NO_SPACE
        } else {
            codes::STOPPED
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::UnknownRecipient { .. } => codes::UNKNOWN_RECIPIENT,
            Refusal::KeyReused { .. } => codes::KEY_REUSED,
            Refusal::BodyTooLarge { .. } => codes::TOO_LARGE,
            Refusal::AlreadyExpired => codes::EXPIRED,
            _ => codes::FULL,
        };
        Self::new(code, refusal.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let body = self.document().to_string();
        let mut response = (self.code.status, content_type, body).into_response();
        if let Some(value) = self
            .challenge
            .and_then(|text| HeaderValue::try_from(text).ok())
        {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(seconds) = self.code.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
