//! When an answer is the same.

use serde_json::Value;

use super::entry::{Payload, Step};
use super::wire::Answer;

/// How a message travels, or what only this server says.
const FREE_HEADERS: [&str; 7] = [
    "date",
    "connection",
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "vary",
    "x-accel-buffering",
];

/// What this server says beside what the original says.
const MORE_HEADERS: [&str; 5] = [
    "allow",
    "cache-control",
    "expires",
    "pragma",
    "www-authenticate",
];

/// Whether the payloads of one socket are those that were recorded.
pub(crate) fn payloads(recorded: &[Payload], received: &[u8]) -> Result<(), String> {
    let is_text = recorded
        .iter()
        .all(|payload| matches!(payload, Payload::Text(_)));
    let mut wanted = Vec::new();
    for payload in recorded {
        match payload {
            Payload::Text(text) => wanted.extend_from_slice(text.as_bytes()),
            Payload::Bytes(bytes) => wanted.extend_from_slice(bytes),
        }
    }
    let same = match (is_text, records(&wanted), records(received)) {
        (true, Some(wanted), Some(received)) => {
            wanted.len() == received.len()
                && wanted
                    .iter()
                    .zip(&received)
                    .all(|(left, right)| same_value(left, right))
        }
        _ => wanted == received,
    };
    let shown = |bytes: &[u8]| -> String {
        match is_text {
            true => String::from_utf8_lossy(bytes).chars().take(400).collect(),
            false => String::from_utf8_lossy(bytes)
                .escape_debug()
                .take(300)
                .collect(),
        }
    };
    match same {
        true => Ok(()),
        false => Err(format!("wanted {} got {}", shown(&wanted), shown(received))),
    }
}

/// JSON messages, pings left out; `None` when they are none.
pub(crate) fn records(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut records = Vec::new();
    let mut parts: Vec<&[u8]> = bytes.split(|byte| *byte == 0x1e).collect();
    if parts.pop().is_some_and(|rest| !rest.is_empty()) {
        return None;
    }
    for part in parts {
        let value: Value = serde_json::from_slice(part).ok()?;
        if value["type"] != 6 {
            records.push(value);
        }
    }
    Some(records)
}

/// Numbers may be spelled otherwise, and `{S}` is an id that the server chooses.
fn same_value(recorded: &Value, received: &Value) -> bool {
    match (recorded, received) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same_value(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, value)| {
                    right
                        .get(name)
                        .is_some_and(|other| same_value(value, other))
                })
        }
        (Value::String(left), Value::String(_)) if left == "{S}" => true,
        _ => recorded == received,
    }
}

/// Whether an HTTP answer is the recorded one.
pub(crate) fn answers(recorded: &Step, wanted_body: &str, answer: &Answer) -> Result<(), String> {
    if recorded.status != Some(answer.status) {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(format!(
            "wanted status {:?}, got {} {body}",
            recorded.status, answer.status
        ));
    }
    let body = String::from_utf8_lossy(&answer.body);
    let is_refusal = answer.status >= 400;
    if !(same_body(wanted_body, &body) || is_refusal && wanted_body.is_empty()) {
        return Err(format!("wanted body {wanted_body:?}, got {body:?}"));
    }
    let is_free = |name: &str| {
        let is_about_body = name == "content-type" && (is_refusal || body.is_empty());
        is_about_body || FREE_HEADERS.contains(&name)
    };
    let mut wanted = headers(recorded);
    wanted.retain(|(name, _)| !is_free(name));
    let mut got = answer.headers.clone();
    let is_more = |name: &str| {
        MORE_HEADERS.contains(&name) && wanted.iter().all(|(wanted, _)| wanted != name)
    };
    got.retain(|(name, _)| !is_free(name) && !is_more(name));
    wanted.sort();
    got.sort();
    match wanted == got {
        true => Ok(()),
        false => Err(format!("wanted headers {wanted:?}, got {got:?}")),
    }
}

/// Ids of negotiations are the server's own.
fn same_body(wanted: &str, got: &str) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    match (parsed(wanted), parsed(got)) {
        (Some(mut wanted), Some(mut got)) => {
            for name in ["connectionId", "connectionToken"] {
                if wanted[name].is_string() && got[name].is_string() {
                    wanted[name].take();
                    got[name].take();
                }
            }
            same_value(&wanted, &got)
        }
        _ => wanted == got,
    }
}

fn headers(step: &Step) -> Vec<(String, String)> {
    let pairs = step
        .headers
        .iter()
        .flat_map(|value| value.as_array())
        .flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    pairs
        .map(|pair| (text(&pair[0]).to_ascii_lowercase(), text(&pair[1])))
        .collect()
}
