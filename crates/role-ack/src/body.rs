//! Reading a request's body: only of whoever may post, and never more than the limit.

use crate::problem::{Fault, Problem};
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_path_to_error::{Path, Segment};
use std::fmt::Write;

/// Reads a body that says it is JSON. A longer one is refused, unread where it says its length.
pub(crate) async fn read_json(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    expect_json(headers)?;
    let length = text_of(headers, header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let mut pieces = body.into_data_stream();
    let mut whole = BytesMut::new();
    let mut first = Bytes::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| not_json(format!("it did not arrive whole: {error}")))?;
        if first.len() + whole.len() + piece.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        // Most bodies come in one piece, which is then the body, without a copy.
        if first.is_empty() && whole.is_empty() {
            first = piece;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&piece);
        }
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.freeze()
    })
}

/// Reads JSON into `T`; what does not fit is named by its place.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_json(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| misfit::<T>(text, &error))
}

/// Reads once more, slowly, to find the place of the fault.
fn misfit<'a, T: Deserialize<'a>>(text: &'a str, error: &serde_json::Error) -> Problem {
    let mut again = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut again) {
        Err(traced) if error.is_data() => {
            let (pointer, message) = (pointer(traced.path()), traced.inner().to_string());
            let detail = format!("{pointer}: {message}; none was taken");
            let hint = "correct them and post all again";
            Problem::new(StatusCode::BAD_REQUEST, "E-ACK-ITEM", detail, hint)
                .with_errors(vec![Fault { pointer, message }])
        }
        _ => not_json(error.to_string()),
    }
}

/// A path as a JSON pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    let mut to = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                write!(to, "/{index}").expect("writing to memory cannot fail")
            }
            Segment::Map { key } => {
                to.push('/');
                to.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            _ => break,
        }
    }
    to
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = text_of(headers, header::CONTENT_TYPE);
    let essence = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = format!("the content type is {}", content_type.unwrap_or("absent"));
    let hint = "send Content-Type: application/json";
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "E-CONTENT-TYPE",
        detail,
        hint,
    ))
}

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn not_json(detail: String) -> Problem {
    let hint = r#"send {"acks":[{"message_id":"...","stage":"acknowledged","attempt":1}]}"#;
    let detail = format!("the body is not JSON: {detail}");
    Problem::new(StatusCode::BAD_REQUEST, "E-BODY", detail, hint)
}

fn too_large(bytes_max: usize) -> Problem {
    let detail = format!("the body is over the limit of {bytes_max} bytes");
    let hint = "post fewer acknowledgements at a time";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "E-TOO-LARGE", detail, hint)
        .with_limit(bytes_max as u64)
}
