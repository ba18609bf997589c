//! A simulated directory: deterministic from a seed, with the faults a disk can have.
//!
//! What was not synced may be lost, torn in 512-byte blocks or land out of order when the power
//! goes ([`SimFiles::crash`]); a name that was not made durable by a directory sync may vanish.
//! A failed sync drops what it could not write and forgets that it was dirty, as Linux does.
//! Every injected fault is counted ([`SimFiles::counts`]), so that a run without faults shows.

mod disk;
mod random;
mod settle;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{File, Files};
use disk::{Disk, Operation};
pub use random::Random;

/// How often the disk fails by itself, in failures per million operations of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// Reads that answer EIO.
    pub read_errors: u32,
    /// Writes that answer EIO after writing a part.
    pub write_errors: u32,
    /// Syncs, of files and of the directory, that answer EIO.
    pub sync_errors: u32,
}

/// Faults injected so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Power cuts.
    pub crashes: u64,
    /// Processes ended with the page cache intact.
    pub kills: u64,
    /// Unflushed writes of which nothing landed.
    pub writes_lost: u64,
    /// Unflushed writes of which a part landed.
    pub writes_torn: u64,
    /// Unflushed writes that landed although an earlier one to the same file did not.
    pub writes_reordered: u64,
    /// Changes of names that were lost.
    pub names_lost: u64,
    /// Answers "disk full".
    pub full: u64,
    /// Reads and writes that answered EIO.
    pub errors: u64,
    /// Failed syncs.
    pub syncs_failed: u64,
    /// Flipped bits.
    pub bits_flipped: u64,
}

impl FaultCounts {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.writes_lost += other.writes_lost;
        self.writes_torn += other.writes_torn;
        self.writes_reordered += other.writes_reordered;
        self.names_lost += other.names_lost;
        self.full += other.full;
        self.errors += other.errors;
        self.syncs_failed += other.syncs_failed;
        self.bits_flipped += other.bits_flipped;
    }
}

/// What happens to unflushed writes when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of them are lost.
    Everything,
    /// All of them land.
    Nothing,
    /// The seed decides, block by block.
    Random,
}

/// A fault for one chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers EIO.
    Error,
    /// It answers "disk full".
    Full,
}

/// A kind of operation, to choose one for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`File::read_at`].
    Read,
    /// [`File::write_at`].
    Write,
    /// [`File::allocate`].
    Allocate,
    /// [`File::set_len`].
    SetLen,
    /// [`File::sync_data`].
    Sync,
    /// [`Files::sync_dir`].
    SyncDir,
    /// [`Files::create`], [`Files::rename`] and [`Files::remove`].
    Name,
}

/// A simulated directory. Clones are handles to the same one; see [`SimFiles::fork`] for a copy.
#[derive(Clone)]
pub struct SimFiles {
    disk: Arc<Mutex<Disk>>,
}

