//! The intake: pushes into the inbox, in order, many in one flush.
//!
//! Promise: what is answered `stored` is on disk (I8), and messages enter the inbox in the order in
//! which they were pushed (I6). One group of pushes is on its way to the disk at a time; the next
//! one gathers meanwhile, so that under load a flush covers hundreds of messages.
//!
//! When the disk is short or the inbox is full, nothing more is read from the connection: what the
//! hub has pushed waits in the network, and the hub's window closes by itself.

use crate::address::AckAddress;
use crate::envelope::{self, LANES_RESUMED, Pushed};
use crate::fetch::LargeBody;
use crate::held::Held;
use crate::status::Board;
use bytes::Bytes;
use countersign_driver::{AskError, Handle};
use countersign_rules::site::{Arrival, Input, Known, Reply, Resumed, Site};
use futures_util::FutureExt;
use signalr_client::{Incoming, Invocation};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::sleep;

/// Takes pushes in.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) handle: Handle<Site>,
    pub(crate) board: Arc<Board>,
    pub(crate) address: Arc<AckAddress>,
    pub(crate) owing: Arc<Notify>,
    /// Unfinished messages above which nothing more is taken in.
    pub(crate) inbox_max: u64,
    /// At most so many are unfinished.
    pub(crate) waiting_max: u64,
    /// What waits for large bodies.
    pub(crate) held: Held,
}

/// What came over the connection together.
#[derive(Debug, Default)]
struct Group {
    arrivals: Vec<Arrival>,
    /// Those that may have to wait for a body, from the first one on.
    later: Vec<(Arrival, Option<LargeBody>)>,
    resumed: Vec<Resumed>,
}

impl Intake {
    /// Takes in what comes until the connection has ended.
    ///
    /// # Errors
    /// The store has stopped.
    pub(crate) async fn run(&mut self, incoming: &mut Incoming) -> Result<(), AskError> {
        loop {
            self.wait_for_room().await?;
            let first = tokio::select! {
                biased;
                ready = self.held.next() => {
                    self.take_in(ready).await?;
                    continue;
                }
                first = incoming.next() => first,
            };
            let Some(first) = first else {
                return Ok(());
            };
            self.board.pushed();
            let mut group = Group::default();
            let mut bytes = self.gather(&first, &mut group);
            while group.arrivals.len() + group.later.len() < GROUP_MAX
                && bytes < GROUP_BYTES_MAX
                && let Some(Some(next)) = unconstrained(incoming.next()).now_or_never()
            {
                bytes += self.gather(&next, &mut group);
            }
            self.take_in(group.arrivals).await?;
            self.hold_back(group.later).await?;
            if !group.resumed.is_empty() {
                self.handle.ask(Input::Resumed(group.resumed)).await?;
            }
        }
    }

    /// Puts a push into the group; tells its size in bytes.
    fn gather(&self, invocation: &Invocation, group: &mut Group) -> usize {
        let argument = only_argument(invocation.arguments().as_bytes());
        if invocation.target() == LANES_RESUMED {
            match envelope::read_resumed(argument) {
                Ok(resumed) => group.resumed.extend(resumed),
                // It is said again at the next `ready`.
                Err(error) => tracing::error!(%error, "lanes that go on could not be read"),
            }
            return argument.len();
        }
        match envelope::read(Bytes::copy_from_slice(argument)) {
            Ok(Pushed {
                arrival,
                ack_url,
                body,
            }) => {
                if ack_url.is_some_and(|url| self.address.learn(&url)) {
                    self.owing.notify_one();
                }
                let lane = &arrival.lane;
                let is_behind = |(before, _): &(Arrival, _)| before.lane == *lane;
                let waits =
                    body.is_some() || self.held.holds(lane) || group.later.iter().any(is_behind);
                match waits {
                    true => group.later.push((arrival, body)),
                    false => group.arrivals.push(arrival),
                }
            }
            Err(error) => {
                let (target, bytes) = (invocation.target(), argument.len());
                tracing::error!(target, bytes, %error, "a push was not taken in");
            }
        }
        argument.len()
    }

    /// Keeps messages back whose bodies have to come first, and what is behind them. One that the
    /// inbox knows has come again: its body is here, or was.
    async fn hold_back(
        &mut self,
        later: Vec<(Arrival, Option<LargeBody>)>,
    ) -> Result<(), AskError> {
        for (arrival, body) in later {
            let known = Input::LookMessage {
                id: arrival.id,
                generation: arrival.generation,
            };
            let is_known = !matches!(self.handle.ask(known).await?, Reply::Message(Known::No));
            let may_pass = body.is_none() && !self.held.holds(&arrival.lane);
            match is_known || may_pass {
                true => self.take_in(vec![arrival]).await?,
                false => self.held.put(arrival, body),
            }
        }
        Ok(())
    }

    /// Puts a group into the inbox; waits for the flush, and for space if there is none. A group is
    /// taken in whole or not at all, so that nothing overtakes what found no space.
    async fn take_in(&mut self, group: Vec<Arrival>) -> Result<(), AskError> {
        if group.is_empty() {
            return Ok(());
        }
        self.waiting_max += group.len() as u64;
        loop {
            match self.handle.ask(Input::Arrived(group.clone())).await {
                Ok(_) => {
                    self.board.disk_full(false);
                    return Ok(());
                }
                Err(AskError::NoSpace) => {}
                Err(stopped) => return Err(stopped),
            }
            self.board.disk_full(true);
            tracing::warn!(
                messages = group.len(),
                "the disk is full: nothing more is taken in"
            );
            sleep(DISK_FULL_PAUSE).await;
        }
    }

    /// Waits until the inbox is not full.
    async fn wait_for_room(&mut self) -> Result<(), AskError> {
        let mut is_held = false;
        while self.waiting_max > self.inbox_max {
            if let Reply::Counted(counters) = self.handle.ask(Input::Count).await? {
                // What a parked lane holds waits for a person: it must not keep others out.
                self.waiting_max = counters.waiting.saturating_sub(counters.held);
            }
            if self.waiting_max > self.inbox_max {
                is_held = true;
                self.board.inbox_full(true);
                sleep(INBOX_FULL_PAUSE).await;
            }
        }
        if is_held {
            self.board.inbox_full(false);
        }
        Ok(())
    }
}

/// What stands between the brackets of the arguments.
fn only_argument(arguments: &[u8]) -> &[u8] {
    let inside = arguments.trim_ascii().strip_prefix(b"[");
    inside
        .and_then(|rest| rest.strip_suffix(b"]"))
        .unwrap_or(arguments)
        .trim_ascii()
}

/// Messages in one group: about what one flush carries at full load.
const GROUP_MAX: usize = 512;
/// Bytes after which a group takes no more: what the driver puts in one batch.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
const DISK_FULL_PAUSE: Duration = Duration::from_millis(250);
const INBOX_FULL_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_is_what_stands_between_the_brackets() {
        assert_eq!(only_argument(b" [ {\"a\":[1]} ] "), b"{\"a\":[1]}");
        assert_eq!(only_argument(b"[]"), b"");
    }
}
