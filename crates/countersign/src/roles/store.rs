//! Opening a store, and saying in one sentence why it cannot be.

use crate::exit::{Exit, Failure};
use countersign_driver::journal::{self, NewStore, RealFiles};
use countersign_driver::{Handle, OpenError, Opened, Outlet, Service, StopReason, Waiting};
use countersign_rules::Machine;
use std::path::Path;
use std::time::Duration;

/// Opens the store of `what` in `directory` around the empty `machine`.
pub(crate) fn open<M: Machine>(
    machine: M,
    directory: &Path,
    reserve_bytes: u64,
    what: &str,
) -> Result<Opened<M, RealFiles, Waiting<M>>, Failure> {
    open_with(|| Ok(machine), directory, reserve_bytes, what)
}

/// As [`open`], for a machine that is made once the store is locked.
pub(crate) fn open_with<M: Machine>(
    make: impl FnOnce() -> Result<M, String>,
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
    let opened = countersign_driver::open_with(make, files, options, new_store()?);
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

/// A running loop whose end can be asked for more than once.
pub(crate) struct Running<M: Machine> {
    service: Service<M>,
    ended: Option<StopReason>,
}

impl<M: Machine> Running<M> {
    pub(crate) fn new(service: Service<M>) -> Self {
        Self {
            service,
            ended: None,
        }
    }

    pub(crate) fn handle(&self) -> Handle<M> {
        self.service.handle()
    }

    /// Waits until the loop has ended; at once when it has.
    pub(crate) async fn ended(&mut self) -> StopReason {
        if let Some(reason) = &self.ended {
            return reason.clone();
        }
        let reason = self.service.ended().await;
        self.ended = Some(reason.clone());
        reason
    }
}

/// Ends the loop of `what` and closes its store, within the time there is for that.
pub(crate) async fn close<M: Machine>(
    what: &str,
    running: Option<Running<M>>,
) -> Result<(), Failure> {
    let Some(mut running) = running else {
        return Ok(());
    };
    running.service.stop();
    let reason = within_grace(what, CLOSE_GRACE, running.ended()).await?;
    tracing::info!(store = what, ended = %reason, "store closed");
    match reason {
        StopReason::Asked => Ok(()),
        failed => Err(ended(what, &failed)),
    }
}

/// A store that cannot write cannot be closed either: its end is not waited for for ever.
async fn within_grace<T>(
    what: &str,
    grace: Duration,
    ended: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::time::timeout(grace, ended).await.map_err(|_| {
        Failure::new(
            Exit::Unexpected,
            "E-STORE-NOT-CLOSED",
            format!("the store of {what} was left unclosed"),
            format!("what it still had to write did not reach the disk within {grace:?}"),
            "free space on the disk and start again: what was not written was not answered to \
             anybody, and all that was answered is on the disk",
        )
    })
}

/// Time to write what has gathered, once nothing new comes in.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::roles::acks;

    #[tokio::test]
    async fn a_loop_that_has_ended_can_be_asked_again_why() {
        let home = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.store.data_dir = home.path().to_owned();
        let mut running = Running::new(acks::start(&config).expect("it starts"));
        running.service.stop();
        assert_eq!(running.ended().await, StopReason::Asked);
        assert_eq!(running.ended().await, StopReason::Asked);
        assert!(close("it", Some(running)).await.is_ok());
    }

    #[tokio::test]
    async fn a_store_that_cannot_write_does_not_keep_the_process_from_ending() {
        let told = within_grace("it", Duration::ZERO, std::future::pending::<()>()).await;
        let told = told.expect_err("it never ends").to_string();
        assert!(
            told.contains("all that was answered is on the disk"),
            "{told}"
        );
    }
}
