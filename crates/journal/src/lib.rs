//! The durable log: records with dense positions, verified on every read, never half visible.
//!
//! Promise: what [`Log::flush`] has confirmed survives every crash and is served exactly as it was
//! written, or reported as damaged by position; it is never served wrong and never missing in
//! silence. What was not confirmed is either whole or gone after a crash, batch by batch.
//!
//! The parts: [`Log`] is the one writer, [`Reader`] the many readers, [`SnapshotStore`] keeps the
//! application's state, [`JournalThread`] puts the writer on a thread of its own, [`History`] reads
//! a store from outside while its owner writes it, [`backup`] copies one that way and [`restore`]
//! makes a store of the copy. Files are reached through [`Files`]: [`RealFiles`] in production,
//! [`sim::SimFiles`] in tests.
//! The disk format, and what recovery does in every case, is written in `docs/storage.md`.
//!
//! Left out on purpose: what a record means (the payload is opaque), clocks, async, replication.

mod active;
mod backup;
mod batch;
mod error;
mod files;
mod format;
mod history;
mod index;
mod log;
mod options;
mod reader;
mod recover;
mod scan;
mod segment;
mod snapshots;
mod space;
mod survey;
mod thread;
mod verify;
mod witness;

pub mod sim;

pub use backup::{
    BackupError, Contents, MANIFEST, Manifest, Unproved, backup, compare, manifest, restore,
};
pub use batch::{Batch, Position};
pub use error::{
    AppendError, CloseError, Damage, Damaged, FlushError, OpenError, ReadError, Reason,
    SnapshotError, TrimError,
};
pub use files::{File, Files, RealFiles};
pub use history::History;
pub use log::Log;
#[cfg(feature = "planted-bugs")]
pub use options::Planted;
pub use options::{NewStore, Options, Preallocation};
pub use reader::{OnRecord, Reader, Record};
pub use recover::Recovered;
pub use segment::SegmentInfo;
pub use snapshots::SnapshotStore;
pub use space::Space;
pub use thread::{Completion, JournalThread, Refused, ThreadOptions};
pub use verify::{Report, verify};
