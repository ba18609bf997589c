//! Reading one JSON record, by the rules of the side that reads.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::fields::Fields;
use super::{extent, text};
use crate::{
    CancelInvocation, Close, Completion, CompletionResult, Headers, HubMessage, Invocation,
    MessageType, Raw, Reader, StreamItem,
};

/// Why a record is no hub message. The connection must end: the stream cannot be trusted.
///
/// The texts are those of the official server in detailed mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not JSON, cut off, too deep, or not text at all.
    #[error("Error reading JSON.")]
    NotJson,
    /// JSON, but no object.
    #[error("Unexpected JSON Token Type '{found}'. Expected a JSON Object.")]
    NotObject {
        /// What stands there instead.
        found: &'static str,
    },
    /// A required property is missing.
    #[error("Missing required property '{property}'.")]
    Missing {
        /// Its name.
        property: &'static str,
    },
    /// A property has another type.
    #[error("Expected '{property}' to be of type {expected}.")]
    WrongType {
        /// Its name.
        property: &'static str,
        /// The type it must have.
        expected: &'static str,
    },
    /// A header is not a string.
    #[error("Expected header '{name}' to be of type String.")]
    WrongHeader {
        /// Name of the header.
        name: String,
    },
    /// A number is no integer, or out of range.
    #[error("Expected '{property}' to be an integer in range.")]
    NotInteger {
        /// Name of the property.
        property: &'static str,
    },
    /// `streamIds` or one of its elements is null.
    #[error("Null value for 'streamIds' is not valid.")]
    NullStreamId,
    /// A completion says both that it failed and that it did not.
    #[error("The 'error' and 'result' properties are mutually exclusive.")]
    ErrorAndResult,
    /// `allowReconnect` is something else than true or false.
    #[error("Expected 'allowReconnect' to be true or false.")]
    NotBoolean,
}

/// Reads one record, its separator removed. `None` is a message of a type unknown to this reader,
/// which must be skipped.
///
/// # Errors
///
/// When the record is malformed for this reader; see [`DecodeError`].
pub fn decode(record: &[u8], reader: Reader) -> Result<Option<HubMessage<'_>>, DecodeError> {
    match core::str::from_utf8(record) {
        Ok(text) => decode_text(text, reader),
        Err(_) => decode_broken_text(record, reader),
    }
}

fn decode_text(text: &str, reader: Reader) -> Result<Option<HubMessage<'_>>, DecodeError> {
    let fields = Fields::read(extent::object(text)?)?;
    let parts = Parts { fields, reader };
    if reader == Reader::Server {
        parts.check_all()?;
    }
    let number = parts.kind()?;
    match MessageType::from_number(number) {
        Some(kind) => parts.build(kind),
        None => Ok(None),
    }
}

/// Bytes that are not UTF-8 spoil only the arguments they stand in, elsewhere the connection.
fn decode_broken_text(
    record: &[u8],
    reader: Reader,
) -> Result<Option<HubMessage<'static>>, DecodeError> {
    let text = String::from_utf8_lossy(record);
    let mut message = decode_text(&text, reader)?.map(HubMessage::into_owned);
    match &mut message {
        Some(HubMessage::Invocation(m) | HubMessage::StreamInvocation(m)) => {
            spoil(&mut m.arguments);
            if m.target.contains(char::REPLACEMENT_CHARACTER) {
                return Err(DecodeError::NotJson);
            }
        }
        Some(HubMessage::StreamItem(m)) => spoil(&mut m.item),
        Some(HubMessage::Completion(m)) => {
            if let CompletionResult::Value(value) = &mut m.result {
                spoil(value);
            }
        }
        _ => {}
    }
    Ok(message)
}

fn spoil(raw: &mut Raw<'_>) {
    let replacement = "\u{fffd}".as_bytes();
    if raw
        .as_bytes()
        .windows(replacement.len())
        .any(|part| part == replacement)
    {
        *raw = Raw::unreadable();
    }
}

/// The fields of one record and the rules to read them by.
struct Parts<'a> {
    fields: Fields<'a>,
    reader: Reader,
}

impl<'a> Parts<'a> {
    /// The official server checks every field it knows, whether the type has it or not.
    fn check_all(&self) -> Result<(), DecodeError> {
        for (property, raw) in [
            ("invocationId", self.fields.invocation_id),
            ("target", self.fields.target),
            ("error", self.fields.error),
        ] {
            string(property, raw)?;
        }
        self.allow_reconnect()?;
        self.headers()?;
        Ok(())
    }

