//! The hub protocol of a connection: the one place that knows its encoding.

use signalr_protocol::handshake::HandshakeRequest;
use signalr_protocol::json::{self, DecodeError};
use signalr_protocol::negotiate::TransferFormat;
use signalr_protocol::{
    CancelInvocation, Completion, CompletionResult, HubMessage, Invocation, Raw, Reader, StreamItem,
};

/// How hub messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// JSON text. Every server and every transport carries it.
    #[default]
    Json,
}

impl Encoding {
    /// What a transport must be able to carry.
    pub(crate) fn transfer_format(self) -> TransferFormat {
        match self {
            Self::Json => TransferFormat::Text,
        }
    }
}

/// Version 2 is sent only where stateful reconnect was granted, so that old servers keep working.
pub(crate) fn handshake_request(encoding: Encoding, is_stateful: bool) -> Vec<u8> {
    let name = match encoding {
        Encoding::Json => json::NAME,
    };
    let mut out = Vec::new();
    let version = if is_stateful { 2 } else { 1 };
    HandshakeRequest::new(name, version).encode(&mut out);
    out
}

/// `None` is a message of an unknown type, which must be skipped.
pub(crate) fn decode(record: &[u8]) -> Result<Option<HubMessage<'_>>, DecodeError> {
    json::decode(record, Reader::Client)
}

/// Any message, whole.
pub(crate) fn encode(message: &HubMessage<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode(&mut out, message);
    out
}

/// A call of a method, or of one whose answer is a stream.
pub(crate) fn call(
    target: &str,
    id: Option<&str>,
    arguments: Raw<'_>,
    stream_ids: &[String],
    is_streaming: bool,
) -> Vec<u8> {
    let call = Invocation {
        headers: Vec::new(),
        invocation_id: id.map(Into::into),
        target: target.into(),
        arguments,
        stream_ids: stream_ids.iter().map(|id| id.as_str().into()).collect(),
    };
    encode(&match is_streaming {
        true => HubMessage::StreamInvocation(call),
        false => HubMessage::Invocation(call),
    })
}

pub(crate) fn cancel(id: &str) -> Vec<u8> {
    encode(&HubMessage::CancelInvocation(CancelInvocation {
        headers: Vec::new(),
        invocation_id: id.into(),
    }))
}

pub(crate) fn item(id: &str, item: Raw<'_>) -> Vec<u8> {
    encode(&HubMessage::StreamItem(StreamItem {
        headers: Vec::new(),
        invocation_id: id.into(),
        item,
    }))
}

pub(crate) fn result(id: &str, value: Raw<'_>) -> Vec<u8> {
    completion(id, CompletionResult::Value(value))
}

/// The end of an upload.
pub(crate) fn end(id: &str) -> Vec<u8> {
    completion(id, CompletionResult::Void)
}

/// An empty text would be read as success, so it is replaced.
pub(crate) fn failure(id: &str, error: &str) -> Vec<u8> {
    let error = if error.is_empty() { " " } else { error };
    completion(id, CompletionResult::Error(error.into()))
}

fn completion(id: &str, result: CompletionResult<'_>) -> Vec<u8> {
    encode(&HubMessage::Completion(Completion::new(id, result)))
}

/// Our goodbye.
pub(crate) fn close() -> Vec<u8> {
    encode(&HubMessage::Close(signalr_protocol::Close::default()))
}

pub(crate) fn ping() -> Vec<u8> {
    encode(&HubMessage::Ping)
}

/// Everything up to this number was received.
pub(crate) fn ack(sequence_id: i64) -> Vec<u8> {
    encode(&HubMessage::Ack { sequence_id })
}

/// The next message has this number.
pub(crate) fn sequence(sequence_id: i64) -> Vec<u8> {
    encode(&HubMessage::Sequence { sequence_id })
}
