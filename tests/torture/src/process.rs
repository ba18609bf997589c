//! The four processes: started, killed, started again.

use crate::site::Site;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;

/// One of the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Centre,
    Acks,
    Agent,
    BackOffice,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Centre, Kind::Acks, Kind::Agent, Kind::BackOffice];
}

/// How a process is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    pub(crate) words: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) home: PathBuf,
    pub(crate) log: PathBuf,
}

impl Launch {
    fn start(&self) -> Result<Child> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        Command::new(&self.binary)
            .args(&self.words)
            .envs(self.variables.iter().cloned())
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", self.binary.display()))
    }
}

struct Slot {
    launch: Launch,
    child: AsyncMutex<Option<Child>>,
    /// Brings it back after its time down.
    revival: Mutex<Option<JoinHandle<()>>>,
}

/// All processes.
pub(crate) struct World {
    slots: BTreeMap<Kind, Arc<Slot>>,
    kills: Mutex<BTreeMap<Kind, u32>>,
}

impl World {
    pub(crate) async fn start(site: &Site) -> Result<Self> {
        let mut slots = BTreeMap::new();
        for kind in Kind::ALL {
            let launch = site.launch(kind);
            let child = AsyncMutex::new(Some(launch.start()?));
            slots.insert(
                kind,
                Arc::new(Slot {
                    launch,
                    child,
                    revival: Mutex::new(None),
                }),
            );
        }
        Ok(Self {
            slots,
            kills: Mutex::new(BTreeMap::new()),
        })
    }

    /// Ends the process as a power cut would, and starts it again after `down`.
    pub(crate) async fn kill(&self, kind: Kind, down: Duration) {
        let slot = &self.slots[&kind];
        self.revived(kind).await;
        let mut child = slot.child.lock().await;
        if let Some(mut process) = child.take() {
            // It may have ended by itself; then waiting tells so.
            let _ = process.start_kill();
            let _ = process.wait().await;
            *lock(&self.kills).entry(kind).or_default() += 1;
        }
        let revived = Arc::clone(slot);
        let revival = tokio::spawn(async move {
            tokio::time::sleep(down).await;
            match revived.launch.start() {
                Ok(process) => *revived.child.lock().await = Some(process),
                Err(error) => eprintln!("{error:#}"),
            }
        });
        *lock(&slot.revival) = Some(revival);
    }

    /// Waits until the process is up again.
    async fn revived(&self, kind: Kind) {
        let revival = lock(&self.slots[&kind].revival).take();
        if let Some(revival) = revival {
            let _ = revival.await;
        }
    }

    /// Waits until every process is up, and starts those that ended by themselves.
    pub(crate) async fn heal(&self) {
        for kind in Kind::ALL {
            self.revived(kind).await;
            let slot = &self.slots[&kind];
            let mut child = slot.child.lock().await;
            let ended = match child.as_mut() {
                Some(process) => process.try_wait().ok().flatten(),
                None => None,
            };
            if let Some(status) = ended {
                eprintln!(
                    "{kind:?} ended by itself with {status}; see {}",
                    slot.launch.log.display()
                );
                *child = slot.launch.start().ok();
            }
        }
    }

    pub(crate) fn kills(&self) -> BTreeMap<Kind, u32> {
        lock(&self.kills).clone()
    }

    pub(crate) async fn end(&self) {
        for slot in self.slots.values() {
            if let Some(process) = slot.child.lock().await.as_mut() {
                let _ = process.kill().await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
