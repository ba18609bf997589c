//! Server-sent events down, POST up. Text only.
//!
//! An event stream that ends is over: nothing is resumed here, unlike in general clients of such streams.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use reqwest::Response;

use super::requests::{self, Requests};
use super::{Link, Poster};
use crate::negotiate::failed;
use crate::{Closed, Error};

#[derive(Debug)]
pub(crate) struct Receiver {
    response: Response,
    events: Events,
}

/// Opens the event stream. It counts as open when the server has answered.
pub(crate) async fn connect(requests: Arc<Requests>, bytes_max: usize) -> Result<Link, Error> {
    let response = requests.get(EVENT_STREAM).await?;
    let is_stream = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim_start().starts_with(EVENT_STREAM));
    if !is_stream {
        return Err(Error::Protocol {
            detail: "the answer is no event stream".into(),
        });
    }
    Ok(Link {
        receiver: super::Receiver::Events(Receiver {
            response,
            events: Events::new(bytes_max),
        }),
        sender: super::Sender::Posts(Poster::new(requests, false)),
    })
}

impl Receiver {
    pub(crate) async fn receive(&mut self) -> Result<Option<Bytes>, Closed> {
        loop {
            if let Some(data) = self.events.ready.pop_front() {
                return Ok(Some(data));
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| requests::lost(failed(error)))? {
                Some(chunk) => self.events.feed(&chunk)?,
                None => return Ok(None),
            }
        }
    }
}

/// Puts events together from chunks cut anywhere (WHATWG HTML, "Server-sent events"). Only data counts: SignalR uses
/// neither names nor ids.
#[derive(Debug)]
struct Events {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The data of the event whose blank line has not come yet.
    data: Option<Vec<u8>>,
    ready: VecDeque<Bytes>,
    bytes_max: usize,
}

impl Events {
    fn new(bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            data: None,
            ready: VecDeque::new(),
            bytes_max,
        }
    }

    fn feed(&mut self, mut chunk: &[u8]) -> Result<(), Closed> {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.keep(&chunk[..end])?;
            chunk = &chunk[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.take(line.strip_suffix(b"\r").unwrap_or(&line));
        }
        self.keep(chunk)
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), Closed> {
        let held = self.data.as_ref().map_or(0, Vec::len) + self.line.len();
        if held + part.len() > self.bytes_max {
            return Err(Closed::Protocol {
                detail: format!("an event is larger than {} bytes", self.bytes_max),
            });
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn take(&mut self, line: &[u8]) {
        if line.is_empty() {
            self.ready.extend(self.data.take().map(Bytes::from));
        } else if let Some(value) = line.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
    }
}

const EVENT_STREAM: &str = "text/event-stream";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &str, chunk_bytes: usize) -> Vec<String> {
        let mut events = Events::new(100);
        for chunk in stream.as_bytes().chunks(chunk_bytes) {
            events.feed(chunk).unwrap();
        }
        let ready = events.ready.into_iter();
        ready
            .map(|data| String::from_utf8(data.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let stream = ":\r\n\r\ndata: one\r\n\r\nevent: x\ndata:two\ndata: lines\n\n: note\nid: 7\n\ndata: cut";
        for chunk_bytes in 1..stream.len() {
            assert_eq!(read(stream, chunk_bytes), ["one", "two\nlines"]);
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut events = Events::new(100);
        for _ in 0..10 {
            events.feed(b"data: 5678").unwrap();
        }
        assert!(matches!(events.feed(b"x"), Err(Closed::Protocol { .. })));
        let mut events = Events::new(100);
        let fed: Result<(), Closed> = (0..20).try_for_each(|_| events.feed(b"data: 56789\n"));
        assert!(matches!(fed, Err(Closed::Protocol { .. })));
    }
}
