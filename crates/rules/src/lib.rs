//! Every rule of countersign, the centre's and the site's, and nothing else.
//!
//! A rule decides and performs nothing: [`Machine::step`] takes an input and the time, and leaves
//! behind the [records](record) that must become durable and the effects that may follow once they
//! are. Same inputs and times, same outputs, for ever; which is why the whole product can be run
//! in one thread from one seed, and why a restart is a replay.
//!
//! Left out on purpose: files, sockets, clocks, randomness, `async`. What the outside world answers
//! comes back as the next input. This crate is `no_std`, so it cannot even name them.
//!
//! | module | decides |
//! |---|---|
//! | [`delivery`] | the centre: what is accepted, who is connected, what is pushed, what an acknowledgement changes |
//! | [`site`] | the agent: what is new, what is worked on next, what is owed to the centre |
//! | [`ack`] | the acknowledgement store between them |
//! | [`body`] | how large bodies are named |
//! | [`lane`] | what a failure means for what is behind it in its lane |
//! | [`retry`] | how long to wait before trying again |
//! | [`limits`] | the bound of everything that can grow |
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

pub mod ack;
pub mod body;
pub mod delivery;
pub mod lane;
pub mod limits;
pub mod machine;
pub mod message;
pub mod planted;
pub mod record;
pub mod retry;
pub mod site;
pub mod time;

mod hash;

pub use body::{BodyId, BodyRef};
pub use lane::LaneRule;
pub use machine::{Machine, Position, Step};
pub use message::{
    AgentName, GroupName, LabelName, LabelValue, LaneName, MessageId, TenantName, TypeName,
};
pub use time::{Duration, Timestamp};
