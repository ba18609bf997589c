//! Reading a send request: parsed once into what the rules take, the body untouched.

use crate::codes;
use crate::problem::Problem;
use aws_lc_rs::digest::{Context, SHA256, digest};
use axum::http::HeaderMap;
use bytes::Bytes;
use countersign_rules::delivery::Submission;
use countersign_rules::{AgentName, LaneName, MessageId, TenantName, Timestamp, TypeName, limits};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::time::Duration;

/// A send request, borrowed from its bytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendBody<'a> {
    #[serde(borrow)]
    to: Target<'a>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    causation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    order_key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    expires_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    expires_in: Option<Cow<'a, str>>,
    #[serde(default)]
    max_attempts: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target<'a> {
    #[serde(borrow, default)]
    agent: Option<Cow<'a, str>>,
    #[serde(default)]
    user: Option<IgnoredAny>,
    #[serde(default)]
    group: Option<IgnoredAny>,
    #[serde(default)]
    all: Option<IgnoredAny>,
}

/// Who sends, and what came beside the body.
#[derive(Clone, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) tenant: &'a TenantName,
    pub(crate) subject: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) traceparent: &'a str,
    pub(crate) tracestate: &'a str,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(
        tenant: &'a TenantName,
        subject: &'a str,
        headers: &'a HeaderMap,
    ) -> Result<Self, Problem> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let key = text("idempotency-key");
        if key.is_some_and(|key| key.is_empty() || key.len() > limits::KEY_BYTES_MAX) {
            let detail = format!(
                "the Idempotency-Key has 1 to {} characters",
                limits::KEY_BYTES_MAX
            );
            return Err(Problem::new(codes::FIELD, detail));
        }
        // Trace context that is too long is somebody else's fault and costs the message nothing.
        let context = |name| text(name).filter(|text| text.len() <= limits::CONTEXT_BYTES_MAX);
        Ok(Self {
            tenant,
            subject,
            key,
            traceparent: context("traceparent").unwrap_or_default(),
            tracestate: context("tracestate").unwrap_or_default(),
        })
    }
}

/// Reads `request`, whose texts lie in `bytes`, into a submission with the id `id`.
pub(crate) fn read(
    request: &str,
    bytes: &Bytes,
    sender: &Sender<'_>,
    id: MessageId,
    now: Timestamp,
) -> Result<Submission, Problem> {
    let body: SendBody<'_> = serde_json::from_str(request)
        .map_err(|error| Problem::new(codes::BODY, error.to_string()))?;
    let to = agent(&body.to)?;
    let kind =
        TypeName::parse(&body.kind).map_err(|error| Problem::field("/type", error.to_string()))?;
    let lane = match &body.order_key {
        None => LaneName::default_lane(),
        Some(key) => {
            LaneName::parse(key).map_err(|error| Problem::field("/order_key", error.to_string()))?
        }
    };
    let content_type = content_type(&body)?;
    let document = document(&body, &content_type)?;
    let body_sha256 = digest(&SHA256, document.as_bytes());
    let body_sha256 = body_sha256
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes");
    let key = sender.key.or(body.id.as_deref());
    let expires_at = expiry(&body, now)?;
    Ok(Submission {
        id,
        tenant: sender.tenant.clone(),
        key: key.map(|key| digest16(&[sender.tenant.as_str(), key])),
        fingerprint: fingerprint(&body, &to, body.data.get()),
        body_sha256,
        expires_at,
        attempts_max: attempts_max(&body)?,
        correlation_id: context("/correlation_id", &body.correlation_id)?,
        causation_id: context("/causation_id", &body.causation_id)?,
        traceparent: sender.traceparent.to_owned(),
        tracestate: sender.tracestate.to_owned(),
        sender: sender.subject.to_owned(),
        content_type,
        data: bytes.slice_ref(body.data.get().as_bytes()),
        to,
        kind,
        lane,
    })
}

