//! Copies of a store: taken while its owner writes it, and made a store again.
//!
//! Promise: a backup is a prefix of the store's history, on disk before its manifest is, and every
//! byte of it is compared with that manifest before a store is made of it. The store made of it is
//! another life of the same store: whoever knew the old one sees that by its epoch (I29).
//!
//! Left out on purpose: waiting and clocks, and where the copies lie; see [`Unproved`].

mod manifest;

use std::io;

use sha2::{Digest, Sha256};

use crate::error::{CloseError, OpenError};
use crate::format::{HEADER_AREA_BYTES, HeaderArea, Witness};
use crate::options::{NewStore, Options};
use crate::segment::{read_all, segment_first};
use crate::snapshots::snapshot_name;
use crate::survey::{failed, look};
use crate::witness::{WITNESS, WitnessFile};
use crate::{File, Files, Log, Position};

pub use manifest::{Contents, MANIFEST, Manifest};

/// Why a backup was not taken, or no store made of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is no store to copy.
    #[error("{0} holds no store")]
    NoStore(String),
    /// The store cannot be looked at.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The directory to write to holds something already.
    #[error("{directory} is not empty: it holds {found}")]
    NotEmpty {
        /// The directory as the user named it.
        directory: String,
        /// One of the names in it.
        found: String,
    },
    /// It has no manifest: no backup, or one that was never finished.
    #[error("{0} holds no finished backup")]
    NoManifest(String),
    /// It is not as it was written.
    #[error("the backup in {directory} is damaged: {what}")]
    Damaged {
        /// The directory as the user named it.
        directory: String,
        /// What differs.
        what: String,
    },
    /// A disk does not answer, or is full.
    #[error("cannot {action} in {directory}: {error}")]
    Io {
        /// The directory as the user named it.
        directory: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The new store could not be closed.
    #[error(transparent)]
    Close(#[from] CloseError),
}

/// What to do with batches that are whole and not proved to be durable: the last ones of a store
/// that is being written, or of one whose process was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproved {
    /// Look again: a running owner proves them within a second, by its next batch or its witness.
    LookAgain,
    /// Leave them out.
    Cut,
    /// Take them, as the owner's next start would.
    Take,
}

/// Copies the store in `from` to the empty `to`: everything that is durable when it begins, as far
/// as `decide` waits for the proof of that.
///
/// Nothing in `from` is changed and no lock is taken, so its owner may go on. `decide` is told how
/// many records are not proved.
///
/// # Errors
///
/// See [`BackupError`]. What was copied then has no manifest and is no backup.
pub fn backup<F: Files, G: Files>(
    from: &F,
    to: &G,
    mut decide: impl FnMut(u64) -> Unproved,
) -> Result<Manifest, BackupError> {
    check_empty(to)?;
    let mut wanted = None;
    let mut tries = 0;
    let source = loop {
        let source = match Source::look(from) {
            // The owner removed a file between our looking and our opening it.
            Err(BackupError::Io { error, .. })
                if error.kind() == io::ErrorKind::NotFound && tries < LOOK_TRIES_MAX =>
            {
                tries += 1;
                continue;
            }
            other => other?,
        };
        let wanted = *wanted.get_or_insert(source.last);
        if source.proved >= wanted {
            break source.cut();
        }
        match decide(wanted - source.proved) {
            Unproved::LookAgain => {}
            Unproved::Cut => break source.cut(),
            Unproved::Take => break source,
        }
    };
    source.copy(to)
}

/// A store as found, every file of it open: what its owner removes from now on stays readable.
struct Source<F: Files> {
    files: F,
    store_id: [u8; 16],
    epoch: u64,
    first: Position,
    /// Position of the last whole batch, and of the last that is proved to be durable.
    last: Position,
    proved: Position,
    proved_end: usize,
    sealed: Vec<(String, F::File)>,
    tail: Option<(String, Vec<u8>)>,
}

