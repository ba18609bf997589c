//! From a data directory back to a machine that knows everything it knew.

use crate::Engine;
use countersign_journal::{Files, Log, NewStore, Options, Position, ReadError, Recovered};
use countersign_rules::machine::Machine;
use countersign_rules::record::RecordError;

/// A store, ready to go on.
#[derive(Debug)]
pub struct Opened<M: Machine, F: Files, T> {
    /// The machine with its state, in front of the next record.
    pub engine: Engine<M, T>,
    /// The journal.
    pub log: Log<F>,
    /// What recovery found.
    pub recovered: Recovered,
    /// Records that were damaged and therefore not taken into the state.
    pub damaged: Vec<Position>,
    /// Bytes of the records behind the newest snapshot.
    pub replayed_bytes: u64,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The journal could not be opened.
    #[error(transparent)]
    Journal(#[from] countersign_journal::OpenError),
    /// A record is not understood: most likely a newer program wrote it. Start that one.
    #[error("record {position} of the journal is not understood: {source}")]
    Record {
        /// The record.
        position: Position,
        /// Why.
        source: RecordError,
    },
    /// What the machine keeps outside the journal cannot be read.
    #[error("{0}")]
    Machine(String),
    /// The journal could not be read.
    #[error("the journal could not be read: {0}")]
    Read(countersign_journal::ReadError),
    /// The thread that writes the journal could not be started.
    #[error("the thread that writes the journal could not be started: {0}")]
    Thread(std::io::Error),
}

/// Opens the store in `files` and brings `machine`, still empty, up to its last record.
///
/// Reads the newest snapshot and the records after it. A damaged record is left out and named in
/// the answer; what follows it is kept (I20).
///
/// # Errors
/// The directory is in use, cannot be read, or was written by a newer program.
pub fn open<M: Machine, F: Files, T>(
    machine: M,
    files: F,
    options: Options,
    new: NewStore,
) -> Result<Opened<M, F, T>, OpenError> {
    open_with(|| Ok(machine), files, options, new)
}

/// As [`open`], for a machine that keeps something beside the journal: it is made when the store is
/// locked, so that no two processes touch what it keeps.
///
/// # Errors
/// Those of [`open`]; and the machine could not be made, in the words of `make`.
pub fn open_with<M: Machine, F: Files, T>(
    make: impl FnOnce() -> Result<M, String>,
    files: F,
    options: Options,
    new: NewStore,
) -> Result<Opened<M, F, T>, OpenError> {
    let (log, recovered) = Log::open(files, options, new)?;
    let mut machine = make().map_err(OpenError::Machine)?;
    let mut from = 1;
    if let Some((position, image)) = &recovered.snapshot {
        let understood = machine.load(image);
        understood.map_err(|source| OpenError::Record {
            position: *position,
            source,
        })?;
        from = position + 1;
    }
    let (mut damaged, mut refused) = (Vec::new(), None);
    let mut replayed_bytes = 0;
    log.replay(from, &mut |position, record| match record {
        Ok(payload) if refused.is_none() => {
            replayed_bytes += payload.len() as u64;
            if let Err(source) = machine.restore(position, payload) {
                if matches!(source, RecordError::Inconsistent(_)) && !damaged.is_empty() {
                    // It speaks of a message whose record is damaged: it is part of that damage.
                    damaged.push(position);
                } else {
                    refused = Some(OpenError::Record { position, source });
                }
            }
        }
        Ok(_) => {}
        Err(_) => damaged.push(position),
    })
    .map_err(OpenError::Read)?;
    if let Some(refused) = refused {
        return Err(refused);
    }
    damaged.extend(supply(&mut machine, &log)?);
    let engine = Engine::new(machine, log.next_position());
    Ok(Opened {
        engine,
        log,
        recovered,
        damaged,
        replayed_bytes,
    })
}

/// Reads back what the machine keeps outside the journal and has lost. Tells which records of it
/// are damaged, so that it stays lost.
fn supply<M: Machine, F: Files>(machine: &mut M, log: &Log<F>) -> Result<Vec<Position>, OpenError> {
    let reader = log.reader();
    let lacking = machine.lacking().map_err(OpenError::Machine)?;
    if !lacking.is_empty() {
        tracing::info!(
            records = lacking.len(),
            "what was kept beside the journal is built again from it"
        );
    }
    let mut damaged = Vec::new();
    for position in lacking {
        match reader.read(position) {
            Ok(record) => {
                let supplied = machine.supply(&record);
                supplied.map_err(|source| OpenError::Record { position, source })?;
            }
            Err(error @ ReadError::Io { .. }) => return Err(OpenError::Read(error)),
            Err(error) => {
                tracing::error!(position, %error, "a record that is needed cannot be read");
                damaged.push(position);
            }
        }
    }
    Ok(damaged)
}
