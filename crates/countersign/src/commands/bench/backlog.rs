//! `bench --waiting`: what messages that wait for absent agents cost everybody else.
//!
//! Promise: the rows of one run are measured one after the other on the same machine, each by a
//! process of its own, so that what one leaves in memory is not counted for the next.

use super::{Setup, name};
use crate::cli::{Bench, Role};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::roles::deployment::Deployment;
use aws_lc_rs::digest;
use axum::Router;
use bytes::Bytes;
use countersign_driver::Handle;
use countersign_rules::delivery::{Centre, Input, Reply, Submission};
use countersign_rules::{AgentName, LaneName, LaneRule, MessageId, TenantName, TypeName};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// One process for each number of waiting messages, and their figures side by side.
pub(super) fn compare(args: &Bench, output: Output) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for _ in 0..args.rounds.max(1) {
        for waiting in &args.waiting {
            rows.push(row_of_a_process(args, *waiting)?);
        }
    }
    let document = json!({ "rows": rows, "flush_ms": rows.first().map(|row| &row["flush_ms"]) });
    output.answer(&document, || text(args, &rows));
    Ok(())
}

fn row_of_a_process(args: &Bench, waiting: u64) -> Result<Value, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::unexpected("a measurement did not run", error.to_string())
    };
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = std::process::Command::new(program);
    command.args(["--json", "bench", "--waiting", &waiting.to_string()]);
    command.args(["--away", &args.away.to_string()]);
    command.args(["--agents", &args.agents.to_string()]);
    command.args(["--size", &args.size.to_string()]);
    command.args(["--duration", &args.duration]);
    command.args(["--window", &args.window.to_string()]);
    if let Some(rate) = args.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    // Each starts from nothing.
    let directory = match &args.data {
        Some(data) => {
            std::fs::create_dir_all(data).map_err(|error| Failure::file(data, "create", &error))?;
            tempfile::tempdir_in(data)
        }
        None => tempfile::tempdir(),
    };
    let directory = directory.map_err(|error| failed(&error))?;
    command.arg("--data").arg(directory.path());
    let done = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| failed(&error))?;
    if !done.status.success() {
        return Err(failed(&format!("it ended with {}", done.status)));
    }
    serde_json::from_slice(&done.stdout).map_err(|error| failed(&error))
}

/// What one process measured beside what the bench measures anyway.
pub(super) struct Backlog {
    waiting: u64,
    away: u32,
    filled_in: Duration,
    memory_bytes: Option<u64>,
    store_bytes: u64,
    restarted_in: Duration,
}

/// What the waiting messages cost while they wait.
pub(super) struct Filled {
    waiting: u64,
    away: u32,
    took: Duration,
    memory_bytes: Option<u64>,
}

/// Accepts messages for agents that are known and not there.
pub(super) async fn fill(bench: &Setup, args: &Bench, waiting: u64) -> Result<Filled, Failure> {
    let away = args.away.max(1);
    for number in 0..away {
        let path = format!("/v1/agents/{}", absent(number));
        let request = bench.client.request(Method::PUT, &path);
        bench.client.send("register an agent", request).await?;
    }
    let (before, begun) = (resident_bytes(), Instant::now());
    let body = Bytes::from(format!("\"{}\"", "x".repeat(args.size.saturating_sub(2))));
    let digest = digest::digest(&digest::SHA256, &body);
    let digest: [u8; 32] = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
    let mut number = 0;
    while number < waiting {
        let end = waiting.min(number + FILL_TOGETHER);
        let mut answers = Vec::new();
        for number in number..end {
            let submission = submission(number, away, &body, digest);
            let brought = bench
                .centre
                .bring(Input::Submit(Box::new(submission)))
                .await;
            answers.push(brought.map_err(|error| refused(&error))?);
        }
        for answer in answers {
            match answer.await {
                Ok(Reply::Submitted(Ok(_))) => {}
                Ok(other) => return Err(refused(&format!("{other:?}"))),
                Err(error) => return Err(refused(&error)),
            }
        }
        number = end;
    }
    let memory_bytes = before.zip(resident_bytes());
    Ok(Filled {
        waiting,
        away,
        took: begun.elapsed(),
        memory_bytes: memory_bytes.map(|(before, after)| after.saturating_sub(before)),
    })
}

fn refused(why: &dyn std::fmt::Display) -> Failure {
    Failure::unexpected(
        "a message for an absent agent was not accepted",
        why.to_string(),
    )
}

