//! Reading a send request: parsed once into what the rules take, the body untouched.

use crate::problem::Problem;
use crate::{body, codes};
use aws_lc_rs::digest::{Context, SHA256, digest};
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use countersign_rules::delivery::{Audience, FanOut, Quorum, Submission};
use countersign_rules::message::NameError;
use countersign_rules::{
    AgentName, BodyRef, GroupName, LabelName, LabelValue, LaneName, LaneRule, MessageId,
    TenantName, Timestamp, TypeName, limits,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// What messages of each type get whose sender does not say otherwise.
pub type Types = BTreeMap<TypeName, TypeDefaults>;

/// What messages of one type get whose sender does not say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeDefaults {
    /// What a failure means for what is behind it in its lane. Default: [`LaneRule::Block`].
    pub lane_rule: LaneRule,
    /// Attempts at the site before the message is dead. Default: what the site's policy says.
    pub max_attempts: Option<u32>,
}

/// A send request, borrowed from its bytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendBody<'a> {
    #[serde(borrow)]
    to: Target<'a>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    /// The document itself, or [`SendBody::data_ref`] instead.
    #[serde(borrow, default, deserialize_with = "some")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data_ref: Option<DataRef<'a>>,
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
    #[serde(borrow, default)]
    not_before: Option<Cow<'a, str>>,
    #[serde(default)]
    max_attempts: Option<u32>,
    #[serde(borrow, default)]
    lane_rule: Option<Cow<'a, str>>,
    #[serde(default)]
    quorum: Option<QuorumBody>,
    #[serde(borrow, default)]
    deadline: Option<Cow<'a, str>>,
}

/// A large body that was sent before.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DataRef<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// `null` is a document too.
fn some<'a, D: serde::Deserializer<'a>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target<'a> {
    #[serde(borrow, default)]
    agent: Option<Cow<'a, str>>,
    #[serde(default)]
    user: Option<IgnoredAny>,
    #[serde(borrow, default)]
    group: Option<Cow<'a, str>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    all: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum QuorumBody {
    Percent(u8),
    Count(u32),
}

/// A send as it was asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To one agent.
    One(Box<Submission>),
    /// To many.
    Many(Box<FanOut>),
}

enum To {
    Agent(AgentName),
    Many(Audience),
}

/// Who sends, and what came beside the body.
#[derive(Clone, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) tenant: &'a TenantName,
    pub(crate) subject: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) traceparent: &'a str,
    pub(crate) tracestate: &'a str,
    /// What messages of a type get whose sender does not say otherwise.
    pub(crate) types: &'a Types,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(
        tenant: &'a TenantName,
        subject: &'a str,
        headers: &'a HeaderMap,
        types: &'a Types,
    ) -> Result<Self, Problem> {
        // Trace context that is too long is somebody else's fault and costs the message nothing.
        let context = |name: &str| {
            let text = headers.get(name).and_then(|value| value.to_str().ok());
            text.filter(|text| text.len() <= limits::CONTEXT_BYTES_MAX)
        };
        let key = headers
            .get("idempotency-key")
            .map(idempotency_key)
            .transpose()?;
        Ok(Self {
            tenant,
            subject,
            key,
            traceparent: context("traceparent").unwrap_or_default(),
            tracestate: context("tracestate").unwrap_or_default(),
            types,
        })
    }
}

/// A key that is not understood must not pass for no key: the retry would be a second message.
fn idempotency_key(value: &HeaderValue) -> Result<&str, Problem> {
    let key = value
        .to_str()
        .ok()
        .filter(|key| (1..=limits::KEY_BYTES_MAX).contains(&key.len()));
    key.ok_or_else(|| {
        let max = limits::KEY_BYTES_MAX;
        let detail = format!("the Idempotency-Key has 1 to {max} characters, all visible ASCII");
        Problem::new(codes::FIELD, detail)
    })
}

