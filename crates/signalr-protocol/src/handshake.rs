//! The first message each way: which hub protocol, in which version. Always JSON.
//!
//! The server reads requests strictly, as the original does; clients read responses leniently.
//! Which protocols and versions exist is the server's knowledge and not checked here.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::RECORD_SEPARATOR;
use crate::json::{self, DecodeError};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandshakeRequest<'a> {
    /// Name of the hub protocol, compared without case.
    pub protocol: Cow<'a, str>,
    /// Version of it: 1, or 2 when stateful reconnect was granted. Old clients send 0.
    pub version: i32,
}

/// Why a request is none. The texts are those of the official server in detailed mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No JSON object, or a field of another type than it must have.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A field is missing.
    #[error("Missing required property '{property}'. Message content: {content}")]
    Missing {
        /// Its name.
        property: &'static str,
        /// The request as it came.
        content: String,
    },
}

/// Why a client cannot go on after the server's first message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The server refused; this is what it said.
    #[error("Server returned handshake error: {error}")]
    Refused {
        /// Its words.
        error: String,
    },
    /// A hub message came first.
    #[error("Expected a handshake response from the server.")]
    IsMessage,
    /// Neither a response nor a message.
    #[error("Error parsing handshake response: {0}")]
    Malformed(DecodeError),
}

impl<'a> HandshakeRequest<'a> {
    /// Asks for `protocol` in `version`.
    pub fn new(protocol: impl Into<Cow<'a, str>>, version: i32) -> Self {
        Self {
            protocol: protocol.into(),
            version,
        }
    }

    /// Appends the request, separator included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = serde_json::to_vec(self).expect("a string and a number always serialise");
        out.extend_from_slice(&text);
        out.push(RECORD_SEPARATOR);
    }
}

impl HandshakeRequest<'static> {
    /// Reads a record, its separator removed. Unknown fields, and what follows the object, are
    /// ignored; of duplicate fields the last counts.
    ///
    /// # Errors
    ///
    /// When it is no request; the server answers with a handshake error and closes.
    pub fn decode(record: &[u8]) -> Result<Self, RequestError> {
        let (content, fields) = read_object(record)?;
        let field = |property: &'static str| {
            fields.get(property).ok_or_else(|| RequestError::Missing {
                property,
                content: content.to_string(),
            })
        };
        let protocol = read_protocol(field("protocol")?)?;
        let version = read_version(field("version")?)?;
        Ok(Self {
            protocol: Cow::Owned(protocol),
            version,
        })
    }
}

/// Appends the answer that accepts, separator included.
pub fn encode_accepted(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{}\x1e");
}

/// Appends the answer that refuses, separator included. A Close frame must follow.
pub fn encode_refused(out: &mut Vec<u8>, error: &str) {
    #[derive(Serialize)]
    struct Refusal<'a> {
        error: &'a str,
    }
    let text = serde_json::to_vec(&Refusal { error }).expect("a string always serialises");
    out.extend_from_slice(&text);
    out.push(RECORD_SEPARATOR);
}

/// Reads the server's answer, its separator removed. An empty or null error is none, and a type
/// of zero is no message: so reads the JavaScript client.
///
/// # Errors
///
/// When the server refused, or answered with something else; the connection is over.
pub fn decode_response(record: &[u8]) -> Result<(), ResponseError> {
    let (_, fields) = read_object(record).map_err(ResponseError::Malformed)?;
    if fields.get("type").is_some_and(is_truthy) {
        return Err(ResponseError::IsMessage);
    }
    match fields.get("error") {
        Some(Value::String(error)) if !error.is_empty() => Err(ResponseError::Refused {
            error: error.clone(),
        }),
        _ => Ok(()),
    }
}

fn read_object(record: &[u8]) -> Result<(&str, Map<String, Value>), DecodeError> {
    let text = core::str::from_utf8(record).map_err(|_| DecodeError::NotJson)?;
    let object = json::object_extent(text)?;
    let fields = serde_json::from_str(object).map_err(|_| DecodeError::NotJson)?;
    Ok((object, fields))
}

fn read_protocol(value: &Value) -> Result<String, DecodeError> {
    let wrong = DecodeError::WrongType {
        property: "protocol",
        expected: "String",
    };
    value.as_str().map(ToString::to_string).ok_or(wrong)
}

fn read_version(value: &Value) -> Result<i32, DecodeError> {
    let Value::Number(number) = value else {
        return Err(DecodeError::WrongType {
            property: "version",
            expected: "Number",
        });
    };
    let version = number
        .as_i64()
        .and_then(|number| i32::try_from(number).ok());
    version.ok_or(DecodeError::NotInteger {
        property: "version",
    })
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}