fn agent(to: &Target<'_>) -> Result<AgentName, Problem> {
    if to.user.is_some() || to.group.is_some() || to.all.is_some() {
        let detail = "only single agents can be addressed";
        return Err(Problem::new(codes::TARGET, detail));
    }
    let agent = to.agent.as_deref();
    let agent = agent.ok_or_else(|| Problem::field("/to", "it names no agent"))?;
    AgentName::parse(agent).map_err(|error| Problem::field("/to/agent", error.to_string()))
}

fn content_type(body: &SendBody<'_>) -> Result<String, Problem> {
    match body.content_type.as_deref() {
        None | Some("application/json") => Ok(String::new()),
        Some(other) if other.len() > limits::NAME_BYTES_MAX || !other.contains('/') => {
            Err(Problem::field(
                "/content_type",
                "it is not a media type such as application/xml",
            ))
        }
        Some(other) => Ok(other.to_owned()),
    }
}

/// The document as its receiver will have it: the text of a JSON string when it is not JSON itself.
fn document<'a>(body: &SendBody<'a>, content_type: &str) -> Result<Cow<'a, str>, Problem> {
    if content_type.is_empty() {
        return Ok(Cow::Borrowed(body.data.get()));
    }
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let text: Result<Text<'a>, _> = serde_json::from_str(body.data.get());
    text.map(|text| text.0).map_err(|_| {
        Problem::field(
            "/data",
            format!("with content_type {content_type} it must be a text"),
        )
    })
}

fn expiry(body: &SendBody<'_>, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    match (&body.expires_at, &body.expires_in) {
        (Some(_), Some(_)) => Err(Problem::field(
            "/expires_in",
            "give expires_at or expires_in, not both",
        )),
        (Some(at), None) => {
            let at: Result<jiff::Timestamp, _> = at.parse();
            let at = at.map_err(|error| Problem::field("/expires_at", error.to_string()))?;
            Ok(Some(Timestamp(at.as_microsecond())))
        }
        (None, Some(after)) => match parse_duration(after) {
            Some(after) => Ok(Some(now + after)),
            None => Err(Problem::field(
                "/expires_in",
                "write it like 90s, 15m, 24h or 7d",
            )),
        },
        (None, None) => Ok(None),
    }
}

/// Reads `250ms`, `90s`, `15m`, `24h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(millis)
        .map(Duration::from_millis)
}

fn attempts_max(body: &SendBody<'_>) -> Result<Option<u32>, Problem> {
    match body.max_attempts {
        Some(0) => Err(Problem::field(
            "/max_attempts",
            "at least one attempt is made",
        )),
        other => Ok(other),
    }
}

fn context(pointer: &'static str, text: &Option<Cow<'_, str>>) -> Result<String, Problem> {
    match text {
        Some(text) if text.len() > limits::CONTEXT_BYTES_MAX => {
            let message = format!("it is longer than {} bytes", limits::CONTEXT_BYTES_MAX);
            Err(Problem::field(pointer, message))
        }
        Some(text) => Ok(text.clone().into_owned()),
        None => Ok(String::new()),
    }
}

/// Everything the sender asked for, so that a retry is told from a reuse of its key.
fn fingerprint(body: &SendBody<'_>, to: &AgentName, data: &str) -> [u8; 16] {
    let optional = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
    digest16(&[
        to.as_str(),
        &body.kind,
        &optional(&body.order_key),
        &optional(&body.content_type),
        &optional(&body.correlation_id),
        &optional(&body.causation_id),
        &optional(&body.expires_at),
        &optional(&body.expires_in),
        &body
            .max_attempts
            .map(|max| max.to_string())
            .unwrap_or_default(),
        data,
    ])
}

/// The first half of a SHA-256 over texts, each behind its length.
fn digest16(texts: &[&str]) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    for text in texts {
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text.as_bytes());
    }
    context.finish().as_ref()[..16]
        .try_into()
        .expect("SHA-256 has 32 bytes")
}
