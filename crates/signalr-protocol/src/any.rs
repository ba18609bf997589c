//! A value of any shape, as an argument or a result that is passed on without a look.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::Raw;
use crate::messagepack::ANY_NAME;

/// Any value, kept in the encoding it came in, and put into the other one where it has to be.
///
/// Binary becomes base64 text in JSON. Only the encodings of this crate can read and write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyValue(Raw<'static>);

impl AnyValue {
    /// The value as it came.
    pub fn raw(&self) -> &Raw<'static> {
        &self.0
    }
}

impl From<Raw<'_>> for AnyValue {
    fn from(raw: Raw<'_>) -> Self {
        Self(raw.into_owned())
    }
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = alloc::boxed::Box::<RawValue>::deserialize(deserializer)?;
            return Ok(Self(Raw::json(Vec::from(String::from(text.get())))));
        }
        deserializer.deserialize_newtype_struct(ANY_NAME, Whole)
    }
}

/// Takes the bytes of a whole MessagePack value.
struct Whole;

impl Visitor<'_> for Whole {
    type Value = AnyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of this crate's MessagePack reader")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<AnyValue, E> {
        Ok(AnyValue(Raw::messagepack(bytes.to_vec())))
    }
}

impl Serialize for AnyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let text = self.0.to_json();
            let text: &RawValue = serde_json::from_slice(&text).map_err(S::Error::custom)?;
            return text.serialize(serializer);
        }
        let bytes = self.0.to_messagepack();
        serializer.serialize_newtype_struct(ANY_NAME, &Bytes(&bytes))
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}
