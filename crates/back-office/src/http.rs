//! The routes: headers and bodies in, the database's answers out.
//!
//! Promise: whatever is refused is refused with one sentence in plain text that says why; a 2xx to
//! `POST /documents` means that the document is on disk.

use std::sync::PoisonError;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::behaviour::{Behaviour, Mode};
use crate::insert::{Document, Outcome};
use crate::store::Reader;
use crate::{BackOffice, headers};

/// Documents in one answer of the list.
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 10_000;

pub(crate) fn router(back_office: BackOffice) -> Router {
    let body_limit = DefaultBodyLimit::max(back_office.parts.document_bytes_max);
    Router::new()
        .route("/documents", post(insert).get(list))
        .route("/documents/count", get(count))
        .route("/documents/{message_id}", get(body))
        .route("/attempts/{key}", get(attempts))
        .route("/control", get(behaviour).post(behave))
        .layer(body_limit)
        .with_state(back_office)
}

/// A refusal: the status and one sentence.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, sentence) = self;
        let mut response = (status, format!("{sentence}\n")).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let close = header::HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

fn refuse(status: StatusCode, sentence: impl Into<String>) -> Refusal {
    Refusal(status, sentence.into())
}

async fn insert(
    State(office): State<BackOffice>,
    head: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let behaviour = office.parts.control.now();
    if behaviour.mode == Mode::Down {
        return Err(refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the back office is down",
        ));
    }
    let body = body.map_err(|rejection| refuse(rejection.status(), rejection.body_text()))?;
    let document = document(&head, &body)?;
    if behaviour.mode == Mode::Slow {
        tokio::time::sleep(Duration::from_millis(behaviour.slow_ms)).await;
    }
    if let Some(refusal) = refusal(behaviour.mode, &document) {
        office
            .parts
            .writer
            .count_call(document.key)
            .await
            .map_err(unavailable)?;
        return Err(refusal);
    }
    let outcome = office
        .parts
        .writer
        .insert(document)
        .await
        .map_err(unavailable)?;
    answer(outcome)
}

fn answer(outcome: Outcome) -> Result<Response, Refusal> {
    match outcome {
        Outcome::Inserted(receipt) => Ok((StatusCode::CREATED, Json(receipt)).into_response()),
        Outcome::Replayed(receipt) => {
            let replayed = [(headers::IDEMPOTENCY_REPLAYED, "true")];
            Ok((StatusCode::CREATED, replayed, Json(receipt)).into_response())
        }
        Outcome::KeyReused => Err(refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            "this idempotency key has inserted another document: the two bodies differ",
        )),
    }
}

fn unavailable(cause: impl std::fmt::Display) -> Refusal {
    refuse(StatusCode::SERVICE_UNAVAILABLE, cause.to_string())
}

fn document(head: &HeaderMap, body: &[u8]) -> Result<Document, Refusal> {
    let seq = match optional(head, headers::SEQ)? {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            refuse(
                StatusCode::BAD_REQUEST,
                format!("the header {} is no number", headers::SEQ),
            )
        })?),
    };
    Ok(Document {
        key: required(head, headers::IDEMPOTENCY_KEY)?,
        message_id: required(head, headers::MESSAGE_ID)?,
        message_type: required(head, headers::MESSAGE_TYPE)?,
        content_type: optional(head, header::CONTENT_TYPE.as_str())?
            .unwrap_or_else(|| "application/octet-stream".into()),
        lane: optional(head, headers::LANE)?,
        seq,
        sha256: format!("{:x}", Sha256::digest(body)),
        body: body.to_vec(),
    })
}

fn required(head: &HeaderMap, name: &str) -> Result<String, Refusal> {
    match optional(head, name)? {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(refuse(
            StatusCode::BAD_REQUEST,
            format!("the header {name} is missing"),
        )),
    }
}

fn optional(head: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let text = |value: &header::HeaderValue| value.to_str().map(str::to_owned);
    head.get(name).map(text).transpose().map_err(|_| {
        refuse(
            StatusCode::BAD_REQUEST,
            format!("the header {name} is not plain text"),
        )
    })
}

/// Why this document is not inserted, if it is not.
fn refusal(mode: Mode, document: &Document) -> Option<Refusal> {
    match mode {
        Mode::Fail => Some(refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the back office fails because it was told to",
        )),
        Mode::Reject => Some(refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the back office refuses every document because it was told to",
        )),
        Mode::Ok | Mode::Slow | Mode::Down => content_refusal(document),
    }
}

/// What the content itself brings about: not JSON although declared so, or the number that this
/// back office stumbles over.
fn content_refusal(document: &Document) -> Option<Refusal> {
    if !is_json(&document.content_type) {
        return None;
    }
    match serde_json::from_slice::<serde_json::Value>(&document.body) {
        Err(error) => Some(refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the document is declared as JSON and is not: {error}"),
        )),
        Ok(value) if value.get("number").is_some_and(|number| number == "bad") => Some(refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the back office stumbles over the document number \"bad\": a bug of the demo, on purpose",
        )),
        Ok(_) => None,
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: i64,
    limit: Option<u32>,
}

async fn list(
    State(office): State<BackOffice>,
    Query(page): Query<Page>,
) -> Result<Response, Refusal> {
    let limit = page.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
    let documents = read(office, move |reader| reader.list(page.after, limit)).await?;
    let full = documents.len() == limit as usize;
    let next = documents.last().filter(|_| full).map(|last| last.row());
    let listing = serde_json::json!({ "documents": documents, "next": next });
    Ok(Json(listing).into_response())
}

async fn count(State(office): State<BackOffice>) -> Result<Response, Refusal> {
    Ok(Json(read(office, |reader| reader.counts()).await?).into_response())
}

async fn body(
    State(office): State<BackOffice>,
    Path(message_id): Path<String>,
) -> Result<Response, Refusal> {
    let found = read(office, move |reader| reader.body(&message_id)).await?;
    let (content_type, sha256, body) = found.ok_or_else(|| {
        refuse(
            StatusCode::NOT_FOUND,
            "no document of this message has been inserted",
        )
    })?;
    let head = [
        (header::CONTENT_TYPE.as_str(), content_type),
        ("x-sha256", sha256),
    ];
    Ok((head, body).into_response())
}

async fn attempts(
    State(office): State<BackOffice>,
    Path(key): Path<String>,
) -> Result<Response, Refusal> {
    let found = read(office, move |reader| reader.attempts(&key)).await?;
    let attempts =
        found.ok_or_else(|| refuse(StatusCode::NOT_FOUND, "this key has never been seen"))?;
    Ok(Json(attempts).into_response())
}

async fn behaviour(State(office): State<BackOffice>) -> Json<Behaviour> {
    Json(office.parts.control.now())
}

async fn behave(
    State(office): State<BackOffice>,
    wanted: Result<Json<Behaviour>, JsonRejection>,
) -> Result<Json<Behaviour>, Refusal> {
    let Json(wanted) =
        wanted.map_err(|rejection| refuse(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    office.behave(wanted);
    Ok(Json(office.parts.control.now()))
}

/// Runs `query` where it may block.
async fn read<T: Send + 'static>(
    office: BackOffice,
    query: impl FnOnce(&Reader) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let blocking = tokio::task::spawn_blocking(move || {
        // A reader changes nothing, so a panic left nothing half-done.
        let reader = office
            .parts
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        query(&reader)
    });
    match blocking.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(cause)) => Err(unavailable(cause)),
        Err(cause) => Err(unavailable(cause)),
    }
}
