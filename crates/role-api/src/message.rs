//! A message and its timeline as JSON, out of its records.
//!
//! Texts that were JSON when they came (outcome data) go out as they came, digit for digit.

use crate::history::{History, Missing};
use countersign_rules::ack::Outcome;
use countersign_rules::delivery::{
    Accepted, End, Hold, OperationId, Place, Record, View, decode_record,
};
use countersign_rules::{MessageId, Position, TenantName, Timestamp};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt::{self, Write};

/// The state's name on this API.
pub(crate) fn state(place: Place) -> &'static str {
    match place {
        Place::Queued => "waiting",
        Place::Offered => "pushed",
        Place::Received => "stored",
        Place::Ended(End::Processed) => "acknowledged",
        Place::Ended(End::Rejected) => "rejected",
        Place::Ended(End::Dead) => "dead",
        Place::Ended(End::Expired) => "expired",
        Place::Ended(_) => "cancelled",
        _ => "unknown",
    }
}

/// How far a state is on the way; every end is past all of it.
pub(crate) fn rank(state: &str) -> Option<u8> {
    match state {
        "accepted" | "waiting" => Some(0),
        "pushed" => Some(1),
        "stored" => Some(2),
        "acknowledged" | "rejected" | "dead" | "expired" | "cancelled" => Some(3),
        _ => None,
    }
}

/// How far the message has come. A push counts although its connection ended before a receipt.
pub(crate) fn reached(view: &View) -> u8 {
    let pushed = u8::from(view.pushes > 0);
    rank(state(view.place)).unwrap_or(0).max(pushed)
}

/// A message as it is shown.
#[derive(Serialize)]
struct Message<'a> {
    id: Text<MessageId>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<&'static str>,
    /// Set when it is a dead letter that was put away.
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<bool>,
    /// The message whose end has parked its lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    parked_by: Option<Text<MessageId>>,
    agent: &'a str,
    /// The send to many that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Text<MessageId>>,
    #[serde(flatten)]
    sent: Option<Sent<'a>>,
    /// None while it is not due.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Text<Timestamp>>,
    generation: u32,
    pushes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed_at: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_at: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_at: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// When it is tried again at the earliest, by the agent's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Told>,
    /// Set when the journal no longer serves all that happened to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<bool>,
    links: Links,
}

/// What stands in its accepted record.
#[derive(Serialize)]
pub(crate) struct Sent<'a> {
    r#type: &'a str,
    tenant: &'a str,
    sender: &'a str,
    lane: &'a str,
    lane_rule: &'static str,
    accepted_at: Text<Timestamp>,
    bytes: u64,
    sha256: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    correlation_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    causation_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    traceparent: &'a str,
}

#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    this: String,
    timeline: String,
    data: String,
}

/// How the work ended.
#[derive(Serialize)]
struct Told {
    code: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

/// One step on the way.
#[derive(Default, Serialize)]
struct Step<'a> {
    step: &'static str,
    at: Text<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Text<OperationId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    may_process_twice: Option<bool>,
    position: Position,
}

#[derive(Serialize)]
struct Timeline<'a> {
    id: Text<MessageId>,
    state: &'static str,
    agent: &'a str,
    steps: Vec<Step<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'a Missing>,
}