fn submission(number: u64, away: u32, body: &Bytes, digest: [u8; 32]) -> Submission {
    let mut id = [0x5a; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let agent = absent((number % u64::from(away)) as u32);
    Submission {
        body: None,
        id: MessageId(id),
        tenant: TenantName::parse(countersign_access::TENANT_DEFAULT).expect("a sound name"),
        to: AgentName::parse(&agent).expect("a sound name"),
        kind: TypeName::parse("bench.message").expect("a sound name"),
        lane: LaneName::parse(&(number % 64).to_string()).expect("a sound name"),
        rule: LaneRule::Block,
        key: None,
        fingerprint: [0; 16],
        body_sha256: digest,
        expires_at: None,
        not_before: None,
        attempts_max: None,
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: String::new(),
        tracestate: String::new(),
        sender: "bench".to_owned(),
        content_type: String::new(),
        data: body.clone(),
    }
}

/// Starts the centre once more on what was written, and looks whether all of it is there.
pub(super) async fn restart(
    bench_data: &Path,
    bench: Setup,
    filled: Filled,
) -> Result<Backlog, Failure> {
    let config = bench.config.clone();
    bench.end().await?;
    let store_bytes = bytes_below(&bench_data.join("centre"))
        .map_err(|error| Failure::file(bench_data, "look into", &error))?;
    let begun = Instant::now();
    let deployment = Deployment::start(&config, &[Role::Api], Router::new()).await?;
    let centre = deployment.centre().expect("the role api has a centre");
    let pending = pending(&centre).await?;
    let restarted_in = begun.elapsed();
    deployment.run_until(std::future::ready(())).await?;
    if pending < filled.waiting {
        let why = format!(
            "{} were accepted, {pending} wait after the restart",
            filled.waiting
        );
        return Err(Failure::unexpected("messages are missing", why));
    }
    Ok(Backlog {
        waiting: filled.waiting,
        away: filled.away,
        filled_in: filled.took,
        memory_bytes: filled.memory_bytes,
        store_bytes,
        restarted_in,
    })
}

async fn pending(centre: &Handle<Centre>) -> Result<u64, Failure> {
    match centre.ask(Input::Count).await {
        Ok(Reply::Counted(counters)) => Ok(counters.pending),
        other => Err(Failure::unexpected(
            "the counters are not told",
            format!("{other:?}"),
        )),
    }
}

impl Backlog {
    /// Adds what was measured here to what the bench has measured.
    pub(super) fn add_to(&self, document: &mut Value) {
        let each = |bytes: u64| bytes as f64 / self.waiting.max(1) as f64;
        document["waiting"] = json!(self.waiting);
        document["away"] = json!(self.away);
        document["filled_s"] = json!(self.filled_in.as_secs_f64());
        document["memory_bytes"] = json!(self.memory_bytes);
        document["memory_bytes_a_message"] = json!(self.memory_bytes.map(each));
        document["store_bytes"] = json!(self.store_bytes);
        document["restart_s"] = json!(self.restarted_in.as_secs_f64());
    }
}

/// Figures side by side; changes are against the first row with the fewest waiting.
fn text(args: &Bench, rows: &[Value]) -> String {
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or(0.0);
    let p99 = |row: &Value| row["latency_ms"]["p99"].as_f64().unwrap_or(0.0);
    let least = args.waiting.iter().min().copied().unwrap_or(0);
    let base = rows.iter().find(|row| row["waiting"] == least);
    let change = |now: f64, then: f64| match then {
        0.0 => String::from("-"),
        then => format!("{:+.1} %", (now / then - 1.0) * 100.0),
    };
    let mut text = format!(
        "{:>10}  {:>10} {:>9}  {:>9} {:>9}  {:>11} {:>9} {:>9}",
        "waiting",
        "messages/s",
        "change",
        "p99 ms",
        "change",
        "memory B/m",
        "restart s",
        "store MB"
    );
    for row in rows {
        let (rate, late) = (number(row, "messages_per_second"), p99(row));
        text += &format!(
            "\n{:>10}  {rate:>10.0} {:>9}  {late:>9.2} {:>9}  {:>11.1} {:>9.2} {:>9.0}",
            row["waiting"],
            base.map_or_else(String::new, |base| change(
                rate,
                number(base, "messages_per_second")
            )),
            base.map_or_else(String::new, |base| change(late, p99(base))),
            number(row, "memory_bytes_a_message"),
            number(row, "restart_s"),
            number(row, "store_bytes") / 1e6,
        );
    }
    text += "\nmemory: growth of the resident set while filling, the 32 MiB of latest records that every \
             centre keeps included";
    text
}

fn absent(number: u32) -> String {
    format!("{}-away", name(number))
}

/// Memory of this process, where the machine tells it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn bytes_below(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += match about.is_dir() {
            true => bytes_below(&entry.path())?,
            false => about.len(),
        };
    }
    Ok(bytes)
}

/// Refuses what cannot be measured.
pub(super) fn check(args: &Bench) -> Result<(), Failure> {
    if args.size > MESSAGE_BYTES_MAX {
        return Err(Failure::new(
            Exit::Usage,
            "E-USAGE",
            "--size is too large for --waiting",
            format!("bodies of waiting messages have {MESSAGE_BYTES_MAX} bytes at most"),
            "countersign bench --help",
        ));
    }
    Ok(())
}

/// Messages brought before the first of them is waited for.
const FILL_TOGETHER: u64 = 4_096;
/// The limit of a body.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