    fn kind(&self) -> Result<i32, DecodeError> {
        let raw = self
            .fields
            .kind
            .ok_or(DecodeError::Missing { property: "type" })?;
        let number = self.integer("type", raw)?;
        i32::try_from(number).map_err(|_| DecodeError::NotInteger { property: "type" })
    }

    fn build(self, kind: MessageType) -> Result<Option<HubMessage<'a>>, DecodeError> {
        let is_client = self.reader == Reader::Client;
        Ok(Some(match kind {
            MessageType::StreamInvocation | MessageType::CancelInvocation if is_client => {
                return Ok(None);
            }
            MessageType::Invocation => HubMessage::Invocation(self.invocation()?),
            MessageType::StreamInvocation => {
                self.required_id()?;
                HubMessage::StreamInvocation(self.invocation()?)
            }
            MessageType::StreamItem => HubMessage::StreamItem(self.stream_item()?),
            MessageType::Completion => HubMessage::Completion(self.completion()?),
            MessageType::CancelInvocation => HubMessage::CancelInvocation(CancelInvocation {
                invocation_id: self.required_id()?,
                headers: self.headers()?,
            }),
            MessageType::Ping => HubMessage::Ping,
            MessageType::Close => HubMessage::Close(self.close()?),
            MessageType::Ack => HubMessage::Ack {
                sequence_id: self.sequence_id()?,
            },
            MessageType::Sequence => HubMessage::Sequence {
                sequence_id: self.sequence_id()?,
            },
        }))
    }

    fn invocation(&self) -> Result<Invocation<'a>, DecodeError> {
        Ok(Invocation {
            headers: self.headers()?,
            invocation_id: self.optional_id()?,
            target: self.target()?,
            arguments: self.arguments()?,
            stream_ids: self.stream_ids()?,
        })
    }

    fn stream_item(&self) -> Result<StreamItem<'a>, DecodeError> {
        let item = self
            .fields
            .item
            .ok_or(DecodeError::Missing { property: "item" })?;
        Ok(StreamItem {
            headers: self.headers()?,
            invocation_id: self.required_id()?,
            item: raw(item),
        })
    }

    fn completion(&self) -> Result<Completion<'a>, DecodeError> {
        Ok(Completion {
            headers: self.headers()?,
            invocation_id: self.required_id()?,
            result: self.completion_result()?,
        })
    }

    fn completion_result(&self) -> Result<CompletionResult<'a>, DecodeError> {
        match (self.error()?, self.fields.result) {
            (Some(_), Some(result)) if self.reader == Reader::Server || is_truthy(result) => {
                Err(DecodeError::ErrorAndResult)
            }
            (Some(error), _) => Ok(CompletionResult::Error(error)),
            (None, Some(result)) => Ok(CompletionResult::Value(raw(result))),
            (None, None) => Ok(CompletionResult::Void),
        }
    }

    fn close(&self) -> Result<Close<'a>, DecodeError> {
        Ok(Close {
            error: self.error()?,
            allow_reconnect: self.allow_reconnect()?,
        })
    }

    /// A client takes an error without truth in it for none.
    fn error(&self) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let raw = self.fields.error;
        match self.reader {
            Reader::Client if raw.is_some_and(|raw| !is_truthy(raw)) => Ok(None),
            _ => string("error", raw),
        }
    }

    fn allow_reconnect(&self) -> Result<bool, DecodeError> {
        match self.fields.allow_reconnect {
            Some("true") => Ok(true),
            None | Some("false") => Ok(false),
            Some(_) if self.reader == Reader::Client => Ok(false),
            Some(_) => Err(DecodeError::NotBoolean),
        }
    }

    fn target(&self) -> Result<Cow<'a, str>, DecodeError> {
        match string("target", self.fields.target)? {
            Some(target) if self.reader == Reader::Server || !target.is_empty() => Ok(target),
            _ => Err(DecodeError::Missing { property: "target" }),
        }
    }

    fn arguments(&self) -> Result<Raw<'a>, DecodeError> {
        match (self.fields.arguments, self.reader) {
            (Some(array), _) if array.starts_with('[') => Ok(raw(array)),
            (Some(_), _) => Err(DecodeError::WrongType {
                property: "arguments",
                expected: "Array",
            }),
            (None, Reader::Client) => Ok(Raw::default()),
            (None, Reader::Server) => Err(DecodeError::Missing {
                property: "arguments",
            }),
        }
    }

    /// The id of a call: a server takes an empty one for none, a client refuses it.
    fn optional_id(&self) -> Result<Option<Cow<'a, str>>, DecodeError> {
        match string("invocationId", self.fields.invocation_id)? {
            Some(id) if id.is_empty() && self.reader == Reader::Server => Ok(None),
            Some(id) if id.is_empty() => Err(DecodeError::Missing {
                property: "invocationId",
            }),
            id => Ok(id),
        }
    }

    fn required_id(&self) -> Result<Cow<'a, str>, DecodeError> {
        match string("invocationId", self.fields.invocation_id)? {
            Some(id) if !id.is_empty() => Ok(id),
            _ => Err(DecodeError::Missing {
                property: "invocationId",
            }),
        }
    }

    fn stream_ids(&self) -> Result<Vec<Cow<'a, str>>, DecodeError> {
        let Some(raw) = self.fields.stream_ids else {
            return Ok(Vec::new());
        };
        match serde_json::from_str::<Vec<Option<String>>>(raw) {
            Ok(ids) => {
                let ids = ids.into_iter().map(|id| id.map(Cow::Owned));
                ids.collect::<Option<_>>().ok_or(DecodeError::NullStreamId)
            }
            Err(_) if self.reader == Reader::Client => Ok(Vec::new()),
            Err(_) if raw == "null" => Err(DecodeError::NullStreamId),
            Err(_) => Err(DecodeError::WrongType {
                property: "streamIds",
                expected: "Array",
            }),
        }
    }

    fn sequence_id(&self) -> Result<i64, DecodeError> {
        let property = "sequenceId";
        let raw = self
            .fields
            .sequence_id
            .ok_or(DecodeError::Missing { property })?;
        self.integer(property, raw)
    }

    fn headers(&self) -> Result<Headers<'a>, DecodeError> {
        let Some(raw) = self.fields.headers else {
            return Ok(Headers::new());
        };
        match read_headers(raw) {
            Err(_) if self.reader == Reader::Client => Ok(Headers::new()),
            headers => headers,
        }
    }

    /// JavaScript has one kind of number, so a client takes `6.0` for 6; a server does not.
    fn integer(&self, property: &'static str, raw: &str) -> Result<i64, DecodeError> {
        if !raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(DecodeError::WrongType {
                property,
                expected: "Number",
            });
        }
        if let Ok(number) = raw.parse::<i64>() {
            return Ok(number);
        }
        match raw.parse::<f64>() {
            Ok(number) if self.reader == Reader::Client && is_exact_integer(number) => {
                Ok(number as i64)
            }
            _ => Err(DecodeError::NotInteger { property }),
        }
    }
}