/// Reads `request`, whose texts lie in `bytes`, into a submission.
///
/// Its id is the one that the sender gave, if that is a UUID, and else a new one.
pub(crate) fn read(
    request: &str,
    bytes: &Bytes,
    sender: &Sender<'_>,
    now: Timestamp,
) -> Result<Asked, Problem> {
    let body: SendBody<'_> = body::parse(request)?;
    let (id, own_key) = identity(&body)?;
    let to = target(&body.to)?;
    let kind =
        TypeName::parse(&body.kind).map_err(|error| Problem::field("/type", error.to_string()))?;
    let lane = match &body.order_key {
        None => LaneName::default_lane(),
        Some(key) => {
            LaneName::parse(key).map_err(|error| Problem::field("/order_key", error.to_string()))?
        }
    };
    let content_type = content_type(&body)?;
    let large = large_body(&body)?;
    let data = body.data.map_or("", RawValue::get);
    let body_sha256 = match large {
        // Known to the centre alone, which is asked before the message is brought to it.
        Some(_) => [0; 32],
        None => sha256(document(data, &content_type)?.as_bytes()),
    };
    let key = sender.key.or(own_key.as_deref());
    let defaults = sender.types.get(&kind).copied().unwrap_or_default();
    let message = Submission {
        id,
        tenant: sender.tenant.clone(),
        key: key.map(|key| digest16(&[sender.tenant.as_str(), key])),
        // Without a key nobody will ever compare it.
        fingerprint: key.map(|_| fingerprint(&body, &to)).unwrap_or_default(),
        expires_at: expiry(&body, now)?,
        not_before: instant("/not_before", &body.not_before)?,
        body_sha256,
        rule: rule(&body)?.unwrap_or(defaults.lane_rule),
        attempts_max: attempts_max(&body)?.or(defaults.max_attempts),
        correlation_id: context("/correlation_id", &body.correlation_id)?,
        causation_id: context("/causation_id", &body.causation_id)?,
        traceparent: sender.traceparent.to_owned(),
        tracestate: sender.tracestate.to_owned(),
        sender: sender.subject.to_owned(),
        content_type,
        data: bytes.slice_ref(data.as_bytes()),
        body: large,
        to: (),
        kind,
        lane,
    };
    let (quorum, deadline) = (quorum(&body)?, deadline(&body, now)?);
    match to {
        To::Many(audience) => Ok(Asked::Many(Box::new(FanOut {
            message: message.addressed_to(audience),
            quorum,
            deadline,
        }))),
        To::Agent(_) if quorum.is_some() || deadline.is_some() => {
            let message = "a quorum and a deadline are for a send to many";
            Err(Problem::field("/quorum", message))
        }
        To::Agent(agent) => Ok(Asked::One(Box::new(message.addressed_to(agent)))),
    }
}

/// The message's id, and the idempotency key that the body's own `id` stands for.
fn identity(body: &SendBody<'_>) -> Result<(MessageId, Option<String>), Problem> {
    let Some(given) = body.id.as_deref() else {
        return Ok((fresh_id(), None));
    };
    if given.is_empty() || given.len() > limits::KEY_BYTES_MAX {
        let message = format!("it has 1 to {} bytes", limits::KEY_BYTES_MAX);
        return Err(Problem::field("/id", message));
    }
    Ok(match given.parse::<MessageId>() {
        Ok(id) => (id, Some(id.to_string())),
        Err(_) => (fresh_id(), Some(given.to_owned())),
    })
}

fn fresh_id() -> MessageId {
    MessageId(*uuid::Uuid::now_v7().as_bytes())
}

fn target(to: &Target<'_>) -> Result<To, Problem> {
    if to.user.is_some() {
        let detail = "users cannot be addressed";
        return Err(Problem::new(codes::TARGET, detail));
    }
    match (&to.agent, &to.group, &to.labels, to.all) {
        (Some(agent), None, None, None) => {
            let agent = AgentName::parse(agent);
            let agent = agent.map_err(|error| Problem::field("/to/agent", error.to_string()));
            Ok(To::Agent(agent?))
        }
        (None, Some(group), None, None) => {
            let group = GroupName::parse(group);
            let group = group.map_err(|error| Problem::field("/to/group", error.to_string()));
            Ok(To::Many(Audience::Group(group?)))
        }
        (None, None, Some(labels), None) => wanted(labels).map(To::Many),
        (None, None, None, Some(true)) => Ok(To::Many(Audience::All)),
        (None, None, None, Some(false)) => {
            let message = "it is true, or left out";
            Err(Problem::field("/to/all", message))
        }
        _ => {
            let message = "it names one of agent, group, labels and all";
            Err(Problem::field("/to", message))
        }
    }
}

fn wanted(labels: &BTreeMap<String, String>) -> Result<Audience, Problem> {
    if labels.is_empty() || labels.len() > limits::LABELS_PER_RECIPIENT_MAX {
        let max = limits::LABELS_PER_RECIPIENT_MAX;
        let message = format!("it names 1 to {max} labels; for everyone, say all");
        return Err(Problem::field("/to/labels", message));
    }
    let parsed = labels.iter().map(|(name, value)| {
        let at = format!("/to/labels/{}", name.replace('~', "~0").replace('/', "~1"));
        let misfit =
            |error: countersign_rules::message::NameError| Problem::field(&at, error.to_string());
        let name = LabelName::parse(name).map_err(misfit)?;
        Ok((name, LabelValue::parse(value).map_err(misfit)?))
    });
    parsed.collect::<Result<_, Problem>>().map(Audience::Labels)
}

fn quorum(body: &SendBody<'_>) -> Result<Option<Quorum>, Problem> {
    match body.quorum {
        None => Ok(None),
        Some(QuorumBody::Percent(percent @ 1..=100)) => Ok(Some(Quorum::Percent(percent))),
        Some(QuorumBody::Percent(_)) => {
            Err(Problem::field("/quorum/percent", "it is between 1 and 100"))
        }
        Some(QuorumBody::Count(0)) => Err(Problem::field("/quorum/count", "it is at least 1")),
        Some(QuorumBody::Count(count)) => Ok(Some(Quorum::Count(count))),
    }
}

