//! `GET /acks/v1/journal`: what the centre reads when it runs in another process.

use countersign_driver::page::{self, Page};
use countersign_driver::{AskError, Handle};
use countersign_rules::Position;
use countersign_rules::ack::AckStore;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest wait for something new: shorter than the patience of proxies.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Most bytes of one page.
const PAGE_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    /// The last record that was read.
    #[serde(default)]
    after: Position,
    /// Bytes wanted, about.
    #[serde(default = "limit_default")]
    limit: usize,
    /// Seconds to wait when there is nothing new.
    #[serde(default)]
    wait: u64,
    /// Everything up to here is durable at the centre: it may go.
    #[serde(default)]
    confirmed: Position,
    /// Life of the store that these positions belong to, if any is known.
    epoch: Option<u64>,
}

fn limit_default() -> usize {
    1 << 20
}

/// The next page; an empty one when nothing came within the wait.
pub(crate) async fn next_page(acks: &Handle<AckStore>, query: Query) -> Result<Page, AskError> {
    let own = acks.store().epoch;
    if query.epoch.is_some_and(|epoch| epoch != own) {
        // The positions mean something else here. The reader learns it from the page's epoch.
        return Ok(Page {
            epoch: own,
            through: 0,
            records: Vec::new(),
            damaged: Vec::new(),
        });
    }
    let own_through = acks.reader().durable_position();
    if query.after > own_through {
        // The reader has read more than there is: this store is an older copy of the one it read.
        // It learns that from `through`, which is below what it asked for.
        return Ok(Page {
            epoch: own,
            through: own_through,
            records: Vec::new(),
            damaged: Vec::new(),
        });
    }
    if query.confirmed > 0 {
        // Nobody can have read what is not durable yet: it must not be let go in advance.
        let confirmed = query.confirmed.min(acks.reader().durable_position());
        acks.hold_from(confirmed + 1);
    }
    let until = Instant::now() + Duration::from_secs(query.wait).min(WAIT_MAX);
    let mut durable = acks.watch_durable();
    loop {
        durable.borrow_and_update();
        let (reader, limit) = (acks.reader().clone(), query.limit.min(PAGE_BYTES_MAX));
        let read = move || page::from_reader(&reader, query.after, limit);
        let page = tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| AskError::Stopped)?;
        let page = page.map_err(|error| {
            tracing::error!(%error, "the ack journal cannot be read");
            AskError::Stopped
        })?;
        if page.through > query.after {
            return Ok(page);
        }
        match timeout_at(until, durable.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(AskError::Stopped),
            Err(_) => return Ok(page),
        }
    }
}
