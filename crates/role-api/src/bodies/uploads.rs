//! `POST /v1/bodies`, and what is sent there in pieces (as in tus 1.0 and the IETF's resumable uploads).
//!
//! A sender that comes back takes over from its own earlier request, which may hang on a connection
//! that has died without a word.

use super::{LargeBodies, keep, problem};
use crate::problem::Problem;
use crate::service::{Api, JSON};
use crate::{body, codes};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_claims::{Declared, Error, Growing};
use countersign_driver::Health;
use countersign_rules::delivery::{Input, Reply};
use countersign_rules::{BodyId, TenantName, limits};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, watch};

const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
const DESCRIPTION_BYTES_MAX: usize = 4096;
/// Bytes that are written at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Bytes after which the disk is asked for its room again.
const LOOK_BYTES: u64 = 4 << 20;

/// Bodies that are being sent.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    slots: Mutex<BTreeMap<BodyId, Arc<Slot>>>,
}

/// One body that is being sent.
#[derive(Debug)]
struct Slot {
    /// How many requests have come for it: only the last counts.
    requests: watch::Sender<u64>,
    /// What is there, kept open from one request to the next.
    growing: Arc<Turn<Option<Box<dyn Growing>>>>,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            requests: watch::Sender::new(0),
            growing: Arc::default(),
        }
    }
}

impl Uploads {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<BodyId, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begun(&self, id: BodyId) {
        self.slots().entry(id).or_default();
    }

    pub(super) fn ended(&self, id: BodyId) {
        self.slots().remove(&id);
    }

    fn find(&self, id: BodyId) -> Option<Arc<Slot>> {
        self.slots().get(&id).cloned()
    }
}

/// A request's turn at a body.
struct Held {
    growing: OwnedMutexGuard<Option<Box<dyn Growing>>>,
    newer: watch::Receiver<u64>,
}

impl Slot {
    /// Ends what an earlier request does, and waits for its end.
    async fn take(&self) -> Held {
        self.requests.send_modify(|requests| *requests += 1);
        let mut newer = self.requests.subscribe();
        newer.mark_unchanged();
        let growing = Arc::clone(&self.growing).lock_owned().await;
        Held { growing, newer }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    bytes: u64,
    sha256: String,
}

pub(crate) async fn begin(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, content) = request.into_parts();
    let (_, tenant) = api.access(&parts.headers, Scope::Send)?;
    api.accepting()?;
    let bodies = api.large_bodies()?;
    let bytes = body::read_json(&parts.headers, content, DESCRIPTION_BYTES_MAX).await?;
    let Description { bytes, sha256 } = body::parse(body::text(&bytes)?)?;
    let sha256 = from_hex(&sha256).ok_or_else(|| {
        Problem::field("/sha256", "it is no SHA-256: write 64 hexadecimal digits")
    })?;
    if bytes == 0 {
        return Err(Problem::field("/bytes", "a body has at least one byte"));
    }
    if bytes > bodies.bytes_max {
        let detail = format!("a body has at most {} bytes", bodies.bytes_max);
        return Err(Problem::new(codes::TOO_LARGE, detail).with_limit(bodies.bytes_max));
    }
    if api.centre().health() == Health::NoSpace || !has_room(bodies, bytes) {
        return Err(no_room());
    }
    if bodies.uploads.slots().len() >= limits::UPLOADS_MAX {
        let detail = format!("{} bodies are being sent already", limits::UPLOADS_MAX);
        return Err(Problem::new(codes::FULL, detail));
    }
    let id = BodyId(*uuid::Uuid::now_v7().as_bytes());
    let declared = Declared {
        bytes,
        sha256,
        tenant,
        begun_at_s: api.now().0.div_euclid(1_000_000),
    };
    let store = Arc::clone(&bodies.store);
    blocking(move || store.begin(id, &declared)).await?;
    bodies.uploads.begun(id);
    let location = format!("/v1/bodies/{id}");
    let told = json!({ "id": id.to_string(), "bytes": bytes, "offset": 0 }).to_string();
    let headers = [
        (header::LOCATION, location),
        (OFFSET, String::from("0")),
        (LENGTH, bytes.to_string()),
    ];
    Ok((StatusCode::CREATED, [JSON], headers, told).into_response())
}

