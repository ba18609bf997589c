//! The poster: brings every acknowledgement that is owed to the ack API, for ever if need be.
//!
//! Promise: an acknowledgement is struck off only once the ack API has named it as taken down (I12);
//! a page that a proxy gives instead with status 200 names nothing. Whether hub, connection or back
//! office are up does not matter here. An acknowledgement that the ack API cannot read is put
//! aside and tried again later, and holds up no other.

mod answer;
mod body;

use crate::address::AckAddress;
use crate::backoff::{Backoff, retry_after};
use crate::client::{client_for, explain, read_up_to};
use crate::status::{Board, now};
use crate::token::Tokens;
use answer::Verdict;
use body::Item;
use countersign_driver::{AskError, Handle};
use countersign_rules::limits::ACKS_PER_POST_MAX;
use countersign_rules::site::{Input, Reply, Site};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, StatusCode, Url};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// Brings acknowledgements to the ack API.
#[derive(Debug)]
pub(crate) struct Poster {
    pub(crate) handle: Handle<Site>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) address: Arc<AckAddress>,
    pub(crate) board: Arc<Board>,
    /// Told when something is owed, and when an address was learned.
    pub(crate) owing: Arc<Notify>,
    pub(crate) backoff: Backoff,
    pub(crate) timeout: Duration,
    pub(crate) client: Option<(Url, Client)>,
    /// Items that the ack API cannot read, and when to try again.
    pub(crate) aside: BTreeMap<u64, Instant>,
}

/// What one look at what is owed came to.
enum Round {
    /// All of it was posted; there may be more.
    Posted,
    /// Nothing can be posted before something changes, or before this instant.
    Nothing(Option<Instant>),
    /// Not now.
    Failed(Duration),
}

/// How the ack API took a request.
enum Answer {
    /// It was read, and this is what became of each item.
    Read(Verdict),
    /// It cannot read something in it, and never will.
    Unreadable(String),
    /// It is down, overloaded or does not know us.
    NotNow {
        why: String,
        retry_after: Option<Duration>,
    },
}

impl Poster {
    /// Runs until the store stops.
    pub(crate) async fn run(mut self) {
        loop {
            match self.round().await {
                Ok(Round::Posted) => {}
                Ok(Round::Nothing(until)) => self.wait(until).await,
                Ok(Round::Failed(wait)) => sleep(wait).await,
                Err(_) => return,
            }
        }
    }

    async fn wait(&self, until: Option<Instant>) {
        match until {
            None => self.owing.notified().await,
            Some(until) => {
                tokio::select! {
                    () = self.owing.notified() => {}
                    () = sleep_until(until) => {}
                }
            }
        }
    }

    async fn round(&mut self) -> Result<Round, AskError> {
        let at = Instant::now();
        let items = self.owed(at).await?;
        if items.is_empty() {
            return Ok(Round::Nothing(self.aside.values().min().copied()));
        }
        let Some(url) = self.address.current() else {
            self.board
                .acks_failed("no address for acknowledgements is known yet");
            return Ok(Round::Nothing(None));
        };
        // Halved as long as one item in it cannot be read, so that the others get through.
        let mut batches = vec![items];
        while let Some(items) = batches.pop() {
            match self.post(&url, &items).await {
                Answer::Read(verdict) => {
                    if let Some(round) = self.judged(&items, &verdict).await? {
                        return Ok(round);
                    }
                }
                Answer::NotNow { why, retry_after } => return Ok(self.failed(&why, retry_after)),
                Answer::Unreadable(why) if items.len() == 1 => {
                    if let Some(round) = self.post_bare(&url, &items[0], &why).await? {
                        return Ok(round);
                    }
                }
                Answer::Unreadable(_) => {
                    let (first, second) = items.split_at(items.len() / 2);
                    batches.extend([second.to_vec(), first.to_vec()]);
                }
            }
        }
        Ok(Round::Posted)
    }

    /// What is owed and not put aside, at most as much as one request may carry.
    async fn owed(&self, at: Instant) -> Result<Vec<Item>, AskError> {
        let at_most = ACKS_PER_POST_MAX + self.aside.len();
        let Reply::Owed(mut owed) = self.handle.ask(Input::TakeOwed { at_most }).await? else {
            return Ok(Vec::new());
        };
        owed.retain(|owed| {
            self.aside
                .get(&owed.number)
                .is_none_or(|until| *until <= at)
        });
        owed.truncate(ACKS_PER_POST_MAX);
        if owed.is_empty() {
            return Ok(Vec::new());
        }
        let handle = self.handle.clone();
        let read = move || {
            owed.iter()
                .filter_map(|owed| Item::read(owed, &handle, now()))
                .collect()
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| AskError::Stopped)
    }

    async fn strike_off(&mut self, items: &[Item]) -> Result<(), AskError> {
        self.backoff.reset();
        self.board.acks_posted();
        let numbers: Vec<u64> = items.iter().map(|item| item.number).collect();
        for number in &numbers {
            self.aside.remove(number);
        }
        // Inputs are stepped in order: what is asked next is answered without these.
        self.handle.tell(Input::Posted { numbers }).await
    }

