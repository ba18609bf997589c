//! Streams that clients send as arguments of a call.
//!
//! Promise: items arrive in order and are kept, up to a limit over all uploads of a connection,
//! until the method takes them; beyond it nothing more is read from that client.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use serde::de::DeserializeOwned;
use signalr_protocol::{CompletionResult, Raw};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What an item costs beside its bytes.
const ITEM_OVERHEAD_BYTES: usize = 64;

/// A stream sent by the client, as a method takes it. It ends when the client ends it; after an
/// error it is over.
pub struct Upload<T> {
    raw: RawUpload,
    item: PhantomData<fn() -> T>,
}

/// Why an upload did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The client said that it failed; this is its text.
    #[error("{0}")]
    Failed(String),
    /// An item is not of the type asked for.
    #[error("Failed to bind Stream message.")]
    Unreadable,
    /// The connection ended before the stream.
    #[error("The underlying connection was closed.")]
    Disconnected,
}

type Item = Result<Raw<'static>, UploadError>;

/// An upload whose type is not known yet.
pub struct RawUpload {
    items: UnboundedReceiver<Item>,
    backlog: Arc<Backlog>,
}

/// The uploads of one method: an [`Upload`], or a tuple of two in the order of the arguments.
pub trait Uploads: Sized + Send + 'static {
    /// How many streams the client must send.
    const COUNT: usize;

    /// Gives them their types; `None` when there are not as many.
    fn from_raw(uploads: Vec<RawUpload>) -> Option<Self>;
}

impl Uploads for () {
    const COUNT: usize = 0;

    fn from_raw(uploads: Vec<RawUpload>) -> Option<Self> {
        uploads.is_empty().then_some(())
    }
}

impl<T: 'static> Uploads for Upload<T> {
    const COUNT: usize = 1;

    fn from_raw(uploads: Vec<RawUpload>) -> Option<Self> {
        let [raw] = uploads.try_into().ok()?;
        Some(Self::new(raw))
    }
}

impl<T: 'static, U: 'static> Uploads for (Upload<T>, Upload<U>) {
    const COUNT: usize = 2;

    fn from_raw(uploads: Vec<RawUpload>) -> Option<Self> {
        let [first, second] = uploads.try_into().ok()?;
        Some((Upload::new(first), Upload::new(second)))
    }
}

impl<T> Upload<T> {
    fn new(raw: RawUpload) -> Self {
        Self {
            raw,
            item: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Stream for Upload<T> {
    type Item = Result<T, UploadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.raw.items.poll_recv(context));
        Poll::Ready(item.map(|item| {
            let raw = item?;
            self.raw.backlog.remove(&raw);
            raw.read().map_err(|_| UploadError::Unreadable)
        }))
    }
}

impl<T> fmt::Debug for Upload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

impl fmt::Debug for RawUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawUpload").finish_non_exhaustive()
    }
}

impl Drop for RawUpload {
    /// What nobody will take makes room.
    fn drop(&mut self) {
        self.items.close();
        while let Ok(item) = self.items.try_recv() {
            if let Ok(raw) = item {
                self.backlog.remove(&raw);
            }
        }
    }
}

/// How much of a connection's uploads waits to be taken.
#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    taken: Notify,
}

impl Backlog {
    fn add(&self, raw: &Raw<'_>) {
        self.bytes.fetch_add(cost(raw), Ordering::AcqRel);
    }

    fn remove(&self, raw: &Raw<'_>) {
        self.bytes.fetch_sub(cost(raw), Ordering::AcqRel);
        self.taken.notify_one();
    }
}

fn cost(raw: &Raw<'_>) -> usize {
    raw.as_bytes().len() + ITEM_OVERHEAD_BYTES
}

/// The uploads of one connection that have not ended.
#[derive(Debug)]
pub(crate) struct OpenUploads {
    senders: HashMap<String, UnboundedSender<Item>>,
    backlog: Arc<Backlog>,
    bytes_max: usize,
}

impl OpenUploads {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            senders: HashMap::new(),
            backlog: Arc::default(),
            bytes_max,
        }
    }

    /// Begins an upload. Those whose method is over are forgotten on the way.
    pub(crate) fn begin(&mut self, id: &str) -> RawUpload {
        self.senders.retain(|_, sender| !sender.is_closed());
        let (sender, items) = unbounded_channel();
        self.senders.insert(id.to_owned(), sender);
        RawUpload {
            items,
            backlog: Arc::clone(&self.backlog),
        }
    }

    /// Hands an item on; one of an unknown upload is ignored.
    pub(crate) fn item(&mut self, id: &str, raw: Raw<'static>) {
        let Some(sender) = self.senders.get(id) else {
            return;
        };
        self.backlog.add(&raw);
        if let Err(unsent) = sender.send(Ok(raw)) {
            if let Ok(raw) = unsent.0 {
                self.backlog.remove(&raw);
            }
            self.senders.remove(id);
        }
    }

    /// Ends an upload. Says whether there was one of this id.
    pub(crate) fn end(&mut self, id: &str, result: &CompletionResult<'_>) -> bool {
        let Some(sender) = self.senders.remove(id) else {
            return false;
        };
        if let CompletionResult::Error(text) = result {
            // A method that is over does not care.
            let _ = sender.send(Err(UploadError::Failed(text.to_string())));
        }
        true
    }

    /// Ends all of them, because nothing more comes.
    pub(crate) fn disconnect(&mut self) {
        for (_, sender) in self.senders.drain() {
            let _ = sender.send(Err(UploadError::Disconnected));
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.backlog.bytes.load(Ordering::Acquire) > self.bytes_max
    }

    /// Waits until something was taken.
    pub(crate) fn taken(&self) -> impl Future<Output = ()> + use<> {
        let backlog = Arc::clone(&self.backlog);
        async move { backlog.taken.notified().await }
    }
}
