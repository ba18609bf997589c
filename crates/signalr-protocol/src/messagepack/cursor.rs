//! Markers and what belongs to them, taken from the front of a slice.
//!
//! Promise: no count is believed that the bytes left cannot hold, and nothing recurses.

use rmp::Marker;

/// Bytes that are no MessagePack, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// One value, or the head of one that contains others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float32(f32),
    Float64(f64),
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Extension(&'a [u8]),
    /// So many values follow.
    Array(usize),
    /// So many pairs of values follow.
    Map(usize),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn token(&mut self) -> Result<Token<'a>, Malformed> {
        let marker = Marker::from_u8(self.take(1)?[0]);
        Ok(match marker {
            Marker::Null => Token::Nil,
            Marker::True => Token::Bool(true),
            Marker::False => Token::Bool(false),
            Marker::FixPos(number) => Token::Unsigned(number.into()),
            Marker::FixNeg(number) => Token::Signed(number.into()),
            Marker::U8 => Token::Unsigned(self.unsigned::<1>()?),
            Marker::U16 => Token::Unsigned(self.unsigned::<2>()?),
            Marker::U32 => Token::Unsigned(self.unsigned::<4>()?),
            Marker::U64 => Token::Unsigned(self.unsigned::<8>()?),
            Marker::I8 => Token::Signed(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => Token::Signed(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => Token::Signed(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => Token::Signed(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Token::Float32(f32::from_be_bytes(self.array()?)),
            Marker::F64 => Token::Float64(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(length) => Token::Text(self.take(length.into())?),
            Marker::Str8 => Token::Text(self.sized::<1>()?),
            Marker::Str16 => Token::Text(self.sized::<2>()?),
            Marker::Str32 => Token::Text(self.sized::<4>()?),
            Marker::Bin8 => Token::Binary(self.sized::<1>()?),
            Marker::Bin16 => Token::Binary(self.sized::<2>()?),
            Marker::Bin32 => Token::Binary(self.sized::<4>()?),
            Marker::FixArray(count) => self.array_of(count.into())?,
            Marker::Array16 => {
                let count = self.count::<2>()?;
                self.array_of(count)?
            }
            Marker::Array32 => {
                let count = self.count::<4>()?;
                self.array_of(count)?
            }
            Marker::FixMap(count) => self.map_of(count.into())?,
            Marker::Map16 => {
                let count = self.count::<2>()?;
                self.map_of(count)?
            }
            Marker::Map32 => {
                let count = self.count::<4>()?;
                self.map_of(count)?
            }
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => {
                let length = self.count::<1>()?;
                self.extension(length)?
            }
            Marker::Ext16 => {
                let length = self.count::<2>()?;
                self.extension(length)?
            }
            Marker::Ext32 => {
                let length = self.count::<4>()?;
                self.extension(length)?
            }
            Marker::Reserved => return Err(Malformed),
        })
    }

    /// The bytes of the next whole value.
    pub(super) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.rest;
        let mut missing = 1_usize;
        while missing > 0 {
            missing -= 1;
            missing += match self.token()? {
                Token::Array(count) => count,
                Token::Map(pairs) => 2 * pairs,
                _ => 0,
            };
            if missing > self.rest.len() {
                return Err(Malformed);
            }
        }
        Ok(&start[..start.len() - self.rest.len()])
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Malformed> {
        self.take(BYTES)?.try_into().map_err(|_| Malformed)
    }

    fn unsigned<const BYTES: usize>(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(BYTES)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn count<const BYTES: usize>(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.unsigned::<BYTES>()?).map_err(|_| Malformed)
    }

    fn sized<const BYTES: usize>(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.count::<BYTES>()?;
        self.take(length)
    }

    /// Each value takes a byte at least.
    fn array_of(&self, count: usize) -> Result<Token<'a>, Malformed> {
        match count <= self.rest.len() {
            true => Ok(Token::Array(count)),
            false => Err(Malformed),
        }
    }

    fn map_of(&self, pairs: usize) -> Result<Token<'a>, Malformed> {
        match pairs <= self.rest.len() / 2 {
            true => Ok(Token::Map(pairs)),
            false => Err(Malformed),
        }
    }

    fn extension(&mut self, length: usize) -> Result<Token<'a>, Malformed> {
        self.take(1)?;
        self.take(length).map(Token::Extension)
    }
}
