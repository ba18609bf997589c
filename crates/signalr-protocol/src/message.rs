//! The nine hub messages, as values that either encoding can write and read.
//!
//! Texts are borrowed from the received bytes where possible; [`HubMessage::into_owned`] cuts the
//! tie. Arguments, items and results are [`Raw`].

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::Raw;

/// Names and values carried along with a message and never interpreted.
pub type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// One hub message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubMessage<'a> {
    /// Type 1: a call; with an id, the caller wants exactly one [`Completion`].
    Invocation(Invocation<'a>),
    /// Type 2: one item of a stream, in either direction.
    StreamItem(StreamItem<'a>),
    /// Type 3: the answer to a call, or the end of a stream.
    Completion(Completion<'a>),
    /// Type 4: a call of a client whose answer is a stream. The id is always present.
    StreamInvocation(Invocation<'a>),
    /// Type 5: the client no longer wants the stream.
    CancelInvocation(CancelInvocation<'a>),
    /// Type 6: the sender lives.
    Ping,
    /// Type 7: the sender ends the connection.
    Close(Close<'a>),
    /// Type 8: everything up to this number was received (stateful reconnect).
    Ack {
        /// Number of the newest message received.
        sequence_id: i64,
    },
    /// Type 9: the number of the message that follows (stateful reconnect).
    Sequence {
        /// Number of the next sequenced message.
        sequence_id: i64,
    },
}

/// The number that tells hub messages apart on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each is described at the variant of HubMessage with its name"
)]
pub enum MessageType {
    Invocation = 1,
    StreamItem = 2,
    Completion = 3,
    StreamInvocation = 4,
    CancelInvocation = 5,
    Ping = 6,
    Close = 7,
    Ack = 8,
    Sequence = 9,
}

impl MessageType {
    /// The type with this number, `None` when no such type is known.
    pub fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Invocation,
            2 => Self::StreamItem,
            3 => Self::Completion,
            4 => Self::StreamInvocation,
            5 => Self::CancelInvocation,
            6 => Self::Ping,
            7 => Self::Close,
            8 => Self::Ack,
            9 => Self::Sequence,
            _ => return None,
        })
    }

    /// Whether stateful reconnect counts messages of this type.
    pub fn is_sequenced(self) -> bool {
        (self as u8) <= Self::CancelInvocation as u8
    }
}

/// Call of a named method, of type 1 or 4.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Invocation<'a> {
    /// Carried, not interpreted.
    pub headers: Headers<'a>,
    /// Chosen by the caller; `None` means that nobody waits for an answer.
    pub invocation_id: Option<Cow<'a, str>>,
    /// Name of the method.
    pub target: Cow<'a, str>,
    /// The array of the arguments, streams left out.
    pub arguments: Raw<'a>,
    /// Ids of the streams that the caller will send.
    pub stream_ids: Vec<Cow<'a, str>>,
}

/// One item of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamItem<'a> {
    /// Carried, not interpreted.
    pub headers: Headers<'a>,
    /// Id of the call that asked for the stream, or of the uploaded stream.
    pub invocation_id: Cow<'a, str>,
    /// The item.
    pub item: Raw<'a>,
}

/// The answer to a call, or the end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion<'a> {
    /// Carried, not interpreted.
    pub headers: Headers<'a>,
    /// Id of the call, or of the uploaded stream.
    pub invocation_id: Cow<'a, str>,
    /// How it ended.
    pub result: CompletionResult<'a>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompletionResult<'a> {
    /// Without a value. An answer to a call for a client's result may not be void.
    Void,
    /// With a value, which may be null.
    Value(Raw<'a>),
    /// With an error for the caller's eyes.
    Error(Cow<'a, str>),
}

/// The client no longer wants a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelInvocation<'a> {
    /// Carried, not interpreted.
    pub headers: Headers<'a>,
    /// Id of the call that asked for the stream.
    pub invocation_id: Cow<'a, str>,
}

/// The end of a connection, said aloud.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Close<'a> {
    /// Why, when something went wrong.
    pub error: Option<Cow<'a, str>>,
    /// Whether a client with automatic reconnect may come back; without it, it stays away.
    pub allow_reconnect: bool,
}