impl fmt::Debug for SimFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFiles")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl SimFiles {
    /// An empty directory. The seed decides everything that is left to chance.
    pub fn new(seed: u64) -> Self {
        Self::from_disk(Disk::new(seed))
    }

    /// A copy of the directory as it is, unflushed writes included, with a seed of its own.
    pub fn fork(&self, seed: u64) -> Self {
        Self::from_disk(self.disk().fork(seed))
    }

    fn from_disk(disk: Disk) -> Self {
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes and comes back: unflushed writes and names land or not, as the seed
    /// decides; locks and open files are gone.
    pub fn crash(&self) {
        self.disk().crash(Loss::Random);
    }

    /// As [`SimFiles::crash`], with the fate of unflushed writes chosen.
    pub fn crash_losing(&self, loss: Loss) {
        self.disk().crash(loss);
    }

    /// The process dies, the machine stays up: nothing is lost, nothing becomes durable.
    pub fn kill(&self) {
        self.disk().kill();
    }

    /// The power goes in the middle of the changing operation after the next `operations`; from
    /// then on every operation fails, until [`SimFiles::crash`].
    pub fn stop_after(&self, operations: u64) {
        self.disk().stop_after(operations);
    }

    /// Whether the stop of [`SimFiles::stop_after`] was reached.
    pub fn is_stopped(&self) -> bool {
        self.disk().is_stopped()
    }

    /// Changing operations so far.
    pub fn operations(&self) -> u64 {
        self.disk().operations()
    }

    /// The `nth` next operation of `kind` (1 is the very next) fails.
    pub fn fail_nth(&self, kind: Kind, nth: u64, fault: Fault) {
        self.disk().fail_nth(kind, nth, fault);
    }

    /// How often operations fail from now on.
    pub fn set_rates(&self, rates: FaultRates) {
        self.disk().rates = rates;
    }

    /// Bytes the directory can hold; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// After a crash, blocks that belong to a file but never landed hold bytes of removed files
    /// instead of zeros.
    pub fn set_stale_bytes(&self, stale: bool) {
        self.disk().stale_bytes = stale;
    }

    /// Bytes all files take.
    pub fn used_bytes(&self) -> u64 {
        self.disk().used_bytes()
    }

    /// Faults injected so far.
    pub fn counts(&self) -> FaultCounts {
        self.disk().counts
    }

    /// Flips one bit (0 to 7) of the byte at `offset`, on the disk and in memory.
    ///
    /// # Panics
    ///
    /// When the file or the byte is not there.
    pub fn flip_bit(&self, file: &str, offset: u64, bit: u8) {
        let mut disk = self.disk();
        disk.counts.bits_flipped += 1;
        disk.edit(file, |bytes| {
            let at = usize::try_from(offset).expect("a simulated file fits the memory");
            bytes[at] ^= 1 << bit;
        });
    }

    /// Changes a file's bytes behind everybody's back, on the disk and in memory.
    ///
    /// # Panics
    ///
    /// When the file is not there.
    pub fn edit(&self, file: &str, change: impl FnMut(&mut Vec<u8>)) {
        self.disk().edit(file, change);
    }

    /// A file's bytes as a reader sees them now.
    ///
    /// # Panics
    ///
    /// When the file is not there.
    pub fn bytes(&self, file: &str) -> Vec<u8> {
        self.disk().bytes(file)
    }

    /// Names and lengths of all files.
    pub fn lengths(&self) -> Vec<(String, u64)> {
        self.disk().lengths()
    }
}

impl Files for SimFiles {
    type File = SimFile;
    type Lock = SimLock;

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let mut disk = self.disk();
        let (inode, life) = disk.open(name)?;
        Ok(SimFile {
            disk: Arc::clone(&self.disk),
            inode,
            life,
        })
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut disk = self.disk();
        let (inode, life) = disk.create(name)?;
        Ok(SimFile {
            disk: Arc::clone(&self.disk),
            inode,
            life,
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk().list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk().remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk().sync_dir()
    }

    fn lock(&self, name: &str) -> io::Result<Option<SimLock>> {
        let life = self.disk().lock(name)?;
        let lock = |life| SimLock {
            disk: Arc::clone(&self.disk),
            name: name.to_owned(),
            life,
        };
        Ok(life.map(lock))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk().free_bytes()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        Ok(self.disk().random_bytes())
    }

    fn describe(&self) -> String {
        "the simulated directory".to_owned()
    }
}

/// An open simulated file.
pub struct SimFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    life: u64,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("inode", &self.inode)
            .finish_non_exhaustive()
    }
}

impl SimFile {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk().release(self.inode, self.life);
    }
}

impl File for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk().change(
            self.inode,
            self.life,
            Operation::Write {
                offset,
                bytes: bytes.to_vec(),
            },
        )
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk().read(self.inode, self.life, offset, buffer)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk().sync(self.inode, self.life)
    }

    fn length(&self) -> io::Result<u64> {
        self.disk().len(self.inode, self.life)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk()
            .change(self.inode, self.life, Operation::Allocate { len })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk()
            .change(self.inode, self.life, Operation::SetLen { len })
    }
}

/// Held while the simulated directory is owned.
pub struct SimLock {
    disk: Arc<Mutex<Disk>>,
    name: String,
    life: u64,
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLock")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.unlock(&self.name, self.life);
    }
}
