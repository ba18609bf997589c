//! The calls that wait for their answer.
//!
//! Promise: an answer reaches the call it belongs to and no other; one that nobody waits for is dropped. A call that
//! is dropped leaves no trace.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use signalr_protocol::CompletionResult;
use tokio::sync::{Notify, oneshot};

type Answer = CompletionResult<'static>;

#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    last: AtomicU64,
    begun: Notify,
}

/// One call that waits. Dropping it stops the wait.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    calls: &'a Calls,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Calls {
    /// Begins to wait for an answer, under an id not used before on this connection.
    pub(crate) fn begin(&self) -> Waiting<'_> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        self.lock().insert(id, sender);
        self.begun.notify_one();
        Waiting {
            calls: self,
            id,
            answer,
        }
    }

    /// Whether any call waits.
    pub(crate) fn are_waiting(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Waits until a call has begun to wait since this was asked last. For the connection's task alone.
    pub(crate) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Hands an answer to its call.
    pub(crate) fn complete(&self, id: &str, answer: Answer) {
        let waiting = id.parse().ok().and_then(|id: u64| self.lock().remove(&id));
        match waiting {
            // The call may have been dropped in the meantime; then nobody wants the answer.
            Some(waiting) => drop(waiting.send(answer)),
            None => tracing::debug!(id, "an answer that no call waits for"),
        }
    }

    /// Lets every waiting call know that no answer will come.
    pub(crate) fn end(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    pub(crate) fn id(&self) -> String {
        self.id.to_string()
    }

    /// `None` when the connection ended first.
    pub(crate) async fn answer(mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_find_their_calls_in_any_order() {
        let calls = Calls::default();
        let (first, second) = (calls.begin(), calls.begin());
        let (a, b) = (first.id(), second.id());
        calls.complete(&b, CompletionResult::Error("b".into()));
        calls.complete(&a, CompletionResult::Void);
        calls.complete(&a, CompletionResult::Error("twice".into()));
        assert_eq!(first.answer().await, Some(CompletionResult::Void));
        assert_eq!(
            second.answer().await,
            Some(CompletionResult::Error("b".into()))
        );
    }

    #[tokio::test]
    async fn a_dropped_call_leaves_nothing_and_strange_ids_are_ignored() {
        let calls = Calls::default();
        drop(calls.begin());
        assert!(calls.lock().is_empty());
        for id in ["", "x", "7", "-1", "99999999999999999999999"] {
            calls.complete(id, CompletionResult::Void);
        }
    }
}
