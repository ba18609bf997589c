//! Reading a request's body: only of whoever may send it, and never more than the limit.

use crate::codes;
use crate::problem::{Fault, Problem};
use axum::body::Body;
use axum::http::{HeaderMap, header};
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
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    let length = length.and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let mut pieces = body.into_data_stream();
    let mut whole = BytesMut::new();
    let mut first = Bytes::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            Problem::new(
                codes::BODY,
                format!("the body did not arrive whole: {error}"),
            )
        })?;
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

/// The bytes as text, which JSON is.
pub(crate) fn text(bytes: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(bytes)
        .map_err(|error| Problem::new(codes::BODY, format!("the body is not UTF-8: {error}")))
}

/// Reads JSON into `T`; what does not fit is named by its place.
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| misfit::<T>(text, &error))
}

/// Reads once more, slowly, to find the place of the fault.
fn misfit<'a, T: Deserialize<'a>>(text: &'a str, error: &serde_json::Error) -> Problem {
    let mut again = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut again) {
        Err(traced) if error.is_data() => {
            let message = traced.inner().to_string();
            let fault = Fault {
                pointer: pointer(traced.path()),
                message: message.clone(),
            };
            Problem::new(codes::FIELD, message).with_errors(vec![fault])
        }
        _ => Problem::new(codes::BODY, format!("the body is not JSON: {error}")),
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
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
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
    Err(Problem::new(codes::CONTENT_TYPE, detail))
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(
        codes::TOO_LARGE,
        format!("the request is over the limit of {bytes_max} bytes"),
    )
    .with_limit(bytes_max as u64)
}
