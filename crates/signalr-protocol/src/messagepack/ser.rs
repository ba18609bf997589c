//! Writing typed values: structs as maps by name, enums by the names of their variants, integers
//! in as few bytes as they take.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;

use rmp::encode::{self, ByteBuf, ValueWriteError};
use serde::ser::{self, Serialize, Serializer};

use super::ANY_NAME;

/// Why a value cannot be written: what its own implementation said.
#[derive(Debug)]
pub(crate) struct WriteError(pub(crate) String);

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for WriteError {}

impl ser::Error for WriteError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Writes one value.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, WriteError> {
    let mut out = Vec::new();
    value.serialize(Writer::new(&mut out))?;
    Ok(out)
}

/// Appends what `write` writes. Memory takes everything.
fn append<T>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut ByteBuf) -> Result<T, ValueWriteError<Infallible>>,
) {
    let mut buffer = ByteBuf::from_vec(core::mem::take(out));
    match write(&mut buffer) {
        Ok(_) => *out = buffer.into_vec(),
        Err(
            ValueWriteError::InvalidMarkerWrite(never) | ValueWriteError::InvalidDataWrite(never),
        ) => match never {},
    }
}

/// A count or length as the wire has it. Nothing in memory comes near the limit.
fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn write_array(out: &mut Vec<u8>, count: usize) {
    append(out, |out| encode::write_array_len(out, length(count)));
}

pub(super) fn write_map(out: &mut Vec<u8>, pairs: usize) {
    append(out, |out| encode::write_map_len(out, length(pairs)));
}

pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    append(out, |out| encode::write_str(out, text));
}

pub(super) fn write_integer(out: &mut Vec<u8>, number: i64) {
    append(out, |out| encode::write_sint(out, number));
}

pub(super) fn write_unsigned(out: &mut Vec<u8>, number: u64) {
    append(out, |out| encode::write_uint(out, number));
}

pub(super) fn write_float(out: &mut Vec<u8>, number: f64) {
    append(out, |out| encode::write_f64(out, number));
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Bytes are a whole value already.
    is_raw: bool,
}

impl<'o> Writer<'o> {
    fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, is_raw: false }
    }

    fn variant(self, name: &str) -> &'o mut Vec<u8> {
        write_map(self.out, 1);
        write_text(self.out, name);
        self.out
    }
}

/// Values that follow each other, and whose number may be known at the end only.
struct Many<'o> {
    out: &'o mut Vec<u8>,
    /// What was written so far, when the number was not known at the start.
    unsized_items: Option<Vec<u8>>,
    count: usize,
}

impl<'o> Many<'o> {
    fn new(out: &'o mut Vec<u8>, count: Option<usize>, head: fn(&mut Vec<u8>, usize)) -> Self {
        if let Some(count) = count {
            head(out, count);
        }
        Self {
            out,
            unsized_items: count.is_none().then(Vec::new),
            count: 0,
        }
    }

    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
        self.count += 1;
        let out = self.unsized_items.as_mut().unwrap_or(self.out);
        value.serialize(Writer::new(out))
    }

    fn finish(self, head: fn(&mut Vec<u8>, usize), count: usize) {
        if let Some(items) = self.unsized_items {
            head(self.out, count);
            self.out.extend_from_slice(&items);
        }
    }
}

macro_rules! integers {
    ($($method:ident: $kind:ty as $wide:ty => $write:ident;)*) => {
        $(fn $method(self, number: $kind) -> Result<(), WriteError> {
            $write(self.out, <$wide>::from(number));
            Ok(())
        })*
    };
}

impl<'o> Serializer for Writer<'o> {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Many<'o>;
    type SerializeTuple = Many<'o>;
    type SerializeTupleStruct = Many<'o>;
    type SerializeTupleVariant = Many<'o>;
    type SerializeMap = Many<'o>;
    type SerializeStruct = Many<'o>;
    type SerializeStructVariant = Many<'o>;

    fn is_human_readable(&self) -> bool {
        false
    }

    integers! {
        serialize_i8: i8 as i64 => write_integer;
        serialize_i16: i16 as i64 => write_integer;
        serialize_i32: i32 as i64 => write_integer;
        serialize_i64: i64 as i64 => write_integer;
        serialize_u8: u8 as u64 => write_unsigned;
        serialize_u16: u16 as u64 => write_unsigned;
        serialize_u32: u32 as u64 => write_unsigned;
        serialize_u64: u64 as u64 => write_unsigned;
        serialize_f64: f64 as f64 => write_float;
    }

    fn serialize_f32(self, number: f32) -> Result<(), WriteError> {
        append(self.out, |out| encode::write_f32(out, number));
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Result<(), WriteError> {
        self.out.push(if value { 0xC3 } else { 0xC2 });
        Ok(())
    }

    fn serialize_char(self, letter: char) -> Result<(), WriteError> {
        self.serialize_str(letter.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), WriteError> {
        write_text(self.out, text);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), WriteError> {
        match self.is_raw {
            true => self.out.extend_from_slice(bytes),
            false => append(self.out, |out| encode::write_bin(out, bytes)),
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), WriteError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), WriteError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), WriteError> {
        self.out.push(0xC0);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), WriteError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), WriteError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        self.is_raw = name == ANY_NAME;
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        value.serialize(Writer::new(self.variant(variant)))
    }

    fn serialize_seq(self, count: Option<usize>) -> Result<Many<'o>, WriteError> {
        Ok(Many::new(self.out, count, write_array))
    }

    fn serialize_tuple(self, count: usize) -> Result<Many<'o>, WriteError> {
        self.serialize_seq(Some(count))
    }

    fn serialize_tuple_struct(self, _: &'static str, count: usize) -> Result<Many<'o>, WriteError> {
        self.serialize_seq(Some(count))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        count: usize,
    ) -> Result<Many<'o>, WriteError> {
        Ok(Many::new(self.variant(variant), Some(count), write_array))
    }

    fn serialize_map(self, count: Option<usize>) -> Result<Many<'o>, WriteError> {
        Ok(Many::new(self.out, count, write_map))
    }

    fn serialize_struct(self, _: &'static str, count: usize) -> Result<Many<'o>, WriteError> {
        self.serialize_map(Some(count))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        count: usize,
    ) -> Result<Many<'o>, WriteError> {
        Ok(Many::new(self.variant(variant), Some(count), write_map))
    }
}

macro_rules! sequences {
    ($($kind:ident: $method:ident),*) => {
        $(impl ser::$kind for Many<'_> {
            type Ok = ();
            type Error = WriteError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
                self.add(value)
            }

            fn end(self) -> Result<(), WriteError> {
                let count = self.count;
                self.finish(write_array, count);
                Ok(())
            }
        })*
    };
}

sequences! {
    SerializeSeq: serialize_element, SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field
}

impl ser::SerializeMap for Many<'_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), WriteError> {
        self.add(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
        self.add(value)
    }

    fn end(self) -> Result<(), WriteError> {
        let pairs = self.count / 2;
        self.finish(write_map, pairs);
        Ok(())
    }
}

macro_rules! structs {
    ($($kind:ident),*) => {
        $(impl ser::$kind for Many<'_> {
            type Ok = ();
            type Error = WriteError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), WriteError> {
                self.add(name)?;
                self.add(value)
            }

            fn end(self) -> Result<(), WriteError> {
                Ok(())
            }
        })*
    };
}

structs! { SerializeStruct, SerializeStructVariant }
