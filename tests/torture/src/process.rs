//! The processes: started, killed, paused, started again.

use crate::site::Site;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
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
    /// The token service, which need not be up for acks to arrive.
    Tokens,
    Acks,
    Agent,
    BackOffice,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] = [
        Kind::Centre,
        Kind::Tokens,
        Kind::Acks,
        Kind::Agent,
        Kind::BackOffice,
    ];
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
    ended_by_themselves: Mutex<BTreeMap<Kind, u32>>,
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
            kills: Mutex::default(),
            ended_by_themselves: Mutex::default(),
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

    /// Ends the process as a power cut would. Whoever calls this starts it again.
    pub(crate) async fn stop(&self, kind: Kind) {
        self.revived(kind).await;
        if let Some(mut process) = self.slots[&kind].child.lock().await.take() {
            let _ = process.start_kill();
            let _ = process.wait().await;
        }
    }

    /// Starts what was stopped.
    pub(crate) async fn start_again(&self, kind: Kind) -> Result<()> {
        let slot = &self.slots[&kind];
        *slot.child.lock().await = Some(slot.launch.start()?);
        Ok(())
    }

    /// Holds the process still; false when it is not up.
    pub(crate) async fn pause(&self, kind: Kind) -> bool {
        self.signal(kind, Signal::STOP).await
    }

    /// Lets it go on.
    pub(crate) async fn resume(&self, kind: Kind) {
        self.signal(kind, Signal::CONT).await;
    }

    async fn signal(&self, kind: Kind, signal: Signal) -> bool {
        let child = self.slots[&kind].child.lock().await;
        let id = child.as_ref().and_then(Child::id);
        let pid = id
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Waits until every process is up, and starts those that ended by themselves, as the service
    /// manager of a machine would.
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
                *lock(&self.ended_by_themselves).entry(kind).or_default() += 1;
                *child = slot.launch.start().ok();
            }
        }
    }

    pub(crate) fn ended_by_themselves(&self) -> BTreeMap<Kind, u32> {
        lock(&self.ended_by_themselves).clone()
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
