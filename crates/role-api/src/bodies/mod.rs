//! Large bodies: sent in pieces before the messages that refer to them, and fetched by recipients.
//!
//! Promise: a body is durable, and its hash the declared one, before a message can refer to it; what
//! is served is what was sent (I20); and nobody reads it but the recipient of a message that refers
//! to it, and its own tenant's readers (I30).
//!
//! Left out on purpose: how long a body is kept, which the rules decide.

mod download;
mod uploads;

pub(crate) use download::{data_of, document};
pub(crate) use uploads::{begin, forget, look, write};

use countersign_claims::{BodyStore, Error, Listed};
use countersign_driver::{AskError, Handle};
use countersign_rules::delivery::{Centre, Input, NewBody, Reply};
use countersign_rules::{BodyId, Timestamp, limits};
use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use uploads::Uploads;

/// The store of large bodies, and what is being sent to it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LargeBodies {
    store: Arc<dyn BodyStore>,
    uploads: Arc<Uploads>,
    /// Free bytes of the disk that bodies leave alone.
    reserve_bytes: u64,
    bytes_max: u64,
    removing: mpsc::Sender<BodyId>,
}

impl LargeBodies {
    /// Bodies of at most `bytes_max` bytes in `store`. None is taken in that would leave the disk less
    /// than `reserve_bytes`, because the journal needs them.
    ///
    /// # Errors
    /// The thread that removes bodies cannot be started.
    pub fn new(
        store: Arc<dyn BodyStore>,
        reserve_bytes: u64,
        bytes_max: u64,
    ) -> std::io::Result<Self> {
        let (removing, removed) = mpsc::channel::<BodyId>();
        let to_remove = Arc::clone(&store);
        std::thread::Builder::new()
            .name(String::from("bodies-remove"))
            .spawn(move || {
                for body in removed {
                    if let Err(error) = to_remove.remove(body) {
                        // It is found at the next start.
                        tracing::warn!(%body, %error, "a large body could not be removed");
                    }
                }
            })?;
        Ok(Self {
            store,
            uploads: Arc::default(),
            reserve_bytes,
            bytes_max: bytes_max.min(limits::LARGE_BODY_BYTES_MAX),
            removing,
        })
    }

    /// Removes a body to which nobody refers any more, without waiting for the disk.
    pub fn remove(&self, body: BodyId) {
        // A thread that has ended has ended with the process.
        let _ = self.removing.send(body);
    }

    /// Brings store and centre together after a start: a whole body of which the centre does not know
    /// is made known, so that it goes in its time; what a crash left half done goes on or goes; what
    /// the centre misses is told.
    ///
    /// # Errors
    /// The store of bodies cannot be read, or the centre has stopped.
    pub async fn recover(&self, centre: &Handle<Centre>, now: Timestamp) -> Result<(), String> {
        let store = Arc::clone(&self.store);
        let listed = tokio::task::spawn_blocking(move || store.list()).await;
        let listed = listed
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let Ok(Reply::Bodies(known)) = centre.ask(Input::LookBodies).await else {
            return Err(String::from("the store has stopped"));
        };
        let mut missing: BTreeSet<_> = known.into_iter().collect();
        for body in listed {
            if missing.remove(&body.id) && body.is_whole {
                if body.declared.is_none() {
                    tracing::error!(body = %body.id, "a large body is damaged: messages that refer to it cannot be delivered");
                }
                continue;
            }
            if let Err(error) = self.recover_unknown(centre, &body, now).await {
                tracing::warn!(body = %body.id, %error, "a large body is left for the next start");
            }
        }
        if !missing.is_empty() {
            tracing::error!(
                bodies = ?missing,
                "large bodies are missing: messages that refer to them cannot be delivered"
            );
        }
        Ok(())
    }

    async fn recover_unknown(
        &self,
        centre: &Handle<Centre>,
        body: &Listed,
        now: Timestamp,
    ) -> Result<(), AskError> {
        match &body.declared {
            Some(declared) if body.is_whole => {
                keep(centre, body.id, declared).await?;
            }
            Some(declared) if !is_over(declared.begun_at_s, now) => {
                self.uploads.begun(body.id);
            }
            _ => self.remove(body.id),
        }
        Ok(())
    }

    /// Gives up, hourly, what was begun long ago and never came to its end.
    pub async fn tidy(self, now: impl Fn() -> Timestamp + Send) {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            let store = Arc::clone(&self.store);
            let listed = tokio::task::spawn_blocking(move || store.list()).await;
            let Ok(Ok(listed)) = listed else {
                tracing::warn!("the store of large bodies cannot be read");
                continue;
            };
            for body in listed.iter().filter(|body| !body.is_whole) {
                let begun = body.declared.as_ref().map(|declared| declared.begun_at_s);
                if begun.is_none_or(|begun| is_over(begun, now())) {
                    self.uploads.ended(body.id);
                    self.remove(body.id);
                }
            }
        }
    }
}

/// Tells the centre of a whole body; durable when it returns.
async fn keep(
    centre: &Handle<Centre>,
    id: BodyId,
    declared: &countersign_claims::Declared,
) -> Result<(), AskError> {
    let keep = Input::KeepBody(NewBody {
        id,
        tenant: declared.tenant.clone(),
        bytes: declared.bytes,
        sha256: declared.sha256,
    });
    centre.ask(keep).await.map(|_| ())
}

/// Whether an unfinished body is given up.
fn is_over(begun_at_s: i64, now: Timestamp) -> bool {
    let now_s = now.0.div_euclid(1_000_000);
    now_s.saturating_sub(begun_at_s) > UPLOAD_LIFE.as_secs() as i64
}

/// What the disk does not give.
fn problem(error: Error) -> crate::problem::Problem {
    use crate::{codes, problem::Problem};
    let code = match error {
        Error::Unknown => codes::UNKNOWN_BODY,
        Error::NoSpace => codes::NO_SPACE,
        Error::Mismatch { .. } | Error::TooLong { .. } => codes::BODY_MISMATCH,
        _ => codes::UNREADABLE,
    };
    Problem::new(code, error.to_string())
}

/// How long a body may take to arrive: three days, so that one gigabyte comes over a line of 32 kbit/s.
const UPLOAD_LIFE: Duration = Duration::from_secs(3 * 24 * 3600);
const TIDY_EVERY: Duration = Duration::from_secs(3600);

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
