//! What the centre remembers of messages that have ended, on disk beside the journal.
//!
//! Promise: what was put is found, by id and by idempotency key, from the moment it is put until it
//! is forgotten. Each row carries a checksum that is compared whenever it is read; what fails it is
//! never answered, but makes the archive unreadable, and the next start builds it again from the
//! journal (I20). Nothing is written by whoever puts: a thread of its own does, batch by batch, each
//! whole or not at all.
//!
//! Durability is not promised: the archive is derived. What a crash takes is put again at the next
//! start, see [`Archive::keep_only`]. A full disk stops nothing: batches wait in memory, and
//! [`Archive::has_room`] tells the centre to keep what it has.
//!
//! Left out on purpose: what a message is worth remembering for, and for how long: the rules decide.

mod check;
mod error;
mod file;
mod queue;
mod row;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use countersign_rules::delivery::{Archive, ArchivePage, BatchName, Remembered, Unreadable};
use countersign_rules::message::MessageId;

pub use check::{Checked, Checking, check};
pub use error::OpenError;

use error::ReadError;
use file::File;
use queue::Queue;

/// An archive in one file.
#[derive(Debug)]
pub struct DiskArchive {
    path: PathBuf,
    file: File,
    queue: Arc<Queue>,
    /// No message with a higher id was ever put. Ids are ordered by time, so that this alone tells
    /// nearly every new message from those here.
    id_max: Option<MessageId>,
    writer: Option<JoinHandle<()>>,
}

impl DiskArchive {
    /// Opens the archive in the file `path`, or begins an empty one. A file that is damaged is
    /// removed: the journal has what was in it.
    ///
    /// # Errors
    /// The file cannot be opened or made; see [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if marker(path).exists() {
            tracing::warn!(path = %path.display(), "the archive was found damaged: it is built again from the journal");
            file::remove(path)?;
            remove_marker(path)?;
        }
        let (file, writing) = match open_both(path) {
            Err(OpenError::Damaged(why)) => {
                tracing::warn!(path = %path.display(), %why, "the archive is damaged: it is built again from the journal");
                file::remove(path)?;
                open_both(path)?
            }
            opened => opened?,
        };
        let id_max = file.id_max()?;
        let queue = Arc::new(Queue::default());
        let (jobs, beside) = (Arc::clone(&queue), path.to_owned());
        let writer = std::thread::Builder::new()
            .name("archive".to_owned())
            .spawn(move || jobs.work(writing, |error| mark(&beside, error)))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            queue,
            id_max,
            writer: Some(writer),
        })
    }

    /// Waits until everything put so far is in the file. For orderly ends and tests; false when the
    /// file takes nothing.
    pub fn settle(&self) -> bool {
        self.queue.settle()
    }

    /// Looks something up in the file, unless what is there counts no more.
    fn in_file<T>(
        &self,
        look: impl Fn(&File) -> Result<Option<T>, ReadError>,
    ) -> Result<Option<T>, Unreadable> {
        if self.queue.is_clearing() {
            return Ok(None);
        }
        look(&self.file).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &ReadError) -> Unreadable {
        mark(&self.path, error);
        Unreadable(format!("{}: {error}", self.path.display()))
    }
}

/// Remembers for the next start that the file cannot be trusted.
fn mark(path: &Path, error: &ReadError) {
    if error.is_damage()
        && let Err(unwritten) = std::fs::write(marker(path), b"")
    {
        tracing::error!(%unwritten, "the damaged archive could not be marked: remove it by hand");
    }
}

impl Archive for DiskArchive {
    fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    fn put(&mut self, name: BatchName, messages: &[Remembered]) {
        self.id_max = messages
            .iter()
            .map(|message| message.id)
            .max()
            .max(self.id_max);
        self.queue.put(name, messages);
    }

    fn release(&mut self, through: u64) {
        self.queue.release(through);
    }

    fn forget(&mut self, below: u64) {
        self.queue.forget(below);
    }

    fn find(&self, id: MessageId) -> Result<Option<(u64, Remembered)>, Unreadable> {
        if self.id_max.is_none_or(|id_max| id > id_max) {
            return Ok(None);
        }
        match self.queue.find(id) {
            Some(found) => Ok(Some(found)),
            None => self.in_file(|file| file.find(id)),
        }
    }

    fn find_key(&self, key: &[u8; 16]) -> Result<Option<(u64, Remembered)>, Unreadable> {
        if let Some(found) = self.queue.find_key(key) {
            return Ok(Some(found));
        }
        let Some((_, id)) = self.in_file(|file| file.find_key(key))? else {
            return Ok(None);
        };
        // The message may have come again in a later batch since.
        Ok(self.find(id)?.filter(|(_, message)| message.key == *key))
    }

    fn page(
        &self,
        after: Option<MessageId>,
        failures_alone: bool,
        count: usize,
    ) -> Result<ArchivePage, Unreadable> {
        // What waits is looked at first: the writer may put it into the file meanwhile, and then it
        // is found twice instead of nowhere.
        let waiting = self.queue.all();
        let in_file = match self.queue.is_clearing() {
            true => Vec::new(),
            false => self
                .file
                .page(after, failures_alone, count)
                .map_err(|error| self.unreadable(&error))?,
        };
        let is_full = in_file.len() == count;
        let horizon = in_file.last().map(|(_, last)| last.id).filter(|_| is_full);
        let mut page: BTreeMap<_, _> = in_file
            .into_iter()
            .map(|(batch, message)| (message.id, (batch, message)))
            .collect();
        for (id, row) in waiting {
            page.remove(&id);
            let is_behind = after.is_none_or(|after| id > after);
            let is_meant = !failures_alone || row.1.is_failure();
            if is_behind && is_meant && horizon.is_none_or(|horizon| id <= horizon) {
                page.insert(id, row);
            }
        }
        Ok(ArchivePage {
            rows: page.into_values().collect(),
            through: horizon,
        })
    }

    fn keep_only(&mut self, wanted: &[BatchName]) -> Result<Vec<u64>, Unreadable> {
        let in_file = self
            .file
            .batches()
            .map_err(|error| self.unreadable(&error))?;
        let wanted: HashSet<_> = wanted.iter().copied().collect();
        let mut held: HashSet<_> = in_file.into_iter().collect();
        if !held.is_subset(&wanted) {
            // A batch of another history may have taken messages over from one of this.
            self.queue.clear();
            held.clear();
        }
        held.extend(self.queue.names());
        let mut lacking: Vec<_> = wanted.difference(&held).map(|name| name.number).collect();
        lacking.sort_unstable();
        Ok(lacking)
    }
}

impl Drop for DiskArchive {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes the archive ended in a panic");
        }
    }
}

fn open_both(path: &Path) -> Result<(File, File), OpenError> {
    Ok((File::open(path)?, File::open(path)?))
}

/// Stands beside a file that was found damaged.
fn marker(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

fn remove_marker(path: &Path) -> Result<(), OpenError> {
    std::fs::remove_file(marker(path)).map_err(|error| OpenError::Io {
        path: marker(path),
        error,
    })
}
