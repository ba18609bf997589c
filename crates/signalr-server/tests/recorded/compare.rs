//! When an answer is the same, and how one is shown.

use serde_json::Value;

use super::entry::Step;
use super::wire::Reply;

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

/// One hub message, as far as it can be told from the next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    Json(Value),
    /// A MessagePack frame, or what is no messages at all.
    Bytes(Vec<u8>),
}

/// What a peer was sent, pings left out, and on demand Acks.
pub(crate) fn messages(bytes: &[u8], drops_acks: bool) -> Vec<Message> {
    let is_dropped = |kind: i64| kind == 6 || kind == 8 && drops_acks;
    if let Some(mut records) = records(bytes) {
        records.retain(|record| !record["type"].as_i64().is_some_and(is_dropped));
        return records.into_iter().map(Message::Json).collect();
    }
    match frames(bytes) {
        Some(mut frames) => {
            // Pings and Acks are arrays of one and of two, the type first.
            frames.retain(|(_, body)| match body {
                [0x91 | 0x92, kind, ..] => !is_dropped(i64::from(*kind)),
                _ => true,
            });
            let whole = frames.into_iter().map(|(whole, _)| whole.to_vec());
            whole.map(Message::Bytes).collect()
        }
        None => vec![Message::Bytes(bytes.to_vec())],
    }
}

/// JSON messages; `None` when they are none.
fn records(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut parts: Vec<&[u8]> = bytes.split(|byte| *byte == 0x1e).collect();
    if parts.pop().is_some_and(|rest| !rest.is_empty()) {
        return None;
    }
    let parsed = parts.into_iter().map(serde_json::from_slice);
    parsed.collect::<Result<_, _>>().ok()
}

/// MessagePack messages with and without their length; `None` when they are none.
fn frames(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let digits = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let length = bytes[..digits]
            .iter()
            .rev()
            .fold(0, |length, digit| length << 7 | usize::from(digit & 0x7F));
        let whole = bytes.get(..digits.checked_add(length)?)?;
        frames.push((whole, &whole[digits..]));
        bytes = &bytes[whole.len()..];
    }
    Some(frames)
}

/// Leaves one item of many that follow each other.
pub(crate) fn forget_items(messages: &mut Vec<Message>) {
    let is_item =
        |message: &Message| matches!(message, Message::Json(record) if record["type"] == 2);
    messages.dedup_by(|later, earlier| is_item(later) && is_item(earlier));
    messages
        .iter_mut()
        .filter(|message| is_item(message))
        .for_each(|message| {
            if let Message::Json(record) = message {
                record["item"].take();
            }
        });
}

/// Puts messages into an order of their own.
pub(crate) fn order(messages: &mut [Message]) {
    messages.sort_by_key(show);
}

/// What differs between the messages that were recorded and those that came.
pub(crate) fn difference(recorded: &[Message], received: &[Message]) -> Option<String> {
    let same = recorded.len() == received.len()
        && recorded
            .iter()
            .zip(received)
            .all(|(l, r)| same_message(l, r));
    let shown = |messages: &[Message]| -> String {
        let shown: Vec<_> = messages.iter().map(show).collect();
        shown.join(" ").chars().take(600).collect()
    };
    (!same).then(|| format!("wanted {} got {}", shown(recorded), shown(received)))
}

fn same_message(recorded: &Message, received: &Message) -> bool {
    match (recorded, received) {
        (Message::Json(recorded), Message::Json(received)) => same_value(recorded, received),
        _ => recorded == received,
    }
}

/// A message on one line.
pub(crate) fn show(message: &Message) -> String {
    folded(&match message {
        Message::Json(value) => {
            let mut value = value.clone();
            let is_question = value["type"] == 1 && value["invocationId"].is_string();
            if is_question {
                value["invocationId"] = "{S}".into();
            }
            value.to_string()
        }
        Message::Bytes(bytes) => bytes.escape_ascii().to_string(),
    })
}

/// Says how often instead of saying it again and again.
pub(crate) fn folded(text: &str) -> String {
    let mut folded = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        // Of escaped bytes four characters are one.
        let is_byte = rest.starts_with("\\x") && rest.is_char_boundary(4.min(rest.len()));
        let unit = &rest[..if is_byte { 4 } else { first.len_utf8() }];
        let tail = rest.trim_start_matches(unit);
        let times = (rest.len() - tail.len()) / unit.len();
        match times > 12 {
            true => folded += &format!("<{unit} {times} times>"),
            false => folded += &unit.repeat(times),
        }
        rest = tail;
    }
    folded
}

/// What the events of a stream carry, put together; `None` when they are no events.
pub(crate) fn event_data(stream: &str) -> Option<String> {
    let mut data = String::new();
    let events = match stream.strip_prefix(":\r\n") {
        Some(events) => events,
        None => return stream.is_empty().then_some(data),
    };
    for event in events.split_inclusive("\r\n\r\n") {
        // A stream may be looked at while an event is being written.
        let Some(event) = event.strip_suffix("\r\n\r\n") else {
            break;
        };
        let lines = event.split("\r\n");
        let lines: Option<Vec<_>> = lines.map(|line| line.strip_prefix("data: ")).collect();
        data += &lines?.join("\n");
    }
    Some(data)
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
pub(crate) fn answers(recorded: &Step, wanted_body: &str, answer: &Reply) -> Result<(), String> {
    if recorded.status != Some(answer.status) {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(format!(
            "wanted status {:?}, got {} {body}",
            recorded.status, answer.status
        ));
    }
    // What a stream carries is compared by itself, and behind an upgrade there is no body.
    if answer.is_stream() || answer.status == 101 {
        return same_headers(recorded, answer, true);
    }
    let body = String::from_utf8_lossy(&answer.body);
    let is_refusal = answer.status >= 400;
    if !(same_body(wanted_body, &body) || is_refusal && wanted_body.is_empty()) {
        return Err(format!("wanted body {wanted_body:?}, got {body:?}"));
    }
    same_headers(recorded, answer, is_refusal || body.is_empty())
}

fn same_headers(recorded: &Step, answer: &Reply, has_any_type: bool) -> Result<(), String> {
    if answer.status == 101 || recorded.headers.is_none() {
        return Ok(());
    }
    let is_free = |name: &str| is_free(name) || name == "content-type" && has_any_type;
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

fn is_free(name: &str) -> bool {
    FREE_HEADERS.contains(&name)
}

/// An HTTP answer on one line.
pub(crate) fn show_answer(reply: &Reply) -> String {
    let mut headers = reply.headers.clone();
    headers
        .retain(|(name, _)| !is_free(name) && name != "sec-websocket-accept" && name != "upgrade");
    headers.sort();
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let body = match reply.is_stream() {
        true => String::from("..."),
        false => shown_body(&reply.body),
    };
    format!("{} [{}] {body}", reply.status, headers.join("; "))
}

fn shown_body(body: &[u8]) -> String {
    if let Ok(mut negotiated) = serde_json::from_slice::<Value>(body) {
        for (name, placeholder) in [("connectionId", "{ID}"), ("connectionToken", "{TOKEN}")] {
            if negotiated[name].is_string() {
                negotiated[name] = placeholder.into();
            }
        }
        return negotiated.to_string();
    }
    folded(&body.escape_ascii().to_string())
}

/// Ids of negotiations are the server's own.
fn same_body(wanted: &str, got: &str) -> bool {
    if let (Some(wanted), Some(got)) = (records(wanted.as_bytes()), records(got.as_bytes())) {
        return wanted.len() == got.len() && wanted.iter().zip(&got).all(|(l, r)| same_value(l, r));
    }
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
