//! The same value in the other encoding.
//!
//! Binary becomes base64 text in JSON, as the official servers write bytes there; text stays text
//! the other way. Extensions become base64 text too.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::cursor::{Cursor, Malformed, Token};
use super::ser::{write_array, write_map, write_text};
use crate::defaults::MESSAGEPACK_DEPTH_MAX;

/// One JSON text as MessagePack.
pub(crate) fn from_json(text: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Writer(&mut out).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(out)
}

/// Writes what it visits.
struct Writer<'o>(&'o mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push(0xC0);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.push(if value { 0xC3 } else { 0xC2 });
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        super::ser::write_integer(self.0, number);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        super::ser::write_unsigned(self.0, number);
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        super::ser::write_float(self.0, number);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        write_text(self.0, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut inner = Vec::new();
        let mut count = 0;
        while items.next_element_seed(Writer(&mut inner))?.is_some() {
            count += 1;
        }
        write_array(self.0, count);
        self.0.extend_from_slice(&inner);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<(), A::Error> {
        let mut inner = Vec::new();
        let mut count = 0;
        while pairs.next_key_seed(Writer(&mut inner))?.is_some() {
            pairs.next_value_seed(Writer(&mut inner))?;
            count += 1;
        }
        write_map(self.0, count);
        self.0.extend_from_slice(&inner);
        Ok(())
    }
}

/// One MessagePack value as JSON text; `None` when it is malformed, too deep, or has a key that is no scalar.
pub(crate) fn to_json(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let mut out = String::new();
    write_json(&mut cursor, &mut out, 0).ok()?;
    cursor.rest.is_empty().then_some(out)
}

fn write_json(cursor: &mut Cursor<'_>, out: &mut String, depth: usize) -> Result<(), Malformed> {
    if depth > MESSAGEPACK_DEPTH_MAX {
        return Err(Malformed);
    }
    match cursor.token()? {
        Token::Nil => out.push_str("null"),
        Token::Bool(value) => scalar(out, &value)?,
        Token::Unsigned(number) => scalar(out, &number)?,
        Token::Signed(number) => scalar(out, &number)?,
        Token::Float32(number) => scalar(out, &number)?,
        Token::Float64(number) => scalar(out, &number)?,
        Token::Text(bytes) => scalar(out, &String::from_utf8_lossy(bytes))?,
        Token::Binary(bytes) | Token::Extension(bytes) => write_base64(out, bytes),
        Token::Array(count) => {
            out.push('[');
            for index in 0..count {
                if index > 0 {
                    out.push(',');
                }
                write_json(cursor, out, depth + 1)?;
            }
            out.push(']');
        }
        Token::Map(pairs) => {
            out.push('{');
            for index in 0..pairs {
                if index > 0 {
                    out.push(',');
                }
                write_key(cursor, out, depth + 1)?;
                out.push(':');
                write_json(cursor, out, depth + 1)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Keys of JSON are text, whatever they were. One that holds other values has no place there: as text in text it would
/// double with every level.
fn write_key(cursor: &mut Cursor<'_>, out: &mut String, depth: usize) -> Result<(), Malformed> {
    let mut look = *cursor;
    if let Token::Array(_) | Token::Map(_) = look.token()? {
        return Err(Malformed);
    }
    let mut key = String::new();
    write_json(cursor, &mut key, depth)?;
    match key.starts_with('"') {
        true => out.push_str(&key),
        false => scalar(out, &key)?,
    }
    Ok(())
}

fn scalar<T: serde::Serialize + ?Sized>(out: &mut String, value: &T) -> Result<(), Malformed> {
    out.push_str(&serde_json::to_string(value).map_err(|_| Malformed)?);
    Ok(())
}

fn write_base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push('"');
    for group in bytes.chunks(3) {
        let all = group
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = (all >> (18 - 6 * at)) & 63;
            out.push(match at <= group.len() {
                true => char::from(DIGITS[digit as usize]),
                false => '=',
            });
        }
    }
    out.push('"');
}