/// An instant, or a time from now.
fn deadline(body: &SendBody<'_>, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    match body.deadline.as_deref().and_then(parse_duration) {
        Some(after) => Ok(Some(now + after)),
        None => instant("/deadline", &body.deadline),
    }
}

fn content_type(body: &SendBody<'_>) -> Result<String, Problem> {
    let Some(given) = body.content_type.as_deref() else {
        return Ok(String::new());
    };
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(String::new());
    }
    // It will stand in a header again, so it must be fit for one.
    let fit = given.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !fit || given.len() > limits::NAME_BYTES_MAX || !essence.contains('/') {
        let message = "it is not a media type such as application/xml";
        return Err(Problem::field("/content_type", message));
    }
    Ok(given.to_owned())
}

/// The large body that a message refers to. Its length is not known here.
fn large_body(body: &SendBody<'_>) -> Result<Option<BodyRef>, Problem> {
    match (&body.data, &body.data_ref) {
        (Some(_), Some(_)) => Err(Problem::field(
            "/data_ref",
            "give data or data_ref, not both",
        )),
        (None, None) => Err(Problem::field(
            "/data",
            "give data, or data_ref for a large body",
        )),
        (Some(_), None) => Ok(None),
        (None, Some(DataRef { id })) => {
            let no_id = |error: NameError| Problem::field("/data_ref/id", error.to_string());
            let id = id.parse().map_err(no_id)?;
            Ok(Some(BodyRef { id, bytes: 0 }))
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The document as its receiver will have it: the text of a JSON string when it is not JSON itself.
fn document<'a>(data: &'a str, content_type: &str) -> Result<Cow<'a, str>, Problem> {
    if content_type.is_empty() {
        return Ok(Cow::Borrowed(data));
    }
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let text: Result<Text<'a>, _> = serde_json::from_str(data);
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
        (Some(_), None) => instant("/expires_at", &body.expires_at),
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

fn instant(
    pointer: &'static str,
    text: &Option<Cow<'_, str>>,
) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else {
        return Ok(None);
    };
    let at: Result<jiff::Timestamp, _> = text.parse();
    let at = at.map_err(|error| Problem::field(pointer, error.to_string()))?;
    Ok(Some(Timestamp(at.as_microsecond())))
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

fn rule(body: &SendBody<'_>) -> Result<Option<LaneRule>, Problem> {
    let Some(word) = body.lane_rule.as_deref() else {
        return Ok(None);
    };
    let rule = LaneRule::parse(word);
    let message = || format!("{word:?} is none of block, skip, park");
    rule.map(Some)
        .ok_or_else(|| Problem::field("/lane_rule", message()))
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
fn fingerprint(body: &SendBody<'_>, to: &To) -> [u8; 16] {
    let (to, quorum) = (to.in_words(), body.quorum.map(QuorumBody::in_words));
    let max_attempts = body.max_attempts.map(|max| max.to_string());
    let mut asked = vec![
        to.as_ref(),
        &body.kind,
        body.order_key.as_deref().unwrap_or_default(),
        body.content_type.as_deref().unwrap_or_default(),
        body.correlation_id.as_deref().unwrap_or_default(),
        body.causation_id.as_deref().unwrap_or_default(),
        body.expires_at.as_deref().unwrap_or_default(),
        body.expires_in.as_deref().unwrap_or_default(),
        body.not_before.as_deref().unwrap_or_default(),
        max_attempts.as_deref().unwrap_or_default(),
        body.data.map_or("", RawValue::get),
    ];
    // Only where it is given, so that keys of before stand for what they stood for.
    asked.extend(body.lane_rule.as_deref());
    asked.extend(quorum.as_deref());
    asked.extend(body.deadline.as_deref());
    digest16(&asked)
}

impl To {
    /// Another text for each; no agent has a name with such characters.
    fn in_words(&self) -> Cow<'_, str> {
        match self {
            To::Agent(agent) => Cow::Borrowed(agent.as_str()),
            To::Many(Audience::Group(group)) => Cow::Owned(format!("\0group\0{group}")),
            To::Many(Audience::Labels(labels)) => {
                let pairs = labels.iter().map(|(n, v)| format!("\0{n}\0{v}"));
                Cow::Owned(format!("\0labels{}", pairs.collect::<String>()))
            }
            To::Many(Audience::All) => Cow::Borrowed("\0all"),
        }
    }
}

impl QuorumBody {
    fn in_words(self) -> String {
        match self {
            QuorumBody::Percent(percent) => format!("\0{percent}%"),
            QuorumBody::Count(count) => format!("\0{count}"),
        }
    }
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
