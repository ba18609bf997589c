//! The file layer: the only way the journal reaches a disk.

mod real;

use std::io;

pub use real::RealFiles;

/// One flat directory of files. Cloning gives another handle to the same directory.
///
/// A full disk is [`io::ErrorKind::StorageFull`], a name that is not there
/// [`io::ErrorKind::NotFound`]; the journal treats every other error as a failing disk.
pub trait Files: Clone + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// Held while the directory is owned; dropping it gives the directory up.
    type Lock: Send + Sync + 'static;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    ///
    /// When it is not there or cannot be opened.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Creates a file, empty even if it existed. Its name is durable after [`Files::sync_dir`].
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Names of all files, sorted.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Renames atomically, replacing `to`. Durable after [`Files::sync_dir`].
    ///
    /// # Errors
    ///
    /// When `from` is not there or the disk refuses.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Durable after [`Files::sync_dir`].
    ///
    /// # Errors
    ///
    /// When it is not there or the disk refuses.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    ///
    /// # Errors
    ///
    /// When the disk does not confirm.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes the exclusive lock on file `name`, creating it; `None` when another holder has it.
    ///
    /// # Errors
    ///
    /// When the file cannot be created or locked for another reason.
    fn lock(&self, name: &str) -> io::Result<Option<Self::Lock>>;

    /// Bytes still free for us.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Sixteen bytes nobody can guess; from the seed in a simulation.
    ///
    /// # Errors
    ///
    /// When the system has none.
    fn random(&self) -> io::Result<[u8; 16]>;

    /// The directory's name for messages to people.
    fn describe(&self) -> String;
}

/// One open file.
pub trait File: Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`. On an error any part of it may have been written.
    ///
    /// # Errors
    ///
    /// When the disk is full or fails.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads up to `buffer.len()` bytes at `offset`; less only at the end of the file.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Makes everything written to this file durable, with what is needed to read it back.
    ///
    /// # Errors
    ///
    /// When the disk does not confirm; what is durable is then unknown for good.
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    fn length(&self) -> io::Result<u64>;

    /// Extends a file to `len`, reading as zeros, and reserves the blocks where it can.
    ///
    /// # Errors
    ///
    /// When the disk is full or fails.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts or extends to `len`.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    fn set_len(&self, len: u64) -> io::Result<()>;
}
