//! Reading one message, its length removed, by the rules of the side that reads.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::cursor::{Cursor, Malformed, Token};
use crate::{
    CancelInvocation, Close, Completion, CompletionResult, Headers, HubMessage, Invocation,
    MessageType, Raw, Reader, StreamItem,
};

/// A value that no type can be read from: no MessagePack value begins so.
const UNREADABLE: &[u8] = &[0xC1];

/// Why bytes are no hub message. The connection must end: the stream cannot be trusted.
///
/// The texts are those of the official server in detailed mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No array, or none with a type in it.
    #[error("Invalid payload.")]
    NotMessage,
    /// An item is missing or has another type.
    #[error("Reading '{item}' as {expected} failed.")]
    Unreadable {
        /// Name of the item.
        item: &'static str,
        /// The type it must have.
        expected: &'static str,
    },
    /// An item that must say something is empty.
    #[error("Null or empty value for '{item}'.")]
    Empty {
        /// Name of the item.
        item: &'static str,
    },
    /// A completion that is neither an error, nor void, nor a value.
    #[error("Invalid invocation result kind.")]
    UnknownResultKind,
    /// Something stands behind the array.
    #[error("Bytes are left behind the message.")]
    TrailingBytes,
}

/// Reads one message. `None` is a message of a type unknown to this reader, which must be skipped.
///
/// Arguments that cannot be read do not end a server's connection: they fail to bind.
///
/// # Errors
///
/// When the message is malformed for this reader; see [`DecodeError`].
pub fn decode(body: &[u8], reader: Reader) -> Result<Option<HubMessage<'_>>, DecodeError> {
    let mut cursor = Cursor::new(body);
    let items = match cursor.token() {
        Ok(Token::Array(items)) if items > 0 => items,
        _ => return Err(DecodeError::NotMessage),
    };
    let mut parts = Parts {
        cursor,
        left: items,
        reader,
    };
    let number = parts.integer("messageType")?;
    let kind = i32::try_from(number)
        .ok()
        .and_then(MessageType::from_number);
    let message = match kind {
        Some(kind) => parts.build(kind)?,
        None => None,
    };
    parts.finish(message.is_some())?;
    Ok(message)
}

/// The items of one message that were not read yet.
struct Parts<'a> {
    cursor: Cursor<'a>,
    left: usize,
    reader: Reader,
}

