//! A back office with an HTTP interface as a sink.
//!
//! Promise: a 2xx answer, and nothing else, is done, but for a 202 with `Retry-After`: the back office
//! is still working on the document and is asked again after that time, within the same attempt. 409
//! and 422 are a refusal for good; everything else is tried again, a 429 or 503 not before the time it
//! asks for. Every attempt of a message
//! carries the same `Idempotency-Key`, so a back office that honours it inserts once (I10).

use super::{Attempt, Sink, failed, outcome};
use crate::backoff::retry_after;
use crate::client::{client_for, explain, parse_url, read_up_to};
use crate::{Delivery, Error};
use countersign_rules::ack::Outcome;
use countersign_rules::limits::{OUTCOME_DATA_BYTES_MAX, OUTCOME_DETAIL_BYTES_MAX};
use countersign_rules::site::WorkResult;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Client, Response, StatusCode, Url};
use std::time::Duration;

/// Posts each document to a URL.
///
/// The body is the document, byte for byte; `Content-Type` its media type. Headers:
///
/// | header | value |
/// |---|---|
/// | `Idempotency-Key` | `<message id>:<generation>`, the same for every attempt |
/// | `X-Message-Id`, `X-Message-Type`, `X-Seq` | of the message |
/// | `X-Lane` | its lane; percent-encoded when it is not plain ASCII |
/// | `X-Attempt` | number of this attempt, from 1 |
/// | `X-Possibly-Repeated` | `true` when a crash cut an earlier attempt short, else absent |
/// | `traceparent` | trace context of the sender, when there is one |
#[derive(Clone, Debug)]
pub struct HttpSink {
    client: Client,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
}

impl HttpSink {
    /// Posts to `url`. An attempt fails when it takes longer than `timeout`; 30 s is a good value,
    /// longer than a healthy back office ever takes and shorter than a person waits. A large document
    /// has a second more for each MiB.
    ///
    /// # Errors
    /// The URL is none, or no HTTP client can be made.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, Error> {
        let url = parse_url("sink.url", url)?;
        let client = client_for(&url, timeout)?;
        Ok(Self {
            client,
            url,
            headers: HeaderMap::new(),
            timeout,
        })
    }

    /// Adds a header to every request, such as an `Authorization` that the back office wants.
    ///
    /// # Errors
    /// Name or value are not allowed in a header.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::option("sink.headers", reason);
        let name: HeaderName = name
            .parse()
            .map_err(|error| wrong(format!("{name}: {error}")))?;
        let mut value: HeaderValue = value
            .parse()
            .map_err(|error| wrong(format!("value of {name}: {error}")))?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    async fn post(&self, delivery: &Delivery) -> WorkResult {
        let headers = match self.headers_of(delivery) {
            Ok(headers) => headers,
            Err(name) => {
                return WorkResult::Unusable(outcome(
                    "envelope-malformed",
                    format!("the value for the header {name} has characters no header may have"),
                ));
            }
        };
        let request = self.client.post(self.url.clone()).headers(headers);
        let request = match &delivery.large {
            None => request.body(delivery.body.clone()),
            Some(document) => request
                .header(CONTENT_LENGTH, document.bytes())
                .timeout(self.timeout + time_for(document.bytes()))
                .body(Body::wrap_stream(document.stream())),
        };
        match request.send().await {
            Ok(response) => judge(response).await,
            Err(error) => {
                let code = match () {
                    () if error.is_timeout() => "timeout",
                    () if error.is_connect() => "unreachable",
                    () => "network",
                };
                failed(code, explain(error))
            }
        }
    }

    fn headers_of(&self, delivery: &Delivery) -> Result<HeaderMap, &'static str> {
        let mut headers = self.headers.clone();
        let mut put = |name: &'static str, value: &str| {
            let value = value.parse::<HeaderValue>().map_err(|_| name)?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<(), &'static str>(())
        };
        put("idempotency-key", &delivery.idempotency_key())?;
        put("x-message-id", &delivery.id.to_string())?;
        put("x-message-type", &delivery.message_type)?;
        put("x-lane", &plain(delivery.lane.as_str()))?;
        put("x-seq", &delivery.seq.to_string())?;
        put("x-attempt", &delivery.attempt.to_string())?;
        put(CONTENT_TYPE.as_str(), delivery.media_type())?;
        if delivery.possibly_repeated {
            put("x-possibly-repeated", "true")?;
        }
        if let Some(traceparent) = &delivery.traceparent {
            put("traceparent", traceparent)?;
        }
        Ok(headers)
    }
}

impl Sink for HttpSink {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Attempt<'a> {
        Box::pin(self.post(delivery))
    }
}

/// What a large document may take beside the answer.
fn time_for(bytes: u64) -> Duration {
    Duration::from_secs(bytes >> 20)
}

/// A lane may be any text, a header may not.
fn plain(lane: &str) -> String {
    if lane
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        return lane.to_owned();
    }
    form_urlencoded::byte_serialize(lane.as_bytes()).collect()
}

async fn judge(mut response: Response) -> WorkResult {
    let status = response.status();
    let asked = retry_after(response.headers());
    let media_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let is_json = media_type.is_some_and(|text| text.contains("json"));
    // One byte more than what may be kept tells an answer that is too long from one that fits.
    let body = read_up_to(&mut response, OUTCOME_DATA_BYTES_MAX + 1).await;
    let code = format!("http-{}", status.as_u16());
    if let (StatusCode::ACCEPTED, Some(_)) = (status, asked) {
        return WorkResult::StillWorking {
            outcome: Outcome {
                detail: detail(status, &body),
                data: data(is_json, body),
                code,
            },
            ask_after: asked,
        };
    }
    if status.is_success() {
        return WorkResult::Done(Outcome {
            data: data(is_json, body),
            ..outcome(code, "")
        });
    }
    let answer = Outcome {
        detail: detail(status, &body),
        data: data(is_json, body),
        code,
    };
    match status {
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => WorkResult::Rejected(answer),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => WorkResult::Failed {
            outcome: answer,
            retry_after: asked,
        },
        _ => WorkResult::Failed {
            outcome: answer,
            retry_after: None,
        },
    }
}

/// The answer, when it is JSON and short enough to be passed on.
fn data(is_json: bool, body: Vec<u8>) -> Vec<u8> {
    let fits = is_json && body.len() <= OUTCOME_DATA_BYTES_MAX;
    let is_whole = || serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
    if fits && is_whole() { body } else { Vec::new() }
}

/// What the back office said, for a person.
fn detail(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(OUTCOME_DETAIL_BYTES_MAX)]);
    match text.trim() {
        "" => format!("the back office answered {status}"),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_passed_on_when_it_is_json_and_short() {
        assert_eq!(data(true, b"{\"id\": 7}".to_vec()), b"{\"id\": 7}");
        assert!(data(false, b"{}".to_vec()).is_empty());
        assert!(data(true, b"<html>".to_vec()).is_empty());
        let long = format!("\"{}\"", "x".repeat(OUTCOME_DATA_BYTES_MAX));
        assert!(data(true, long.into_bytes()).is_empty());
    }

    #[test]
    fn a_lane_that_no_header_can_carry_is_percent_encoded() {
        assert_eq!(plain("invoices 2026"), "invoices 2026");
        assert_eq!(plain("clé"), "cl%C3%A9");
    }

    #[test]
    fn a_silent_refusal_still_says_something() {
        let said = detail(StatusCode::BAD_GATEWAY, b" \n");
        assert_eq!(said, "the back office answered 502 Bad Gateway");
    }
}
