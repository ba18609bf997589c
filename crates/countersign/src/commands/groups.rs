//! `groups list`, `get`, `add` and `remove`.

use super::messages::fields;
use crate::cli::Groups;
use crate::client::{Client, block_on};
use crate::exit::{Failure, Outcome};
use crate::output::Output;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) fn run(args: &Groups, output: Output) -> Outcome {
    match args {
        Groups::List { server } => {
            let groups = block_on(all(&Client::new(server)?))?;
            let document = json!({ "groups": groups });
            output.answer(&document, || lines(&groups));
        }
        Groups::Get { group, server } => {
            let group = block_on(one(&Client::new(server)?, group))?;
            output.answer(&group, || fields(&group));
        }
        Groups::Add {
            group,
            agents,
            server,
        } => change(&Client::new(server)?, Method::PUT, group, agents, output)?,
        Groups::Remove {
            group,
            agents,
            server,
        } => change(&Client::new(server)?, Method::DELETE, group, agents, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Every page.
async fn all(client: &Client) -> Result<Vec<Value>, Failure> {
    let mut groups = Vec::new();
    let mut next = Some(String::from("/v1/groups"));
    while let Some(path) = next {
        let request = client.request(Method::GET, &path);
        let answer = client.send("list the groups", request).await?;
        groups.extend(
            answer.body["groups"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        );
        next = answer.body["next"].as_str().map(str::to_owned);
    }
    Ok(groups)
}

async fn one(client: &Client, group: &str) -> Result<Value, Failure> {
    let request = client.request(Method::GET, &format!("/v1/groups/{group}"));
    let doing = format!("look at group {group}");
    Ok(client.send(&doing, request).await?.body)
}

/// Changes one member after the other, then shows the group.
fn change(
    client: &Client,
    method: Method,
    group: &str,
    agents: &[String],
    output: Output,
) -> Result<(), Failure> {
    let changed = block_on(async {
        for agent in agents {
            let path = format!("/v1/groups/{group}/members/{agent}");
            let request = client.request(method.clone(), &path);
            let doing = format!("change group {group} by agent {agent}");
            client.send(&doing, request).await?;
        }
        one(client, group).await
    })?;
    output.answer(&changed, || fields(&changed));
    Ok(())
}

fn lines(groups: &[Value]) -> String {
    let line = |group: &Value| {
        let name = group["group"].as_str().unwrap_or_default();
        let (version, members) = (&group["version"], &group["members"]);
        format!("{name:<24} version {version:<6} {members} members")
    };
    groups.iter().map(line).collect::<Vec<_>>().join("\n")
}
