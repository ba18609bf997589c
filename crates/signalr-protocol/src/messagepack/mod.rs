//! Hub messages as MessagePack arrays, each behind its length.
//!
//! Arguments, items and results stay raw until their types are known. A length is compared with
//! the limit before anything behind it is awaited, and a count with the bytes that are there
//! before anything is allocated for it.

mod cursor;
mod de;
mod decode;
mod encode;
mod frames;
mod ser;
mod transcode;

pub(crate) use de::{bind, read};
pub(crate) use ser::to_vec;
pub(crate) use transcode::{from_json, to_json};

pub use decode::{DecodeError, decode};
pub use encode::{
    PING, encode, encode_close, encode_completion_error, encode_completion_value,
    encode_completion_void, encode_invocation, encode_invocation_array,
};
pub use frames::{FrameError, FrameSplitter, Frames};

/// Name of this protocol in the handshake.
pub const NAME: &str = "messagepack";

/// Newest version of the protocol; version 2 adds stateful reconnect.
pub const VERSION_MAX: i32 = 2;

/// The name under which a value asks its encoding for the bytes as they are.
pub(crate) const ANY_NAME: &str = "$signalr::AnyValue";
