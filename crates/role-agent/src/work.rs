//! The workers: take what the rules say is due, hand it to the sink, bring back how it ended.
//!
//! Promise: an attempt that was begun ends in a result, whatever the sink does: a panic is a failed
//! attempt, and what a stop cuts short is counted when the agent starts again (I23).
//!
//! Left out on purpose: what may run beside what, and when to try again. The rules decide that.

use crate::fetch::{Document, Fetch, Fetched, LargeBody};
use crate::status::Board;
use crate::{Delivery, Sink};
use bytes::Bytes;
use countersign_driver::journal::ReadError;
use countersign_driver::{Bodies, Handle, Outlet};
use countersign_rules::ack::Outcome;
use countersign_rules::record::RecordError;
use countersign_rules::site::{
    Effect, Input, Known, Reply, Site, Work, WorkResult, decode_envelope,
};
use countersign_rules::{BodyId, MessageId};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// Where the effects of the site go.
pub(crate) struct SiteOutlet {
    /// Bounded by the rules: no more attempts are under way than there are workers. Gone once no
    /// more are begun, so that the workers know that they have them all.
    pub(crate) due: Option<mpsc::UnboundedSender<Due>>,
    pub(crate) owing: Arc<Notify>,
}

/// An attempt that may begin.
#[derive(Debug)]
pub(crate) struct Due {
    work: Work,
    /// The record it stands in.
    inboxed: Option<Bytes>,
}

impl Outlet<Site> for SiteOutlet {
    fn carry_out(&mut self, effect: Effect, bodies: &Bodies) -> Option<Input> {
        match effect {
            Effect::Work(work) => {
                // A fresh message is still in memory. For one that cannot be read, the attempt finds
                // out why, away from the loop.
                let inboxed = bodies.read(work.inboxed).ok();
                // Workers that are gone have failed, and the agent with them: the attempt is found
                // cut short at the next start.
                if let Some(due) = &self.due {
                    let _ = due.send(Due { work, inboxed });
                }
                None
            }
            Effect::NoMoreWork => {
                self.due = None;
                None
            }
            Effect::Owing => {
                self.owing.notify_one();
                None
            }
            Effect::CopyForward {
                id,
                generation,
                inboxed,
            } => match bodies.read(inboxed) {
                Ok(inboxed) => Some(Input::Carry {
                    id,
                    generation,
                    inboxed,
                }),
                Err(error) => {
                    tracing::error!(message = %id, %error, "a waiting message could not be read back");
                    None
                }
            },
            other => {
                tracing::error!(
                    ?other,
                    "an effect that this agent does not know was not carried out"
                );
                None
            }
        }
    }
}

/// Runs every attempt that is due until no more are begun, then gives those under way the time
/// `grace` to end.
pub(crate) async fn run(
    mut due: mpsc::UnboundedReceiver<Due>,
    workshop: Workshop,
    grace: Duration,
) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            due = due.recv() => match due {
                Some(due) => {
                    let workshop = workshop.clone();
                    under_way.spawn(async move { workshop.attempt(due).await });
                }
                None => break,
            },
            Some(_) = under_way.join_next() => {}
        }
    }
    let all_ended = async { while under_way.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all_ended).await.is_err() {
        tracing::warn!(
            attempts = under_way.len(),
            "attempts are cut short because the agent stops"
        );
    }
}

/// What every attempt needs.
#[derive(Clone, Debug)]
pub(crate) struct Workshop {
    pub(crate) handle: Handle<Site>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) board: Arc<Board>,
    pub(crate) fetch: Arc<Fetch>,
}

impl Workshop {
    async fn attempt(&self, Due { work, inboxed }: Due) {
        let Work {
            id,
            generation,
            attempt,
            ..
        } = work;
        let begun = Instant::now();
        let mut large = None;
        let result = match self.delivery(&work, inboxed).await {
            Ok(delivery) => {
                large = delivery.large.clone();
                self.deliver(&delivery).await
            }
            Err(result) => result,
        };
        self.tell(&work, &result);
        let duration_ms = whole_millis(begun.elapsed());
        let worked = Input::Worked {
            id,
            generation,
            attempt,
            result,
            duration_ms,
        };
        if self.handle.tell(worked).await.is_err() {
            tracing::debug!(message = %id, "the store stopped before the result was recorded");
            return;
        }
        if large.is_some() {
            self.drop_ended(id, generation).await;
        }
    }

