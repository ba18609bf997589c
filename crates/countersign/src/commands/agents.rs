//! `agents get`, `pause`, `resume`, `label` and `resume-lane`.

use super::messages::fields;
use crate::cli::Agents;
use crate::client::{Client, block_on};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

pub(crate) fn run(args: &Agents, output: Output) -> Outcome {
    let (doing, agent, server, method, body) = match args {
        Agents::Get { agent, server } => ("look at", agent, server, Method::GET, None),
        Agents::Pause {
            agent,
            reason,
            server,
        } => {
            let change = json!({ "paused": true, "reason": reason });
            ("pause", agent, server, Method::PATCH, Some(change))
        }
        Agents::Resume { agent, server } => {
            let change = json!({ "paused": false });
            ("resume", agent, server, Method::PATCH, Some(change))
        }
        Agents::Label {
            agent,
            labels,
            server,
        } => {
            let change = json!({ "labels": labels_of(labels)? });
            ("label", agent, server, Method::PATCH, Some(change))
        }
        Agents::ResumeLane {
            agent,
            lane,
            reason,
            server,
        } => {
            let lane = json!({ "lane": lane, "reason": reason });
            ("resume a lane of", agent, server, Method::POST, Some(lane))
        }
    };
    let client = Client::new(server)?;
    let of_lane = matches!(args, Agents::ResumeLane { .. });
    let step = if of_lane { "/lanes/resume" } else { "" };
    let request = client.request(method, &format!("/v1/agents/{agent}{step}"));
    let request = match body {
        None => request,
        Some(body) => request.json::<Value>(&body),
    };
    let answer = block_on(client.send(&format!("{doing} agent {agent}"), request))?;
    output.answer(&answer.body, || fields(&answer.body));
    Ok(ExitCode::SUCCESS)
}

/// `NAME=VALUE` sets a label, `NAME-` takes it away.
fn labels_of(words: &[String]) -> Result<Value, Failure> {
    let mut labels = Map::new();
    for word in words {
        let (name, value) = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((name, value)), _) => (name, Value::from(value)),
            (None, Some(name)) => (name, Value::Null),
            (None, None) => {
                return Err(Failure::new(
                    Exit::Usage,
                    "E-USAGE",
                    format!("{word:?} is no label"),
                    "write NAME=VALUE to give one, NAME- to take it away",
                    "countersign agents label --help",
                ));
            }
        };
        labels.insert(name.to_owned(), value);
    }
    Ok(Value::Object(labels))
}
