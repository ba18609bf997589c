//! `countersign.toml`: one truth for file and environment, and errors that name the place.
//!
//! The server and `config check` use this very code. Every key can be overridden by an environment
//! variable `COUNTERSIGN_SECTION__KEY`. An unknown key is an error, with the nearest known one.

mod load;
mod schema;
mod values;

pub(crate) use load::load;
pub(crate) use schema::{
    AgentSection, ClientEntry, Config, LogFormat, LogSection, RetrySection, RoleName, SinkKind,
    SinkSection,
};