impl HubMessage<'_> {
    /// The type on the wire.
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::Invocation(_) => MessageType::Invocation,
            Self::StreamItem(_) => MessageType::StreamItem,
            Self::Completion(_) => MessageType::Completion,
            Self::StreamInvocation(_) => MessageType::StreamInvocation,
            Self::CancelInvocation(_) => MessageType::CancelInvocation,
            Self::Ping => MessageType::Ping,
            Self::Close(_) => MessageType::Close,
            Self::Ack { .. } => MessageType::Ack,
            Self::Sequence { .. } => MessageType::Sequence,
        }
    }

    /// The same message, independent of the bytes it was read from.
    pub fn into_owned(self) -> HubMessage<'static> {
        match self {
            Self::Invocation(m) => HubMessage::Invocation(m.into_owned()),
            Self::StreamItem(m) => HubMessage::StreamItem(m.into_owned()),
            Self::Completion(m) => HubMessage::Completion(m.into_owned()),
            Self::StreamInvocation(m) => HubMessage::StreamInvocation(m.into_owned()),
            Self::CancelInvocation(m) => HubMessage::CancelInvocation(m.into_owned()),
            Self::Ping => HubMessage::Ping,
            Self::Close(m) => HubMessage::Close(m.into_owned()),
            Self::Ack { sequence_id } => HubMessage::Ack { sequence_id },
            Self::Sequence { sequence_id } => HubMessage::Sequence { sequence_id },
        }
    }
}

impl Invocation<'_> {
    /// The same call, independent of the bytes it was read from.
    pub fn into_owned(self) -> Invocation<'static> {
        Invocation {
            headers: own_headers(self.headers),
            invocation_id: self.invocation_id.map(own),
            target: own(self.target),
            arguments: self.arguments.into_owned(),
            stream_ids: self.stream_ids.into_iter().map(own).collect(),
        }
    }
}

impl StreamItem<'_> {
    /// The same item, independent of the bytes it was read from.
    pub fn into_owned(self) -> StreamItem<'static> {
        StreamItem {
            headers: own_headers(self.headers),
            invocation_id: own(self.invocation_id),
            item: self.item.into_owned(),
        }
    }
}

impl<'a> Completion<'a> {
    /// The end of the call `invocation_id`, without headers.
    pub fn new(invocation_id: impl Into<Cow<'a, str>>, result: CompletionResult<'a>) -> Self {
        Self {
            headers: Vec::new(),
            invocation_id: invocation_id.into(),
            result,
        }
    }

    /// The same completion, independent of the bytes it was read from.
    pub fn into_owned(self) -> Completion<'static> {
        Completion {
            headers: own_headers(self.headers),
            invocation_id: own(self.invocation_id),
            result: self.result.into_owned(),
        }
    }
}

impl CompletionResult<'_> {
    /// The same result, independent of the bytes it was read from.
    pub fn into_owned(self) -> CompletionResult<'static> {
        match self {
            Self::Void => CompletionResult::Void,
            Self::Value(value) => CompletionResult::Value(value.into_owned()),
            Self::Error(text) => CompletionResult::Error(own(text)),
        }
    }
}

impl CancelInvocation<'_> {
    /// The same message, independent of the bytes it was read from.
    pub fn into_owned(self) -> CancelInvocation<'static> {
        CancelInvocation {
            headers: own_headers(self.headers),
            invocation_id: own(self.invocation_id),
        }
    }
}

impl Close<'_> {
    /// The same message, independent of the bytes it was read from.
    pub fn into_owned(self) -> Close<'static> {
        Close {
            error: self.error.map(own),
            allow_reconnect: self.allow_reconnect,
        }
    }
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn own_headers(headers: Headers<'_>) -> Headers<'static> {
    headers
        .into_iter()
        .map(|(name, value)| (own(name), own(value)))
        .collect()
}
