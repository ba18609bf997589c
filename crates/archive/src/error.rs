//! What can go wrong, by what follows from it.

use std::io;
use std::path::PathBuf;

/// Why the archive could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A newer program wrote it. Start that one, or remove the file: it is built again.
    #[error(
        "{path:?} was written in version {found} of its format, this program reads {known}; \
         start the newer program, or remove the file to have it built again from the journal"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The version known.
        known: i64,
    },
    /// Its content is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The disk refused.
    #[error("{path:?}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// SQLite refused, for another reason than damage: the folder may not be writable, or full.
    #[error("cannot open {path:?}: {error}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        error: rusqlite::Error,
    },
    /// The thread that writes could not be started.
    #[error("the thread that writes the archive could not be started: {0}")]
    Thread(io::Error),
}

/// Why a row could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the checksum of a row is wrong")]
    Checksum,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl ReadError {
    /// Whether building the archive anew is what helps.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Checksum => true,
            Self::Sqlite(error) => is_damage(error),
        }
    }
}

/// Whether SQLite says that the file is not what it wrote.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::ErrorCode;
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch
        ),
        rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..) => {
            true
        }
        _ => false,
    }
}
