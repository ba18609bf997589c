//! How the roles talk to the loop.

use bytes::Bytes;
use countersign_journal::{ReadError, Reader, RealFiles};
use countersign_rules::{Machine, Position};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot, watch};

/// An input with the one who waits for its reply.
pub(crate) struct Ask<M: Machine> {
    pub(crate) input: M::Input,
    pub(crate) waiting: Option<oneshot::Sender<Result<M::Reply, AskError>>>,
}

/// Why an input was not answered. It left no trace, unless the loop stopped: then nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The disk is too full to keep anything new. Try again once space was freed.
    #[error("the disk is full up to its reserve")]
    NoSpace,
    /// The loop has ended. Whether the input became durable is unknown.
    #[error("the store has stopped")]
    Stopped,
}

/// How the loop is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// All is well.
    Writable,
    /// The disk is full up to its reserve: nothing new is kept.
    NoSpace,
    /// The loop has ended.
    Stopped,
}

/// A cheap way to the loop; clone it freely.
pub struct Handle<M: Machine> {
    pub(crate) asks: mpsc::Sender<Ask<M>>,
    pub(crate) reader: Reader<RealFiles>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) durable: watch::Receiver<Position>,
    pub(crate) hold: Arc<AtomicU64>,
    pub(crate) store: StoreInfo,
}

/// A reply on its way. Dropping it does not take the input back.
#[must_use = "the reply tells whether the input was refused"]
pub struct Answer<M: Machine>(oneshot::Receiver<Result<M::Reply, AskError>>);

impl<M: Machine> Future for Answer<M> {
    type Output = Result<M::Reply, AskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = Pin::new(&mut self.0).poll(context);
        reply.map(|reply| reply.map_err(|_| AskError::Stopped)?)
    }
}

impl<M: Machine> fmt::Debug for Answer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

/// What identifies the store behind a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its id.
    pub store_id: [u8; 16],
    /// Its present life.
    pub epoch: u64,
}

impl<M: Machine> Handle<M> {
    /// Brings `input` and waits for the reply, which comes once its records are durable.
    ///
    /// Waits while the loop has more to do than it may queue. Dropping the future does not take
    /// the input back.
    ///
    /// # Errors
    /// The disk is too full for an input that would keep something new, or the loop has ended.
    pub async fn ask(&self, input: M::Input) -> Result<M::Reply, AskError> {
        self.bring(input).await?.await
    }

    /// Brings `input` and waits only for its place in the queue; what is given waits for the
    /// reply. Inputs brought one after the other are stepped in that order, in one batch if they
    /// can be.
    ///
    /// # Errors
    /// The loop has ended.
    pub async fn bring(&self, input: M::Input) -> Result<Answer<M>, AskError> {
        let (waiting, reply) = oneshot::channel();
        let ask = Ask {
            input,
            waiting: Some(waiting),
        };
        self.asks.send(ask).await.map_err(|_| AskError::Stopped)?;
        Ok(Answer(reply))
    }

    /// Brings `input` and waits only for its place in the queue.
    ///
    /// # Errors
    /// The loop has ended.
    pub async fn tell(&self, input: M::Input) -> Result<(), AskError> {
        let ask = Ask {
            input,
            waiting: None,
        };
        self.asks.send(ask).await.map_err(|_| AskError::Stopped)
    }

    /// Reads a durable record back. May wait for the disk: use it off the hot path.
    ///
    /// # Errors
    /// It was trimmed, was never written, is damaged, or the disk failed.
    pub fn read(&self, position: Position) -> Result<Bytes, ReadError> {
        self.reader.read(position)
    }

    /// The journal, for whoever follows it.
    pub fn reader(&self) -> &Reader<RealFiles> {
        &self.reader
    }

    /// How the loop is now.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Tells when the loop's health changes.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Tells how far the journal is durable, each time it grows.
    pub fn watch_durable(&self) -> watch::Receiver<Position> {
        self.durable.clone()
    }

    /// Lets records below `before` go, as far as whoever follows this journal is concerned.
    pub fn hold_from(&self, before: Position) {
        self.hold.fetch_max(before, Ordering::Relaxed);
    }

    /// What identifies the store.
    pub fn store(&self) -> StoreInfo {
        self.store
    }
}

impl<M: Machine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self {
            asks: self.asks.clone(),
            reader: self.reader.clone(),
            health: self.health.clone(),
            durable: self.durable.clone(),
            hold: Arc::clone(&self.hold),
            store: self.store,
        }
    }
}

impl<M: Machine> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
