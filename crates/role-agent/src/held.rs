//! Messages that wait for a large body, and what is behind them in their lanes.
//!
//! Promise: nothing of a lane is taken in before what was pushed before it (I6), and other lanes do not
//! wait. Bounded by the hub's window, because nothing here has a receipt.

use crate::fetch::{Fetch, Fetched, LargeBody};
use countersign_rules::site::Arrival;
use countersign_rules::{LaneName, MessageId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::task::JoinSet;

/// A message that waits.
#[derive(Debug)]
struct Waiting {
    arrival: Arrival,
    /// Whether its own body is not here yet.
    is_coming: bool,
}

/// What waits, lane by lane.
#[derive(Debug)]
pub(crate) struct Held {
    fetch: Arc<Fetch>,
    lanes: BTreeMap<LaneName, VecDeque<Waiting>>,
    coming: JoinSet<(LaneName, MessageId, u32, Fetched)>,
}

impl Held {
    pub(crate) fn new(fetch: Arc<Fetch>) -> Self {
        Self {
            fetch,
            lanes: BTreeMap::new(),
            coming: JoinSet::new(),
        }
    }

    /// Whether something of this lane waits, so that what comes later has to.
    pub(crate) fn holds(&self, lane: &LaneName) -> bool {
        self.lanes.contains_key(lane)
    }

    /// Keeps a message back; one that is here already has come again, and is so once.
    pub(crate) fn put(&mut self, arrival: Arrival, body: Option<LargeBody>) {
        let (id, generation) = (arrival.id, arrival.generation);
        let lane = self.lanes.entry(arrival.lane.clone()).or_default();
        let same = |waiting: &&mut Waiting| {
            (waiting.arrival.id, waiting.arrival.generation) == (id, generation)
        };
        if let Some(waiting) = lane.iter_mut().find(same) {
            waiting.arrival = arrival;
            return;
        }
        let name = arrival.lane.clone();
        lane.push_back(Waiting {
            arrival,
            is_coming: body.is_some(),
        });
        if let Some(body) = body {
            let fetch = Arc::clone(&self.fetch);
            self.coming
                .spawn(async move { (name, id, generation, fetch.fetch(&body).await) });
        }
    }

    /// Waits for a body; tells which messages can be taken in now, in their order. Waits for ever when
    /// none is coming. Cancelled, it has changed nothing.
    pub(crate) async fn next(&mut self) -> Vec<Arrival> {
        let ended = match self.coming.join_next().await {
            None => return std::future::pending().await,
            Some(ended) => ended,
        };
        let Ok((name, id, generation, fetched)) = ended else {
            tracing::error!("fetching a large body broke down: it is pushed again");
            self.lanes.clear();
            self.coming.abort_all();
            return Vec::new();
        };
        let Some(lane) = self.lanes.get_mut(&name) else {
            return Vec::new();
        };
        let is_it = |waiting: &Waiting| {
            (waiting.arrival.id, waiting.arrival.generation) == (id, generation)
        };
        match fetched {
            Fetched::Gone => lane.retain(|waiting| !is_it(waiting)),
            Fetched::Here => {
                if let Some(waiting) = lane.iter_mut().find(|waiting| is_it(waiting)) {
                    waiting.is_coming = false;
                }
            }
        }
        let mut ready = Vec::new();
        while lane.front().is_some_and(|first| !first.is_coming) {
            ready.extend(lane.pop_front().map(|first| first.arrival));
        }
        if lane.is_empty() {
            self.lanes.remove(&name);
        }
        ready
    }
}
