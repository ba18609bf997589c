//! The witness: a second opinion on how far the log was durable.
//!
//! Promise: it never names a position that is not durable. It may lag.

use std::io;

use crate::error::{Damage, Reason};
use crate::format::{Bad, WITNESS_BYTES, WITNESS_SLOT_BYTES, Witness};
use crate::segment::read_all;
use crate::{File, Files, Position};

pub(crate) const WITNESS: &str = "witness";

/// The file as found.
#[derive(Debug, Default)]
pub(crate) struct FoundWitness {
    pub(crate) newest: Option<Witness>,
    pub(crate) damaged: Vec<Damage>,
    pub(crate) version: Option<u16>,
}

/// Reads the witness. A missing file counts as damaged; whether that means anything depends on
/// what else is there.
pub(crate) fn find<F: Files>(files: &F) -> io::Result<FoundWitness> {
    let data = match files.open(WITNESS) {
        Ok(file) => read_all(&file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut found = FoundWitness::default();
    for start in [0, WITNESS_SLOT_BYTES] {
        let slot = data.get(start..).unwrap_or_default();
        match Witness::decode(slot) {
            Ok(witness) => {
                let newer = found
                    .newest
                    .is_none_or(|newest| witness.number > newest.number);
                found.newest = if newer { Some(witness) } else { found.newest };
            }
            Err(Bad::Version(version)) => found.version = Some(version),
            Err(Bad::Damaged) => found.damaged.push(damage(start as u64)),
        }
    }
    if data.len() > WITNESS_BYTES {
        found.damaged.push(damage(WITNESS_BYTES as u64));
    }
    Ok(found)
}

/// The damage of a slot at `offset`.
pub(crate) fn damage(offset: u64) -> Damage {
    Damage {
        positions: None,
        file: WITNESS.to_owned(),
        offset,
        reason: Reason::Witness,
    }
}

/// The open witness of a running store.
pub(crate) struct WitnessFile<F: Files> {
    file: F::File,
    last: Witness,
}

impl<F: Files> WitnessFile<F> {
    /// Opens or makes the file and writes both slots, durably.
    ///
    /// `number` is that of the last write found; numbers go on from there.
    pub(crate) fn open(files: &F, start: Witness) -> io::Result<Self> {
        let file = match files.open(WITNESS) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => files.create(WITNESS)?,
            Err(error) => return Err(error),
        };
        let mut witness = Self { file, last: start };
        witness.write_both(start.position)?;
        files.sync_dir()?;
        Ok(witness)
    }

    /// Writes the next slot; durable whenever the system gets to it.
    pub(crate) fn write(&mut self, position: Position) -> io::Result<()> {
        let next = Witness {
            position,
            number: self.last.number + 1,
            ..self.last
        };
        self.write_slot(&next, next.number)?;
        self.last = next;
        Ok(())
    }

    /// Tries twice: a half-written slot would later be reported as damaged.
    fn write_slot(&self, witness: &Witness, slot: u64) -> io::Result<()> {
        let offset = slot % 2 * WITNESS_SLOT_BYTES as u64;
        let bytes = witness.encode();
        self.file
            .write_at(offset, &bytes)
            .or_else(|_| self.file.write_at(offset, &bytes))
    }

    /// Writes both slots, one after the other is durable, so that one is whole at any time.
    pub(crate) fn write_both(&mut self, position: Position) -> io::Result<()> {
        self.write(position)?;
        self.file.sync_data()?;
        self.write_slot(&self.last, self.last.number + 1)?;
        if self.file.length()? > WITNESS_BYTES as u64 {
            self.file.set_len(WITNESS_BYTES as u64)?;
        }
        self.file.sync_data()
    }

    pub(crate) fn position(&self) -> Position {
        self.last.position
    }
}
