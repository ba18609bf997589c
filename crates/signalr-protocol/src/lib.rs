//! The SignalR wire, for servers and clients: hub messages, their JSON and MessagePack codecs, framing,
//! handshake and negotiation, and the books of stateful reconnect ([`Sequences`]).
//!
//! Promise: bytes in, values out, and back. Arguments and results stay raw until the caller knows
//! the type they are meant for, so that a message which is only passed on is never parsed twice.
//! Two readers exist, because the official server and the official clients do not accept the same
//! texts: see [`Reader`].
//!
//! Both ends of a stateful reconnect keep their books in [`Sequences`].
//!
//! Left out on purpose: sockets, clocks, tasks and random ids. The crate is `no_std`; those belong
//! to `signalr-server` and `signalr-client`.
//!
//! ```
//! use signalr_protocol::{HubMessage, Reader, RecordSplitter, json};
//!
//! let mut records = RecordSplitter::new(Some(32 * 1024));
//! let chunk = b"{\"target\":\"add\",\"arguments\":[1,2],\"invocationId\":\"0\",\"type\":1}\x1e";
//! for record in records.feed(chunk) {
//!     let record = record.unwrap();
//!     let Some(HubMessage::Invocation(call)) = json::decode(&record, Reader::Server).unwrap() else {
//!         panic!("an invocation was sent");
//!     };
//!     assert_eq!(call.arguments.bind::<(i32, i32)>().unwrap(), (1, 2));
//! }
//! ```
#![no_std]

extern crate alloc;

mod any;
mod arguments;
pub mod defaults;
pub mod error_text;
pub mod handshake;
pub mod json;
mod message;
pub mod messagepack;
pub mod negotiate;
mod raw;
mod records;
mod sequences;

pub use any::AnyValue;
pub use arguments::BindError;
pub use message::{
    CancelInvocation, Close, Completion, CompletionResult, Headers, HubMessage, Invocation,
    MessageType, StreamItem,
};
pub use raw::{Encoding, Raw, WriteError};
pub use records::{RECORD_SEPARATOR, RecordSplitter, RecordTooLarge, Records};
pub use sequences::{Incoming, Replay, SequenceAhead, Sequences};

/// Whose rules decide what is acceptable in a message.
///
/// The official server checks every field it knows; the official clients check little and skip
/// the message types that only a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Reads what clients send: all types, every known field checked.
    Server,
    /// Reads what servers send: types 4 and 5 are unknown, optional fields of a wrong type ignored.
    Client,
}
