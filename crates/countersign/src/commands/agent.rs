//! `agent run`, and `agent start` and `agent stop` for the agents of `countersign dev`.

use crate::cli::{Agent, Server};
use crate::client::{Client, block_on};
use crate::commands::serve::start_log;
use crate::config;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::roles::{agent, listen};
use reqwest::Method;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(args: Agent, output: Output) -> Outcome {
    match args {
        Agent::Run { config } => run_agent(&config, output),
        Agent::Start { agent, server } => switch(&agent, "start", &server, output),
        Agent::Stop { agent, server } => switch(&agent, "stop", &server, output),
    }
}

fn run_agent(path: &Path, output: Output) -> Outcome {
    let config = config::load(path)?;
    start_log(&config.log)?;
    let Some(section) = &config.agent else {
        let why = format!("{} has no section [agent]", path.display());
        let todo = "add one with name, hub_url, ack_url, token_url, client_id, client_secret_file and [agent.sink]";
        return Err(Failure::new(
            Exit::ConfigInvalid,
            "E-AGENT-MISSING",
            "there is no agent to run",
            why,
            todo,
        ));
    };
    listen::block_on(async {
        let agent = agent::start(section).await?;
        output.remark(&format!("agent {} for {}", section.name, section.hub_url));
        agent
            .run_until(listen::interrupted())
            .await
            .map_err(|error| {
                let todo =
                    "look at the disk, then start it again: everything it acknowledged is on it";
                Failure::new(
                    Exit::Unexpected,
                    "E-STORE-STOPPED",
                    "the agent stopped",
                    error.to_string(),
                    todo,
                )
            })?;
        Ok(ExitCode::SUCCESS)
    })
}

fn switch(agent: &str, verb: &str, server: &Server, output: Output) -> Outcome {
    let client = Client::new(server)?;
    let request = client.request(Method::POST, &format!("/dev/agents/{agent}/{verb}"));
    let answer = block_on(client.send(&format!("{verb} agent {agent}"), request))?;
    output.answer(&answer.body, || {
        format!(
            "{agent} {}",
            if verb == "stop" { "stopped" } else { "started" }
        )
    });
    Ok(ExitCode::SUCCESS)
}
