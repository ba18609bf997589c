//! The roles, opened and wired together.

pub(crate) mod acks;
pub(crate) mod agent;
pub(crate) mod centre;
pub(crate) mod deployment;
pub(crate) mod keys;
pub(crate) mod listen;
pub(crate) mod pull;
pub(crate) mod store;
pub(crate) mod token;
