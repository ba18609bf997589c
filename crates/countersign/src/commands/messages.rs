//! `messages get`, `timeline`, `children`, `cancel` and `replay`.

use crate::cli::Messages;
use crate::client::{Client, block_on};
use crate::exit::{Failure, Outcome};
use crate::output::Output;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) fn run(args: &Messages, output: Output) -> Outcome {
    if let Messages::Children {
        id,
        missing,
        server,
    } = args
    {
        let children = block_on(children(&Client::new(server)?, id, *missing))?;
        let document = json!({ "id": id, "children": children });
        output.answer(&document, || lines(&children));
        return Ok(ExitCode::SUCCESS);
    }
    let (doing, method, id, server, step) = match args {
        Messages::Get { id, server } => ("look at", Method::GET, id, server, ""),
        Messages::Children { .. } => unreachable!("they were listed above"),
        Messages::Timeline { id, server } => ("look at", Method::GET, id, server, "/timeline"),
        Messages::Cancel { id, server } => ("cancel", Method::POST, id, server, "/cancel"),
        Messages::Replay {
            id,
            may_process_twice,
            server,
        } => {
            let step = match may_process_twice {
                true => "/replay?may_process_twice=true",
                false => "/replay",
            };
            ("replay", Method::POST, id, server, step)
        }
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

/// Every page of the messages of a send to many.
async fn children(client: &Client, id: &str, missing: bool) -> Result<Vec<Value>, Failure> {
    let only = if missing { "?only=missing" } else { "" };
    let mut next = Some(format!("/v1/messages/{id}/children{only}"));
    let mut children = Vec::new();
    while let Some(path) = next {
        let request = client.request(Method::GET, &path);
        let answer = client.send("list the messages", request).await?;
        children.extend(
            answer.body["children"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        );
        next = answer.body["next"].as_str().map(str::to_owned);
    }
    Ok(children)
}

fn lines(children: &[Value]) -> String {
    let line = |child: &Value| {
        let text = |name: &str| plain(&child[name]);
        format!("{}  {:<13} {}", text("id"), text("state"), text("agent"))
    };
    children.iter().map(line).collect::<Vec<_>>().join("\n")
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

pub(super) fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
