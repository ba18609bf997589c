//! `dead-letters list`, `groups`, `get`, `replay`, `discard` and `restore`.
//!
//! What changes many messages first says how many, asks unless told not to, and then follows the
//! operation to its end.

use super::messages::{fields, plain};
use super::operations::{follow, shown};
use crate::cli::Server;
use crate::client::{Client, block_on};
use crate::durations::parse_duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// Those that nobody has and that nobody put away, by their ids.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Most of them.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// Where to go on: what the page before gave as its next.
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// How many there are of each cause, and where.
    Groups {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        server: Server,
    },
    /// One of them, with all that was tried.
    Get {
        /// Its id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Have them done once more, at a rate, behind what waits for their agents.
    Replay {
        #[command(flatten)]
        many: Many,
        /// Also those that their agents no longer remember, so that they may be done twice.
        #[arg(long)]
        may_process_twice: bool,
        /// Why: it stands in the audit trail.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Put them away: nobody has to see to them. `restore` takes them back.
    Discard {
        #[command(flatten)]
        many: Many,
        /// Why: it stands in the audit trail.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Take back what was put away.
    Restore {
        #[command(flatten)]
        many: Many,
        /// Why: it stands in the audit trail.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

/// Which messages. What is not given fits all.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Of this agent.
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Of this type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// That ended with this code.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// That ended then or later: an instant, or -10m.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    since: Option<String>,
    /// That ended before, likewise.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    until: Option<String>,
    /// Those that were put away.
    #[arg(long)]
    discarded: bool,
}

/// Which messages, and how.
#[derive(Debug, Args)]
pub(crate) struct Many {
    /// These, by their ids. Default: all that the filter means.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// In this state, such as dead, rejected, expired. Default: dead and rejected.
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
    /// Messages a second.
    #[arg(long, default_value_t = 100, value_name = "N")]
    rate: u32,
    /// Say what it would be about and what it risks, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask. Needed where nobody can be asked.
    #[arg(long, short)]
    yes: bool,
    /// Return when it is accepted, and do not follow it.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    server: Server,
}

pub(crate) fn run(args: &DeadLetters, output: Output) -> Outcome {
    match args {
        DeadLetters::List {
            filter,
            limit,
            cursor,
            server,
        } => {
            let mut query = filter.fields()?;
            query.insert("limit".to_owned(), json!(limit));
            query.extend(
                cursor
                    .iter()
                    .map(|cursor| ("cursor".to_owned(), json!(cursor))),
            );
            look(
                "list dead letters",
                "/v1/dead-letters",
                &query,
                server,
                output,
                list,
            )
        }
        DeadLetters::Groups { filter, server } => {
            let path = "/v1/dead-letters/groups";
            let query = filter.fields()?;
            look("group dead letters", path, &query, server, output, groups)
        }
        DeadLetters::Get { id, server } => {
            let path = format!("/v1/dead-letters/{id}");
            let show = |body: &Value| fields(&body["dead_letter"]);
            look(
                "look at a dead letter",
                &path,
                &Map::new(),
                server,
                output,
                show,
            )
        }
        DeadLetters::Replay {
            many,
            may_process_twice,
            reason,
        } => {
            let twice = *may_process_twice;
            operate("replay", many, reason, twice, output)
        }
        DeadLetters::Discard { many, reason } => operate("discard", many, reason, false, output),
        DeadLetters::Restore { many, reason } => operate("restore", many, reason, false, output),
    }
}

impl Filter {
    /// As the API wants them: what is given, and nothing else.
    fn fields(&self) -> Result<Map<String, Value>, Failure> {
        let mut fields = Map::new();
        let texts = [
            ("agent", self.agent.clone()),
            ("type", self.kind.clone()),
            ("code", self.code.clone()),
            ("since", self.since.as_deref().map(instant).transpose()?),
            ("until", self.until.as_deref().map(instant).transpose()?),
        ];
        for (name, text) in texts {
            fields.extend(text.map(|text| (name.to_owned(), json!(text))));
        }
        if self.discarded {
            fields.insert("discarded".to_owned(), json!(true));
        }
        Ok(fields)
    }
}

/// An instant as it is, or so long ago.
fn instant(text: &str) -> Result<String, Failure> {
    let Some(ago) = text.strip_prefix('-') else {
        return Ok(text.to_owned());
    };
    let wrong = |why: String| {
        let todo = "write it like 2026-12-24T18:00:00Z or -10m";
        Failure::new(
            Exit::Usage,
            "E-USAGE",
            format!("{text:?} is no instant"),
            why,
            todo,
        )
    };
    let ago = parse_duration(ago).map_err(&wrong)?;
    let ago = jiff::SignedDuration::try_from(ago).map_err(|error| wrong(error.to_string()))?;
    let at = jiff::Timestamp::now().checked_sub(ago);
    at.map(|at| at.to_string())
        .map_err(|error| wrong(error.to_string()))
}

fn look(
    doing: &str,
    path: &str,
    query: &Map<String, Value>,
    server: &Server,
    output: Output,
    show: impl Fn(&Value) -> String,
) -> Outcome {
    let client = Client::new(server)?;
    let pairs = query
        .iter()
        .map(|(name, value)| (name.clone(), plain(value)));
    let request = client.question(path, &pairs.collect::<Vec<_>>())?;
    let answer = block_on(client.send(doing, request))?;
    output.answer(&answer.body, || show(&answer.body));
    Ok(ExitCode::SUCCESS)
}

fn list(body: &Value) -> String {
    let letters = body["dead_letters"].as_array().into_iter().flatten();
    let mut lines: Vec<_> = letters
        .map(|letter| {
            let columns = ["id", "state", "agent", "type", "ended_at", "code", "detail"];
            columns.map(|column| plain(&letter[column])).join("  ")
        })
        .collect();
    if lines.is_empty() {
        lines.push("no dead letters".to_owned());
    }
    if let Some(next) = body["next"].as_str() {
        lines.push(format!("more with --cursor {next}"));
    }
    lines.join("\n")
}

fn groups(body: &Value) -> String {
    let groups = body["groups"].as_array().into_iter().flatten();
    let mut lines: Vec<_> = groups
        .map(|group| {
            let columns = ["count", "state", "type", "code", "text", "first", "last"];
            let agents = format!("agents={}", plain(&group["agents_count"]));
            format!(
                "{}  {agents}",
                columns.map(|column| plain(&group[column])).join("  ")
            )
        })
        .collect();
    lines.push(format!("{} dead letters in all", plain(&body["count"])));
    if body["complete"] == json!(false) {
        lines.push("there are more than are grouped in one answer: narrow the filter".to_owned());
    }
    lines.join("\n")
}

/// Says what it is about, asks, begins and follows.
fn operate(kind: &str, many: &Many, reason: &str, twice: bool, output: Output) -> Outcome {
    let client = Client::new(&many.server)?;
    let mut filter = many.filter.fields()?;
    if !many.state.is_empty() {
        filter.insert("state".to_owned(), json!(many.state));
    }
    let mut order = json!({
        "kind": kind,
        "filter": filter,
        "rate": many.rate,
        "reason": reason,
        "may_process_twice": twice,
    });
    if !many.ids.is_empty() {
        order["ids"] = json!(many.ids);
    }
    let doing = format!("{kind} dead letters");
    let post = |order: &Value| client.request(Method::POST, "/v1/operations").json(order);
    let mut dry = order.clone();
    dry["dry_run"] = json!(true);
    let price = block_on(client.send(&doing, post(&dry)))?.body;
    if many.dry_run {
        output.answer(&price, || fields(&price));
        return Ok(ExitCode::SUCCESS);
    }
    let count = price["count"].as_u64().unwrap_or(0);
    let forgotten = price["duplicates"]["agent_does_not_remember"]
        .as_u64()
        .unwrap_or(0);
    let recipients = plain(&price["recipients_count"]);
    output.remark(&format!("{kind}: {count} messages of {recipients} agents"));
    if forgotten > 0 && !twice {
        output.remark(&format!(
            "{forgotten} of them are no longer remembered by their agents and are skipped; look in the \
             back office, then add --may-process-twice"
        ));
    }
    if !many.yes {
        ask(kind, count)?;
    }
    // A repeat of the request, after an answer that was lost, begins nothing new.
    order["id"] = json!(uuid::Uuid::now_v7().to_string());
    let begun = block_on(client.send(&doing, post(&order)))?.body;
    match many.no_wait {
        true => {
            output.answer(&begun, || shown(&begun));
            Ok(ExitCode::SUCCESS)
        }
        false => follow(&client, begun, output),
    }
}

fn ask(kind: &str, count: u64) -> Result<(), Failure> {
    let refused = |why: &str| {
        let what = format!("nothing was done: {kind} of {count} messages");
        let todo = "add --yes, or look first with --dry-run";
        Failure::new(Exit::Usage, "E-YES", what, why, todo)
    };
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(refused("nobody can be asked, and --yes is not given"));
    }
    crate::output::question(&format!("{kind} {count} messages? [y/N] "));
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(refused("you said no")),
    }
}