/// `HEAD`: how far the body has come.
pub(crate) async fn look(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Send)?;
    let bodies = api.large_bodies()?;
    let id = body_id(&id)?;
    match turn(bodies, id, &tenant).await? {
        Some(held) => Ok(progress(StatusCode::OK, open(&held)?)),
        None => whole(&api, id, &tenant).await,
    }
}

/// `PATCH`: more bytes at the offset that the request names.
pub(crate) async fn write(
    State(api): State<Api>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, content) = request.into_parts();
    let (_, tenant) = api.access(&parts.headers, Scope::Send)?;
    let bodies = api.large_bodies()?;
    let id = body_id(&id)?;
    let offset = offset(&parts.headers)?;
    let Some(mut held) = turn(bodies, id, &tenant).await? else {
        return whole(&api, id, &tenant).await;
    };
    let there = open(&held)?.offset();
    if offset != there {
        let detail = format!("the body has {there} bytes, the request goes on at {offset}");
        let mut refused = Problem::new(codes::UPLOAD_OFFSET, detail).into_response();
        refused.headers_mut().insert(OFFSET, there.into());
        return Ok(refused);
    }
    receive(bodies, &mut held, content).await?;
    let (declared, there) = {
        let growing = open(&held)?;
        (growing.declared().clone(), growing.offset())
    };
    if there < declared.bytes {
        return Ok(progress(StatusCode::NO_CONTENT, open(&held)?));
    }
    let growing = held.growing.take().ok_or(Error::Unknown).map_err(problem)?;
    let finished = blocking(move || growing.finish()).await;
    if finished.is_ok() {
        keep(api.centre(), id, &declared).await?;
        bodies.uploads.ended(id);
    }
    if matches!(&finished, Err(refused) if refused.status() == StatusCode::UNPROCESSABLE_ENTITY) {
        bodies.uploads.ended(id);
    }
    finished?;
    Ok(completed(StatusCode::NO_CONTENT, declared.bytes))
}

