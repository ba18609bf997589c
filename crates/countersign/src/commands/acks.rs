//! `acks orphans`: what agents acknowledged and the store does not know.

use crate::cli::Acks;
use crate::client::{Client, block_on};
use crate::exit::Outcome;
use crate::output::Output;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) fn run(args: &Acks, output: Output) -> Outcome {
    let Acks::Orphans { server } = args;
    let client = Client::new(server)?;
    let mut orphans = Vec::new();
    let mut after = String::new();
    let page = loop {
        let request = client.request(Method::GET, &format!("/v1/orphan-acks?limit=1000{after}"));
        let mut page = block_on(client.send("list orphan acknowledgements", request))?.body;
        if let Some(Value::Array(more)) = page.get_mut("orphans").map(Value::take) {
            orphans.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break page,
        }
    };
    let text = text(&orphans, &page);
    let document = json!({
        "orphans": orphans, "restored_at": page["restored_at"],
        "restored_through": page["restored_through"],
    });
    output.answer(&document, || text);
    Ok(ExitCode::SUCCESS)
}

fn text(orphans: &[Value], page: &Value) -> String {
    let word = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    if let Some(at) = page["restored_at"].as_str() {
        let through = word(page, "restored_through");
        lines.push(format!(
            "restored {at}, with what was accepted until {through}"
        ));
    }
    for one in orphans {
        let why = word(one, "why").replace('_', " ");
        let (id, agent, stage) = (word(one, "id"), word(one, "agent"), word(one, "stage"));
        lines.push(format!("{id}  {agent}  {stage}  {why}"));
    }
    lines.push(format!("{} orphan acknowledgements", orphans.len()));
    lines.join("\n")
}
