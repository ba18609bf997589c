//! A value nobody has looked into yet, in the encoding of its connection.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::{self, BindError};
use crate::{json, messagepack};

/// How hub messages and the values in them are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// JSON text, which every transport carries.
    #[default]
    Json,
    /// MessagePack, which takes a transport that carries binary.
    MessagePack,
}

/// Bytes of one whole value: the array of arguments, a stream item or a result.
///
/// Read from JSON it is the text as it was sent, spaces and number spelling included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw<'a> {
    bytes: Cow<'a, [u8]>,
    encoding: Encoding,
}

/// A value cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct WriteError {
    /// What its type's own implementation said, or what it has that the encoding has not.
    pub detail: String,
}

impl<'a> Raw<'a> {
    /// JSON text of one value, taken on trust: it is written to the wire as it stands.
    pub fn json(text: impl Into<Cow<'a, [u8]>>) -> Self {
        Self {
            bytes: text.into(),
            encoding: Encoding::Json,
        }
    }

    /// One MessagePack value, taken on trust: it is written to the wire as it stands.
    pub fn messagepack(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self {
            bytes: bytes.into(),
            encoding: Encoding::MessagePack,
        }
    }

    /// One value in `encoding`, taken on trust.
    pub fn new(encoding: Encoding, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self {
            bytes: bytes.into(),
            encoding,
        }
    }

    /// Writes `value` in `encoding`.
    ///
    /// # Errors
    ///
    /// When the type of the value cannot be written, or JSON has no such number: those that are none (NaN) or have no
    /// end.
    pub fn write<T: Serialize + ?Sized>(
        encoding: Encoding,
        value: &T,
    ) -> Result<Raw<'static>, WriteError> {
        let raw = Self::write_or_null(encoding, value)?;
        match encoding == Encoding::Json && json::hides_number(value, &raw.bytes) {
            true => Err(WriteError {
                detail: String::from("JSON has no number that is not finite"),
            }),
            false => Ok(raw),
        }
    }

    /// Writes `value` in `encoding`; of numbers that JSON has not null remains there.
    ///
    /// # Errors
    ///
    /// When the type of the value cannot be written.
    pub fn write_or_null<T: Serialize + ?Sized>(
        encoding: Encoding,
        value: &T,
    ) -> Result<Raw<'static>, WriteError> {
        let detail = |error: &dyn core::error::Error| WriteError {
            detail: error.to_string(),
        };
        let bytes = match encoding {
            Encoding::Json => serde_json::to_vec(value).map_err(|error| detail(&error))?,
            Encoding::MessagePack => messagepack::to_vec(value).map_err(|error| detail(&error))?,
        };
        Ok(Raw::new(encoding, bytes))
    }

    /// How the bytes are to be read.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The value in `encoding`, copied only when it is in the other. What cannot be read becomes
    /// null.
    pub fn to_encoding(&self, encoding: Encoding) -> Cow<'_, [u8]> {
        match encoding {
            Encoding::Json => self.to_json(),
            Encoding::MessagePack => self.to_messagepack(),
        }
    }

    /// The value as JSON text; see [`Raw::to_encoding`].
    pub fn to_json(&self) -> Cow<'_, [u8]> {
        match self.encoding {
            Encoding::Json => Cow::Borrowed(&self.bytes),
            Encoding::MessagePack => match messagepack::to_json(&self.bytes) {
                Some(text) => Cow::Owned(text.into_bytes()),
                None => Cow::Borrowed(b"null"),
            },
        }
    }

    /// The value as MessagePack; see [`Raw::to_encoding`].
    pub fn to_messagepack(&self) -> Cow<'_, [u8]> {
        match self.encoding {
            Encoding::MessagePack => Cow::Borrowed(&self.bytes),
            Encoding::Json => match messagepack::from_json(&self.bytes) {
                Ok(bytes) => Cow::Owned(bytes),
                Err(_) => Cow::Borrowed(&[0xC0]),
            },
        }
    }

    /// The bytes as they were sent or will be sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Binds the array of arguments to the parameters of a method.
    ///
    /// A tuple takes one argument for each of its members, `()` none, and any other type exactly
    /// one. A single argument that is itself a tuple is asked for as `((A, B),)`.
    ///
    /// # Errors
    ///
    /// When number or types do not fit. The connection goes on; the call fails.
    pub fn bind<A: DeserializeOwned>(&self) -> Result<A, BindError> {
        match self.encoding {
            Encoding::Json => arguments::bind_json(&self.bytes),
            Encoding::MessagePack => messagepack::bind(&self.bytes),
        }
    }

    /// Reads the value as `T`.
    ///
    /// # Errors
    ///
    /// When it is not a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, BindError> {
        match self.encoding {
            Encoding::Json => serde_json::from_slice(&self.bytes).map_err(BindError::wrong_type),
            Encoding::MessagePack => messagepack::read(&self.bytes),
        }
    }

    /// The same value, independent of the bytes it was read from.
    pub fn into_owned(self) -> Raw<'static> {
        Raw {
            bytes: Cow::Owned(self.bytes.into_owned()),
            encoding: self.encoding,
        }
    }

    /// The bytes, copied only when they are borrowed.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_owned()
    }

    /// A value that no type can be read from: the sender's bytes were not text.
    pub(crate) fn unreadable() -> Self {
        Self {
            bytes: Cow::Borrowed(b"\xff"),
            encoding: Encoding::Json,
        }
    }
}

impl Default for Raw<'_> {
    /// The empty array: no arguments.
    fn default() -> Self {
        Self {
            bytes: Cow::Borrowed(b"[]"),
            encoding: Encoding::Json,
        }
    }
}
