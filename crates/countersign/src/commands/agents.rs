//! `agents get`, `pause` and `resume`.

use super::messages::fields;
use crate::cli::Agents;
use crate::client::{Client, block_on};
use crate::exit::Outcome;
use crate::output::Output;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) fn run(args: &Agents, output: Output) -> Outcome {
    let (doing, agent, server, change) = match args {
        Agents::Get { agent, server } => ("look at", agent, server, None),
        Agents::Pause {
            agent,
            reason,
            server,
        } => {
            let change = json!({ "paused": true, "reason": reason });
            ("pause", agent, server, Some(change))
        }
        Agents::Resume { agent, server } => {
            ("resume", agent, server, Some(json!({ "paused": false })))
        }
    };
    let client = Client::new(server)?;
    let path = format!("/v1/agents/{agent}");
    let request = match change {
        None => client.request(Method::GET, &path),
        Some(change) => client.request(Method::PATCH, &path).json::<Value>(&change),
    };
    let answer = block_on(client.send(&format!("{doing} agent {agent}"), request))?;
    output.answer(&answer.body, || fields(&answer.body));
    Ok(ExitCode::SUCCESS)
}
