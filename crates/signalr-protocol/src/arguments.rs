//! Binding of an argument array to the parameters of a method, without naming them.
//!
//! Promise: exact count, as the official server demands. The parameter type says how many it
//! wants by the way it asks serde for its data, so that no trait has to tell tuples apart from
//! single values.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, Visitor};

/// Why arguments or a result could not be bound to their types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Too many or too few arguments.
    #[error("{provided} argument(s) provided, {expected} expected")]
    WrongCount {
        /// How many came.
        provided: usize,
        /// How many the method takes.
        expected: usize,
    },
    /// A value is not of the type asked for.
    #[error("{detail}")]
    WrongType {
        /// What the decoder said. For logs: it may quote the peer's data.
        detail: String,
    },
}

impl BindError {
    pub(crate) fn wrong_type(error: serde_json::Error) -> Self {
        Self::WrongType {
            detail: error.to_string(),
        }
    }
}

/// Binds the JSON array `text` to `A`.
pub(crate) fn bind_json<A: DeserializeOwned>(text: &[u8]) -> Result<A, BindError> {
    let expected = Cell::new(1);
    A::deserialize(JsonArguments {
        text,
        expected: &expected,
    })
    .map_err(|error| explain(text, expected.get(), error))
}

fn explain(text: &[u8], expected: usize, error: serde_json::Error) -> BindError {
    match serde_json::from_slice::<Vec<IgnoredAny>>(text) {
        Ok(all) if all.len() != expected => BindError::WrongCount {
            provided: all.len(),
            expected,
        },
        _ => BindError::wrong_type(error),
    }
}

/// An argument array that gives itself whole to tuples and its only element to anything else.
struct JsonArguments<'a> {
    text: &'a [u8],
    /// How many arguments the type turned out to want; read when binding failed.
    expected: &'a Cell<usize>,
}

impl<'a> JsonArguments<'a> {
    fn whole<T>(
        self,
        read: impl FnOnce(&mut SliceDeserializer<'a>) -> Result<T, serde_json::Error>,
    ) -> Result<T, serde_json::Error> {
        read_all(self.text, read)
    }

    fn only<T>(
        self,
        read: impl FnOnce(&mut SliceDeserializer<'a>) -> Result<T, serde_json::Error>,
    ) -> Result<T, serde_json::Error> {
        self.expected.set(1);
        read_all(inside_brackets(self.text), read)
    }
}

type SliceDeserializer<'a> = serde_json::Deserializer<serde_json::de::SliceRead<'a>>;

/// Reads one value and insists that nothing follows it.
fn read_all<'a, T>(
    text: &'a [u8],
    read: impl FnOnce(&mut SliceDeserializer<'a>) -> Result<T, serde_json::Error>,
) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = read(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// What stands between the brackets of an array: its element, when there is exactly one.
fn inside_brackets(text: &[u8]) -> &[u8] {
    text.trim_ascii()
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"))
        .unwrap_or(text)
}

macro_rules! only {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.only(|d| d.$method(visitor))
        })*
    };
}

impl<'a> Deserializer<'a> for JsonArguments<'a> {
    type Error = serde_json::Error;

    only! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_option deserialize_seq deserialize_map
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.expected.set(0);
        self.whole(|d| <[IgnoredAny; 0]>::deserialize(d))?;
        visitor.visit_unit()
    }

    fn deserialize_tuple<V: Visitor<'a>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.expected.set(length);
        self.whole(|d| d.deserialize_tuple(length, visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.only(|d| d.deserialize_unit_struct(name, visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.only(|d| d.deserialize_newtype_struct(name, visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.only(|d| d.deserialize_tuple_struct(name, length, visitor))
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.only(|d| d.deserialize_struct(name, fields, visitor))
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.only(|d| d.deserialize_enum(name, variants, visitor))
    }
}