/// The message's representation.
pub(crate) fn describe(view: &View, history: &History) -> Vec<u8> {
    let id = view.id;
    let parent = history.accepted().map(|(_, accepted)| accepted.id);
    let mut message = Message {
        parent: parent.filter(|parent| *parent != id).map(Text),
        id: Text(id),
        state: state(view.place),
        waiting_for: waiting_for(view),
        discarded: view.is_discarded.then_some(true),
        parked_by: match view.hold {
            Some(Hold::LaneParked { by }) => Some(Text(by)),
            _ => None,
        },
        agent: view.agent.as_str(),
        sent: history.accepted().map(|(_, accepted)| sent(&accepted)),
        seq: (view.seq > 0).then_some(view.seq),
        not_before: None,
        generation: view.generation,
        pushes: 0,
        pushed_at: None,
        stored_at: None,
        acknowledged_at: None,
        ended_at: None,
        attempts: None,
        next_attempt_at: None,
        duration_ms: None,
        outcome: None,
        incomplete: history.missing.as_ref().map(|_| true),
        links: Links {
            this: format!("/v1/messages/{id}"),
            timeline: format!("/v1/messages/{id}/timeline"),
            data: format!("/v1/messages/{id}/data"),
        },
    };
    for (_, record) in &history.records {
        match decode_record(record) {
            Ok(
                Record::Scheduled { not_before, .. }
                | Record::AcceptedUnder {
                    not_before: Some(not_before),
                    ..
                }
                | Record::AcceptedByReference {
                    not_before: Some(not_before),
                    ..
                },
            ) => message.not_before = Some(Text(not_before)),
            Ok(Record::Addressed(row)) => message.not_before = row.not_before.map(Text),
            // What follows is another life.
            Ok(Record::Reprocessed { .. }) => {
                message = Message {
                    pushes: 0,
                    pushed_at: None,
                    stored_at: None,
                    acknowledged_at: None,
                    ended_at: None,
                    attempts: None,
                    next_attempt_at: None,
                    duration_ms: None,
                    outcome: None,
                    ..message
                }
            }
            Ok(Record::Offered { at, attempt, .. }) => {
                message.pushes = attempt;
                message.pushed_at = Some(Text(at));
            }
            Ok(Record::Stored { at, .. }) => message.stored_at = Some(Text(at)),
            Ok(Record::Attempted {
                attempt,
                outcome,
                duration_ms,
                next_at,
                ..
            }) => {
                message.attempts = Some(attempt);
                message.next_attempt_at = next_at.map(Text);
                message.duration_ms = Some(duration_ms);
                message.outcome = Some(told(outcome));
            }
            Ok(Record::Settled {
                at,
                end,
                attempt,
                outcome,
                duration_ms,
                ..
            }) => {
                match end {
                    End::Processed => message.acknowledged_at = Some(Text(at)),
                    _ => message.ended_at = Some(Text(at)),
                }
                message.attempts = Some(attempt);
                message.next_attempt_at = None;
                message.duration_ms = Some(duration_ms);
                message.outcome = Some(told(outcome));
            }
            _ => {}
        }
    }
    json(&message)
}

fn waiting_for(view: &View) -> Option<&'static str> {
    if let Some(Hold::LaneParked { .. }) = view.hold {
        // Its site may have it already: it is held there then.
        return Some("lane parked");
    }
    let why = match view.hold {
        Some(Hold::NotBefore(_)) => "its time",
        Some(_) => "agent paused",
        None if view.online => "its turn",
        None => "agent offline",
    };
    (view.place == Place::Queued).then_some(why)
}

pub(crate) fn sent<'a>(accepted: &Accepted<'a>) -> Sent<'a> {
    Sent {
        r#type: accepted.kind,
        tenant: accepted.tenant,
        sender: accepted.sender,
        lane: accepted.lane,
        lane_rule: accepted.rule.as_str(),
        accepted_at: Text(accepted.at),
        bytes: accepted.bytes(),
        sha256: hex(&accepted.body_sha256),
        content_type: accepted.content_type,
        expires_at: accepted.expires_at.map(Text),
        max_attempts: accepted.attempts_max,
        correlation_id: accepted.correlation_id,
        causation_id: accepted.causation_id,
        traceparent: accepted.traceparent,
    }
}

fn told(outcome: Outcome) -> Told {
    let data = String::from_utf8(outcome.data).ok();
    Told {
        code: outcome.code,
        detail: outcome.detail,
        data: data.and_then(|data| RawValue::from_string(data).ok()),
    }
}

/// Every step of the message, oldest first, as `asker` may see it.
pub(crate) fn timeline(view: &View, history: &History, asker: &TenantName) -> Vec<u8> {
    let steps = history
        .records
        .iter()
        .filter_map(|(at, record)| step(*at, record, asker));
    json(&Timeline {
        id: Text(view.id),
        state: state(view.place),
        agent: view.agent.as_str(),
        steps: steps.collect(),
        incomplete: history.missing.as_ref().map(|_| true),
        missing: history.missing.as_ref(),
    })
}

