//! `cargo xtask autobahn`: Autobahn's fuzzing client against WebSockets as `signalr-server` sets them up.
//!
//! Promise: all cases but those of compression, which we do not offer, were run, and each has the verdict OK, or one of
//! those in [`TOLERATED`]. The server is the example `websocket_echo` of `signalr-server`, ended after the run.
//! Left out on purpose: making the verdicts; the client's own report is read.

use std::collections::BTreeMap;
use std::fs::File;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::checkout;
use crate::python27::{self, Environment};
use crate::servers::{build_example, serve_with};
use crate::steps::{Steps, must_run, target_directory};

/// Cases of Autobahn 0.8.2 without 12.* and 13.*.
const CASES: usize = 301;

/// What the report calls our server.
const AGENT: &str = "signalr-server";

/// Verdicts other than OK, and why they are no fault.
const TOLERATED: [(&str, &str, &str); 5] = [
    ("6.4.3", "NON-STRICT", WITHIN_A_FRAME),
    ("6.4.4", "NON-STRICT", WITHIN_A_FRAME),
    (
        "7.1.6",
        "INFORMATIONAL",
        "whether what precedes a Close is sent whole is left open",
    ),
    ("7.13.1", "INFORMATIONAL", CODE_OUT_OF_RANGE),
    ("7.13.2", "INFORMATIONAL", CODE_OUT_OF_RANGE),
];

const WITHIN_A_FRAME: &str =
    "what is no UTF-8 is found at the end of a frame, not within one that comes in pieces";
const CODE_OUT_OF_RANGE: &str = "what to answer to a close code beyond 4999 is left open";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(word) = arguments.first() {
        bail!("`{word}` means nothing here; the command takes no arguments");
    }
    ensure!(python27::is_possible(), NOT_HERE);
    let mut steps = Steps::begin();
    run_steps(&mut steps)?;
    steps.finish();
    Ok(())
}

const NOT_HERE: &str = "the fuzzing client needs a Python 2.7, had on Linux x86-64 with apt only";

/// The same as part of a longer list.
pub(crate) fn run_steps(steps: &mut Steps) -> Result<()> {
    if !python27::is_possible() {
        println!("!! AUTOBAHN NOT RUN: {NOT_HERE}.");
        return Ok(());
    }
    let mut environment = None;
    steps.step("tools: Autobahn's fuzzing client", || {
        let folder = checkout::root().join("tests/autobahn");
        let virtualenv = folder.join("virtualenv.txt");
        let requirements = folder.join("requirements.txt");
        environment = Some(python27::environment(
            "autobahn",
            &virtualenv,
            &requirements,
        )?);
        Ok(())
    })?;
    let environment = environment.context("it was just made")?;
    steps.step("autobahn", || {
        let echo = build_example("signalr-server", "websocket_echo")?;
        serve_with(&echo, &[], |url| fuzz(&environment, url))
    })
}

fn fuzz(environment: &Environment, url: &str) -> Result<()> {
    let folder = target_directory().join("autobahn");
    let reports = folder.join("reports");
    // The report of an earlier run must not be taken for that of this one.
    if reports.exists() {
        std::fs::remove_dir_all(&reports)?;
    }
    std::fs::create_dir_all(&folder)?;
    let wanted = json!({
        "outdir": reports,
        "servers": [{ "agent": AGENT, "url": url.replacen("http", "ws", 1) }],
        "cases": ["*"],
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    });
    let settings = folder.join("settings.json");
    std::fs::write(&settings, wanted.to_string())?;
    let said = folder.join("said.txt");
    let mut client = environment.command("wstest");
    client.args(["--mode", "fuzzingclient", "--spec"]);
    client.arg(&settings).current_dir(&folder);
    client
        .stdout(File::create(&said)?)
        .stderr(File::create(folder.join("errors.txt"))?);
    must_run(&mut client).with_context(|| format!("it said {}", said.display()))?;
    let index = reports.join("index.json");
    let index = std::fs::read(&index)
        .with_context(|| format!("it made no report; what it said is in {}", folder.display()))?;
    let index: Value = serde_json::from_slice(&index)?;
    let agent = index.get(AGENT).context("the report names no such agent")?;
    judge(agent).with_context(|| format!("the reports are in {}", reports.display()))
}

/// Prints how many cases have which verdict, and demands one that is good enough for each of all cases.
fn judge(agent: &Value) -> Result<()> {
    let cases = agent.as_object().context("the report lists no cases")?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    for (case, verdicts) in cases {
        let verdict = |name: &str| verdicts.get(name).and_then(Value::as_str).unwrap_or("none");
        let (behavior, close) = (verdict("behavior"), verdict("behaviorClose"));
        *counts.entry(behavior).or_default() += 1;
        if behavior != "OK" || close != "OK" {
            match tolerated(case, behavior, close) {
                Some(why) => println!("     {behavior}  {case}: {why}"),
                None => faults.push(format!("{case}: {behavior}, its closing: {close}")),
            }
        }
    }
    for (verdict, count) in &counts {
        println!("     {count:>4} {verdict}");
    }
    ensure!(faults.is_empty(), "cases failed: {}", faults.join("; "));
    ensure!(
        cases.len() == CASES,
        "{} cases were run, of {CASES}",
        cases.len()
    );
    Ok(())
}

/// Why a case may have these verdicts, if it may.
fn tolerated(case: &str, behavior: &str, close: &str) -> Option<&'static str> {
    let listed = TOLERATED.iter().find(|(name, ..)| *name == case);
    let (_, verdict, why) = listed?;
    let is_good = |said: &str| said == "OK" || said == *verdict;
    (is_good(behavior) && is_good(close)).then_some(*why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report in which every case is OK but these.
    fn judged(others: &[(&str, &str, &str)], cases: usize) -> bool {
        let mut report = serde_json::Map::new();
        for (case, behavior, close) in others {
            let verdicts = json!({ "behavior": behavior, "behaviorClose": close });
            report.insert((*case).to_owned(), verdicts);
        }
        for number in report.len()..cases {
            let verdicts = json!({ "behavior": "OK", "behaviorClose": "OK" });
            report.insert(format!("1.1.{number}"), verdicts);
        }
        judge(&Value::Object(report)).is_ok()
    }

    #[test]
    fn all_cases_have_to_be_there() {
        assert!(judged(&[], CASES));
        assert!(!judged(&[], CASES - 1));
    }

    #[test]
    fn only_the_cases_that_are_listed_may_have_another_verdict_and_only_theirs() {
        assert!(judged(&[("6.4.3", "NON-STRICT", "OK")], CASES));
        assert!(!judged(&[("6.4.3", "FAILED", "OK")], CASES));
        assert!(!judged(&[("6.4.3", "NON-STRICT", "UNCLEAN")], CASES));
        assert!(!judged(&[("6.4.2", "NON-STRICT", "OK")], CASES));
        assert!(!judged(&[("7.1.6", "NON-STRICT", "OK")], CASES));
    }

    #[test]
    fn a_closing_that_is_wrong_fails_a_case_that_is_right() {
        assert!(!judged(&[("2.1", "OK", "WRONG CODE")], CASES));
    }
}
