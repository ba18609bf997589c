//! Long polling: GET requests that wait down, one after the other, and POST up.
//!
//! There is no ping on this transport, in either direction: the polls themselves show that both sides live.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::time::timeout;

use super::requests::{self, Requests};
use super::{Link, Poster};
use crate::negotiate::read_at_most;
use crate::{Closed, Error};

/// Receives by polls. One is under way at a time: a second would end the first.
pub(crate) struct Receiver {
    requests: Arc<Requests>,
    bytes_max: usize,
    /// Kept here, and not in the future that waits for it, so that what it brings is not lost when the wait is dropped.
    poll: Option<Poll>,
    is_over: bool,
}

type Poll = Pin<Box<dyn Future<Output = Result<Polled, Closed>> + Send>>;

enum Polled {
    Data(Bytes),
    /// Nothing came within the server's time. Ask again.
    Nothing,
    /// The server has ended the connection.
    Over,
}

/// Opens the connection with a first poll, which the server answers at once and without data.
pub(crate) async fn connect(requests: Arc<Requests>, bytes_max: usize) -> Result<Link, Error> {
    let response = requests.get("*/*").await?;
    if response.status() != StatusCode::OK {
        return Err(Error::unreachable(
            "the server ended the connection at once",
        ));
    }
    Ok(Link {
        receiver: super::Receiver::Polls(Receiver {
            requests: Arc::clone(&requests),
            bytes_max,
            poll: None,
            is_over: false,
        }),
        sender: super::Sender::Posts(Poster::new(requests, true)),
    })
}

impl Receiver {
    pub(crate) async fn receive(&mut self) -> Result<Option<Bytes>, Closed> {
        while !self.is_over {
            let poll = self.poll.get_or_insert_with(|| {
                let requests = Arc::clone(&self.requests);
                Box::pin(poll(requests, self.bytes_max))
            });
            let polled = poll.await;
            self.poll = None;
            match polled? {
                Polled::Data(data) => return Ok(Some(data)),
                Polled::Nothing => {}
                Polled::Over => self.is_over = true,
            }
        }
        Ok(None)
    }
}

async fn poll(requests: Arc<Requests>, bytes_max: usize) -> Result<Polled, Closed> {
    let polling = async {
        let response = requests.get("*/*").await.map_err(requests::lost)?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Polled::Over);
        }
        let body = read_at_most(response, bytes_max).await;
        match body.map_err(broken)? {
            body if body.is_empty() => Ok(Polled::Nothing),
            body => Ok(Polled::Data(body.into())),
        }
    };
    timeout(POLL_TIMEOUT, polling)
        .await
        .unwrap_or(Ok(Polled::Nothing))
}

fn broken(error: Error) -> Closed {
    match error {
        Error::Protocol { detail } => Closed::Protocol { detail },
        error => requests::lost(error),
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// Longer than the 90 s after which servers answer an idle poll. The official clients take the same.
const POLL_TIMEOUT: Duration = Duration::from_secs(100);
