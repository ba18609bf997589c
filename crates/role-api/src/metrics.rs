//! `GET /metrics`: counters of the centre in Prometheus' text format, version 0.0.4.
//!
//! Promise: every value is read from one state of the centre, so that the sum of the states is what
//! was accepted at any moment, also while everything moves (N11). No label has a value that users
//! choose: the number of series is fixed.
//!
//! The text is written here, not by a library: it is a page of lines over counters that the journal
//! already keeps, and a registry beside them could disagree with it.

use crate::problem::Problem;
use crate::service::Api;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_rules::delivery::{Input, Measures, Reply};
use std::fmt::Write as _;

/// The content type of the format.
const TEXT: (header::HeaderName, &str) = (
    header::CONTENT_TYPE,
    "text/plain; version=0.0.4; charset=utf-8",
);

/// `GET /metrics`.
pub(crate) async fn metrics(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.access(&headers, Scope::Read)?;
    let Reply::Measured(measures) = api.centre().ask(Input::Measure).await? else {
        unreachable!("the question is answered by its own reply");
    };
    Ok(([TEXT], text(&measures)).into_response())
}

fn text(measures: &Measures) -> String {
    let Measures { counters, .. } = measures;
    let mut page = Page::default();
    page.family(
        "accepted_total",
        "counter",
        "Messages ever accepted.",
        &[("", counters.accepted)],
    );
    let states = [
        ("pending", counters.pending),
        ("processed", counters.processed),
        ("rejected", counters.rejected),
        ("dead", counters.dead),
        ("expired", counters.expired),
        ("cancelled", counters.cancelled),
    ];
    page.labelled(
        "messages",
        "gauge",
        "Messages by where they are; they add up to all that were ever accepted.",
        "state",
        &states,
    );
    let sum: u64 = states.iter().map(|(_, count)| count).sum();
    page.family(
        "conservation_difference",
        "gauge",
        "Accepted messages that are in no state or in two; anything but 0 is a defect.",
        &[("", counters.accepted.abs_diff(sum))],
    );
    page.family(
        "waiting_messages",
        "gauge",
        "Messages that have not ended.",
        &[("", counters.pending)],
    );
    page.family(
        "in_flight_messages",
        "gauge",
        "Messages pushed and not received.",
        &[("", measures.in_flight)],
    );
    page.family(
        "pushes_total",
        "counter",
        "Pushes ever made.",
        &[("", counters.pushes)],
    );
    let again = counters.needed_store.again();
    let again = again.map(|(cause, count)| (cause.as_str(), count));
    page.labelled(
        "replays_total",
        "counter",
        "Pushes that repeat an earlier one, by why.",
        "reason",
        &again,
    );
    page.labelled(
        "needed_store_total",
        "counter",
        "Pushes that plain SignalR would not have made: their agent was away, busy, or lost the first one.",
        "reason",
        &needed(measures),
    );
    page.family(
        "acks_kept_total",
        "counter",
        "Acknowledgements that changed nothing and are kept as evidence.",
        &[("", counters.acks_kept)],
    );
    page.family(
        "agents",
        "gauge",
        "Agents known.",
        &[("", measures.recipients)],
    );
    page.family(
        "agents_connected",
        "gauge",
        "Agents connected and ready.",
        &[("", measures.connected)],
    );
    page.labelled(
        "push_paused_agents",
        "gauge",
        "Agents that are held back, by why.",
        "why",
        &[("operator", measures.paused)],
    );
    page.labelled(
        "build_info",
        "gauge",
        "Always 1.",
        "version",
        &[(env!("CARGO_PKG_VERSION"), 1)],
    );
    page.0
}

/// What a hub without a store would have lost: not what somebody asked to have done once more.
fn needed(measures: &Measures) -> Vec<(&'static str, u64)> {
    let needed = &measures.counters.needed_store;
    let again = needed.again().map(|(cause, count)| (cause.as_str(), count));
    let again = again
        .into_iter()
        .filter(|(reason, _)| *reason != "reprocessed");
    [("waited", needed.waited)]
        .into_iter()
        .chain(again)
        .collect()
}

/// The text as far as it is written.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: &[(&str, u64)]) {
        let _ = writeln!(self.0, "# HELP countersign_{name} {help}");
        let _ = writeln!(self.0, "# TYPE countersign_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "countersign_{name}{labels} {value}");
        }
    }

    fn labelled(&mut self, name: &str, kind: &str, help: &str, label: &str, of: &[(&str, u64)]) {
        self.family(name, kind, help, &[]);
        for (value, count) in of {
            let _ = writeln!(self.0, "countersign_{name}{{{label}=\"{value}\"}} {count}");
        }
    }
}
