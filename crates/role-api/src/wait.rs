//! Waiting for a message to change its state.

use countersign_rules::MessageId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Who waits for which message. The engine's effects tell of every change, so telling is cheap
/// while nobody waits.
#[derive(Debug, Default)]
pub struct Watchers {
    waiting: AtomicUsize,
    by_id: Mutex<HashMap<MessageId, Watched>>,
}

#[derive(Debug)]
struct Watched {
    changed: Arc<Notify>,
    watchers: usize,
}

/// A watch over one message; look at the message after taking it, and again after each change.
pub(crate) struct Watch {
    watchers: Arc<Watchers>,
    id: MessageId,
    changed: Arc<Notify>,
}

impl Watchers {
    /// Tells whoever waits for the message that it changed.
    pub fn changed(&self, id: MessageId) {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(watched) = self.lock().get(&id) {
            watched.changed.notify_waiters();
        }
    }

    pub(crate) fn watch(self: &Arc<Self>, id: MessageId) -> Watch {
        let mut by_id = self.lock();
        let watched = by_id.entry(id).or_insert_with(|| Watched {
            changed: Arc::default(),
            watchers: 0,
        });
        watched.watchers += 1;
        self.waiting.fetch_add(1, Ordering::Release);
        Watch {
            watchers: Arc::clone(self),
            id,
            changed: Arc::clone(&watched.changed),
        }
    }

    // Nothing panics while it holds the lock, so a poisoned map is whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<MessageId, Watched>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watchers.waiting.fetch_sub(1, Ordering::Release);
        if let Entry::Occupied(mut entry) = self.watchers.lock().entry(self.id) {
            entry.get_mut().watchers -= 1;
            if entry.get().watchers == 0 {
                entry.remove();
            }
        }
    }
}