impl<'a> Parts<'a> {
    fn build(&mut self, kind: MessageType) -> Result<Option<HubMessage<'a>>, DecodeError> {
        let is_client = self.reader == Reader::Client;
        Ok(Some(match kind {
            MessageType::StreamInvocation | MessageType::CancelInvocation if is_client => {
                return Ok(None);
            }
            MessageType::Invocation => HubMessage::Invocation(self.invocation(false)?),
            MessageType::StreamInvocation => HubMessage::StreamInvocation(self.invocation(true)?),
            MessageType::StreamItem => HubMessage::StreamItem(StreamItem {
                headers: self.headers()?,
                invocation_id: self.id()?,
                item: self.item()?,
            }),
            MessageType::Completion => HubMessage::Completion(Completion {
                headers: self.headers()?,
                invocation_id: self.id()?,
                result: self.result()?,
            }),
            MessageType::CancelInvocation => HubMessage::CancelInvocation(CancelInvocation {
                headers: self.headers()?,
                invocation_id: self.id()?,
            }),
            MessageType::Ping => HubMessage::Ping,
            MessageType::Close => HubMessage::Close(self.close()?),
            MessageType::Ack => HubMessage::Ack {
                sequence_id: self.integer("sequenceId")?,
            },
            MessageType::Sequence => HubMessage::Sequence {
                sequence_id: self.integer("sequenceId")?,
            },
        }))
    }

    fn invocation(&mut self, needs_id: bool) -> Result<Invocation<'a>, DecodeError> {
        let headers = self.headers()?;
        let id = self.optional_text("invocationId")?;
        let invocation_id = id.filter(|id| !id.is_empty());
        if needs_id && invocation_id.is_none() {
            return Err(DecodeError::Empty {
                item: "invocationId",
            });
        }
        let target = self.text("target")?;
        if target.is_empty() && self.reader == Reader::Client {
            return Err(DecodeError::Empty { item: "target" });
        }
        let arguments = self.arguments()?;
        let stream_ids = match self.left {
            0 => Vec::new(),
            _ => self.stream_ids()?,
        };
        Ok(Invocation {
            headers,
            invocation_id,
            target,
            arguments,
            stream_ids,
        })
    }

    /// What is no array of whole values spoils the call alone, and what stands behind it.
    fn arguments(&mut self) -> Result<Raw<'a>, DecodeError> {
        let mut look = self.cursor;
        let is_array = self.left > 0 && matches!(look.token(), Ok(Token::Array(_)));
        let value = match is_array {
            true => self.next().and_then(|()| self.cursor.value()),
            false => Err(Malformed),
        };
        match value {
            Ok(bytes) => Ok(Raw::messagepack(bytes)),
            Err(_) if self.reader == Reader::Client => Err(unreadable("arguments", "array")),
            Err(_) => {
                self.left = 0;
                self.cursor.rest = &[];
                Ok(Raw::messagepack(UNREADABLE))
            }
        }
    }

    fn result(&mut self) -> Result<CompletionResult<'a>, DecodeError> {
        match self.integer("resultKind")? {
            1 => self.error().map(CompletionResult::Error),
            2 => Ok(CompletionResult::Void),
            3 => self.raw("result").map(CompletionResult::Value),
            _ if self.reader == Reader::Client => Ok(CompletionResult::Void),
            _ => Err(DecodeError::UnknownResultKind),
        }
    }

    /// A client may fail without saying why, as far as the official server is concerned.
    fn error(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        match self.optional_text("error")? {
            Some(text) => Ok(text),
            None if self.reader == Reader::Server => Ok(Cow::Borrowed("")),
            None => Err(unreadable("error", "String")),
        }
    }

    /// One that is missing spoils its stream alone.
    fn item(&mut self) -> Result<Raw<'a>, DecodeError> {
        match (self.left, self.reader) {
            (0, Reader::Server) => Ok(Raw::messagepack(UNREADABLE)),
            _ => self.raw("item"),
        }
    }

    fn close(&mut self) -> Result<Close<'a>, DecodeError> {
        let error = self.optional_text("error")?;
        let allow_reconnect = match self.left {
            0 => false,
            _ => matches!(self.token("allowReconnect", "Boolean")?, Token::Bool(true)),
        };
        Ok(Close {
            error,
            allow_reconnect,
        })
    }

    fn headers(&mut self) -> Result<Headers<'a>, DecodeError> {
        let pairs = match self.token("headers", "map")? {
            Token::Map(pairs) => pairs,
            Token::Nil if self.reader == Reader::Client => 0,
            _ => return Err(unreadable("headers", "map")),
        };
        let mut headers = Headers::new();
        for _ in 0..pairs {
            let name = self.inner_text("headers")?;
            headers.push((name, self.inner_text("headers")?));
        }
        Ok(headers)
    }

    fn stream_ids(&mut self) -> Result<Vec<Cow<'a, str>>, DecodeError> {
        match self.token("streamIds", "array")? {
            Token::Array(count) => (0..count).map(|_| self.inner_text("streamIds")).collect(),
            Token::Nil if self.reader == Reader::Client => Ok(Vec::new()),
            _ => Err(unreadable("streamIds", "array")),
        }
    }

    fn id(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let item = "invocationId";
        match self.text(item)? {
            id if id.is_empty() => Err(DecodeError::Empty { item }),
            id => Ok(id),
        }
    }

    fn text(&mut self, item: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        self.optional_text(item)?.ok_or(unreadable(item, "String"))
    }

    fn optional_text(&mut self, item: &'static str) -> Result<Option<Cow<'a, str>>, DecodeError> {
        match self.token(item, "String")? {
            Token::Text(bytes) => Ok(Some(String::from_utf8_lossy(bytes))),
            Token::Nil => Ok(None),
            _ => Err(unreadable(item, "String")),
        }
    }

    fn inner_text(&mut self, item: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        match self.cursor.token() {
            Ok(Token::Text(bytes)) => Ok(String::from_utf8_lossy(bytes)),
            _ => Err(unreadable(item, "String")),
        }
    }

    fn integer(&mut self, item: &'static str) -> Result<i64, DecodeError> {
        let number = match self.token(item, "Int32")? {
            Token::Unsigned(number) => i64::try_from(number).ok(),
            Token::Signed(number) => Some(number),
            _ => None,
        };
        number.ok_or(unreadable(item, "Int32"))
    }

    fn raw(&mut self, item: &'static str) -> Result<Raw<'a>, DecodeError> {
        let value = self.next().and_then(|()| self.cursor.value());
        value
            .map(Raw::messagepack)
            .map_err(|_| unreadable(item, "value"))
    }

    fn token(
        &mut self,
        item: &'static str,
        expected: &'static str,
    ) -> Result<Token<'a>, DecodeError> {
        let token = self.next().and_then(|()| self.cursor.token());
        token.map_err(|_| unreadable(item, expected))
    }

    fn next(&mut self) -> Result<(), Malformed> {
        self.left = self.left.checked_sub(1).ok_or(Malformed)?;
        Ok(())
    }

    /// Items behind the known ones are for newer readers. Behind the array nothing may stand, but
    /// the official server does not look.
    fn finish(&mut self, is_known: bool) -> Result<(), DecodeError> {
        if self.reader == Reader::Server || !is_known {
            return Ok(());
        }
        for _ in 0..self.left {
            self.cursor.value().map_err(|_| DecodeError::NotMessage)?;
        }
        match self.cursor.rest.is_empty() {
            true => Ok(()),
            false => Err(DecodeError::TrailingBytes),
        }
    }
}

fn unreadable(item: &'static str, expected: &'static str) -> DecodeError {
    DecodeError::Unreadable { item, expected }
}
