//! Large bodies, fetched from the centre: in pieces, over as many connections and processes as it takes.
//!
//! Promise: a message whose body is large is taken in only once that body is here, durably and with
//! the hash that the centre named; so `stored` means the same for every message (I8).
//!
//! Left out on purpose: the order among messages, which the intake keeps.

use crate::Error;
use crate::backoff::Backoff;
use crate::client::{client_for_bodies, explain, parse_url};
use crate::status::{Board, now};
use crate::token::{Token, Tokens};
use countersign_claims::{Body, BodyStore, Declared, Growing};
use countersign_rules::{BodyId, MessageId, TenantName};
use futures_util::StreamExt;
use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// A large body, as an envelope names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LargeBody {
    pub(crate) message: MessageId,
    pub(crate) url: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
}

impl LargeBody {
    /// Its name here: a message has one body, in every life of it.
    pub(crate) fn id(&self) -> BodyId {
        BodyId(self.message.0)
    }
}

/// Fetches bodies, and keeps them.
#[derive(Debug)]
pub(crate) struct Fetch {
    client: Client,
    hub: Url,
    tokens: Arc<Tokens>,
    board: Arc<Board>,
    store: Arc<dyn BodyStore>,
    reserve_bytes: u64,
    /// One permit for each body that may come at the same time.
    lines: Semaphore,
    tenant: TenantName,
}

/// How fetching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// It is here.
    Here,
    /// Its message has ended: nobody wants it any more.
    Gone,
}

/// Why a try failed; another one follows.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Refused(String),
    #[error("the disk has no room for it")]
    NoRoom,
    #[error(transparent)]
    Store(#[from] countersign_claims::Error),
}

impl Fetch {
    pub(crate) fn new(
        hub_url: &str,
        roots: Option<&[u8]>,
        tokens: Arc<Tokens>,
        board: Arc<Board>,
        store: Arc<dyn BodyStore>,
        reserve_bytes: u64,
    ) -> Result<Self, Error> {
        let hub = parse_url("hub_url", hub_url)?;
        Ok(Self {
            client: client_for_bodies(&hub, roots)?,
            hub,
            tokens,
            board,
            store,
            reserve_bytes,
            lines: Semaphore::new(LINES),
            tenant: TenantName::parse("agent").expect("it is a name"),
        })
    }

    /// The store of bodies.
    pub(crate) fn store(&self) -> &Arc<dyn BodyStore> {
        &self.store
    }

    /// Fetches a body until it is here or nobody wants it any more.
    pub(crate) async fn fetch(&self, body: &LargeBody) -> Fetched {
        let _line = self.lines.acquire().await;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        loop {
            match self.try_once(body).await {
                Ok(fetched) => {
                    self.board.disk_full(false);
                    return fetched;
                }
                Err(error) => {
                    let is_full = matches!(error, Failed::NoRoom)
                        || matches!(error, Failed::Store(countersign_claims::Error::NoSpace));
                    self.board.disk_full(is_full);
                    let wait = backoff.after_failure(None);
                    tracing::warn!(message = %body.message, %error, ?wait, "a large body is not here yet");
                    sleep(wait).await;
                }
            }
        }
    }