impl<F: Files> Source<F> {
    fn look(files: &F) -> Result<Self, BackupError> {
        let options = Options {
            partition_count: 0,
            ..Options::default()
        };
        let survey = look(files, &options)?;
        let fail = |error| failed_at(files, "read the store", error);
        let floor = survey.floor();
        let Some(store_id) = survey.store_id else {
            return Err(BackupError::NoStore(files.describe()));
        };
        let first = survey.segments.first().map_or(floor + 1, |one| one.first);
        let mut sealed = Vec::new();
        for good in &survey.snapshots.good {
            let name = snapshot_name(good.header.position);
            let file = files.open(&name).map_err(fail)?;
            sealed.push((name, file));
        }
        let mut segments = survey.segments;
        let last = segments.pop();
        for segment in segments {
            let file = files.open(&segment.name).map_err(fail)?;
            sealed.push((segment.name, file));
        }
        let mut source = Self {
            files: files.clone(),
            store_id,
            epoch: survey.epoch,
            first,
            last: floor,
            proved: floor,
            proved_end: 0,
            sealed,
            tail: None,
        };
        if let Some(segment) = last {
            let file = files.open(&segment.name).map_err(fail)?;
            let mut data = read_all(&file).map_err(fail)?;
            let scan = segment.scan(&data, None, floor, &options);
            data.truncate(usize::try_from(scan.end).unwrap_or(usize::MAX));
            source.last = scan.index.next() - 1;
            source.proved = scan.floor.min(source.last);
            source.proved_end = usize::try_from(scan.proved_end).unwrap_or(usize::MAX);
            source.tail = Some((segment.name, data));
        }
        Ok(source)
    }

    /// Without what is not proved to be durable.
    fn cut(mut self) -> Self {
        if let Some((_, data)) = &mut self.tail {
            data.truncate(self.proved_end);
        }
        self.last = self.proved;
        self
    }

    fn copy<G: Files>(self, to: &G) -> Result<Manifest, BackupError> {
        let mut contents = Vec::new();
        for (name, file) in &self.sealed {
            let copied = copy(&self.files, file, to, name)?;
            contents.push(copied);
        }
        if let Some((name, data)) = &self.tail {
            contents.push(write(to, name, data)?);
        }
        let witness = Witness {
            store_id: self.store_id,
            epoch: self.epoch,
            position: self.last,
            number: 0,
        };
        contents.push(write_witness(to, witness)?);
        to.sync_dir()
            .map_err(|error| failed_at(to, "sync the directory", error))?;
        let manifest = Manifest {
            store_id: self.store_id,
            epoch: self.epoch,
            first: self.first,
            last: self.last,
            contents,
        };
        manifest
            .write(to)
            .map_err(|error| failed_at(to, "write the manifest", error))?;
        Ok(manifest)
    }
}

/// Reads the manifest of the backup in `files`; `None` when it is none.
///
/// # Errors
///
/// The manifest cannot be read or is damaged.
pub fn manifest<F: Files>(files: &F) -> Result<Option<Manifest>, BackupError> {
    let file = match files.open(MANIFEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| failed_at(files, "open the manifest", error))?,
    };
    let bytes = read_all(&file).map_err(|error| failed_at(files, "read the manifest", error))?;
    let damaged = |what: &str| BackupError::Damaged {
        directory: files.describe(),
        what: format!("{MANIFEST}: {what}"),
    };
    Manifest::decode(&bytes).map(Some).map_err(damaged)
}

/// Compares every file of the backup in `files` with its manifest; tells what differs.
///
/// # Errors
///
/// The disk does not answer.
pub fn compare<F: Files>(files: &F, manifest: &Manifest) -> Result<Vec<String>, BackupError> {
    let mut differs = Vec::new();
    for wanted in &manifest.contents {
        let file = match files.open(&wanted.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                differs.push(format!("{}: it is missing", wanted.name));
                continue;
            }
            other => other.map_err(|error| failed_at(files, "open a file", error))?,
        };
        let found = digest(&file).map_err(|error| failed_at(files, "read", error))?;
        if found != (wanted.bytes, wanted.sha256) {
            differs.push(format!("{}: it is not as it was written", wanted.name));
        }
    }
    Ok(differs)
}