    fn failed(&mut self, why: &str, asked: Option<Duration>) -> Round {
        let wait = self.backoff.after_failure(asked);
        let failures = self.backoff.failures();
        tracing::warn!(why, failures, ?wait, "acknowledgements could not be posted");
        self.board.acks_failed(why);
        Round::Failed(wait)
    }

    /// Tries an item that cannot be read once more, without what is not needed, and then puts it
    /// aside.
    async fn post_bare(
        &mut self,
        url: &Url,
        item: &Item,
        why: &str,
    ) -> Result<Option<Round>, AskError> {
        match self.post(url, &[item.bare()]).await {
            Answer::Read(verdict) => {
                let message = item.message_id();
                tracing::warn!(
                    message,
                    why,
                    "the acknowledgement was read only without its words"
                );
                self.judged(std::slice::from_ref(item), &verdict).await
            }
            Answer::NotNow { why, retry_after } => Ok(Some(self.failed(&why, retry_after))),
            Answer::Unreadable(_) => Ok(self.put_aside(item, why)),
        }
    }

    /// Does with each item what the ack API says became of it.
    async fn judged(
        &mut self,
        items: &[Item],
        verdict: &Verdict,
    ) -> Result<Option<Round>, AskError> {
        let taken: Vec<Item> = verdict.taken.iter().map(|at| items[*at].clone()).collect();
        if !taken.is_empty() {
            self.strike_off(&taken).await?;
        }
        for (at, why) in &verdict.refused {
            if let Some(round) = self.put_aside(&items[*at], why) {
                return Ok(Some(round));
            }
        }
        let unnamed = verdict.unnamed.as_deref();
        Ok(unnamed.map(|why| self.failed(why, None)))
    }

    /// Keeps an item for later that the ack API does not take, so that it holds up no other.
    fn put_aside(&mut self, item: &Item, why: &str) -> Option<Round> {
        if self.aside.len() >= ASIDE_MAX {
            // That many cannot all be wrong: it is the ack API that does not understand us.
            return Some(self.failed(why, None));
        }
        let message = item.message_id();
        tracing::error!(
            message,
            why,
            "the ack API does not take this acknowledgement"
        );
        self.board.acks_failed(why);
        self.aside.insert(item.number, Instant::now() + ASIDE_FOR);
        None
    }

    /// Posts `items`; a refused token is tried once more with another.
    async fn post(&mut self, url: &Url, items: &[Item]) -> Answer {
        let body = body::encode(items);
        let mut answer = self.post_once(url, items, body.clone()).await;
        if let Err(StatusCode::UNAUTHORIZED) = answer {
            answer = self.post_once(url, items, body).await;
        }
        answer.unwrap_or_else(|status| Answer::NotNow {
            why: format!("the ack API answered {status}: it does not accept the token"),
            retry_after: None,
        })
    }

    /// Posts once; the error is a status that says the token is no good, which is forgotten then.
    async fn post_once(
        &mut self,
        url: &Url,
        items: &[Item],
        body: Vec<u8>,
    ) -> Result<Answer, StatusCode> {
        let not_now = |why: String, retry_after| Ok(Answer::NotNow { why, retry_after });
        let token = match self.tokens.current().await {
            Ok(token) => token,
            Err(error) => return not_now(error.to_string(), error.retry_after()),
        };
        let client = match self.client_for(url) {
            Ok(client) => client,
            Err(error) => return not_now(error.to_string(), None),
        };
        let mut request = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(bearer) = token.bearer() {
            request = request.bearer_auth(bearer);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return not_now(explain(error), None),
        };
        match response.status() {
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                self.tokens.refused(&token).await;
                Err(status)
            }
            _ => Ok(judge(response, items).await),
        }
    }

    fn client_for(&mut self, url: &Url) -> Result<Client, crate::Error> {
        if let Some((known, client)) = &self.client
            && known == url
        {
            return Ok(client.clone());
        }
        let client = client_for(url, self.timeout)?;
        self.client = Some((url.clone(), client.clone()));
        Ok(client)
    }
}

async fn judge(mut response: Response, items: &[Item]) -> Answer {
    let status = response.status();
    if status.is_success() {
        let text = read_up_to(&mut response, ANSWER_BYTES_MAX).await;
        return Answer::Read(answer::read(&text, items.iter().map(Item::message_id)));
    }
    let retry_after = retry_after(response.headers());
    let text = read_up_to(&mut response, 500).await;
    let why = format!(
        "the ack API answered {status}: {}",
        String::from_utf8_lossy(&text).trim()
    );
    match status {
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Answer::Unreadable(why),
        _ => Answer::NotNow { why, retry_after },
    }
}

/// Room for the longest answer to the longest request.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Pause before an item that the ack API cannot read is tried again: after an upgrade it may.
const ASIDE_FOR: Duration = Duration::from_secs(300);
/// Items that may be put aside at a time.
const ASIDE_MAX: usize = 1000;