/// Whether the number survives as an `i64`: JavaScript counts exactly up to 2^53.
fn is_exact_integer(number: f64) -> bool {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (-EXACT_MAX..=EXACT_MAX).contains(&number) && (number as i64) as f64 == number
}

fn raw(text: &str) -> Raw<'_> {
    Raw::json(text.as_bytes())
}

fn string<'a>(
    property: &'static str,
    raw: Option<&'a str>,
) -> Result<Option<Cow<'a, str>>, DecodeError> {
    let Some(raw) = raw else { return Ok(None) };
    if !raw.starts_with('"') {
        return Err(DecodeError::WrongType {
            property,
            expected: "String",
        });
    }
    text::read(raw).map(Some).ok_or(DecodeError::NotJson)
}

fn read_headers(raw: &str) -> Result<Headers<'static>, DecodeError> {
    if !raw.starts_with('{') {
        return Err(DecodeError::WrongType {
            property: "headers",
            expected: "StartObject",
        });
    }
    let map: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(raw).map_err(|_| DecodeError::NotJson)?;
    map.into_iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(value) => Ok((Cow::Owned(name), Cow::Owned(value))),
            _ => Err(DecodeError::WrongHeader { name }),
        })
        .collect()
}

/// Whether JavaScript takes the value for true.
fn is_truthy(raw: &str) -> bool {
    match raw {
        "null" | "false" | "\"\"" => false,
        number if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
            number.parse::<f64>().is_ok_and(|number| number != 0.0)
        }
        _ => true,
    }
}