/// Makes a store in the empty `to` of the backup in `from`: its history, and a new epoch, which is
/// higher than that of the backup by 1 and a part of the random `jump`: two stores that are made
/// of the same backup are told apart.
///
/// The caller moves `to` to its place only when this has returned: until then it is no store that
/// anybody may open.
///
/// # Errors
///
/// See [`BackupError`].
pub fn restore<F: Files, G: Files>(from: &F, to: &G, jump: u64) -> Result<Manifest, BackupError> {
    let found = manifest(from)?.ok_or_else(|| BackupError::NoManifest(from.describe()))?;
    check_empty(to)?;
    for wanted in &found.contents {
        let damaged = |what: &str| BackupError::Damaged {
            directory: from.describe(),
            what: format!("{}: {what}", wanted.name),
        };
        if wanted.name == WITNESS {
            continue;
        }
        let file = match from.open(&wanted.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("it is missing"));
            }
            other => other.map_err(|error| failed_at(from, "open a file", error))?,
        };
        if copy(from, &file, to, &wanted.name)? != *wanted {
            return Err(damaged("it is not as it was written"));
        }
    }
    let epoch = found.epoch.saturating_add(1 + (jump >> JUMP_SHIFT));
    let witness = Witness {
        store_id: found.store_id,
        epoch,
        position: found.last,
        number: 0,
    };
    write_witness(to, witness)?;
    let partition_count = partition_count(to, &found)?;
    // The first segment of the new life: its header holds the epoch beside the witness.
    let options = Options {
        partition_count,
        ..Options::default()
    };
    let identity = NewStore {
        store_id: found.store_id,
        epoch,
    };
    let (log, recovered) = Log::open(to.clone(), options, identity)?;
    log.close()?;
    Ok(Manifest {
        epoch: recovered.epoch,
        last: recovered.next - 1,
        ..found
    })
}

fn partition_count<G: Files>(to: &G, found: &Manifest) -> Result<u16, BackupError> {
    for contents in &found.contents {
        if segment_first(&contents.name).is_none() {
            continue;
        }
        let mut area = vec![0; HEADER_AREA_BYTES];
        let read = |file: G::File| file.read_at(0, &mut area);
        to.open(&contents.name)
            .and_then(read)
            .map_err(|error| failed_at(to, "read a segment", error))?;
        if let Ok(area) = HeaderArea::decode(&area) {
            return Ok(area.header.partition_count);
        }
    }
    Ok(Options::default().partition_count)
}

fn check_empty<G: Files>(to: &G) -> Result<(), BackupError> {
    let names = to
        .list()
        .map_err(|error| failed_at(to, "list files", error))?;
    match names.into_iter().next() {
        None => Ok(()),
        Some(found) => Err(BackupError::NotEmpty {
            directory: to.describe(),
            found,
        }),
    }
}

fn write_witness<G: Files>(to: &G, witness: Witness) -> Result<Contents, BackupError> {
    let fail = |error| failed_at(to, "write the witness", error);
    WitnessFile::open(to, witness).map_err(fail)?;
    let file = to.open(WITNESS).map_err(fail)?;
    let (bytes, sha256) = digest(&file).map_err(fail)?;
    Ok(Contents {
        name: WITNESS.to_owned(),
        bytes,
        sha256,
    })
}

/// Copies a file that is not written any more, durably.
fn copy<F: Files, G: Files>(
    from: &F,
    file: &F::File,
    to: &G,
    name: &str,
) -> Result<Contents, BackupError> {
    let fail = |error| failed_at(to, "write a copy", error);
    let copy = to.create(name).map_err(fail)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read_at(bytes, &mut buffer);
        let read = read.map_err(|error| failed_at(from, "read", error))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        copy.write_at(bytes, &buffer[..read]).map_err(fail)?;
        bytes += read as u64;
    }
    copy.sync_data().map_err(fail)?;
    Ok(Contents {
        name: name.to_owned(),
        bytes,
        sha256: hash.finalize().into(),
    })
}

fn write<G: Files>(to: &G, name: &str, data: &[u8]) -> Result<Contents, BackupError> {
    let fail = |error| failed_at(to, "write a copy", error);
    let copy = to.create(name).map_err(fail)?;
    copy.write_at(0, data).map_err(fail)?;
    copy.sync_data().map_err(fail)?;
    Ok(Contents {
        name: name.to_owned(),
        bytes: data.len() as u64,
        sha256: Sha256::digest(data).into(),
    })
}

fn digest(file: &impl File) -> io::Result<(u64, [u8; 32])> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read_at(bytes, &mut buffer)?;
        if read == 0 {
            return Ok((bytes, hash.finalize().into()));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

fn failed_at<F: Files>(files: &F, action: &'static str, error: io::Error) -> BackupError {
    match failed(files, action, error) {
        OpenError::Io {
            directory,
            action,
            error,
        } => BackupError::Io {
            directory,
            action,
            error,
        },
        other => BackupError::Open(other),
    }
}

/// How often a store that changes under our hands is looked at.
const LOOK_TRIES_MAX: u32 = 5;
/// Bytes read at a time.
const COPY_BYTES: usize = 1 << 20;
/// What is left of 64 random bits: 40, so that epochs stay near the 2^53 that JavaScript can count to.
const JUMP_SHIFT: u32 = 24;
