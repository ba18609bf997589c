//! One module a verb.

pub(crate) mod acks;
pub(crate) mod agent;
pub(crate) mod agents;
pub(crate) mod back_office;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod groups;
pub(crate) mod keys;
pub(crate) mod letters;
pub(crate) mod messages;
pub(crate) mod operations;
pub(crate) mod send;
mod send_large;
pub(crate) mod send_many;
pub(crate) mod serve;
pub(crate) mod store;
pub(crate) mod token;
pub(crate) mod verify;
