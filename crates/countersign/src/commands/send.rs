//! `send`: one message, and the wait for what becomes of it.

use crate::cli::Send;
use crate::client::{Client, block_on};
use crate::commands::{send_large, send_many};
use crate::durations::parse_duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Output};
use countersign_rules::limits;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The states in the order in which a message goes through them.
const ON_THE_WAY: [&str; 4] = ["waiting", "pushed", "stored", "acknowledged"];

pub(crate) fn run(args: &Send, output: Output) -> Outcome {
    let file = args.data.strip_prefix('@').map(Path::new);
    if let Some(path) = file
        && is_over_limit(path)?
    {
        return run_large(args, path, output);
    }
    let (data, content_type) = data(args)?;
    // Within quotes a text is longer than in its file.
    if let Some(path) = file
        && data.to_string().len() > limits::BODY_BYTES_MAX
    {
        return run_large(args, path, output);
    }
    let body = body(args, ("data", data), content_type)?;
    let key = args
        .id
        .clone()
        .unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let client = Client::new(&args.server)?;
    if args.print_curl {
        output::say(curl(&client, &key, &body));
        return Ok(ExitCode::SUCCESS);
    }
    block_on(send(args, &client, &key, &body, output))
}

/// Whether a file is too large to be in a message.
fn is_over_limit(path: &Path) -> Result<bool, Failure> {
    let about = std::fs::metadata(path);
    let about = about.map_err(|error| Failure::file(path, "read", &error))?;
    Ok(about.len() > limits::BODY_BYTES_MAX as u64)
}

/// Sends the file first, and then the message that refers to it.
fn run_large(args: &Send, path: &Path, output: Output) -> Outcome {
    if args.print_curl {
        let why = "a large file goes in several requests: see docs/large-bodies.md";
        return Err(usage("--print-curl", why.to_owned()));
    }
    let to = send_many::target(&args.to).map_err(|why| usage("--to", why))?;
    if to["agent"].is_null() {
        // Said before the file is sent, not after it.
        return Err(Failure::new(
            Exit::Usage,
            "E-BODY-TO-MANY",
            "a large file cannot go to many in one send",
            format!(
                "{} is over {} KiB, and --to names many",
                path.display(),
                limits::BODY_BYTES_MAX / 1024
            ),
            "send it to each agent by itself",
        ));
    }
    let key = args
        .id
        .clone()
        .unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let content_type = args.content_type.clone();
    let content_type = content_type
        .or_else(|| content_type_of(path))
        .unwrap_or_else(|| String::from("application/octet-stream"));
    let client = Client::new(&args.server)?;
    block_on(async {
        let id = send_large::upload(&client, path, output).await?;
        let body = body(args, ("data_ref", json!({ "id": id })), Some(content_type))?;
        send(args, &client, &key, &body, output).await
    })
}

async fn send(args: &Send, client: &Client, key: &str, body: &Value, output: Output) -> Outcome {
    let timeout = parse_duration(&args.timeout).map_err(|why| usage("--timeout", why))?;
    let begun = Instant::now();
    let request = client
        .request(Method::POST, "/v1/messages")
        .header("idempotency-key", key);
    let answer = client.send("send the message", request.json(body)).await?;
    let id = answer.body["id"].as_str().unwrap_or_default().to_owned();
    let Some(until) = &args.wait else {
        if output.quiet {
            output::say(&id);
        }
        output.answer(&answer.body, || match answer.replayed {
            true => format!(
                "{} {id} (sent before with this key)",
                state_of(&answer.body)
            ),
            false => match answer.body["addressed"].as_u64() {
                Some(addressed) => format!("accepted {id} for {addressed} agents"),
                None => format!("accepted {id}"),
            },
        });
        return Ok(ExitCode::SUCCESS);
    };
    output.progress(&format!("{:<13} {id}", "accepted"));
    if !answer.body["addressed"].is_null() {
        let whole = send_many::follow(client, &id, timeout, begun, output).await?;
        if output.json {
            output::say(&whole);
        } else if output.quiet {
            output::say(&id);
        }
        return Ok(send_many::ended(&whole, &id, output));
    }
    let last = follow(client, &id, until, timeout, begun, output).await?;
    if output.json {
        output::say(&last);
    } else if output.quiet {
        output::say(&id);
    }
    Ok(ended(&last, until, &id, client, output))
}

