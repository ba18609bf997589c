//! The acknowledgement API: takes down who said what about which message, and nothing else.
//!
//! It knows neither hub nor messages, has a journal of its own, and therefore works while both are
//! down (I12). The centre reads that journal in order, here or over `GET /acks/v1/journal`.
//!
//! Promise: a 200 is given only for what is durable (I11), and never to anybody but the agent that
//! the token speaks for.
//!
//! Left out on purpose: what an acknowledgement means; the centre decides that.

mod body;
mod journal;
mod post;
mod problem;
mod service;

pub use service::{Options, router};
