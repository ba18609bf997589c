//! `messages get`, `timeline`, `cancel` and `replay`.

use crate::cli::Messages;
use crate::client::{Client, block_on};
use crate::exit::Outcome;
use crate::output::Output;
use reqwest::Method;
use serde_json::Value;
use std::process::ExitCode;

pub(crate) fn run(args: &Messages, output: Output) -> Outcome {
    let (doing, method, id, server, step) = match args {
        Messages::Get { id, server } => ("look at", Method::GET, id, server, ""),
        Messages::Timeline { id, server } => ("look at", Method::GET, id, server, "/timeline"),
        Messages::Cancel { id, server } => ("cancel", Method::POST, id, server, "/cancel"),
        Messages::Replay { id, server } => ("replay", Method::POST, id, server, "/replay"),
    };
    let client = Client::new(server)?;
    let doing = format!("{doing} message {id}");
    let path = format!("/v1/messages/{id}{step}");
    let answer = block_on(client.send(&doing, client.request(method, &path)))?;
    output.answer(&answer.body, || match args {
        Messages::Timeline { .. } => timeline(&answer.body),
        _ => fields(&answer.body),
    });
    Ok(ExitCode::SUCCESS)
}

/// Every field on a line of its own, in the order of the document.
pub(super) fn fields(message: &Value) -> String {
    let Some(fields) = message.as_object() else {
        return message.to_string();
    };
    let lines = fields
        .iter()
        .map(|(name, value)| format!("{name:<16} {}", plain(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn timeline(document: &Value) -> String {
    let steps = document["steps"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let lines = steps.iter().map(|step| {
        let rest = step.as_object().into_iter().flatten();
        let rest = rest.filter(|(name, _)| !matches!(name.as_str(), "step" | "at"));
        let rest: Vec<_> = rest
            .map(|(name, value)| format!("{name}={}", plain(value)))
            .collect();
        format!(
            "{}  {:<13} {}",
            plain(&step["at"]),
            plain(&step["step"]),
            rest.join(" ")
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
