//! The hub protocol of a connection: the one place that knows its encoding.
//!
//! Left out so far: MessagePack, which needs another splitter and Binary frames.

use signalr_protocol::handshake::HandshakeRequest;
use signalr_protocol::json::{self, DecodeError};
use signalr_protocol::negotiate::TransferFormat;
use signalr_protocol::{HubMessage, Reader};

/// What a transport must be able to carry.
pub(crate) const TRANSFER_FORMAT: TransferFormat = TransferFormat::Text;

/// A whole ping.
pub(crate) const PING: &[u8] = json::PING;

/// Version 1: version 2 would announce stateful reconnect.
pub(crate) fn handshake_request() -> Vec<u8> {
    let mut out = Vec::new();
    HandshakeRequest::new(json::NAME, 1).encode(&mut out);
    out
}

/// `None` is a message of an unknown type, which must be skipped.
pub(crate) fn decode(record: &[u8]) -> Result<Option<HubMessage<'_>>, DecodeError> {
    json::decode(record, Reader::Client)
}

pub(crate) fn invocation(target: &str, id: Option<&str>, arguments: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(arguments.len() + target.len() + 64);
    json::encode_invocation_array(&mut out, target, arguments, id);
    out
}

pub(crate) fn result(id: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + id.len() + 48);
    json::encode_completion_value(&mut out, id, value);
    out
}

pub(crate) fn failure(id: &str, error: &str) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode_completion_error(&mut out, id, error);
    out
}

/// Our goodbye.
pub(crate) fn close() -> Vec<u8> {
    let mut out = Vec::new();
    json::encode_close(&mut out, None, false);
    out
}
