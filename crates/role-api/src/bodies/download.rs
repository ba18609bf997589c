//! `GET /v1/messages/{id}/body`: the large body of a message, for its recipient.

use super::{hex, problem};
use crate::codes;
use crate::look::{history, message_id, view};
use crate::problem::Problem;
use crate::service::Api;
use axum::body::{Body as Content, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_claims::{Body, BodyStore, Error};
use countersign_driver::Handle;
use countersign_rules::BodyId;
use countersign_rules::ack::Outcome;
use countersign_rules::delivery::{Accepted, Centre, Input, Place, View};
use futures_util::stream;
use std::ops::Range;
use std::sync::Arc;

/// For the agent that the message is for, and for nobody else.
pub(crate) async fn document(
    State(api): State<Api>,
    method: Method,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (access, tenant) = api.access(&headers, Scope::Hub)?;
    let id = message_id(&id)?;
    let view = view(&api, &tenant, id).await?;
    if access.agent.as_deref() != Some(view.agent.as_str()) {
        // Whose it is, and whether it is, is nobody else's business.
        let detail = format!("message {id} is not known");
        return Err(Problem::new(codes::UNKNOWN_MESSAGE, detail));
    }
    if matches!(view.place, Place::Ended(_)) {
        let detail = format!("message {id} has ended: its body is not fetched any more");
        return Err(Problem::new(codes::ENDED, detail));
    }
    let history = history(&api, &view).await?;
    let Some((_, accepted)) = history.accepted() else {
        let why = history.missing.map(|missing| missing.reason);
        return Err(Problem::new(codes::UNREADABLE, why.unwrap_or_default()));
    };
    data_of(&api, &view, &accepted, &method, &headers).await
}

/// The large body that a message refers to, or the part of it that is asked for.
pub(crate) async fn data_of(
    api: &Api,
    view: &View,
    accepted: &Accepted<'_>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let Some(large) = accepted.body else {
        let detail = format!("message {} carries its body in itself", view.id);
        return Err(Problem::new(codes::UNKNOWN_BODY, detail));
    };
    let source = Source {
        store: Arc::clone(&api.large_bodies()?.store),
        centre: api.centre().clone(),
        body: large.id,
        message: view.clone(),
        sha256: accepted.body_sha256,
    };
    let body = source.open().await?;
    let etag = format!("\"{}\"", hex(&accepted.body_sha256));
    let wanted = wanted(headers, &etag, large.bytes);
    let Some((status, range)) = wanted else {
        let unmet = [(header::CONTENT_RANGE, format!("bytes */{}", large.bytes))];
        let detail = format!("the body has {} bytes", large.bytes);
        return Ok((unmet, Problem::new(codes::RANGE, detail)).into_response());
    };
    let content_type = match accepted.content_type {
        "" => "application/json",
        other => other,
    };
    let mut response = match *method == Method::HEAD {
        true => Content::empty().into_response(),
        false => Content::from_stream(source.pieces(body, range.clone())).into_response(),
    };
    *response.status_mut() = status;
    let mut say = |name: header::HeaderName, value: String| {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    };
    if status == StatusCode::PARTIAL_CONTENT {
        let (from, to) = (range.start, range.end - 1);
        let of = large.bytes;
        say(header::CONTENT_RANGE, format!("bytes {from}-{to}/{of}"));
    }
    say(
        header::CONTENT_LENGTH,
        (range.end - range.start).to_string(),
    );
    say(header::CONTENT_TYPE, content_type.to_owned());
    say(header::ACCEPT_RANGES, String::from("bytes"));
    say(header::ETAG, etag);
    // A document is somebody else's: a browser must not take it for a page of ours.
    say(header::X_CONTENT_TYPE_OPTIONS, String::from("nosniff"));
    say(header::CONTENT_SECURITY_POLICY, String::from("sandbox"));
    Ok(response)
}

/// Where a body is read, and who is told when it cannot be.
#[derive(Clone)]
struct Source {
    store: Arc<dyn BodyStore>,
    centre: Handle<Centre>,
    body: BodyId,
    message: View,
    sha256: [u8; 32],
}

