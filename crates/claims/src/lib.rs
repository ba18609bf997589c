//! Bodies that are too large for a message: kept beside the journal, referred to by messages.
//!
//! Promise: a body is there whole, with the hash that was declared for it, or not at all; it can be
//! read only once it would survive a power cut; and each block is checked against its hash when it is
//! read, so what is damaged is reported and never served (I20). A body grows in pieces, over as many
//! connections and processes as it takes.
//!
//! [`BodyStore`] is the seam between what is promised and where bodies lie; [`FolderStore`] keeps them
//! as files in one directory.
//!
//! Left out on purpose: who may read a body, and how long it is kept. The rules of the product decide.

mod error;
mod folder;
mod layout;
mod reading;
mod writing;

use countersign_rules::{BodyId, TenantName};
use std::fmt;

pub use error::Error;
pub use folder::FolderStore;
#[cfg(feature = "planted-bugs")]
pub use folder::Planted;
pub use layout::BLOCK_BYTES;

/// What is said of a body before its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Whose it is.
    pub tenant: TenantName,
    /// When it was begun, in seconds since 1970: unfinished ones are given up by it.
    pub begun_at_s: i64,
}

/// A body that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: BodyId,
    /// What was declared; `None` when the file does not tell any more.
    pub declared: Option<Declared>,
    /// Whether it is whole and durable.
    pub is_whole: bool,
}

/// Keeps large bodies.
pub trait BodyStore: fmt::Debug + Send + Sync + 'static {
    /// Begins a body. What is declared is durable when this returns.
    ///
    /// # Errors
    /// There is one of this id ([`Error::Exists`]), or the store cannot write.
    fn begin(&self, id: BodyId, declared: &Declared) -> Result<(), Error>;

    /// Goes on with a body that was begun. One caller at a time.
    ///
    /// # Errors
    /// [`Error::Unknown`] when none was begun, [`Error::Exists`] when it is whole already.
    fn resume(&self, id: BodyId) -> Result<Box<dyn Growing>, Error>;

    /// Opens a whole body.
    ///
    /// # Errors
    /// [`Error::Unknown`] when there is none, [`Error::Damaged`] when it is not what it was.
    fn open(&self, id: BodyId) -> Result<Box<dyn Body>, Error>;

    /// Removes a body, whole or not. One that is not there is no error.
    ///
    /// # Errors
    /// The store cannot write.
    fn remove(&self, id: BodyId) -> Result<(), Error>;

    /// All bodies, whole or not.
    ///
    /// # Errors
    /// The store cannot be read.
    fn list(&self) -> Result<Vec<Listed>, Error>;

    /// Bytes that the disk has left; `u64::MAX` when there is no telling.
    fn free_bytes(&self) -> u64;
}

/// A body that is not whole yet.
pub trait Growing: fmt::Debug + Send {
    /// What was declared of it.
    fn declared(&self) -> &Declared;

    /// Bytes that are there.
    fn offset(&self) -> u64;

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`Error::TooLong`] when they are more than was declared: none is added then. After any other
    /// error the body must be resumed anew.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// Makes what is there durable.
    ///
    /// # Errors
    /// The disk does not confirm.
    fn sync(&mut self) -> Result<(), Error>;

    /// Makes the body whole and durable: it can be opened from now on.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when it is not what was declared: nothing of it is kept then.
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

/// A whole body.
pub trait Body: fmt::Debug + Send {
    /// What was declared of it.
    fn declared(&self) -> &Declared;

    /// The bytes from `offset` to the end of their block, checked; none at the end of the body.
    ///
    /// # Errors
    /// [`Error::Damaged`] when they are not what was written.
    fn read_from(&mut self, offset: u64) -> Result<Vec<u8>, Error>;
}
