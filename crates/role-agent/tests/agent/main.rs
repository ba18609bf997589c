//! The whole agent over a real journal, between a scripted hub, ack API and back office.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod connection;
mod failures;
mod main_line;
mod restart;
mod support;