impl Source {
    async fn open(&self) -> Result<Box<dyn Body>, Problem> {
        let (store, id, sha256) = (Arc::clone(&self.store), self.body, self.sha256);
        let opened = tokio::task::spawn_blocking(move || {
            let body = store.open(id)?;
            match body.declared().sha256 == sha256 {
                true => Ok(body),
                false => Err(Error::Damaged {
                    why: String::from("it is another body than the message refers to"),
                }),
            }
        });
        let opened = opened.await;
        let opened = opened.map_err(|_| Problem::new(codes::STOPPED, "the process is ending"))?;
        match opened {
            Ok(body) => Ok(body),
            Err(error) => {
                self.tell(&error).await;
                Err(match error {
                    Error::Unknown => Problem::new(codes::UNREADABLE, "the body is missing"),
                    other => problem(other),
                })
            }
        }
    }

    /// The bytes of `range`, block by block; an error cuts the answer short.
    fn pieces(
        self,
        body: Box<dyn Body>,
        range: Range<u64>,
    ) -> impl stream::Stream<Item = Result<Bytes, Error>> + Send {
        stream::try_unfold(
            (self, body, range),
            |(source, mut body, range)| async move {
                if range.is_empty() {
                    return Ok(None);
                }
                let from = range.start;
                let read = tokio::task::spawn_blocking(move || (body.read_from(from), body)).await;
                let (read, body) =
                    read.map_err(|_| Error::Io(std::io::ErrorKind::Interrupted.into()))?;
                let mut piece = match read {
                    Ok(piece) => piece,
                    Err(error) => {
                        source.tell(&error).await;
                        return Err(error);
                    }
                };
                let left = usize::try_from(range.end - from).unwrap_or(usize::MAX);
                piece.truncate(left);
                let rest = from + piece.len() as u64..range.end;
                Ok(Some((Bytes::from(piece), (source, body, rest))))
            },
        )
    }

    /// A body that is missing or damaged stays so: its message ends, and says why (I5, I20).
    async fn tell(&self, error: &Error) {
        let code = match error {
            Error::Unknown => "body-missing",
            Error::Damaged { .. } => "body-damaged",
            _ => return,
        };
        let (message, body) = (self.message.id, self.body);
        tracing::error!(%message, %body, %error, "a large body cannot be delivered");
        let undeliverable = Input::Undeliverable {
            id: message,
            generation: self.message.generation,
            reason: Outcome {
                code: code.to_owned(),
                detail: format!("large body {body}: {error}"),
                data: Vec::new(),
            },
        };
        if let Err(error) = self.centre.tell(undeliverable).await {
            tracing::error!(%message, %error, "its message could not be ended");
        }
    }
}

/// What a request wants (RFC 9110 section 14): the whole, or one range; `None` for one that is not
/// there. What is not understood, or is of another version, is answered with the whole.
fn wanted(headers: &HeaderMap, etag: &str, bytes: u64) -> Option<(StatusCode, Range<u64>)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let whole = Some((StatusCode::OK, 0..bytes));
    if text(header::IF_RANGE).is_some_and(|version| version != etag) {
        return whole;
    }
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return whole;
    };
    let Some((from, to)) = range.split_once('-') else {
        return whole;
    };
    let range = match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => from..bytes.min(to.saturating_add(1)),
        (Ok(from), Err(_)) if to.trim().is_empty() => from..bytes,
        (Err(_), Ok(last)) if from.trim().is_empty() => bytes.saturating_sub(last)..bytes,
        _ => return whole,
    };
    (range.start < range.end).then_some((StatusCode::PARTIAL_CONTENT, range))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str, if_range: Option<&str>) -> Option<(u16, Range<u64>)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().expect("it is a header"));
        if let Some(version) = if_range {
            headers.insert(header::IF_RANGE, version.parse().expect("it is a header"));
        }
        wanted(&headers, "\"a\"", 10).map(|(status, range)| (status.as_u16(), range))
    }

    #[test]
    fn a_range_is_served_where_it_is_and_the_whole_where_it_is_not_understood() {
        assert_eq!(asked("bytes=2-4", None), Some((206, 2..5)));
        assert_eq!(asked("bytes=2-", None), Some((206, 2..10)));
        assert_eq!(asked("bytes=-3", None), Some((206, 7..10)));
        assert_eq!(asked("bytes=2-99", None), Some((206, 2..10)));
        assert_eq!(asked("bytes=10-", None), None);
        assert_eq!(asked("bytes=1-2,4-5", None), Some((200, 0..10)));
        assert_eq!(asked("lines=1-2", None), Some((200, 0..10)));
        assert_eq!(asked("bytes=2-", Some("\"a\"")), Some((206, 2..10)));
        assert_eq!(asked("bytes=2-", Some("\"b\"")), Some((200, 0..10)));
    }
}
