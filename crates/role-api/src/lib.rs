//! The send API: accept a message, say where it is, wait for where it is going.
//!
//! Promise: a 202 is given only once the message is on disk (I1), the same idempotency key gives the
//! same message (I3), and one tenant sees nothing of another (I30).
//!
//! Left out on purpose: search and lists of all messages, which belong to a read model; and every
//! rule, which belongs to `rules::delivery`.

pub mod codes;

mod batch;
mod bodies;
mod body;
mod fanout;
mod groups;
mod history;
mod letters;
mod look;
mod message;
mod metrics;
mod operate;
mod operations;
mod orphans;
mod problem;
mod request;
mod select;
mod send;
mod service;
mod submit;
mod wait;

pub use bodies::LargeBodies;
pub use request::{TypeDefaults, Types};
pub use service::{Api, Options};
pub use wait::Watchers;
