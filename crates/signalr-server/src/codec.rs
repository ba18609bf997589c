//! The encoding of one connection, chosen by its handshake: what is written, and how the stream
//! of what is read falls into messages.

use serde::Serialize;
use signalr_protocol::messagepack::{self, FrameError, FrameSplitter};
use signalr_protocol::{Encoding, HubMessage, Raw, Reader, RecordSplitter, error_text, json};

/// A hub protocol that this server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    MessagePack,
}

impl Codec {
    /// Chooses by what the client asked for.
    ///
    /// # Errors
    ///
    /// With the text of the refusal.
    pub(crate) fn choose(protocol: &str, version: i32) -> Result<Self, String> {
        let (codec, version_max) = if protocol.eq_ignore_ascii_case(json::NAME) {
            (Self::Json, json::VERSION_MAX)
        } else if protocol.eq_ignore_ascii_case(messagepack::NAME) {
            (Self::MessagePack, messagepack::VERSION_MAX)
        } else {
            return Err(error_text::protocol_not_supported(protocol));
        };
        if version > version_max {
            return Err(error_text::version_not_supported(protocol, version));
        }
        Ok(codec)
    }

    pub(crate) fn encoding(self) -> Encoding {
        match self {
            Self::Json => Encoding::Json,
            Self::MessagePack => Encoding::MessagePack,
        }
    }

    pub(crate) fn ping(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Json => json::PING,
            Self::MessagePack => messagepack::PING,
        });
    }

    pub(crate) fn close(self, out: &mut Vec<u8>, error: Option<&str>, allow_reconnect: bool) {
        match self {
            Self::Json => json::encode_close(out, error, allow_reconnect),
            Self::MessagePack => messagepack::encode_close(out, error, allow_reconnect),
        }
    }

    /// A call with one argument, put into this encoding if it is in another.
    pub(crate) fn invocation(
        self,
        out: &mut Vec<u8>,
        target: &str,
        argument: &Raw<'_>,
        id: Option<&str>,
    ) {
        let argument = &*argument.to_encoding(self.encoding());
        match self {
            Self::Json => json::encode_invocation(out, target, &[argument], id),
            Self::MessagePack => messagepack::encode_invocation(out, target, &[argument], id),
        }
    }

    /// A call whose arguments are an array, put into this encoding if it is in another.
    pub(crate) fn invocation_array(
        self,
        out: &mut Vec<u8>,
        target: &str,
        array: &Raw<'_>,
        id: Option<&str>,
    ) {
        let array = &*array.to_encoding(self.encoding());
        match self {
            Self::Json => json::encode_invocation_array(out, target, array, id),
            Self::MessagePack => messagepack::encode_invocation_array(out, target, array, id),
        }
    }

    /// One value of the application's. Whoever pushes must not fail for a number: JSON has null for what it has not.
    pub(crate) fn written<T: Serialize + ?Sized>(self, value: &T) -> Raw<'static> {
        Raw::write_or_null(self.encoding(), value).expect("the type promises to be writable")
    }

    /// The same where it has to be a list.
    pub(crate) fn written_array<T: Serialize + ?Sized>(self, arguments: &T) -> Raw<'static> {
        let written = self.written(arguments);
        let first = written.as_bytes().first().copied().unwrap_or_default();
        let is_array = match self {
            Self::Json => first == b'[',
            Self::MessagePack => matches!(first, 0x90..=0x9F | 0xDC | 0xDD),
        };
        assert!(is_array, "arguments are given as a tuple or a list");
        written
    }

    pub(crate) fn completion(self, out: &mut Vec<u8>, id: &str, answer: &Result<Vec<u8>, String>) {
        match (self, answer) {
            (Self::Json, Ok(value)) => json::encode_completion_value(out, id, value),
            (Self::Json, Err(error)) => json::encode_completion_error(out, id, error),
            (Self::MessagePack, Ok(value)) => messagepack::encode_completion_value(out, id, value),
            (Self::MessagePack, Err(error)) => messagepack::encode_completion_error(out, id, error),
        }
    }

    /// The end of a stream.
    pub(crate) fn stream_end(self, out: &mut Vec<u8>, id: &str) {
        match self {
            Self::Json => json::encode_completion_void(out, id),
            Self::MessagePack => messagepack::encode_completion_void(out, id),
        }
    }

    pub(crate) fn message(self, out: &mut Vec<u8>, message: &HubMessage<'_>) {
        match self {
            Self::Json => json::encode(out, message),
            Self::MessagePack => messagepack::encode(out, message),
        }
    }
}

/// Cuts what is received into messages.
#[derive(Debug)]
pub(crate) enum Incoming {
    Json(RecordSplitter),
    MessagePack(FrameSplitter),
}

impl Incoming {
    pub(crate) fn new(codec: Codec, bytes_max: usize) -> Self {
        match codec {
            Codec::Json => Self::Json(RecordSplitter::new(Some(bytes_max))),
            Codec::MessagePack => Self::MessagePack(FrameSplitter::new(Some(bytes_max))),
        }
    }

    /// Gives each message that `chunk` completes to `take`, `None` for one of an unknown type.
    ///
    /// # Errors
    ///
    /// When the stream cannot be read on, with the detail; or what `take` fails with.
    pub(crate) fn feed<E: From<Malformed>>(
        &mut self,
        chunk: &[u8],
        mut take: impl FnMut(Option<HubMessage<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Json(splitter) => {
                for record in splitter.feed(chunk) {
                    let record = record.map_err(|error| too_large(error.bytes_max))?;
                    take(json::decode(&record, Reader::Server).map_err(|e| malformed(&e))?)?;
                }
            }
            Self::MessagePack(splitter) => {
                for body in splitter.feed(chunk) {
                    let body = body.map_err(|error| match error {
                        FrameError::TooLarge { bytes_max } => too_large(bytes_max),
                        FrameError::BadLength => malformed(&error),
                    })?;
                    take(messagepack::decode(&body, Reader::Server).map_err(|e| malformed(&e))?)?;
                }
            }
        }
        Ok(())
    }
}

/// What a client sent cannot be understood; the detail is for logs and detailed errors.
pub(crate) struct Malformed(pub(crate) String);

fn too_large(bytes_max: usize) -> Malformed {
    Malformed(error_text::too_large_detail(bytes_max))
}

fn malformed(error: &dyn std::error::Error) -> Malformed {
    Malformed(error.to_string())
}
