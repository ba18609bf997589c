//! `POST /acks/v1/acks`: reading what an agent says.

use crate::body;
use crate::problem::{Fault, Problem};
use axum::http::StatusCode;
use countersign_rules::ack::{AckItem, Outcome, Posted, Stage};
use countersign_rules::{MessageId, Timestamp, limits};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Write as _;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    acks: Vec<Item<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(borrow)]
    message_id: Cow<'a, str>,
    #[serde(borrow)]
    stage: Cow<'a, str>,
    #[serde(default)]
    attempt: u32,
    #[serde(default = "first_generation")]
    generation: u32,
    #[serde(borrow, default)]
    agent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    occurred_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    outcome: Option<OutcomeBody<'a>>,
    #[serde(default)]
    duration_ms: u32,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    next_at: Option<Cow<'a, str>>,
}

fn first_generation() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeBody<'a> {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Reads a body; all of it is right, or none of it is taken.
///
/// `at` stands in for an instant that is not given.
pub(crate) fn read(body: &[u8], agent: &str, at: Timestamp) -> Result<Vec<AckItem>, Problem> {
    let body: Body<'_> = body::parse(body)?;
    let count = body.acks.len();
    if count == 0 || count > limits::ACKS_PER_POST_MAX {
        let detail = format!(
            "{count} acknowledgements; 1 to {} are taken",
            limits::ACKS_PER_POST_MAX
        );
        let status = if count == 0 {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::PAYLOAD_TOO_LARGE
        };
        return Err(Problem::new(
            status,
            "E-ACK-COUNT",
            detail,
            "post them in smaller requests",
        ));
    }
    let (mut items, mut faults) = (Vec::with_capacity(count), Vec::new());
    for (index, item) in body.acks.into_iter().enumerate() {
        if let Some(other) = item.agent.as_deref().filter(|named| *named != agent) {
            let detail = format!("item {index} speaks for {other}, the token for {agent}");
            let hint = "an agent acknowledges its own messages only";
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "E-OTHER-AGENT",
                detail,
                hint,
            ));
        }
        match read_item(item, at) {
            Ok(item) => items.push(item),
            Err((field, message)) => {
                faults.push(Fault {
                    pointer: format!("/acks/{index}/{field}"),
                    message,
                });
            }
        }
    }
    if faults.is_empty() {
        return Ok(items);
    }
    let detail = format!(
        "{} of {count} items are wrong; none was taken",
        faults.len()
    );
    let problem = Problem::new(
        StatusCode::BAD_REQUEST,
        "E-ACK-ITEM",
        detail,
        "correct them and post all again",
    );
    Err(problem.with_errors(faults))
}

fn read_item(item: Item<'_>, at: Timestamp) -> Result<AckItem, (&'static str, String)> {
    let message = item.message_id.parse::<MessageId>();
    let message = message.map_err(|error| ("message_id", error.to_string()))?;
    let stage = Stage::parse(&item.stage).ok_or_else(|| {
        (
            "stage",
            format!(
                "{:?} is none of stored, acknowledged, rejected, dead, retrying, working",
                item.stage
            ),
        )
    })?;
    let occurred_at = match item.occurred_at {
        None => at,
        Some(text) => instant("occurred_at", &text)?,
    };
    let next_at = item.next_at.map(|text| instant("next_at", &text));
    let next_at = next_at.transpose()?;
    let outcome = item
        .outcome
        .map_or_else(Outcome::default, |outcome| Outcome {
            code: outcome.code,
            detail: outcome.detail,
            data: outcome
                .data
                .map_or_else(Vec::new, |data| data.get().as_bytes().to_vec()),
        });
    let traceparent = item.traceparent.map_or_else(String::new, Cow::into_owned);
    if traceparent.len() > limits::CONTEXT_BYTES_MAX {
        return Err((
            "traceparent",
            format!("it is longer than {} bytes", limits::CONTEXT_BYTES_MAX),
        ));
    }
    Ok(AckItem {
        message,
        stage,
        attempt: item.attempt,
        generation: item.generation,
        occurred_at,
        outcome,
        duration_ms: item.duration_ms,
        traceparent,
        next_at,
    })
}

fn instant(field: &'static str, text: &str) -> Result<Timestamp, (&'static str, String)> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    let parsed = parsed.map_err(|error| (field, error.to_string()))?;
    Ok(Timestamp(parsed.as_microsecond()))
}

/// Writes what became of each item, in order.
pub(crate) fn write(messages: &[MessageId], results: &[Posted]) -> String {
    let mut to = String::with_capacity(16 + results.len() * 80);
    to.push_str(r#"{"results":["#);
    for (index, (message, result)) in messages.iter().zip(results).enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let word = match result {
            Posted::Duplicate => "duplicate",
            _ => "recorded",
        };
        let written = write!(
            to,
            r#"{comma}{{"message_id":"{message}","result":"{word}"}}"#
        );
        written.expect("writing to memory cannot fail");
    }
    to.push_str("]}");
    to
}
