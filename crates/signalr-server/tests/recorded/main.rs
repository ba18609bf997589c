//! What ASP.NET Core 10 answered to raw sockets, put to this server: exchanges over HTTP and WebSockets.
//!
//! The answers must be the same, by this rule: for each socket the messages (JSON as parsed values, MessagePack as bytes;
//! pings left out, and Acks where stateful reconnect is on) and the code of the Close frame; for each HTTP request the
//! status, the body and the headers, framing apart; of an event stream what its events carry. Where the original refuses
//! without a body, a body is allowed. When exactly something comes, and how often a ping does, is not compared.
//!
//! What differs on purpose stands in `deviations.txt`, with its reason and with all that this server answers instead: an
//! exchange that differs in another way fails, and so does one that differs no more.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compare;
mod deviations;
mod endpoints;
mod entry;
mod hub;
mod replay;
mod setup;
mod types;
mod wire;

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use entry::Entry;
use replay::Outcome;

/// So many at once: most of an exchange is waiting.
const AT_ONCE: usize = 48;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_answers_what_the_original_answered() {
    // For a look at some exchanges.
    let only = std::env::var("RECORDED_ONLY").unwrap_or_default();
    let mut deviations = deviations::listed();
    deviations.retain(|deviation| deviation.name.contains(&only));
    let listed: BTreeMap<_, _> = deviations
        .iter()
        .map(|deviation| (deviation.name.as_str(), deviation))
        .collect();
    let mut all = entry::all();
    let recorded = all.len();
    all.retain(|entry| entry.name.contains(&only));
    // The longest first: they are waited for.
    all.sort_by_key(|entry| std::cmp::Reverse(entry.steps.last().map(|step| step.ms)));
    let results: Vec<(Entry, Outcome)> = stream::iter(all)
        .map(async |entry| {
            let lines = listed
                .get(entry.name.as_str())
                .map(|deviation| &*deviation.lines);
            let outcome = replay::replay(&entry, lines).await;
            (entry, outcome)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let (mut equal, mut differing) = (0, BTreeMap::new());
    let mut faults: Vec<String> = deviations
        .iter()
        .filter(|deviation| !deviation.has_reason())
        .map(|deviation| format!("{}: give the reason", deviation.name))
        .collect();
    let replayed = results.len();
    for (Entry { name, .. }, outcome) in results {
        match (listed.get(name.as_str()), outcome.differences.is_empty()) {
            (None, true) => equal += 1,
            (None, false) => faults.push(format!("{name}: {}", outcome.differences.join("; "))),
            (Some(_), true) => faults.push(format!("{name}: differs no more, strike it out")),
            (Some(deviation), false) if deviation.lines != outcome.lines => faults.push(format!(
                "{name}: listed\n    {}\n  got\n    {}",
                deviation.lines.join("\n    "),
                outcome.lines.join("\n    ")
            )),
            (Some(_), false) => {}
        }
        if !outcome.differences.is_empty() {
            differing.insert(name, outcome.lines);
        }
    }
    for deviation in &deviations {
        if !differing.contains_key(&deviation.name)
            && !faults.iter().any(|f| f.starts_with(&deviation.name))
        {
            faults.push(format!("{}: no such exchange", deviation.name));
        }
    }
    println!(
        "{replayed} of {recorded} replayed: {equal} equal, {} differ, of which {} as listed",
        differing.len(),
        deviations
            .iter()
            .filter(|d| differing.get(&d.name) == Some(&d.lines))
            .count(),
    );
    if std::env::var_os("RECORDED_WRITE").is_some() {
        deviations::write(&deviations, differing);
        return;
    }
    faults.sort();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