/// `DELETE`: the sender gives the body up, while no message can refer to it.
pub(crate) async fn forget(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Send)?;
    let bodies = api.large_bodies()?;
    let id = body_id(&id)?;
    let Some(mut held) = turn(bodies, id, &tenant).await? else {
        whole(&api, id, &tenant).await?;
        let detail = "the body is whole: it goes by itself when no message refers to it";
        return Err(Problem::new(codes::BODY_WHOLE, detail));
    };
    *held.growing = None;
    let store = Arc::clone(&bodies.store);
    blocking(move || store.remove(id)).await?;
    bodies.uploads.ended(id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Writes what comes. What came before a cut stays, and is where the sender goes on.
async fn receive(bodies: &LargeBodies, held: &mut Held, content: Body) -> Result<(), Problem> {
    let mut pieces = content.into_data_stream();
    let mut gathered = Vec::with_capacity(PIECE_BYTES);
    let mut unlooked = LOOK_BYTES;
    let end = loop {
        let piece = tokio::select! {
            biased;
            _ = held.newer.changed() => {
                let detail = "a later request for this body has taken over";
                break Err(Problem::new(codes::UPLOAD_OFFSET, detail));
            }
            piece = pieces.next() => piece,
        };
        match piece {
            None => break Ok(()),
            Some(Err(error)) => {
                let detail = format!("the body did not arrive whole: {error}");
                break Err(Problem::new(codes::BODY, detail));
            }
            Some(Ok(piece)) => gathered.extend_from_slice(&piece),
        }
        if gathered.len() < PIECE_BYTES {
            continue;
        }
        unlooked += gathered.len() as u64;
        if unlooked >= LOOK_BYTES {
            unlooked = 0;
            if !has_room(bodies, 0) {
                break Err(no_room());
            }
        }
        append(held, std::mem::take(&mut gathered), false).await?;
    };
    append(held, gathered, true).await?;
    end
}

/// Adds bytes, on a thread that may wait for the disk. After a failure the body is opened anew.
async fn append(held: &mut Held, bytes: Vec<u8>, sync: bool) -> Result<(), Problem> {
    let growing = held.growing.take();
    let mut growing = growing.ok_or(Error::Unknown).map_err(problem)?;
    let appended = blocking(move || match growing.append(&bytes) {
        Ok(()) if sync => growing.sync().map(|()| (growing, None)),
        Ok(()) => Ok((growing, None)),
        // Nothing was added: what is there stays as it was.
        Err(refused @ Error::TooLong { .. }) => Ok((growing, Some(refused))),
        Err(error) => Err(error),
    });
    let (growing, refused) = appended.await?;
    *held.growing = Some(growing);
    refused.map_or(Ok(()), |refused| Err(problem(refused)))
}

/// The turn of this request; `None` when the body is whole, or nobody began it.
async fn turn(
    bodies: &LargeBodies,
    id: BodyId,
    tenant: &TenantName,
) -> Result<Option<Held>, Problem> {
    let Some(slot) = bodies.uploads.find(id) else {
        return Ok(None);
    };
    let mut held = slot.take().await;
    if held.growing.is_none() {
        let store = Arc::clone(&bodies.store);
        let opened = blocking(move || match store.resume(id) {
            Ok(growing) => Ok(Some(growing)),
            Err(Error::Exists | Error::Unknown) => Ok(None),
            Err(error) => Err(error),
        });
        *held.growing = opened.await?;
    }
    match held.growing.as_ref() {
        None => Ok(None),
        Some(growing) if growing.declared().tenant == *tenant => Ok(Some(held)),
        Some(_) => Err(unknown(id)),
    }
}

fn open(held: &Held) -> Result<&dyn Growing, Problem> {
    let growing = held.growing.as_deref();
    growing.ok_or(Error::Unknown).map_err(problem)
}

/// What is told of a body that is not being sent: it is whole, or there is none. One that is whole
/// and not known to the centre, because its disk was full, is made known.
async fn whole(api: &Api, id: BodyId, tenant: &TenantName) -> Result<Response, Problem> {
    let bodies = api.large_bodies()?;
    let look = Input::LookBody {
        tenant: tenant.clone(),
        body: id,
    };
    if let Reply::Body(Some(view)) = api.centre().ask(look).await? {
        return Ok(completed(StatusCode::OK, view.body.bytes));
    }
    if bodies.uploads.find(id).is_none() {
        return Err(unknown(id));
    }
    let store = Arc::clone(&bodies.store);
    let declared = blocking(move || Ok(store.open(id)?.declared().clone())).await?;
    if declared.tenant != *tenant {
        return Err(unknown(id));
    }
    keep(api.centre(), id, &declared).await?;
    bodies.uploads.ended(id);
    Ok(completed(StatusCode::OK, declared.bytes))
}

fn progress(status: StatusCode, growing: &dyn Growing) -> Response {
    told(status, growing.offset(), growing.declared().bytes, "?0")
}

fn completed(status: StatusCode, bytes: u64) -> Response {
    told(status, bytes, bytes, "?1")
}

fn told(status: StatusCode, offset: u64, bytes: u64, complete: &str) -> Response {
    let headers = [
        (OFFSET, offset.to_string()),
        (LENGTH, bytes.to_string()),
        (COMPLETE, complete.to_owned()),
        (header::CACHE_CONTROL, String::from("no-store")),
    ];
    (status, headers).into_response()
}

fn offset(headers: &HeaderMap) -> Result<u64, Problem> {
    let offset = headers.get(OFFSET).and_then(|value| value.to_str().ok());
    let offset = offset.and_then(|text| text.parse().ok());
    offset.ok_or_else(|| {
        let detail = "the header Upload-Offset must say where these bytes begin; ask with HEAD";
        Problem::new(codes::FIELD, detail)
    })
}

pub(crate) fn body_id(text: &str) -> Result<BodyId, Problem> {
    text.parse()
        .map_err(|error| Problem::new(codes::FIELD, format!("{text:?} is no body id: {error}")))
}

fn unknown(id: BodyId) -> Problem {
    Problem::new(codes::UNKNOWN_BODY, format!("body {id} is not known"))
}

fn has_room(bodies: &LargeBodies, bytes: u64) -> bool {
    bodies.store.free_bytes() >= bodies.reserve_bytes.saturating_add(bytes)
}

fn no_room() -> Problem {
    let detail = "the disk has no room for this body beside its reserve";
    Problem::new(codes::NO_SPACE, detail)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Does what waits for the disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Problem::new(codes::STOPPED, "the process is ending"))?;
    done.map_err(problem)
}
