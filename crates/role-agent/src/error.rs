//! Why an agent did not start, or ended by itself.

use countersign_driver::OpenError;

/// Why an agent is not running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option makes no sense. Correct it.
    #[error("{option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What is wrong with it, in one clause.
        reason: String,
    },
    /// The inbox could not be opened: locked by another process, unreadable, or of a newer program.
    #[error("the inbox could not be opened: {0}")]
    Store(#[from] OpenError),
    /// A file or folder beside the inbox could not be used.
    #[error("{what} could not be used: {source}")]
    File {
        /// Which one.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// No HTTP client could be made, most likely because no certificate store was found.
    #[error("no HTTP client could be made: {0}")]
    HttpClient(reqwest::Error),
    /// A part of the agent ended although nobody asked it to: a defect. Start the agent again.
    #[error("{part} failed: {how}")]
    Part {
        /// Which part.
        part: &'static str,
        /// How.
        how: String,
    },
    /// The journal failed while the agent ran: nothing after its last durable record was told to
    /// anybody. Starting again recovers from what is on disk.
    #[error("the inbox failed: {0}")]
    JournalFailed(String),
}

impl Error {
    pub(crate) fn option(option: &'static str, reason: impl Into<String>) -> Self {
        Self::Option {
            option,
            reason: reason.into(),
        }
    }
}
