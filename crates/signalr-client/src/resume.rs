//! Stateful reconnect: the books of [`Sequences`] where both halves of a connection reach them.
//!
//! Left out on purpose: dialling, which `connect` does, and timers, which `driver` keeps.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use signalr_protocol::{HubMessage, Incoming, Replay, Sequences};
use tokio::sync::Notify;

use crate::Closed;
use crate::outbox::Frame;

/// The numbers of one logical connection, and what may have to be sent again.
#[derive(Debug)]
pub(crate) struct Resumption {
    state: Mutex<Sequences<Frame>>,
    acknowledged: Notify,
    times: AtomicU32,
    bytes_max: usize,
}

impl Resumption {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            acknowledged: Notify::new(),
            times: AtomicU32::new(0),
            bytes_max: bytes_max.max(1),
        }
    }

    /// How often another socket has taken over.
    pub(crate) fn times(&self) -> u32 {
        self.times.load(Ordering::Relaxed)
    }

    /// Keeps a frame that is about to be sent.
    pub(crate) fn keep(&self, frame: &Frame) {
        let (bytes, messages) = (frame.bytes.len(), frame.messages);
        self.lock().keep(frame.clone(), bytes, messages);
    }

    /// Whether so much is kept that nothing more may be sent before the server acknowledges some of it.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().is_full(self.bytes_max)
    }

    /// Waits for an acknowledgement. For the connection's task alone.
    pub(crate) async fn acknowledged(&self) {
        self.acknowledged.notified().await;
    }

    /// False: the message came before, or belongs to the books alone.
    pub(crate) fn is_due(&self, message: &HubMessage<'_>) -> Result<bool, Closed> {
        let incoming = self.lock().receive(message);
        let incoming = incoming.map_err(|error| Closed::Protocol {
            detail: error.to_string(),
        })?;
        if incoming == Incoming::Acknowledged {
            self.acknowledged.notify_one();
        }
        Ok(incoming == Incoming::New)
    }

    /// What the server is to be told that we have, if there is news.
    pub(crate) fn due_ack(&self) -> Option<i64> {
        self.lock().due_ack()
    }

    /// Another socket takes over. Must be called before anything comes in on it.
    pub(crate) fn take_over(&self) -> Replay<Frame> {
        self.times.fetch_add(1, Ordering::Relaxed);
        self.lock().take_over()
    }

    /// Every change is complete when the lock is let go, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Sequences<Frame>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn an_acknowledgement_makes_room_and_wakes_who_waits_for_it() {
        let resumption = Resumption::new(3);
        let bytes = b"abcd".to_vec();
        resumption.keep(&Frame { bytes, messages: 1 });
        assert!(resumption.is_full());
        let ack = |sequence_id| HubMessage::Ack { sequence_id };
        assert_eq!(resumption.is_due(&ack(0)), Ok(false));
        assert!(resumption.acknowledged().now_or_never().is_none());
        assert_eq!(resumption.is_due(&ack(1)), Ok(false));
        assert!(resumption.acknowledged().now_or_never().is_some());
        assert!(!resumption.is_full());
    }

    #[test]
    fn a_takeover_is_counted() {
        let resumption = Resumption::new(3);
        assert_eq!(resumption.times(), 0);
        resumption.take_over();
        assert_eq!(resumption.times(), 1);
    }
}
