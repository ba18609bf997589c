//! A message and its timeline as JSON, out of its records.

use crate::history::History;
use countersign_rules::ack::Outcome;
use countersign_rules::delivery::{
    Accepted, End, Place, Record, View, decode_accepted, decode_record,
};
use countersign_rules::{Position, Timestamp};
use serde_json::{Map, Value, json};

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

/// The message's representation.
pub(crate) fn describe(view: &View, history: &History) -> Value {
    let mut message = Map::new();
    let mut put = |name: &str, value: Value| {
        message.insert(name.to_owned(), value);
    };
    put("id", json!(view.id.to_string()));
    put("state", json!(state(view.place)));
    put("agent", json!(view.agent.as_str()));
    put("generation", json!(view.generation));
    if view.place == Place::Queued {
        let why = if view.online {
            "its turn"
        } else {
            "agent offline"
        };
        put("waiting_for", json!(why));
    }
    let mut pushes = 0;
    for (_, bytes) in &history.records {
        match decode_record(bytes) {
            Ok(Record::Accepted(_) | Record::Carried { .. }) => {
                if let Ok(accepted) = decode_accepted(bytes) {
                    describe_accepted(&accepted, &mut put);
                }
            }
            Ok(Record::Offered { at, attempt, .. }) => {
                pushes = attempt;
                put("pushed_at", time(at));
            }
            Ok(Record::Stored { at, .. }) => put("stored_at", time(at)),
            Ok(Record::Settled {
                at,
                end,
                attempt,
                outcome,
                duration_ms,
                ..
            }) => {
                put(
                    if end == End::Processed {
                        "acknowledged_at"
                    } else {
                        "ended_at"
                    },
                    time(at),
                );
                put("attempts", json!(attempt));
                put("duration_ms", json!(duration_ms));
                put("outcome", describe_outcome(&outcome));
            }
            _ => {}
        }
    }
    put("pushes", json!(pushes));
    let id = view.id;
    put(
        "links",
        json!({
            "self": format!("/v1/messages/{id}"),
            "timeline": format!("/v1/messages/{id}/timeline"),
            "data": format!("/v1/messages/{id}/data"),
        }),
    );
    Value::Object(message)
}

fn describe_accepted(accepted: &Accepted<'_>, put: &mut impl FnMut(&str, Value)) {
    put("type", json!(accepted.kind));
    put("tenant", json!(accepted.tenant));
    put("seq", json!(accepted.seq));
    put("lane", json!(accepted.lane));
    put("accepted_at", time(accepted.at));
    put("bytes", json!(accepted.data.len()));
    put("sha256", json!(hex(&accepted.body_sha256)));
    put("sender", json!(accepted.sender));
    if let Some(at) = accepted.expires_at {
        put("expires_at", time(at));
    }
    if let Some(attempts_max) = accepted.attempts_max {
        put("max_attempts", json!(attempts_max));
    }
    for (name, value) in [
        ("content_type", accepted.content_type),
        ("correlation_id", accepted.correlation_id),
        ("causation_id", accepted.causation_id),
        ("traceparent", accepted.traceparent),
    ] {
        if !value.is_empty() {
            put(name, json!(value));
        }
    }
}

fn describe_outcome(outcome: &Outcome) -> Value {
    let mut value = json!({ "code": outcome.code, "detail": outcome.detail });
    if let Ok(data) = serde_json::from_slice::<Value>(&outcome.data) {
        value["data"] = data;
    }
    value
}

/// Every step of the message, oldest first.
pub(crate) fn timeline(view: &View, history: &History) -> Value {
    let steps = history
        .records
        .iter()
        .filter_map(|(at, bytes)| step(*at, bytes));
    let mut document = json!({
        "id": view.id.to_string(),
        "state": state(view.place),
        "agent": view.agent.as_str(),
        "steps": steps.collect::<Vec<_>>(),
    });
    if let Some(why) = &history.incomplete {
        document["incomplete"] = json!(why);
    }
    document
}

fn step(position: Position, bytes: &[u8]) -> Option<Value> {
    let (name, at, mut rest) = match decode_record(bytes).ok()? {
        Record::Accepted(accepted) => {
            let rest = json!({ "seq": accepted.seq, "sender": accepted.sender, "bytes": accepted.data.len() });
            ("accepted", accepted.at, rest)
        }
        Record::Offered {
            at,
            term,
            attempt,
            cause,
            ..
        } => (
            "pushed",
            at,
            json!({ "attempt": attempt, "term": term, "cause": cause.as_str() }),
        ),
        Record::Overdue { at, .. } => ("overdue", at, json!({})),
        Record::Stored {
            at,
            attempt,
            occurred_at,
            ..
        } => (
            "stored",
            at,
            json!({ "attempt": attempt, "occurred_at": time(occurred_at) }),
        ),
        Record::Settled {
            at,
            end,
            attempt,
            occurred_at,
            outcome,
            duration_ms,
            ..
        } => {
            let rest = json!({
                "attempt": attempt,
                "occurred_at": time(occurred_at),
                "duration_ms": duration_ms,
                "outcome": describe_outcome(&outcome),
            });
            (state(Place::Ended(end)), at, rest)
        }
        Record::Kept {
            at,
            why,
            stage,
            by,
            occurred_at,
            outcome,
            ..
        } => {
            let rest = json!({
                "why": why.as_str(),
                "stage": stage.as_str(),
                "by": by.as_str(),
                "occurred_at": time(occurred_at),
                "outcome": describe_outcome(&outcome),
            });
            ("ack_kept", at, rest)
        }
        Record::Carried { at, .. } => ("copied_forward", at, json!({})),
        _ => return None,
    };
    rest["step"] = json!(name);
    rest["at"] = time(at);
    rest["position"] = json!(position);
    Some(rest)
}

/// RFC 3339 in milliseconds.
fn time(at: Timestamp) -> Value {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(at) => json!(format!("{at:.3}")),
        Err(_) => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