/// Waits for one state after the other and prints each as it is reached.
async fn follow(
    client: &Client,
    id: &str,
    until: &str,
    timeout: Duration,
    begun: Instant,
    output: Output,
) -> Result<Value, Failure> {
    let last_step = ON_THE_WAY
        .iter()
        .position(|state| *state == until)
        .ok_or_else(|| {
            usage(
                "--wait",
                format!(
                    "{until:?} is no state; use one of {}",
                    ON_THE_WAY.join(", ")
                ),
            )
        })?;
    let mut printed = 0;
    loop {
        let left = timeout.saturating_sub(begun.elapsed());
        let aim = ON_THE_WAY[printed.max(1).min(last_step)];
        // The first look returns at once, so that an offline agent is told without delay.
        let wait = if printed == 0 { Duration::ZERO } else { left };
        let path = format!(
            "/v1/messages/{id}?wait={aim}&timeout={}ms",
            wait.as_millis()
        );
        let message = client
            .send("wait for the message", client.request(Method::GET, &path))
            .await?;
        let message = message.body;
        let state = state_of(&message).to_owned();
        let reached = ON_THE_WAY.iter().position(|known| *known == state);
        let through = reached.map_or(ON_THE_WAY.len() - 1, |step| step + 1);
        for step in &ON_THE_WAY[printed.min(through)..through] {
            if let Some(line) = line_for(step, &message, begun.elapsed()) {
                output.progress(&line);
            }
        }
        printed = printed.max(through);
        match reached {
            None => {
                output.progress(&line_of_end(&state, &message, begun.elapsed()));
                return Ok(message);
            }
            Some(step) if step >= last_step || begun.elapsed() >= timeout => return Ok(message),
            Some(_) => {}
        }
    }
}

fn line_for(state: &str, message: &Value, elapsed: Duration) -> Option<String> {
    let known = match state {
        "waiting" => true,
        other => message[format!("{other}_at")].is_string(),
    };
    let remark = match (state, message["waiting_for"].as_str()) {
        ("waiting", Some(why)) if state_of(message) == "waiting" => format!(" ({why})"),
        ("acknowledged", _) => outcome_of(message),
        _ => String::new(),
    };
    known.then(|| {
        format!(
            "{state:<13} after {:>7.1} ms{remark}",
            elapsed.as_secs_f64() * 1000.0
        )
    })
}

fn line_of_end(state: &str, message: &Value, elapsed: Duration) -> String {
    format!(
        "{state:<13} after {:>7.1} ms{}",
        elapsed.as_secs_f64() * 1000.0,
        outcome_of(message)
    )
}

