//! Where the object of a record ends, found without reading it.
//!
//! Official servers ignore what follows the object, and refuse nesting deeper than 64 levels even
//! in fields they do not know.

use super::DecodeError;
use crate::defaults::JSON_DEPTH_MAX;

/// Cuts off white space before and anything after the first object of `text`.
pub(crate) fn object(text: &str) -> Result<&str, DecodeError> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r']);
    match text.as_bytes().first() {
        Some(b'{') => Ok(&text[..end(text.as_bytes())?]),
        Some(first) => Err(DecodeError::NotObject {
            found: token_name(*first)?,
        }),
        None => Err(DecodeError::NotJson),
    }
}

/// Index after the bracket that closes the first one.
fn end(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at + 1)?,
            b'{' | b'[' if depth == JSON_DEPTH_MAX => return Err(DecodeError::NotJson),
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Ok(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    Err(DecodeError::NotJson)
}

/// Index of the quotation mark that ends the string whose text starts at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, DecodeError> {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Err(DecodeError::NotJson)
}

fn token_name(first: u8) -> Result<&'static str, DecodeError> {
    Ok(match first {
        b'[' => "Array",
        b'"' => "String",
        b'-' | b'0'..=b'9' => "Number",
        b't' => "True",
        b'f' => "False",
        b'n' => "Null",
        _ => return Err(DecodeError::NotJson),
    })
}
