//! Opening a store, and saying in one sentence why it cannot be.

use crate::exit::{Exit, Failure};
use countersign_driver::journal::{self, NewStore, RealFiles};
use countersign_driver::{OpenError, Opened, Outlet, Service, StopReason, Waiting};
use countersign_rules::Machine;
use std::path::Path;

/// Opens the store of `what` in `directory` around the empty `machine`.
pub(crate) fn open<M: Machine>(
    machine: M,
    directory: &Path,
    reserve_bytes: u64,
    what: &str,
) -> Result<Opened<M, RealFiles, Waiting<M>>, Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::file(directory, "create", &error))?;
    let files =
        RealFiles::new(directory).map_err(|error| Failure::file(directory, "open", &error))?;
    let options = journal::Options {
        reserve_bytes,
        ..journal::Options::default()
    };
    let opened = countersign_driver::open(machine, files, options, new_store()?);
    let opened = opened.map_err(|error| refused(directory, what, &error))?;
    report(&opened, directory, what);
    Ok(opened)
}

/// Starts the loop over an opened store.
pub(crate) fn start<M: Machine>(
    opened: Opened<M, RealFiles, Waiting<M>>,
    outlet: impl Outlet<M>,
    options: countersign_driver::Options,
) -> Result<Service<M>, Failure> {
    Service::start(opened, outlet, options)
        .map_err(|error| Failure::unexpected("cannot start the store's loop", error))
}

/// Why a loop that nobody stopped ended.
pub(crate) fn ended(what: &str, reason: &StopReason) -> Failure {
    Failure::new(
        Exit::Unexpected,
        "E-STORE-STOPPED",
        format!("the store of {what} stopped"),
        reason.to_string(),
        "look at the disk, then start again: everything that was answered is on it",
    )
}

fn new_store() -> Result<NewStore, Failure> {
    let store_id = *uuid::Uuid::now_v7().as_bytes();
    let mut epoch = [0; 8];
    aws_lc_rs::rand::fill(&mut epoch)
        .map_err(|error| Failure::unexpected("there is no randomness", error))?;
    // JavaScript keeps integers up to 2^53 apart; zero stands for "none".
    let epoch = (u64::from_le_bytes(epoch) >> 11).max(1);
    Ok(NewStore { store_id, epoch })
}

fn report<M: Machine>(opened: &Opened<M, RealFiles, Waiting<M>>, directory: &Path, what: &str) {
    let recovered = &opened.recovered;
    let (records, epoch) = (recovered.next - 1, recovered.epoch);
    tracing::info!(store = what, directory = %directory.display(), records, epoch, "store opened");
    if !opened.damaged.is_empty() {
        let damaged = &opened.damaged;
        tracing::error!(
            store = what,
            ?damaged,
            "records are damaged; what follows them was kept"
        );
    }
    if recovered.epoch_changed {
        tracing::error!(
            store = what,
            "acknowledged records are gone; the store begins a new epoch"
        );
    }
}

fn refused(directory: &Path, what: &str, error: &OpenError) -> Failure {
    let locked = matches!(error, OpenError::Journal(journal::OpenError::InUse { .. }));
    let (exit, code, todo) = if locked {
        let todo = "stop the other process, or give this one a data directory of its own";
        (Exit::Conflict, "E-STORE-LOCKED", todo)
    } else {
        (
            Exit::Unexpected,
            "E-STORE-OPEN",
            "look at the disk; nothing was changed",
        )
    };
    let what = format!("cannot open the store of {what} in {}", directory.display());
    Failure::new(exit, code, what, error.to_string(), todo)
}
