//! Reads a whole archive and says whether it holds what its batches say.
//!
//! Promise: a row whose checksum fails, and a row that SQLite no longer finds because a bit of a key
//! flipped, are both told with the id of the message. Each batch is looked at within one
//! transaction, so that an owner who writes meanwhile causes no false alarm.

use std::path::Path;

use countersign_rules::delivery::BatchName;
use countersign_rules::message::MessageId;

use crate::error::{OpenError, ReadError};
use crate::file::File;

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Batches looked at.
    pub batches: u64,
    /// Messages that are there as they were written.
    pub messages: u64,
    /// Messages that are not, each with what is wrong.
    pub damaged: Vec<(MessageId, String)>,
    /// What is wrong beyond single messages.
    pub unreadable: Vec<String>,
}

impl Checked {
    /// Whether everything is as it was written.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.unreadable.is_empty()
    }
}

/// Looks at one batch of an archive after another, beside its owner. Changes nothing.
#[derive(Debug)]
pub struct Checking {
    file: File,
    /// The batch looked at last.
    at: u64,
    found: Checked,
}

impl Checking {
    /// Begins with the first batch of the archive in the file `path`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            file: File::look(path)?,
            at: 0,
            found: Checked::default(),
        })
    }

    /// Looks at the next batch; false when there is none.
    pub fn step(&mut self) -> bool {
        match self.file.check_behind(self.at) {
            Ok(None) => false,
            Ok(Some(batch)) => {
                self.at = batch.name.number;
                self.found.batches += 1;
                self.found.messages += batch.messages;
                self.found.damaged.extend(batch.damaged);
                if let Some(why) = batch.unreadable {
                    let says = format!("batch {}: {why}", batch.name.number);
                    self.found.unreadable.push(says);
                }
                true
            }
            Err(error) => {
                self.found.unreadable.push(error.to_string());
                false
            }
        }
    }

    /// What was found so far.
    pub fn found(&self) -> &Checked {
        &self.found
    }

    /// What was found, at the end.
    pub fn into_found(self) -> Checked {
        self.found
    }
}

/// Looks at every batch of the archive in the file `path`.
///
/// # Errors
/// The file cannot be opened.
pub fn check(path: &Path) -> Result<Checked, OpenError> {
    let mut checking = Checking::open(path)?;
    while checking.step() {}
    Ok(checking.into_found())
}

/// What one batch holds.
#[derive(Debug)]
pub(crate) struct BatchFound {
    pub(crate) name: BatchName,
    pub(crate) messages: u64,
    pub(crate) damaged: Vec<(MessageId, String)>,
    pub(crate) unreadable: Option<String>,
}

/// Looks at the members of a batch through `find` and `find_key`.
pub(crate) fn members(
    name: BatchName,
    members: &[crate::row::Member],
    file: &File,
) -> Result<BatchFound, ReadError> {
    let mut found = BatchFound {
        name,
        messages: 0,
        damaged: Vec::new(),
        unreadable: None,
    };
    for (id, key) in members {
        let id = MessageId(*id);
        let message = file.find(id).map(|row| row.map(|(batch, _)| batch));
        let of_key = match *key == [0; 16] {
            true => None,
            false => Some(file.find_key(key).map(|row| row.map(|(batch, _)| batch))),
        };
        let wrong = wrong(name.number, "its row", message)?;
        let wrong = match (wrong, of_key) {
            (None, Some(of_key)) => self::wrong(name.number, "the row of its key", of_key)?,
            (wrong, _) => wrong,
        };
        match wrong {
            Some(wrong) => found.damaged.push((id, wrong)),
            None => found.messages += 1,
        }
    }
    Ok(found)
}

/// What is wrong with a row that its batch, or a later one, must have brought.
fn wrong(
    batch: u64,
    what: &str,
    found: Result<Option<u64>, ReadError>,
) -> Result<Option<String>, ReadError> {
    match found {
        Ok(Some(later)) if later >= batch => Ok(None),
        Ok(Some(earlier)) => Ok(Some(format!(
            "{what} is of batch {earlier}, {batch} is later"
        ))),
        Ok(None) => Ok(Some(format!("{what} is not found"))),
        Err(error) if error.is_damage() => Ok(Some(format!("{what}: {error}"))),
        Err(error) => Err(error),
    }
}
