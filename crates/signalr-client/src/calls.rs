//! The calls that wait for their answer, and the streams that wait for their items.
//!
//! Promise: an answer reaches the call it belongs to and no other; one that nobody waits for is dropped. A call that
//! is dropped leaves no trace.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signalr_protocol::{CompletionResult, Raw};
use tokio::sync::{Notify, oneshot};

use crate::streams::{End, Queue};

type Answer = CompletionResult<'static>;

#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: Mutex<HashMap<u64, Waiter>>,
    last: AtomicU64,
    /// Somebody began to wait, or read items: there may be a reason to read from the network again.
    changed: Notify,
    /// Bytes of items that wait for their readers, all streams together.
    unread_bytes: AtomicUsize,
}

#[derive(Debug)]
enum Waiter {
    Call(oneshot::Sender<Answer>),
    Stream(Arc<Queue>),
}

/// One call that waits. Dropping it stops the wait.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    calls: &'a Calls,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Calls {
    /// An id not used before on this connection, neither for a call nor for an upload.
    pub(crate) fn next_id(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Begins to wait for an answer.
    pub(crate) fn begin(&self) -> Waiting<'_> {
        let id = self.next_id();
        let (sender, answer) = oneshot::channel();
        self.lock().insert(id, Waiter::Call(sender));
        self.changed.notify_one();
        Waiting {
            calls: self,
            id,
            answer,
        }
    }

    /// Begins to wait for items.
    pub(crate) fn begin_stream(&self) -> (u64, Arc<Queue>) {
        let (id, queue) = (self.next_id(), Arc::<Queue>::default());
        self.lock().insert(id, Waiter::Stream(Arc::clone(&queue)));
        (id, queue)
    }

    /// Forgets a stream; what comes for it from now on is dropped.
    pub(crate) fn forget_stream(&self, id: u64, queue: &Queue) {
        self.lock().remove(&id);
        self.was_read(queue.clear());
    }

    /// Items of so many bytes have reached their reader.
    pub(crate) fn was_read(&self, bytes: usize) {
        if bytes > 0 {
            self.unread_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.changed.notify_one();
        }
    }

    pub(crate) fn unread_bytes(&self) -> usize {
        self.unread_bytes.load(Ordering::Relaxed)
    }

    /// Whether any call waits for its answer. Streams do not count: they have a limit of their own.
    pub(crate) fn are_waiting(&self) -> bool {
        let waiting = self.lock();
        waiting
            .values()
            .any(|waiter| matches!(waiter, Waiter::Call(_)))
    }

    /// Waits until there may be a reason to read again. For the connection's task alone.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Hands an answer to its call, or ends a stream with it.
    pub(crate) fn complete(&self, id: &str, answer: Answer) {
        let waiter = id.parse().ok().and_then(|id: u64| self.lock().remove(&id));
        match waiter {
            // The call may have been dropped in the meantime; then nobody wants the answer.
            Some(Waiter::Call(waiting)) => drop(waiting.send(answer)),
            Some(Waiter::Stream(queue)) => queue.end(match answer {
                CompletionResult::Error(error) => End::Failed(error.into_owned()),
                CompletionResult::Void | CompletionResult::Value(_) => End::Completed,
            }),
            None => tracing::debug!(id, "an answer that no call waits for"),
        }
    }

    /// Hands an item to its stream.
    pub(crate) fn item(&self, id: &str, item: Raw<'static>) {
        let waiting = self.lock();
        let waiter = id.parse().ok().and_then(|id: u64| waiting.get(&id));
        match waiter {
            Some(Waiter::Stream(queue)) => {
                // Counted under the lock, so that forgetting the stream finds it counted.
                let bytes = queue.push(item);
                self.unread_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            _ => tracing::debug!(id, "an item that no stream waits for"),
        }
    }

    /// Lets everyone who waits know that nothing more will come.
    pub(crate) fn end(&self) {
        for (_, waiter) in self.lock().drain() {
            if let Waiter::Stream(queue) = waiter {
                queue.end(End::Lost);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiter>> {
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
            calls.item(id, Raw::json(&b"1"[..]));
        }
        assert_eq!(calls.unread_bytes(), 0);
    }

    #[test]
    fn a_forgotten_stream_gives_its_bytes_back() {
        let calls = Calls::default();
        let (id, queue) = calls.begin_stream();
        calls.item(&id.to_string(), Raw::json(&b"1"[..]));
        assert!(calls.unread_bytes() > 0);
        calls.forget_stream(id, &queue);
        calls.item(&id.to_string(), Raw::json(&b"2"[..]));
        assert_eq!(calls.unread_bytes(), 0);
    }
}
