//! The encoding of one connection, chosen by its handshake. Writing only: what is read depends on
//! it too, but only in the session.

use signalr_protocol::{error_text, json};

/// A hub protocol that this server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
}

impl Codec {
    /// Chooses by what the client asked for.
    ///
    /// # Errors
    ///
    /// With the text of the refusal.
    pub(crate) fn choose(protocol: &str, version: i32) -> Result<Self, String> {
        if !protocol.eq_ignore_ascii_case(json::NAME) {
            return Err(error_text::protocol_not_supported(protocol));
        }
        if version > json::VERSION_MAX {
            return Err(error_text::version_not_supported(protocol, version));
        }
        Ok(Self::Json)
    }

    pub(crate) fn ping(self, out: &mut Vec<u8>) {
        match self {
            Self::Json => out.extend_from_slice(json::PING),
        }
    }

    pub(crate) fn close(self, out: &mut Vec<u8>, error: Option<&str>, allow_reconnect: bool) {
        match self {
            Self::Json => json::encode_close(out, error, allow_reconnect),
        }
    }

    /// A call with one argument.
    pub(crate) fn invocation(
        self,
        out: &mut Vec<u8>,
        target: &str,
        argument: &[u8],
        id: Option<&str>,
    ) {
        match self {
            Self::Json => json::encode_invocation(out, target, &[argument], id),
        }
    }

    /// A call whose arguments are an encoded array.
    pub(crate) fn invocation_array(
        self,
        out: &mut Vec<u8>,
        target: &str,
        array: &[u8],
        id: Option<&str>,
    ) {
        match self {
            Self::Json => json::encode_invocation_array(out, target, array, id),
        }
    }

    pub(crate) fn completion(self, out: &mut Vec<u8>, id: &str, answer: &Result<Vec<u8>, String>) {
        match (self, answer) {
            (Self::Json, Ok(value)) => json::encode_completion_value(out, id, value),
            (Self::Json, Err(error)) => json::encode_completion_error(out, id, error),
        }
    }
}
