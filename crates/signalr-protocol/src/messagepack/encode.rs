//! Writing hub messages as MessagePack, length included, in the shapes of the official server.
//!
//! Raw arguments, items and results are copied as they are when they are MessagePack already.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::ser::{write_array, write_integer, write_map, write_text};
use crate::{CompletionResult, HubMessage, Invocation};

/// A whole ping message.
pub const PING: &[u8] = &[0x02, 0x91, 0x06];

const NIL: u8 = 0xC0;
const FALSE: u8 = 0xC2;
const TRUE: u8 = 0xC3;
const KIND_ERROR: u8 = 1;
const KIND_VOID: u8 = 2;
const KIND_VALUE: u8 = 3;

/// Appends any message.
pub fn encode(out: &mut Vec<u8>, message: &HubMessage<'_>) {
    match message {
        HubMessage::Invocation(m) => encode_call(out, 1, m),
        HubMessage::StreamInvocation(m) => encode_call(out, 4, m),
        HubMessage::StreamItem(m) => framed(out, |out| {
            open(out, 4, 2, &m.headers);
            write_text(out, &m.invocation_id);
            out.extend_from_slice(&m.item.to_messagepack());
        }),
        HubMessage::Completion(m) => framed(out, |out| {
            let items = if m.result == CompletionResult::Void {
                4
            } else {
                5
            };
            open(out, items, 3, &m.headers);
            write_text(out, &m.invocation_id);
            match &m.result {
                CompletionResult::Void => out.push(KIND_VOID),
                CompletionResult::Value(value) => {
                    out.push(KIND_VALUE);
                    out.extend_from_slice(&value.to_messagepack());
                }
                CompletionResult::Error(error) => {
                    out.push(KIND_ERROR);
                    write_text(out, error);
                }
            }
        }),
        HubMessage::CancelInvocation(m) => framed(out, |out| {
            open(out, 3, 5, &m.headers);
            write_text(out, &m.invocation_id);
        }),
        HubMessage::Ping => out.extend_from_slice(PING),
        HubMessage::Close(m) => encode_close(out, m.error.as_deref(), m.allow_reconnect),
        HubMessage::Ack { sequence_id } => encode_sequence(out, 8, *sequence_id),
        HubMessage::Sequence { sequence_id } => encode_sequence(out, 9, *sequence_id),
    }
}

/// Appends an invocation whose arguments are encoded already, one MessagePack value each.
pub fn encode_invocation(
    out: &mut Vec<u8>,
    target: &str,
    raw_arguments: &[&[u8]],
    invocation_id: Option<&str>,
) {
    framed(out, |out| {
        open_invocation(out, target, invocation_id);
        write_array(out, raw_arguments.len());
        for argument in raw_arguments {
            out.extend_from_slice(argument);
        }
        write_array(out, 0);
    });
}

/// Appends an invocation whose arguments are one MessagePack array already.
pub fn encode_invocation_array(
    out: &mut Vec<u8>,
    target: &str,
    raw_array: &[u8],
    invocation_id: Option<&str>,
) {
    framed(out, |out| {
        open_invocation(out, target, invocation_id);
        out.extend_from_slice(raw_array);
        write_array(out, 0);
    });
}

/// Appends a completion with a value, nil included.
pub fn encode_completion_value(out: &mut Vec<u8>, invocation_id: &str, raw_value: &[u8]) {
    framed(out, |out| {
        open(out, 5, 3, &[]);
        write_text(out, invocation_id);
        out.push(KIND_VALUE);
        out.extend_from_slice(raw_value);
    });
}

/// Appends a completion that failed. An empty text would be read as success, so it is replaced.
pub fn encode_completion_error(out: &mut Vec<u8>, invocation_id: &str, error: &str) {
    framed(out, |out| {
        open(out, 5, 3, &[]);
        write_text(out, invocation_id);
        out.push(KIND_ERROR);
        write_text(out, if error.is_empty() { " " } else { error });
    });
}

/// Appends a completion without a value: the end of a stream, or a client's void answer.
pub fn encode_completion_void(out: &mut Vec<u8>, invocation_id: &str) {
    framed(out, |out| {
        open(out, 4, 3, &[]);
        write_text(out, invocation_id);
        out.push(KIND_VOID);
    });
}

/// Appends a Close message.
pub fn encode_close(out: &mut Vec<u8>, error: Option<&str>, allow_reconnect: bool) {
    framed(out, |out| {
        write_array(out, 3);
        out.push(7);
        optional_text(out, error);
        out.push(if allow_reconnect { TRUE } else { FALSE });
    });
}

fn encode_call(out: &mut Vec<u8>, kind: u8, call: &Invocation<'_>) {
    framed(out, |out| {
        open(out, 6, kind, &call.headers);
        optional_text(out, call.invocation_id.as_deref());
        write_text(out, &call.target);
        out.extend_from_slice(&call.arguments.to_messagepack());
        write_array(out, call.stream_ids.len());
        for id in &call.stream_ids {
            write_text(out, id);
        }
    });
}

fn encode_sequence(out: &mut Vec<u8>, kind: u8, sequence_id: i64) {
    framed(out, |out| {
        write_array(out, 2);
        out.push(kind);
        write_integer(out, sequence_id);
    });
}

fn open_invocation(out: &mut Vec<u8>, target: &str, invocation_id: Option<&str>) {
    open(out, 6, 1, &[]);
    optional_text(out, invocation_id);
    write_text(out, target);
}

fn open(out: &mut Vec<u8>, items: usize, kind: u8, headers: &[(Cow<'_, str>, Cow<'_, str>)]) {
    write_array(out, items);
    out.push(kind);
    write_map(out, headers.len());
    for (name, value) in headers {
        write_text(out, name);
        write_text(out, value);
    }
}

fn optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_text(out, text),
        None => out.push(NIL),
    }
}

/// Appends what `write` appends, behind its length in as few bytes as it takes.
fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    write(out);
    let mut length = out.len() - start - 1;
    let mut prefix = [0; 10];
    let mut bytes = 0;
    loop {
        prefix[bytes] = (length & 0x7F) as u8;
        length >>= 7;
        bytes += 1;
        if length == 0 {
            break;
        }
        prefix[bytes - 1] |= 0x80;
    }
    // A length of one byte, which most messages have, fits where the place was kept.
    out.splice(start..=start, prefix[..bytes].iter().copied());
}
