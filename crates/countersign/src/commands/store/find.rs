//! Which directories hold stores.

use crate::exit::{Exit, Failure};
use countersign_driver::journal::MANIFEST;
use std::path::{Path, PathBuf};

/// How far below a data directory stores may lie: `agents`, the agent, its inbox.
const DEPTH_MAX: u32 = 3;

/// Whether a directory holds a journal, or a copy of one.
pub(crate) fn is_store(place: &Path) -> bool {
    place.join("witness").exists() || place.join(MANIFEST).exists()
}

/// Whether a directory holds a finished backup.
pub(crate) fn is_backup(place: &Path) -> bool {
    place.join(MANIFEST).exists()
}

/// Every directory that is one of those, `place` itself or below it.
pub(crate) fn below(place: &Path, is_one: fn(&Path) -> bool) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    within(place, DEPTH_MAX, is_one, &mut found)?;
    Ok(found)
}

fn within(
    place: &Path,
    depth: u32,
    is_one: fn(&Path) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    if is_one(place) {
        found.push(place.to_owned());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let failed = |error: std::io::Error| Failure::file(place, "read", &error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(place).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    for entry in entries.iter().filter(|entry| entry.is_dir()) {
        within(entry, depth - 1, is_one, found)?;
    }
    Ok(())
}

/// There is nothing of what was asked for.
pub(crate) fn none(place: &Path, what: &str) -> Failure {
    Failure::new(
        Exit::NotFound,
        "E-STORE-NONE",
        format!("{} holds no {what}", place.display()),
        "neither it nor a directory below it holds one",
        "name the directory that was meant, such as countersign-data",
    )
}
