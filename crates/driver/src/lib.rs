//! The one loop of countersign: collect inputs, step the machine, append, flush, then let out what
//! that led to.
//!
//! Promise: no reply and no effect leaves before the records it rests on are on disk, and none of
//! them in another order than the steps. While one batch is being flushed the next one gathers, so
//! under load a flush carries hundreds of records and nobody waits for a timer.
//!
//! When the disk's reserve is gone, inputs that would keep something new are refused and everything
//! else goes on (I19). When a flush fails, the loop ends and answers nobody.
//!
//! | part | job |
//! |---|---|
//! | [`Engine`] | gathers steps into a batch; no IO, so the simulator runs it too |
//! | [`open`] | a store on disk back into an engine |
//! | [`Service`], [`Handle`] | the loop on tokio, and how the roles talk to it |
//! | [`Outlet`] | where effects go |

mod bodies;
mod clock;
mod engine;
mod handle;
mod open;
pub mod page;
mod service;

pub use bodies::Bodies;
pub use clock::Clock;
pub use engine::{Engine, Sealed};
pub use handle::{Answer, AskError, Handle, Health, StoreInfo};
pub use open::{OpenError, Opened, open, open_with};
pub use service::{Options, Outlet, Service, StopReason, Waiting};

/// What callers of this crate need of the journal.
pub use countersign_journal as journal;
