//! What can go wrong, by what the caller does about it.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;

use crate::Position;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it. Stop that one, or choose another directory.
    #[error("data directory {directory} is in use by another process")]
    InUse {
        /// The directory as the user named it.
        directory: String,
    },
    /// Written by a newer product. Use that one; nothing was changed.
    #[error("{directory}/{file} has format version {found}, this build reads version {known}")]
    Version {
        /// The directory as the user named it.
        directory: String,
        /// The file that says so.
        file: String,
        /// The version in the file.
        found: u16,
        /// The version this build knows.
        known: u16,
    },
    /// The store was created with another partition count; it is fixed for life.
    #[error("{directory} was created with {found} partitions, configured are {wanted}")]
    Partitions {
        /// The directory as the user named it.
        directory: String,
        /// The count in the store.
        found: u16,
        /// The count in the options.
        wanted: u16,
    },
    /// No space to make the first segment of this run. Free some and start again.
    #[error("no space left in data directory {directory}")]
    NoSpace {
        /// The directory as the user named it.
        directory: String,
    },
    /// The disk or the directory does not answer. Nothing acknowledged was changed.
    #[error("cannot {action} in data directory {directory}: {error}")]
    Io {
        /// The directory as the user named it.
        directory: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The disk is full. Nothing changed; go on with reads, append again when space is free.
    #[error("no space left for the journal")]
    NoSpace,
    /// The batch can never be appended: too long, or a record too long. Nothing changed.
    #[error("batch of {bytes} bytes passes the limit")]
    TooLarge {
        /// Size of the payloads.
        bytes: usize,
    },
    /// The batch does not follow the last one. Nothing changed.
    #[error("batch begins at {got}, the next position is {expected}")]
    OutOfOrder {
        /// The journal's next position.
        expected: Position,
        /// Where the batch begins.
        got: Position,
    },
    /// The journal is unusable. Stop the node; recovery decides what is on the disk (I19).
    #[error("journal failed: {0}")]
    Failed(String),
}

/// The flush failed, or one before it did. Stop the node; nothing unflushed may be answered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("journal failed: {0}")]
pub struct FlushError(pub String);

/// A clean close did not succeed; what was durable still is.
#[derive(Debug, thiserror::Error)]
#[error("journal not closed cleanly: {0}")]
pub struct CloseError(pub String);

/// Why a record was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not written, or not durable yet.
    #[error("no record at position {0}")]
    NotFound(Position),
    /// Removed by [`crate::Log::trim`].
    #[error("position {0} was trimmed")]
    Trimmed(Position),
    /// Its bytes do not match their checksum. It stays so; ask a replica or report it.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The disk did not answer. Trying again may help.
    #[error("cannot read position {position}: {error}")]
    Io {
        /// The position asked for.
        position: Position,
        /// What the system said.
        error: io::Error,
    },
}

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The position is not durable, so a snapshot of it could outlive it.
    #[error("snapshot of position {position}, but only {durable} is durable")]
    NotDurable {
        /// Position of the snapshot.
        position: Position,
        /// Highest durable position.
        durable: Position,
    },
    /// The disk is full; earlier snapshots are untouched.
    #[error("no space left for a snapshot")]
    NoSpace,
    /// The disk did not take it; earlier snapshots are untouched.
    #[error("cannot write snapshot: {0}")]
    Io(io::Error),
}

/// A trim stopped early. What it removed is gone, the rest is whole.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove old segments: {0}")]
pub struct TrimError(pub io::Error);

/// One record that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {position} is damaged: {reason}")]
pub struct Damaged {
    /// Its position.
    pub position: Position,
    /// What is wrong with it.
    pub reason: Reason,
}

/// A place where the files are not as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Records that cannot be served because of it; `None` when every record is still served.
    pub positions: Option<RangeInclusive<Position>>,
    /// The file.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: Reason,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.reason)?;
        match &self.positions {
            None => write!(f, ", no record lost"),
            Some(range) if range.start() == range.end() => write!(f, ", record {}", range.start()),
            Some(range) => write!(f, ", records {} to {}", range.start(), range.end()),
        }
    }
}

/// What is wrong with a damaged place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A record's bytes do not match its checksum.
    Checksum,
    /// Records that must be there are not.
    Missing,
    /// A batch's header, commit or hash is wrong although its records are whole.
    BatchFrame,
    /// A batch does not carry the hash of the one before it.
    ChainBroken,
    /// Bytes where none were written.
    StrayBytes,
    /// One copy of a segment's header is wrong.
    HeaderCopy,
    /// Both copies of a segment's header are wrong: the segment is unreadable.
    Header,
    /// A slot of the witness is wrong, or the file is missing.
    Witness,
    /// A snapshot is wrong.
    Snapshot,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "checksum does not match",
            Self::Missing => "records are missing",
            Self::BatchFrame => "batch frame does not match its records",
            Self::ChainBroken => "hash chain is broken",
            Self::StrayBytes => "bytes where none were written",
            Self::HeaderCopy => "one copy of the segment header is damaged",
            Self::Header => "segment header is damaged",
            Self::Witness => "witness is damaged",
            Self::Snapshot => "snapshot is damaged",
        })
    }
}
