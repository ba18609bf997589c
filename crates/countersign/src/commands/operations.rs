//! `operations list`, `get` and `cancel`; and how an operation is followed to its end.

use super::messages::{fields, plain};
use crate::cli::Server;
use crate::client::{Client, block_on};
use crate::exit::{Exit, Outcome};
use crate::output::Output;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Operations {
    /// Those that go on and those before them, the newest first.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// One of them: how far it is, and what became of its messages.
    Get {
        /// Its id.
        id: String,
        /// Also the result of each message.
        #[arg(long)]
        results: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Stop one; what it did stays done.
    Cancel {
        /// Its id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Pause between two looks at an operation.
const PAUSE: Duration = Duration::from_millis(200);

/// Results to a request.
const RESULTS: usize = 10_000;

pub(crate) fn run(args: &Operations, output: Output) -> Outcome {
    match args {
        Operations::List { server } => {
            let client = Client::new(server)?;
            let request = client.request(Method::GET, "/v1/operations");
            let answer = block_on(client.send("list operations", request))?;
            output.answer(&answer.body, || list(&answer.body));
        }
        Operations::Get {
            id,
            results,
            server,
        } => {
            let client = Client::new(server)?;
            let path = format!("/v1/operations/{id}");
            let doing = format!("look at operation {id}");
            let mut body = block_on(client.send(&doing, client.request(Method::GET, &path)))?.body;
            if *results {
                body["messages"] = Value::Array(all_results(&client, &path, &doing)?);
            }
            output.answer(&body, || fields(&body));
        }
        Operations::Cancel { id, server } => {
            let client = Client::new(server)?;
            let request = client.request(Method::DELETE, &format!("/v1/operations/{id}"));
            let answer = block_on(client.send(&format!("cancel operation {id}"), request))?;
            output.answer(&answer.body, || shown(&answer.body));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn all_results(
    client: &Client,
    path: &str,
    doing: &str,
) -> Result<Vec<Value>, crate::exit::Failure> {
    let (mut all, mut cursor) = (Vec::new(), json!(0));
    while !cursor.is_null() {
        let query = [
            ("cursor".to_owned(), plain(&cursor)),
            ("limit".to_owned(), RESULTS.to_string()),
        ];
        let request = client.question(&format!("{path}/results"), &query)?;
        let mut page = block_on(client.send(doing, request))?.body;
        if let Value::Array(results) = page["results"].take() {
            all.extend(results);
        }
        cursor = page["next"].take();
    }
    Ok(all)
}

/// Looks until the operation has ended, and says how far it is at each tenth of the way.
pub(super) fn follow(client: &Client, begun: Value, output: Output) -> Outcome {
    let path = format!("/v1/operations/{}", plain(&begun["id"]));
    let ended = block_on(async {
        let (mut now, mut told) = (begun, 0);
        while now["state"] == json!("running") {
            let (matched, remaining) = (number(&now, "matched"), number(&now, "remaining"));
            let tenths = 10 * matched.saturating_sub(remaining) / matched.max(1);
            if tenths > told {
                told = tenths;
                output.remark(&format!("{} of {matched}", matched - remaining));
            }
            tokio::time::sleep(PAUSE).await;
            let request = client.request(Method::GET, &path);
            now = client.send("follow the operation", request).await?.body;
        }
        Ok(now)
    })?;
    output.answer(&ended, || shown(&ended));
    let is_partial = number(&ended, "failed") + number(&ended, "skipped") > 0;
    let is_stopped = ended["state"] == json!("stopped");
    Ok(match is_partial || is_stopped {
        true => Exit::Partial.into(),
        false => ExitCode::SUCCESS,
    })
}

fn number(document: &Value, name: &str) -> u64 {
    document[name].as_u64().unwrap_or(0)
}

/// An operation on one line, with the reasons of what it left alone.
pub(super) fn shown(operation: &Value) -> String {
    let words = ["id", "kind", "state"].map(|name| plain(&operation[name]));
    let counts = ["matched", "done", "failed", "skipped"];
    let counts = counts.map(|name| format!("{name}={}", plain(&operation[name])));
    let results = operation["results"].as_object().into_iter().flatten();
    let reasons = results.filter(|(name, _)| *name != "done");
    let reasons: Vec<_> = reasons
        .map(|(name, count)| format!("{name}={count}"))
        .collect();
    let line = format!("{}  {}", words.join("  "), counts.join(" "));
    match reasons.is_empty() {
        true => line,
        false => format!("{line}  ({})", reasons.join(" ")),
    }
}

fn list(body: &Value) -> String {
    let operations = body["operations"].as_array().into_iter().flatten();
    let lines: Vec<_> = operations
        .map(|operation| format!("{}  {}", plain(&operation["begun_at"]), shown(operation)))
        .collect();
    match lines.is_empty() {
        true => "no operations".to_owned(),
        false => lines.join("\n"),
    }
}
