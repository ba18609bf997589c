//! A value nobody has looked into yet, in the encoding of its connection.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use serde::de::DeserializeOwned;

use crate::arguments::{self, BindError};

/// Bytes of one whole value: the array of arguments, a stream item or a result.
///
/// Read from JSON it is the text as it was sent, spaces and number spelling included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw<'a> {
    bytes: Cow<'a, [u8]>,
}

impl<'a> Raw<'a> {
    /// JSON text of one value, taken on trust: it is written to the wire as it stands.
    pub fn json(text: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { bytes: text.into() }
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
        arguments::bind_json(&self.bytes)
    }

    /// Reads the value as `T`.
    ///
    /// # Errors
    ///
    /// When it is not a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, BindError> {
        serde_json::from_slice(&self.bytes).map_err(BindError::wrong_type)
    }

    /// The same value, independent of the bytes it was read from.
    pub fn into_owned(self) -> Raw<'static> {
        Raw {
            bytes: Cow::Owned(self.bytes.into_owned()),
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
        }
    }
}

impl Default for Raw<'_> {
    /// The empty array: no arguments.
    fn default() -> Self {
        Self {
            bytes: Cow::Borrowed(b"[]"),
        }
    }
}
