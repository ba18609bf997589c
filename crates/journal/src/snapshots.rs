//! Snapshots of the application's state: written beside the log, the two newest kept.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Damage, Reason, SnapshotError};
use crate::format::{Bad, SNAPSHOT_HEADER_BYTES, SnapshotHeader, sha256};
use crate::segment::{Shared, read_all};
use crate::{File, Files, Position};

pub(crate) const SNAPSHOT_NEW: &str = "snapshot.new";
const SNAPSHOT_PREFIX: &str = "snapshot-";
const KEPT: usize = 2;

pub(crate) fn snapshot_name(position: Position) -> String {
    format!("{SNAPSHOT_PREFIX}{position:020}")
}

/// The position in a snapshot's name, if it is one.
pub(crate) fn snapshot_position(name: &str) -> Option<Position> {
    let position = name.strip_prefix(SNAPSHOT_PREFIX)?.parse().ok()?;
    (snapshot_name(position) == name).then_some(position)
}

/// A snapshot that is as it was written.
#[derive(Debug, Clone)]
pub(crate) struct FoundSnapshot {
    pub(crate) header: SnapshotHeader,
    pub(crate) body: Vec<u8>,
}

/// Snapshots as found.
#[derive(Debug, Default)]
pub(crate) struct FoundSnapshots {
    /// Good ones, newest first; the body of the newest only.
    pub(crate) good: Vec<FoundSnapshot>,
    pub(crate) damaged: Vec<Damage>,
    pub(crate) version: Option<(String, u16)>,
}

/// Reads and verifies all snapshots among `names`.
pub(crate) fn find<F: Files>(files: &F, names: &[String]) -> io::Result<FoundSnapshots> {
    let mut found = FoundSnapshots::default();
    let mut positions: Vec<_> = names
        .iter()
        .filter_map(|name| snapshot_position(name))
        .collect();
    positions.sort_unstable_by(|a, b| b.cmp(a));
    for position in positions {
        let name = snapshot_name(position);
        let data = read_all(&files.open(&name)?)?;
        match decode(data, position) {
            Ok(mut snapshot) => {
                if !found.good.is_empty() {
                    snapshot.body = Vec::new();
                }
                found.good.push(snapshot);
            }
            Err(Bad::Version(version)) => found.version = Some((name, version)),
            Err(Bad::Damaged) => found.damaged.push(damage(name)),
        }
    }
    Ok(found)
}

/// Reads the body of one snapshot; `None` when it is not there or damaged.
pub(crate) fn read<F: Files>(files: &F, position: Position) -> io::Result<Option<Vec<u8>>> {
    let file = match files.open(&snapshot_name(position)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let found = decode(read_all(&file)?, position).ok();
    Ok(found.map(|found| found.body))
}

pub(crate) fn damage(file: String) -> Damage {
    Damage {
        positions: None,
        file,
        offset: 0,
        reason: Reason::Snapshot,
    }
}

fn decode(mut data: Vec<u8>, position: Position) -> Result<FoundSnapshot, Bad> {
    let header = SnapshotHeader::decode(&data)?;
    let body = data.split_off(SNAPSHOT_HEADER_BYTES);
    let sound = header.position == position
        && header.body_bytes == body.len() as u64
        && header.body_hash == sha256(&body);
    if sound {
        Ok(FoundSnapshot { header, body })
    } else {
        Err(Bad::Damaged)
    }
}

/// Writes snapshots. Cheap to clone; any thread may have one, writes go one at a time.
pub struct SnapshotStore<F: Files> {
    shared: Arc<Shared<F>>,
    /// Positions of the good snapshots on disk, ascending.
    kept: Arc<Mutex<Vec<Position>>>,
}

impl<F: Files> Clone for SnapshotStore<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            kept: Arc::clone(&self.kept),
        }
    }
}

impl<F: Files> fmt::Debug for SnapshotStore<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotStore")
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

impl<F: Files> SnapshotStore<F> {
    pub(crate) fn new(shared: Arc<Shared<F>>, mut kept: Vec<Position>) -> Self {
        kept.sort_unstable();
        Self {
            shared,
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// Keeps `body` as the state after `position`, durably, then removes all but the newest two.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`]; earlier snapshots stay whole in every case.
    pub fn write(&self, position: Position, body: &[u8]) -> Result<(), SnapshotError> {
        let durable = self.shared.durable();
        if position > durable {
            return Err(SnapshotError::NotDurable { position, durable });
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(position, body).map_err(|error| {
            // The half-written file has no meaning; if it cannot be removed, the next open does.
            let _ = self.shared.files.remove(SNAPSHOT_NEW);
            if is_full(&error) {
                SnapshotError::NoSpace
            } else {
                SnapshotError::Io(error)
            }
        })?;
        if !kept.contains(&position) {
            kept.push(position);
            kept.sort_unstable();
        }
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
        self.remove_others(&kept).map_err(SnapshotError::Io)
    }

    /// The position below which the log is not needed: the older of the two kept snapshots.
    pub(crate) fn covered(&self) -> Position {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT { 0 } else { kept[0] }
    }

    fn put(&self, position: Position, body: &[u8]) -> io::Result<()> {
        let header = SnapshotHeader {
            store_id: self.shared.store_id,
            epoch: self.shared.epoch,
            position,
            body_bytes: body.len() as u64,
            body_hash: sha256(body),
        };
        let files = &self.shared.files;
        let file = files.create(SNAPSHOT_NEW)?;
        file.write_at(0, &header.encode())?;
        file.write_at(SNAPSHOT_HEADER_BYTES as u64, body)?;
        file.sync_data()?;
        // So that the rename cannot catch an earlier file of the same passing name.
        files.sync_dir()?;
        files.rename(SNAPSHOT_NEW, &snapshot_name(position))?;
        files.sync_dir()
    }

    fn remove_others(&self, kept: &[Position]) -> io::Result<()> {
        for name in self.shared.files.list()? {
            let position = snapshot_position(&name);
            if position.is_some_and(|position| !kept.contains(&position)) {
                self.shared.files.remove(&name)?;
            }
        }
        Ok(())
    }
}

/// Whether an error means that the disk, or our share of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
