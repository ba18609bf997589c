//! What a refused request is told (RFC 9457).

use crate::codes::{self, Code};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_access::Denied;
use countersign_driver::AskError;
use countersign_rules::delivery::Refusal;
use serde::Serialize;
use serde_json::{Value, json};

/// A refusal of one request, or of one message in a batch.
#[derive(Debug)]
pub(crate) struct Problem(Box<Told>);

#[derive(Debug)]
struct Told {
    code: Code,
    detail: String,
    errors: Vec<Fault>,
    limit_bytes: Option<u64>,
    challenge: Option<String>,
    trace_id: Option<String>,
}

/// One fault in a body, by JSON pointer (RFC 6901).
#[derive(Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) pointer: String,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Told {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            limit_bytes: None,
            challenge: None,
            trace_id: None,
        }))
    }

    /// A fault of the field at `pointer`.
    pub(crate) fn field(pointer: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let fault = Fault {
            pointer: pointer.to_owned(),
            message: message.clone(),
        };
        Self::new(codes::FIELD, message).with_errors(vec![fault])
    }

    pub(crate) fn with_errors(mut self, errors: Vec<Fault>) -> Self {
        self.0.errors = errors;
        self
    }

    pub(crate) fn with_limit(mut self, bytes: u64) -> Self {
        self.0.limit_bytes = Some(bytes);
        self
    }

    /// Names the trace that the request belongs to, if its headers do.
    pub(crate) fn traced(mut self, headers: &HeaderMap) -> Self {
        let context = headers
            .get("traceparent")
            .and_then(|value| value.to_str().ok());
        // Version, trace id, parent id, flags (W3C Trace Context section 3.2).
        let trace_id = context.and_then(|context| context.split('-').nth(1));
        self.0.trace_id = trace_id.filter(|id| id.len() == 32).map(str::to_owned);
        self
    }

    pub(crate) fn is(&self, code: Code) -> bool {
        self.0.code == code
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.code.status
    }

    pub(crate) fn document(&self) -> Value {
        let Code {
            name,
            status,
            title,
            hint,
            retry_after_s,
        } = self.0.code;
        let mut document = json!({
            "type": format!("/problems/{}", name.to_lowercase()),
            "title": title,
            "status": status.as_u16(),
            "detail": self.0.detail,
            "code": name,
            "hint": hint,
        });
        if !self.0.errors.is_empty() {
            document["errors"] = json!(self.0.errors);
        }
        if let Some(bytes) = self.0.limit_bytes {
            document["limit_bytes"] = json!(bytes);
        }
        if let Some(trace_id) = &self.0.trace_id {
            document["trace_id"] = json!(trace_id);
        }
        if let Some(seconds) = retry_after_s {
            document["retry_after_ms"] = json!(u64::from(seconds) * 1000);
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
        let mut problem = Self::new(code, denied.to_string());
        problem.0.challenge = Some(denied.challenge());
        problem
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
            Refusal::IdTaken { .. } => codes::ID_TAKEN,
            Refusal::BodyTooLarge { .. } => codes::TOO_LARGE,
            Refusal::UnknownBody { .. } => codes::UNKNOWN_BODY,
            Refusal::BodyToMany { .. } => codes::BODY_TO_MANY,
            Refusal::AlreadyExpired => codes::EXPIRED,
            Refusal::UnknownMessage { .. } => codes::UNKNOWN_MESSAGE,
            Refusal::TooLate { .. } => codes::TOO_LATE,
            Refusal::NotParked { .. } => codes::NOT_PARKED,
            Refusal::NotEnded { .. } => codes::NOT_ENDED,
            Refusal::UnknownGroup { .. } => codes::UNKNOWN_GROUP,
            Refusal::NobodyAddressed => codes::NOBODY,
            Refusal::TooManyAddressed => codes::TOO_MANY,
            Refusal::TooManyLabels { .. } => codes::LABELS,
            Refusal::DeadlinePassed | Refusal::QuorumTooLarge { .. } => codes::QUORUM,
            Refusal::IsFanOut { .. } => codes::FAN_OUT,
            Refusal::BelowFloor { .. } => codes::BELOW_FLOOR,
            Refusal::UnknownOperation { .. } => codes::UNKNOWN_OPERATION,
            Refusal::OperationIdTaken { .. } => codes::OPERATION_ID_TAKEN,
            Refusal::OperationTooLarge { .. } => codes::OPERATION_TOO_LARGE,
            Refusal::TooManyOperations { .. } => codes::TOO_MANY_OPERATIONS,
            _ => codes::FULL,
        };
        let problem = Self::new(code, refusal.to_string());
        match refusal {
            Refusal::BodyTooLarge { bytes_max, .. } => problem.with_limit(bytes_max as u64),
            _ => problem,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let body = self.document().to_string();
        let Told {
            code, challenge, ..
        } = *self.0;
        let mut response = (code.status, content_type, body).into_response();
        if let Some(value) = challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(seconds) = code.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