fn step<'a>(position: Position, record: &'a [u8], asker: &TenantName) -> Option<Step<'a>> {
    let begun = |step, at| Step {
        step,
        at: Text(at),
        position,
        ..Step::default()
    };
    Some(match decode_record(record).ok()? {
        Record::Accepted(accepted)
        | Record::AcceptedUnder {
            not_before: None,
            accepted,
            ..
        }
        | Record::AcceptedByReference {
            not_before: None,
            accepted,
            ..
        } => Step {
            seq: Some(accepted.seq),
            sender: Some(accepted.sender),
            bytes: Some(accepted.bytes()),
            ..begun("accepted", accepted.at)
        },
        Record::Scheduled {
            not_before,
            accepted,
        }
        | Record::AcceptedUnder {
            not_before: Some(not_before),
            accepted,
            ..
        }
        | Record::AcceptedByReference {
            not_before: Some(not_before),
            accepted,
            ..
        } => Step {
            sender: Some(accepted.sender),
            bytes: Some(accepted.bytes()),
            not_before: Some(Text(not_before)),
            ..begun("accepted", accepted.at)
        },
        Record::FannedOut { accepted, .. } => Step {
            sender: Some(accepted.sender),
            bytes: Some(accepted.bytes()),
            ..begun("sent_to_many", accepted.at)
        },
        Record::Addressed(row) => Step {
            seq: (row.seq > 0).then_some(row.seq),
            not_before: row.not_before.map(Text),
            ..begun("accepted", row.at)
        },
        Record::Due { at, seq, .. } => Step {
            seq: Some(seq),
            ..begun("due", at)
        },
        Record::Reprocessed {
            at,
            generation,
            seq,
            by,
            operation,
            may_process_twice,
            ..
        } => Step {
            seq: Some(seq),
            generation: Some(generation),
            by: Some(by.to_owned()),
            operation: operation.map(Text),
            may_process_twice: may_process_twice.then_some(true),
            ..begun("replayed", at)
        },
        Record::Offered {
            at,
            term,
            attempt,
            cause,
            ..
        } => Step {
            attempt: Some(attempt),
            term: Some(term),
            cause: Some(cause.as_str()),
            ..begun("pushed", at)
        },
        Record::Overdue { at, .. } => begun("overdue", at),
        Record::Stored {
            at,
            attempt,
            occurred_at,
            ..
        } => Step {
            attempt: Some(attempt),
            occurred_at: Some(Text(occurred_at)),
            ..begun("stored", at)
        },
        Record::Attempted {
            at,
            stage,
            attempt,
            occurred_at,
            outcome,
            duration_ms,
            next_at,
            ..
        } => Step {
            attempt: Some(attempt),
            occurred_at: Some(Text(occurred_at)),
            duration_ms: Some(duration_ms),
            outcome: Some(told(outcome)),
            next_at: next_at.map(Text),
            ..begun(stage.as_str(), at)
        },
        Record::Settled {
            at,
            end,
            attempt,
            occurred_at,
            outcome,
            duration_ms,
            ..
        } => Step {
            attempt: Some(attempt),
            occurred_at: Some(Text(occurred_at)),
            duration_ms: Some(duration_ms),
            outcome: Some(told(outcome)),
            ..begun(state(Place::Ended(end)), at)
        },
        Record::Kept {
            at,
            why,
            stage,
            tenant,
            by,
            occurred_at,
            outcome,
            ..
        } => {
            // Who of another tenant said it, and in what words, is that tenant's own (I30).
            let ours = tenant == *asker;
            Step {
                why: Some(why.as_str()),
                stage: Some(stage.as_str()),
                by: ours.then(|| by.as_str().to_owned()),
                occurred_at: Some(Text(occurred_at)),
                outcome: ours.then(|| told(outcome)),
                ..begun("ack_kept", at)
            }
        }
        Record::Discarded {
            at,
            operation,
            reason,
            by,
            ..
        } => Step {
            by: Some(by.to_owned()),
            operation: Some(Text(operation)),
            reason: Some(reason),
            ..begun("discarded", at)
        },
        Record::Restored {
            at, operation, by, ..
        } => Step {
            by: Some(by.to_owned()),
            operation: Some(Text(operation)),
            ..begun("restored", at)
        },
        Record::Carried { at, .. } => begun("copied_forward", at),
        _ => return None,
    })
}

/// A value shown as text.
#[derive(Default)]
pub(crate) struct Text<T>(pub(crate) T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

pub(crate) fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("texts and numbers are JSON")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut to = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(to, "{byte:02x}").expect("writing to memory cannot fail");
    }
    to
}
