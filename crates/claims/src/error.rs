//! Why a body could not be written or read.

use std::io;

/// Why a body could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such body.
    #[error("there is no such body")]
    Unknown,
    /// A body of this id is there already.
    #[error("the body is there already")]
    Exists,
    /// More bytes than were declared.
    #[error("there are more than the {bytes} bytes that were declared")]
    TooLong {
        /// How many were declared.
        bytes: u64,
    },
    /// It is not what was declared. Nothing of it is kept.
    #[error("the body is not what was declared: {why}")]
    Mismatch {
        /// In what way.
        why: &'static str,
    },
    /// It is not what was written.
    #[error("the body is damaged: {why}")]
    Damaged {
        /// In what way.
        why: String,
    },
    /// The disk is full.
    #[error("the disk is full")]
    NoSpace,
    /// The disk fails.
    #[error("the store of large bodies cannot be used: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            io::ErrorKind::NotFound => Self::Unknown,
            _ => Self::Io(error),
        }
    }
}

impl Error {
    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged { why: why.into() }
    }
}