fn outcome_of(message: &Value) -> String {
    let text = |name: &str| {
        message["outcome"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    match (text("code"), text("detail")) {
        (code, _) if code.is_empty() => String::new(),
        (code, detail) if detail.is_empty() => format!(" ({code})"),
        (code, detail) => format!(" ({code}: {detail})"),
    }
}

fn state_of(message: &Value) -> &str {
    message["state"].as_str().unwrap_or("accepted")
}

fn ended(message: &Value, until: &str, id: &str, client: &Client, output: Output) -> ExitCode {
    let state = state_of(message);
    let rank = |state: &str| ON_THE_WAY.iter().position(|known| *known == state);
    match (rank(state), rank(until)) {
        (Some(reached), Some(wanted)) if reached >= wanted => ExitCode::SUCCESS,
        (Some(_), _) => {
            let why = message["waiting_for"].as_str().unwrap_or("not there yet");
            output.remark(&format!(
                "{state} ({why}): the wait is over, the message is safe and goes on by itself\n  \
                 look again: countersign messages get {id}"
            ));
            Exit::TimedOut.into()
        }
        (None, _) => {
            output.remark(&format!(
                "  timeline: countersign messages timeline {id}\n  {}/v1/messages/{id}/timeline",
                client.url
            ));
            Exit::RejectedOrDead.into()
        }
    }
}

fn body(
    args: &Send,
    (name, data): (&str, Value),
    content_type: Option<String>,
) -> Result<Value, Failure> {
    let mut body = Map::new();
    let to = send_many::target(&args.to).map_err(|why| usage("--to", why))?;
    body.insert("to".to_owned(), to);
    body.insert("type".to_owned(), Value::from(args.kind.clone()));
    body.insert(name.to_owned(), data);
    let quorum = args.quorum.as_deref().map(send_many::quorum).transpose();
    let quorum = quorum.map_err(|why| usage("--quorum", why))?;
    let mut optional = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    optional("content_type", content_type.map(Value::from));
    optional("order_key", args.order.clone().map(Value::from));
    optional("expires_in", args.expires.clone().map(Value::from));
    optional("not_before", args.not_before.clone().map(Value::from));
    optional("max_attempts", args.max_attempts.map(Value::from));
    optional("quorum", quorum);
    optional("deadline", args.deadline.clone().map(Value::from));
    optional("lane_rule", args.lane_rule.clone().map(Value::from));
    Ok(Value::Object(body))
}

/// The body, and its content type when it is not JSON.
fn data(args: &Send) -> Result<(Value, Option<String>), Failure> {
    let (text, name) = match args.data.as_str() {
        "-" => (standard_input()?, None),
        file if file.starts_with('@') => {
            let path = Path::new(&file[1..]);
            (file_text(path)?, Some(path))
        }
        inline => (inline.to_owned(), None),
    };
    let content_type = args
        .content_type
        .clone()
        .or_else(|| name.and_then(content_type_of));
    match content_type {
        Some(other) if other != "application/json" => Ok((Value::String(text), Some(other))),
        _ => match serde_json::from_str(&text) {
            Ok(data) => Ok((data, None)),
            Err(error) => Err(Failure::new(
                Exit::Usage,
                "E-DATA-NOT-JSON",
                "the data is not JSON",
                error.to_string(),
                "correct it, or name what it is, such as --content-type text/plain",
            )),
        },
    }
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Failure::file(Path::new("standard input"), "read", &error))?;
    Ok(text)
}

fn file_text(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::file(path, "read", &error))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(
            Exit::Usage,
            "E-DATA-BINARY",
            format!("{} is not text", path.display()),
            "a message body is JSON or text in UTF-8",
            "encode it, for example with base64",
        )
    })
}

fn content_type_of(path: &Path) -> Option<String> {
    let kind = match path.extension()?.to_str()? {
        "json" => "application/json",
        "xml" => "application/xml",
        "csv" => "text/csv",
        "txt" | "md" => "text/plain",
        _ => return None,
    };
    Some(kind.to_owned())
}

fn curl(client: &Client, key: &str, body: &Value) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    format!(
        "curl -i -X POST {} \\\n  -H {} \\\n  -H 'Content-Type: application/json' \\\n  -H {} \\\n  --data-raw {}",
        quoted(&format!("{}/v1/messages", client.url)),
        quoted(&format!("Authorization: Bearer {}", client.token)),
        quoted(&format!("Idempotency-Key: {key}")),
        quoted(&body.to_string()),
    )
}

fn usage(option: &str, why: String) -> Failure {
    Failure::new(
        Exit::Usage,
        "E-USAGE",
        format!("{option} is not valid"),
        why,
        "countersign send --help",
    )
}
