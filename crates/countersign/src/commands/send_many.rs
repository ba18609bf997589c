//! `send` to many: whom `--to` names, what a quorum is, and the wait for the whole.

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What `--to` names, as the API takes it.
pub(crate) fn target(to: &str) -> Result<Value, String> {
    if to == "all" {
        return Ok(json!({ "all": true }));
    }
    match to.split_once(':') {
        Some(("group", name)) => Ok(json!({ "group": name })),
        Some(("agent", name)) => Ok(json!({ "agent": name })),
        Some(("labels", pairs)) => {
            let mut labels = Map::new();
            for pair in pairs.split(',') {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| format!("{pair:?} is no NAME=VALUE"))?;
                labels.insert(name.to_owned(), Value::from(value));
            }
            Ok(json!({ "labels": labels }))
        }
        _ => Ok(json!({ "agent": to })),
    }
}

/// `95%` or a number.
pub(crate) fn quorum(text: &str) -> Result<Value, String> {
    let misfit = || format!("{text:?} is neither like 95% nor a number");
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: u8 = percent.parse().map_err(|_| misfit())?;
            Ok(json!({ "percent": percent }))
        }
        None => {
            let count: u32 = text.parse().map_err(|_| misfit())?;
            Ok(json!({ "count": count }))
        }
    }
}

/// Waits until the whole is done, missed or over, and prints how far it is whenever that changes.
pub(crate) async fn follow(
    client: &Client,
    id: &str,
    timeout: Duration,
    begun: Instant,
    output: Output,
) -> Result<Value, Failure> {
    let mut printed = String::new();
    let mut wait = Duration::ZERO;
    loop {
        let path = format!(
            "/v1/messages/{id}?wait=acknowledged&timeout={}ms",
            wait.as_millis()
        );
        let request = client.request(Method::GET, &path);
        let whole = client.send("wait for the messages", request).await?.body;
        let line = counts(&whole);
        if line != printed {
            let elapsed = begun.elapsed().as_secs_f64() * 1000.0;
            let state = state_of(&whole);
            output.progress(&format!("{state:<13} after {elapsed:>7.1} ms  {line}"));
            printed = line;
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if state_of(&whole) != "open" || left.is_zero() {
            return Ok(whole);
        }
        // What changes on the way is shown every second.
        wait = left.min(Duration::from_secs(1));
    }
}

/// The exit code, with what a person needs to know.
pub(crate) fn ended(whole: &Value, id: &str, output: Output) -> ExitCode {
    let (addressed, done) = (&whole["addressed"], &whole["counts"]["acknowledged"]);
    match state_of(whole) {
        "reached" => ExitCode::SUCCESS,
        "ended" if addressed == done => ExitCode::SUCCESS,
        "open" => {
            output.remark(&format!(
                "{done} of {addressed} are done: the wait is over, the messages are safe and go on by \
                 themselves\n  look again: countersign messages get {id}"
            ));
            Exit::TimedOut.into()
        }
        state => {
            let names = whole["missing"]["agents"].as_array();
            let names = names.map(Vec::as_slice).unwrap_or_default().iter();
            let names: Vec<_> = names.filter_map(Value::as_str).collect();
            let count = &whole["missing"]["count"];
            output.remark(&format!(
                "{state}: {done} of {addressed} are done, {count} are not: {}\n  \
                 all of them: countersign messages children {id} --missing",
                names.join(", ")
            ));
            Exit::RejectedOrDead.into()
        }
    }
}

fn state_of(whole: &Value) -> &str {
    whole["state"].as_str().unwrap_or("open")
}

/// Every state that some are in.
fn counts(whole: &Value) -> String {
    let counts = whole["counts"].as_object().into_iter().flatten();
    let counts = counts.filter(|(_, count)| count.as_u64() != Some(0));
    let counts = counts.map(|(state, count)| format!("{count} {state}"));
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_addressed_is_read_from_one_word() {
        for (word, target_) in [
            ("lyon", json!({ "agent": "lyon" })),
            ("site:7", json!({ "agent": "site:7" })),
            ("agent:all", json!({ "agent": "all" })),
            ("group:north", json!({ "group": "north" })),
            ("all", json!({ "all": true })),
            (
                "labels:a=1,b=x=y",
                json!({ "labels": { "a": "1", "b": "x=y" } }),
            ),
        ] {
            assert_eq!(target(word), Ok(target_), "{word}");
        }
        assert!(target("labels:a").is_err());
    }

    #[test]
    fn a_quorum_is_a_share_or_a_number() {
        assert_eq!(quorum("95%"), Ok(json!({ "percent": 95 })));
        assert_eq!(quorum("3"), Ok(json!({ "count": 3 })));
        assert!(quorum("most").is_err() && quorum("999%").is_err());
    }
}
