//! Reading typed values. Integers of any width and sign are taken where they fit.

use alloc::format;
use alloc::string::{String, ToString};
use core::cell::Cell;
use core::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};

use super::ANY_NAME;
use super::cursor::{Cursor, Malformed, Token};
use crate::BindError;
use crate::defaults::MESSAGEPACK_DEPTH_MAX;

/// What does not fit, for logs.
#[derive(Debug)]
pub(crate) struct ReadError(String);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for ReadError {}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl From<Malformed> for ReadError {
    fn from(_: Malformed) -> Self {
        Self(String::from("malformed MessagePack"))
    }
}

/// Reads one whole value.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BindError> {
    whole(bytes, |reader| T::deserialize(reader)).map_err(wrong_type)
}

/// Binds the array `bytes` to `A`.
pub(crate) fn bind<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, BindError> {
    let expected = Cell::new(1);
    let provided = match Cursor::new(bytes).token() {
        Ok(Token::Array(count)) => count,
        _ => return Err(wrong_type(Malformed.into())),
    };
    let bound = A::deserialize(Arguments {
        bytes,
        provided,
        expected: &expected,
    });
    bound.map_err(|error| match expected.get() {
        expected if expected != provided => BindError::WrongCount { provided, expected },
        _ => wrong_type(error),
    })
}

fn wrong_type(error: ReadError) -> BindError {
    BindError::WrongType { detail: error.0 }
}

fn whole<'a, T>(
    bytes: &'a [u8],
    read: impl FnOnce(ValueReader<'a, '_>) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let mut cursor = Cursor::new(bytes);
    let value = read(ValueReader {
        cursor: &mut cursor,
        depth: 0,
    })?;
    match cursor.rest.is_empty() {
        true => Ok(value),
        false => Err(Malformed.into()),
    }
}

/// The next value.
struct ValueReader<'a, 'c> {
    cursor: &'c mut Cursor<'a>,
    depth: usize,
}

impl<'a> ValueReader<'a, '_> {
    fn inside(&mut self, left: usize) -> Result<Inside<'a, '_>, ReadError> {
        match self.depth < MESSAGEPACK_DEPTH_MAX {
            true => Ok(Inside {
                cursor: self.cursor,
                depth: self.depth + 1,
                left,
            }),
            false => Err(ReadError(String::from("nested too deep"))),
        }
    }

    fn peek(&self) -> Result<Token<'a>, ReadError> {
        Ok(Cursor::new(self.cursor.rest).token()?)
    }
}

impl<'a> Deserializer<'a> for ValueReader<'a, '_> {
    type Error = ReadError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'a>>(mut self, visitor: V) -> Result<V::Value, ReadError> {
        match self.cursor.token()? {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(number) => visitor.visit_u64(number),
            Token::Signed(number) => visitor.visit_i64(number),
            Token::Float32(number) => visitor.visit_f32(number),
            Token::Float64(number) => visitor.visit_f64(number),
            Token::Text(bytes) => match core::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => Err(ReadError(String::from("text that is not UTF-8"))),
            },
            Token::Binary(bytes) | Token::Extension(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Array(count) => {
                let mut items = self.inside(count)?;
                let value = visitor.visit_seq(&mut items)?;
                items.finish(value)
            }
            Token::Map(pairs) => {
                let mut inside = self.inside(pairs)?;
                let value = visitor.visit_map(&mut inside)?;
                inside.finish(value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.peek()? {
            Token::Nil => {
                self.cursor.token()?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match name == ANY_NAME {
            true => visitor.visit_borrowed_bytes(self.cursor.value()?),
            false => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'a>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.cursor.token()? {
            Token::Text(bytes) => {
                let name = core::str::from_utf8(bytes).map_err(ReadError::custom)?;
                visitor.visit_enum(StrDeserializer::<ReadError>::new(name))
            }
            Token::Map(1) => {
                let mut inside = self.inside(1)?;
                visitor.visit_enum(MapAccessDeserializer::new(&mut inside))
            }
            other => Err(ReadError(format!("{other:?} names no variant"))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.cursor.value()?;
        visitor.visit_unit()
    }

    /// Bytes are no text, even where they happen to be UTF-8.
    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.peek()? {
            Token::Binary(_) | Token::Extension(_) => {
                Err(ReadError(String::from("bytes where text was expected")))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier
    }
}

/// The values inside an array, or the pairs inside a map.
struct Inside<'a, 'c> {
    cursor: &'c mut Cursor<'a>,
    depth: usize,
    left: usize,
}

impl<'a> Inside<'a, '_> {
    fn next(&mut self) -> ValueReader<'a, '_> {
        ValueReader {
            cursor: self.cursor,
            depth: self.depth,
        }
    }

    /// What was not asked for is one too many.
    fn finish<T>(self, value: T) -> Result<T, ReadError> {
        match self.left {
            0 => Ok(value),
            left => Err(ReadError(format!("{left} value(s) too many"))),
        }
    }

    fn is_over(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return true,
        }
        false
    }
}

impl<'a> SeqAccess<'a> for &mut Inside<'a, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        if self.is_over() {
            return Ok(None);
        }
        seed.deserialize(self.next()).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'a> MapAccess<'a> for &mut Inside<'a, '_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        if self.is_over() {
            return Ok(None);
        }
        seed.deserialize(self.next()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        seed.deserialize(self.next())
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// An argument array that gives itself whole to tuples and its only element to anything else.
struct Arguments<'a> {
    bytes: &'a [u8],
    provided: usize,
    /// How many arguments the type turned out to want.
    expected: &'a Cell<usize>,
}

impl<'a> Arguments<'a> {
    fn expect(&self, expected: usize) -> Result<(), ReadError> {
        self.expected.set(expected);
        match self.provided == expected {
            true => Ok(()),
            false => Err(ReadError(String::from("another number of arguments"))),
        }
    }

    fn only<T>(
        self,
        read: impl FnOnce(ValueReader<'a, '_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.expect(1)?;
        let mut cursor = Cursor::new(self.bytes);
        cursor.token()?;
        whole(cursor.rest, read)
    }
}

macro_rules! only {
    ($($method:ident($($name:ident: $kind:ty),*))*) => {
        $(fn $method<V: Visitor<'a>>(
            self, $($name: $kind,)* visitor: V,
        ) -> Result<V::Value, ReadError> {
            self.only(|value| value.$method($($name,)* visitor))
        })*
    };
}

impl<'a> Deserializer<'a> for Arguments<'a> {
    type Error = ReadError;

    fn is_human_readable(&self) -> bool {
        false
    }

    only! {
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32()
        deserialize_i64() deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32()
        deserialize_u64() deserialize_u128() deserialize_f32() deserialize_f64()
        deserialize_char() deserialize_str() deserialize_string() deserialize_bytes()
        deserialize_byte_buf() deserialize_option() deserialize_seq() deserialize_map()
        deserialize_identifier() deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple_struct(name: &'static str, length: usize)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.expect(0)?;
        visitor.visit_unit()
    }

    fn deserialize_tuple<V: Visitor<'a>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.expect(length)?;
        whole(self.bytes, |value| value.deserialize_tuple(length, visitor))
    }
}
