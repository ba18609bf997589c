//! What ASP.NET Core 10 answered to raw sockets, put to this server: exchanges over HTTP and WebSockets.
//!
//! The answers must be the same, by this rule: for each socket the payloads put together (JSON messages as parsed values,
//! pings left out; MessagePack as bytes) and the code of the Close frame; for each HTTP request the status, the body and
//! the headers, framing apart. Where the original refuses without a body, a body is allowed. What differs on purpose
//! stands in `deviations.txt` with its reason.
//! Left out: exchanges that depend on time or a race, and the groups that are about timers, stateful reconnect and
//! shutdown.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compare;
mod endpoints;
mod entry;
mod hub;
mod replay;
mod wire;

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};

use entry::Entry;

const GROUPS: [&str; 4] = ["http", "messages", "shapes", "misc"];

/// So many at once: most of an exchange is waiting.
const AT_ONCE: usize = 32;

/// Names, or with a `*` parts of names, under the reason that stands above them.
fn deviations() -> Vec<(&'static str, &'static str)> {
    let mut reason = "";
    let mut list = Vec::new();
    for line in include_str!("deviations.txt").lines().map(str::trim) {
        match line.strip_prefix("# ") {
            Some(text) => reason = text,
            None if line.is_empty() => {}
            None => list.push((line, reason)),
        }
    }
    list
}

fn covers(pattern: &str, name: &str) -> bool {
    let middle = pattern.trim_matches('*');
    match (pattern.starts_with('*'), pattern.ends_with('*')) {
        (true, true) => name.contains(middle),
        (true, false) => name.ends_with(middle),
        (false, true) => name.starts_with(middle),
        (false, false) => name == middle,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_answers_what_the_original_answered() {
    let serves_all_transports = replay::serves_all_transports().await;
    // For a look at one exchange.
    let only = std::env::var("RECORDED_ONLY").unwrap_or_default();
    let mut all = entry::all();
    all.retain(|entry| entry.name.contains(&only));
    let (chosen, left_out): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|entry| entry.exact && GROUPS.contains(&entry.group.as_str()))
        .partition(|entry| {
            replay::knows_setup(entry) && (serves_all_transports || !entry.needs_other_transports())
        });
    for entry in &left_out {
        println!("not replayed: {}", entry.name);
    }
    let count = chosen.len();
    let results: Vec<(Entry, Result<(), String>)> = stream::iter(chosen)
        .map(async |entry| {
            let result = replay::replay(&entry).await;
            (entry, result)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let deviations = deviations();
    let mut used = BTreeSet::new();
    let mut wanted_deviations = 0;
    let mut faults = Vec::new();
    for (entry, result) in results {
        let Err(difference) = result else { continue };
        match deviations
            .iter()
            .find(|(pattern, _)| covers(pattern, &entry.name))
        {
            Some((pattern, _)) => {
                used.insert(*pattern);
                wanted_deviations += 1;
            }
            None => faults.push(format!("{}: {difference}", entry.name)),
        }
    }
    for (pattern, reason) in &deviations {
        if !used.contains(pattern) {
            println!("differs no more, strike it out: {pattern} ({reason})");
        }
    }
    println!(
        "{count} replayed: {wanted_deviations} differ as listed, {} unasked; {} not replayed",
        faults.len(),
        left_out.len()
    );
    faults.sort();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
