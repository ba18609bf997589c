//! Hub messages as JSON text, each ended by the record separator.
//!
//! Reading takes fields in any order, because the most common client writes `type` last, and
//! keeps arguments, items and results raw. Writing appends to a buffer that the caller owns;
//! pre-encoded arguments are copied, never parsed.

mod decode;
mod encode;
mod extent;
mod fields;
mod finite;
mod text;

pub(crate) use extent::object as object_extent;
pub(crate) use finite::hides_number;

pub use decode::{DecodeError, decode};
pub use encode::{
    PING, encode, encode_close, encode_completion_error, encode_completion_value,
    encode_completion_void, encode_invocation, encode_invocation_array,
};

/// Name of this protocol in the handshake.
pub const NAME: &str = "json";

/// Newest version of the protocol; version 2 adds stateful reconnect.
pub const VERSION_MAX: i32 = 2;