    /// Removes the large body of a message that has ended: another life of it fetches it again.
    async fn drop_ended(&self, id: MessageId, generation: u32) {
        let look = Input::LookMessage { id, generation };
        if let Ok(Reply::Message(Known::Ended)) = self.handle.ask(look).await {
            self.fetch.remove(BodyId(id.0)).await;
        }
    }

    /// The large document of a message; fetched again when it is damaged here.
    async fn large(&self, body: &LargeBody) -> Result<Document, WorkResult> {
        if let Ok(document) = self.fetch.document(body).await {
            return Ok(document);
        }
        if self.fetch.fetch(body).await == Fetched::Gone {
            let why = "the body is lost here, and the centre has it no more";
            return Err(unusable("body-lost", why.to_owned()));
        }
        let document = self.fetch.document(body).await;
        document.map_err(|error| fail("body-unreadable", error))
    }

    async fn deliver(&self, delivery: &Delivery) -> WorkResult {
        let attempt = AssertUnwindSafe(async { self.sink.deliver(delivery).await });
        attempt
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| WorkResult::Failed {
                outcome: outcome("panic", words_of(&*panic)),
                retry_after: None,
            })
    }

    async fn delivery(&self, work: &Work, inboxed: Option<Bytes>) -> Result<Delivery, WorkResult> {
        let record = match inboxed {
            Some(record) => record,
            None => self.read_back(work).await?,
        };
        let unreadable = |error: RecordError| unusable("inbox-damaged", error.to_string());
        let envelope = envelope_in(&record).map_err(unreadable)?;
        let read = Delivery::read(envelope, work.attempt, work.possibly_repeated);
        let (mut delivery, body) =
            read.map_err(|error| unusable(error.code(), error.to_string()))?;
        if let Some(body) = body {
            delivery.large = Some(self.large(&body).await?);
        }
        Ok(delivery)
    }

    async fn read_back(&self, work: &Work) -> Result<Bytes, WorkResult> {
        let (handle, position) = (self.handle.clone(), work.inboxed);
        let read = tokio::task::spawn_blocking(move || handle.read(position)).await;
        match read {
            Ok(Ok(record)) => Ok(record),
            Ok(Err(error @ ReadError::Io { .. })) => {
                Err(fail("inbox-unreadable", error.to_string()))
            }
            Ok(Err(error)) => Err(unusable("inbox-damaged", error.to_string())),
            Err(error) => Err(fail("inbox-unreadable", error.to_string())),
        }
    }

    fn tell(&self, work: &Work, result: &WorkResult) {
        let (id, attempt) = (work.id, work.attempt);
        match result {
            WorkResult::Done(outcome) => {
                tracing::debug!(message = %id, attempt, code = outcome.code, "done");
                self.board.work_ended();
            }
            WorkResult::Rejected(Outcome { code, detail, .. }) => {
                tracing::warn!(message = %id, attempt, code, detail, "refused for good");
                self.board.work_ended();
            }
            WorkResult::Unusable(Outcome { code, detail, .. }) => {
                tracing::error!(message = %id, attempt, code, detail, "nobody can work on it: dead");
                self.board.work_ended();
            }
            WorkResult::StillWorking { outcome, .. } => {
                let code = &outcome.code;
                tracing::debug!(message = %id, attempt, code, "the back office is still working");
            }
            WorkResult::Failed {
                outcome: Outcome { code, detail, .. },
                ..
            } => {
                tracing::warn!(message = %id, attempt, code, detail, "the attempt failed");
                self.board.work_failed(&format!("{code}: {detail}"));
            }
            _ => {}
        }
    }
}

/// The envelope in an inbox record, or in the one that was copied forward.
fn envelope_in(record: &Bytes) -> Result<Bytes, RecordError> {
    Ok(record.slice_ref(decode_envelope(record)?))
}

/// No later attempt will do better.
fn unusable(code: &str, detail: String) -> WorkResult {
    WorkResult::Unusable(outcome(code, detail))
}

fn fail(code: &str, detail: String) -> WorkResult {
    WorkResult::Failed {
        outcome: outcome(code, detail),
        retry_after: None,
    }
}

fn outcome(code: &str, detail: String) -> Outcome {
    Outcome {
        code: code.to_owned(),
        detail,
        data: Vec::new(),
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| String::from("the sink panicked"))
}

fn whole_millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
