//! The one thread that writes: takes what waits, commits it as one transaction, then answers all.
//!
//! Promise: an answer is given after the commit that holds it, and a commit that fails answers everyone
//! in it with the failure. One flush serves as many calls as arrived during the one before.

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::insert::{Document, Outcome};
use crate::store;

/// Calls that may wait for the writer; more wait in their connections.
const WAITING_MAX: usize = 1_024;

/// Calls in one transaction. Large enough that the flush is not felt, small enough that the first
/// caller does not wait long for the last.
const BATCH_MAX: usize = 256;

/// What one call of `POST /documents` asks of the database.
#[derive(Debug)]
enum Call {
    Insert(Document),
    /// Refused for a reason of its own; only the call is counted.
    Count(String),
}

struct Job {
    call: Call,
    /// [`Outcome`] of an insertion, nothing of a count.
    answer: oneshot::Sender<Result<Option<Outcome>, Refused>>,
}

/// The database did not take it; nothing was inserted as far as the caller may assume. Try again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the back office's database did not commit: {0}")]
pub(crate) struct Refused(String);

/// A handle to the thread. The thread ends when the last handle is gone and its queue is empty.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    pub(crate) fn start(connection: Connection) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("back-office-writer".into())
            .spawn(move || run(connection, queue))?;
        Ok(Self { jobs })
    }

    /// Inserts `document`, or finds that its key did before.
    pub(crate) async fn insert(&self, document: Document) -> Result<Outcome, Refused> {
        let outcome = self.ask(Call::Insert(document)).await?;
        Ok(outcome.expect("an insertion has an outcome"))
    }

    /// Counts a call that is refused for a reason of its own.
    pub(crate) async fn count_call(&self, key: String) -> Result<(), Refused> {
        self.ask(Call::Count(key)).await.map(drop)
    }

    async fn ask(&self, call: Call) -> Result<Option<Outcome>, Refused> {
        let stopped = || Refused("its writer has stopped".into());
        let (answer, answered) = oneshot::channel();
        self.jobs
            .send(Job { call, answer })
            .await
            .map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

fn run(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let done = commit(&mut connection, &batch);
        answer(batch.drain(..), done);
    }
}

/// All of `jobs` in one transaction, and what came of each.
fn commit(connection: &mut Connection, jobs: &[Job]) -> rusqlite::Result<Vec<Option<Outcome>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let outcomes = jobs
        .iter()
        .map(|job| match &job.call {
            Call::Insert(document) => store::insert(&transaction, document).map(Some),
            Call::Count(key) => store::count_call(&transaction, key).map(|()| None),
        })
        .collect::<rusqlite::Result<_>>()?;
    transaction.commit()?;
    Ok(outcomes)
}

/// A caller that is gone is not missed: it asks again with the same key.
fn answer(jobs: impl Iterator<Item = Job>, done: rusqlite::Result<Vec<Option<Outcome>>>) {
    match done {
        Ok(outcomes) => {
            for (job, outcome) in jobs.zip(outcomes) {
                drop(job.answer.send(Ok(outcome)));
            }
        }
        Err(cause) => {
            for job in jobs {
                drop(job.answer.send(Err(Refused(cause.to_string()))));
            }
        }
    }
}
