//! Writing hub messages as JSON, separator included, fields in the order of the official server.
//!
//! Raw arguments, items and results are copied as they are: the caller promises that they are
//! JSON without a bare record separator, which no JSON writer produces.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::text;
use crate::{CompletionResult, HubMessage, Invocation, RECORD_SEPARATOR, Raw};

/// A whole ping message.
pub const PING: &[u8] = b"{\"type\":6}\x1e";

/// Appends any message.
pub fn encode(out: &mut Vec<u8>, message: &HubMessage<'_>) {
    match message {
        HubMessage::Invocation(m) => encode_call(out, 1, m),
        HubMessage::StreamInvocation(m) => encode_call(out, 4, m),
        HubMessage::StreamItem(m) => {
            open(out, 2, &m.headers);
            id(out, &m.invocation_id);
            value(out, "item", &m.item);
            end(out);
        }
        HubMessage::Completion(m) => {
            open(out, 3, &m.headers);
            id(out, &m.invocation_id);
            match &m.result {
                CompletionResult::Void => {}
                CompletionResult::Value(result) => value(out, "result", result),
                CompletionResult::Error(error) => {
                    name(out, "error");
                    text::write(out, error);
                }
            }
            end(out);
        }
        HubMessage::CancelInvocation(m) => {
            open(out, 5, &m.headers);
            id(out, &m.invocation_id);
            end(out);
        }
        HubMessage::Ping => out.extend_from_slice(PING),
        HubMessage::Close(m) => encode_close(out, m.error.as_deref(), m.allow_reconnect),
        HubMessage::Ack { sequence_id } => encode_sequence(out, 8, *sequence_id),
        HubMessage::Sequence { sequence_id } => encode_sequence(out, 9, *sequence_id),
    }
}

/// Appends an invocation whose arguments are encoded already, one JSON text each.
///
/// Without an id nobody may answer it. Nothing is parsed: this is the way to send one payload to
/// many connections.
pub fn encode_invocation(
    out: &mut Vec<u8>,
    target: &str,
    raw_arguments: &[&[u8]],
    invocation_id: Option<&str>,
) {
    let bytes: usize = raw_arguments
        .iter()
        .map(|argument| argument.len() + 1)
        .sum();
    out.reserve(bytes + target.len() + invocation_id.map_or(0, str::len) + 64);
    open_invocation(out, target, invocation_id);
    out.push(b'[');
    for (index, argument) in raw_arguments.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(argument);
    }
    out.push(b']');
    end(out);
}

/// Appends an invocation whose arguments are one JSON array already.
pub fn encode_invocation_array(
    out: &mut Vec<u8>,
    target: &str,
    raw_array: &[u8],
    invocation_id: Option<&str>,
) {
    out.reserve(raw_array.len() + target.len() + invocation_id.map_or(0, str::len) + 64);
    open_invocation(out, target, invocation_id);
    out.extend_from_slice(raw_array);
    end(out);
}

/// Appends a completion with a value, `null` included.
pub fn encode_completion_value(out: &mut Vec<u8>, invocation_id: &str, raw_value: &[u8]) {
    open(out, 3, &[]);
    id(out, invocation_id);
    name(out, "result");
    out.extend_from_slice(raw_value);
    end(out);
}

/// Appends a completion that failed. An empty text would be read as success, so it is replaced.
pub fn encode_completion_error(out: &mut Vec<u8>, invocation_id: &str, error: &str) {
    open(out, 3, &[]);
    id(out, invocation_id);
    name(out, "error");
    text::write(out, if error.is_empty() { " " } else { error });
    end(out);
}

/// Appends a completion without a value: the end of a stream, or a client's void answer.
pub fn encode_completion_void(out: &mut Vec<u8>, invocation_id: &str) {
    open(out, 3, &[]);
    id(out, invocation_id);
    end(out);
}

/// Appends a Close message.
pub fn encode_close(out: &mut Vec<u8>, error: Option<&str>, allow_reconnect: bool) {
    open(out, 7, &[]);
    if let Some(error) = error {
        name(out, "error");
        text::write(out, error);
    }
    if allow_reconnect {
        name(out, "allowReconnect");
        out.extend_from_slice(b"true");
    }
    end(out);
}

fn encode_call(out: &mut Vec<u8>, kind: u8, call: &Invocation<'_>) {
    open(out, kind, &call.headers);
    if let Some(invocation_id) = &call.invocation_id {
        id(out, invocation_id);
    }
    name(out, "target");
    text::write(out, &call.target);
    value(out, "arguments", &call.arguments);
    if !call.stream_ids.is_empty() {
        name(out, "streamIds");
        list(out, b"[]", call.stream_ids.iter(), |out, id| {
            text::write(out, id)
        });
    }
    end(out);
}

fn encode_sequence(out: &mut Vec<u8>, kind: u8, sequence_id: i64) {
    open(out, kind, &[]);
    name(out, "sequenceId");
    out.extend_from_slice(alloc::format!("{sequence_id}").as_bytes());
    end(out);
}

fn open_invocation(out: &mut Vec<u8>, target: &str, invocation_id: Option<&str>) {
    open(out, 1, &[]);
    if let Some(invocation_id) = invocation_id {
        id(out, invocation_id);
    }
    name(out, "target");
    text::write(out, target);
    name(out, "arguments");
}

fn open(out: &mut Vec<u8>, kind: u8, headers: &[(Cow<'_, str>, Cow<'_, str>)]) {
    out.extend_from_slice(b"{\"type\":");
    out.push(b'0' + kind);
    if !headers.is_empty() {
        name(out, "headers");
        list(out, b"{}", headers.iter(), |out, (name, value)| {
            text::write(out, name);
            out.push(b':');
            text::write(out, value);
        });
    }
}

fn list<T>(
    out: &mut Vec<u8>,
    brackets: &[u8; 2],
    items: impl Iterator<Item = T>,
    write: impl Fn(&mut Vec<u8>, T),
) {
    out.push(brackets[0]);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(brackets[1]);
}

fn name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn id(out: &mut Vec<u8>, id: &str) {
    name(out, "invocationId");
    text::write(out, id);
}

fn value(out: &mut Vec<u8>, property: &str, raw: &Raw<'_>) {
    name(out, property);
    out.extend_from_slice(&raw.to_json());
}

fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'}', RECORD_SEPARATOR]);
}