    async fn try_once(&self, body: &LargeBody) -> Result<Fetched, Failed> {
        let Some(growing) = self.open(body).await? else {
            return Ok(Fetched::Here);
        };
        let offset = growing.offset();
        if offset == body.bytes {
            blocking(move || growing.finish()).await?;
            return Ok(Fetched::Here);
        }
        if self.store.free_bytes() < self.reserve_bytes.saturating_add(body.bytes - offset) {
            return Err(Failed::NoRoom);
        }
        let token = self.tokens.current().await;
        let token = token.map_err(|error| Failed::Refused(error.to_string()))?;
        let response = self.ask(body, offset, &token).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response, offset) => {
                self.receive(growing, response).await?;
                Ok(Fetched::Here)
            }
            StatusCode::OK if offset == 0 => {
                self.receive(growing, response).await?;
                Ok(Fetched::Here)
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                drop(growing);
                self.remove(body.id()).await;
                Ok(Fetched::Gone)
            }
            // It is another body than the one that was begun.
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                drop(growing);
                self.remove(body.id()).await;
                Err(Failed::Refused(String::from(
                    "the centre does not go on where this body ends: it begins anew",
                )))
            }
            status => {
                if status == StatusCode::UNAUTHORIZED {
                    self.tokens.refused(&token).await;
                }
                Err(Failed::Refused(format!("the centre answered {status}")))
            }
        }
    }

    async fn ask(&self, body: &LargeBody, offset: u64, token: &Token) -> Result<Response, Failed> {
        let url = self.hub.join(&body.url);
        let url = url.map_err(|error| Failed::Refused(format!("{}: {error}", body.url)))?;
        if url.origin() != self.hub.origin() {
            // The token is for the centre and for nobody else.
            let why = format!("{} is not at the hub's address", body.url);
            return Err(Failed::Refused(why));
        }
        let mut request = self.client.get(url);
        if let Some(bearer) = token.bearer() {
            request = request.bearer_auth(bearer);
        }
        if offset > 0 {
            let version = format!("\"{}\"", hex(&body.sha256));
            request = request
                .header(RANGE, format!("bytes={offset}-"))
                .header(IF_RANGE, version);
        }
        let answered = request.send().await;
        answered.map_err(|error| Failed::Refused(explain(error)))
    }

    /// Writes what comes, and makes it whole.
    async fn receive(
        &self,
        mut growing: Box<dyn Growing>,
        response: Response,
    ) -> Result<(), Failed> {
        tracing::debug!(etag = ?response.headers().get(ETAG), "a large body is coming");
        let mut pieces = response.bytes_stream();
        let mut gathered = Vec::with_capacity(PIECE_BYTES);
        loop {
            let piece = pieces.next().await.transpose();
            let cut = match piece {
                Ok(Some(piece)) => {
                    gathered.extend_from_slice(&piece);
                    if gathered.len() < PIECE_BYTES {
                        continue;
                    }
                    None
                }
                Ok(None) => Some(None),
                Err(error) => Some(Some(Failed::Refused(explain(error)))),
            };
            if self.store.free_bytes() < self.reserve_bytes {
                return Err(Failed::NoRoom);
            }
            let bytes = std::mem::take(&mut gathered);
            growing = blocking(move || growing.append(&bytes).map(|()| growing)).await?;
            match cut {
                None => {}
                Some(None) => return Ok(blocking(move || growing.finish()).await?),
                Some(Some(error)) => {
                    // What came stays, over a power cut too.
                    blocking(move || growing.sync()).await?;
                    return Err(error);
                }
            }
        }
    }

    /// What is there of it; `None` when it is whole. One that is not what the envelope names is thrown
    /// away.
    async fn open(&self, body: &LargeBody) -> Result<Option<Box<dyn Growing>>, Failed> {
        let (store, id, wanted) = (Arc::clone(&self.store), body.id(), self.declared(body));
        let opened = blocking(move || {
            for _ in 0..2 {
                let is_it = |declared: &Declared| {
                    (declared.bytes, declared.sha256) == (wanted.bytes, wanted.sha256)
                };
                match store.resume(id) {
                    Ok(growing) if is_it(growing.declared()) => return Ok(Some(growing)),
                    Err(countersign_claims::Error::Unknown) => {
                        store.begin(id, &wanted)?;
                        continue;
                    }
                    Err(countersign_claims::Error::Exists) => match store.open(id) {
                        Ok(whole) if is_it(whole.declared()) => return Ok(None),
                        Ok(_) | Err(countersign_claims::Error::Damaged { .. }) => {}
                        Err(error) => return Err(error),
                    },
                    Ok(_) | Err(countersign_claims::Error::Damaged { .. }) => {}
                    Err(error) => return Err(error),
                }
                store.remove(id)?;
                store.begin(id, &wanted)?;
            }
            store.resume(id).map(Some)
        });
        Ok(opened.await?)
    }

    fn declared(&self, body: &LargeBody) -> Declared {
        Declared {
            bytes: body.bytes,
            sha256: body.sha256,
            tenant: self.tenant.clone(),
            begun_at_s: now().0.div_euclid(1_000_000),
        }
    }

    /// Opens a body that is here.
    pub(crate) async fn document(&self, body: &LargeBody) -> Result<Document, String> {
        let (store, id, sha256) = (Arc::clone(&self.store), body.id(), body.sha256);
        let opened = blocking(move || store.open(id)).await;
        match opened {
            Ok(opened) if opened.declared().sha256 == sha256 => Ok(Document {
                store: Arc::clone(&self.store),
                id,
                bytes: body.bytes,
                sha256,
            }),
            Ok(_) => Err(String::from("another body is kept for this message")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Removes a body that is not needed any more. What a failure leaves goes at the next start.
    pub(crate) async fn remove(&self, id: BodyId) {
        let store = Arc::clone(&self.store);
        if let Err(error) = blocking(move || store.remove(id)).await {
            tracing::warn!(body = %id, %error, "a large body could not be removed");
        }
    }
}

/// A large document at this site. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Document {
    store: Arc<dyn BodyStore>,
    id: BodyId,
    bytes: u64,
    sha256: [u8; 32],
}

impl Document {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its SHA-256.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Reads it from its beginning, on this thread: each piece is checked before it is handed out.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn pieces(&self) -> std::io::Result<Pieces> {
        let body = self.store.open(self.id).map_err(std::io::Error::other)?;
        Ok(Pieces {
            document: self.clone(),
            body,
            offset: 0,
        })
    }

    /// Reads it from its beginning as a stream.
    pub(crate) fn stream(
        &self,
    ) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send + use<> {
        let document = self.clone();
        futures_util::stream::try_unfold(None, move |pieces: Option<Pieces>| {
            let document = document.clone();
            async move {
                let read = tokio::task::spawn_blocking(move || {
                    let mut pieces = match pieces {
                        Some(pieces) => pieces,
                        None => document.pieces()?,
                    };
                    let next = pieces.next().transpose()?;
                    Ok::<_, std::io::Error>(next.map(|next| (next.into(), Some(pieces))))
                });
                read.await.map_err(std::io::Error::other)?
            }
        })
    }
}

/// The pieces of a [`Document`], one after the other.
#[derive(Debug)]
pub struct Pieces {
    document: Document,
    body: Box<dyn Body>,
    offset: u64,
}

impl Iterator for Pieces {
    type Item = std::io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.body.read_from(self.offset) {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => {
                self.offset += piece.len() as u64;
                Some(Ok(piece))
            }
            Err(error) => {
                if matches!(error, countersign_claims::Error::Damaged { .. }) {
                    // The next attempt fetches it again.
                    let removed = self.document.store.remove(self.document.id);
                    tracing::error!(body = %self.document.id, %error, ?removed, "a large body is damaged");
                }
                Some(Err(std::io::Error::other(error)))
            }
        }
    }
}

fn begins_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE);
    let range = range.and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, countersign_claims::Error> + Send + 'static,
) -> Result<T, countersign_claims::Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(countersign_claims::Error::Io(std::io::Error::other(error))))
}

/// Bodies that come at the same time.
const LINES: usize = 4;
const PIECE_BYTES: usize = 256 * 1024;
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
