//! A send to many: its receipt, how far it has come, and its messages.

use crate::history::{self, History};
use crate::message::{Sent, Text, hex, json as to_json, sent, state};
use crate::operate::labels_of;
use crate::problem::Problem;
use crate::service::{Api, JSON};
use crate::{codes, look};
use aws_lc_rs::digest::{Context, SHA256};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_driver::Health;
use countersign_rules::delivery::{
    Audience, Children, FanOutReceipt, FanOutView, Input, Reply, Verdict,
};
use countersign_rules::{AgentName, MessageId, TenantName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::pin::pin;
use tokio::time::{Instant, sleep_until};

/// Most names that a receipt or a representation lists: whoever wants all asks for the children.
const NAMES_MAX: usize = 100;

/// Most messages in one answer.
const PAGE_MAX: u32 = 1000;

/// The receipt: who was addressed, as it was asked for and as it was found.
pub(crate) fn receipt(receipt: &FanOutReceipt) -> String {
    let id = receipt.id;
    let mut document = json!({
        "id": id.to_string(),
        "state": "accepted",
        "to": audience(&receipt.audience),
        "version": receipt.version,
        "addressed": receipt.agents.len(),
        "agents_sha256": digest_of(&receipt.agents),
        "position": receipt.position,
        "epoch": receipt.epoch.to_string(),
        "repeated": receipt.repeated,
        "links": links(id),
    });
    if receipt.agents.len() <= NAMES_MAX {
        let names: Vec<_> = receipt.agents.iter().map(AgentName::as_str).collect();
        document["agents"] = json!(names);
    }
    document.to_string()
}

/// SHA-256 over the names in the order of their bytes, each with a line feed behind it: what
/// `LC_ALL=C sort | sha256sum` makes of a list of them.
fn digest_of(agents: &[AgentName]) -> String {
    let mut names: Vec<_> = agents.iter().map(AgentName::as_str).collect();
    names.sort_unstable();
    let mut context = Context::new(&SHA256);
    for name in names {
        context.update(name.as_bytes());
        context.update(b"\n");
    }
    hex(context.finish().as_ref())
}

fn audience(audience: &Audience) -> Value {
    match audience {
        Audience::Group(group) => json!({ "group": group.as_str() }),
        Audience::Labels(labels) => json!({ "labels": labels_of(labels) }),
        Audience::All => json!({ "all": true }),
    }
}

fn links(id: MessageId) -> Value {
    json!({
        "self": format!("/v1/messages/{id}"),
        "children": format!("/v1/messages/{id}/children"),
    })
}

/// A send to many as it is shown.
#[derive(Serialize)]
struct Whole<'a> {
    id: Text<MessageId>,
    state: &'static str,
    to: Value,
    version: u64,
    addressed: u32,
    agents_sha256: String,
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    quorum: Option<Quorum>,
    missing: Missing<'a>,
    #[serde(flatten)]
    sent: Option<Sent<'a>>,
    /// Set when the journal no longer serves what was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<bool>,
    links: Value,
}

/// How many messages are where.
#[derive(Serialize)]
struct Counts {
    waiting: u32,
    pushed: u32,
    stored: u32,
    acknowledged: u32,
    rejected: u32,
    dead: u32,
    expired: u32,
    cancelled: u32,
}

/// When the whole is done.
#[derive(Serialize)]
struct Quorum {
    needed: u32,
    acknowledged: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reached_at: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed_at: Option<Text<Timestamp>>,
}

/// Who has not: at the deadline when that was missed, now otherwise.
#[derive(Serialize)]
struct Missing<'a> {
    count: u32,
    /// The first of them.
    agents: Vec<&'a str>,
}

/// What is known of a send to many, if it is one.
pub(crate) async fn view(
    api: &Api,
    tenant: &TenantName,
    id: MessageId,
    children: Option<Children>,
) -> Result<Option<Box<FanOutView>>, Problem> {
    let tenant = tenant.clone();
    let input = Input::LookFanOut {
        tenant,
        id,
        children,
    };
    match api.centre().ask(input).await? {
        Reply::FanOut(view) => Ok(view),
        other => unreachable!("the question is answered by its own reply, not {other:?}"),
    }
}

/// Its representation, once it has come as far as is waited for.
pub(crate) async fn shown(
    api: &Api,
    tenant: &TenantName,
    id: MessageId,
    wait: Option<(u8, Instant)>,
) -> Result<Response, Problem> {
    let view = wait_for(api, tenant, id, wait).await?;
    let (centre, position) = (api.centre().clone(), view.position);
    let read = tokio::task::spawn_blocking(move || history::read(&centre, position)).await;
    let history = read.map_err(|_| Problem::new(codes::STOPPED, "the process is ending"))?;
    Ok(([JSON], describe(&view, &history)).into_response())
}

async fn wait_for(
    api: &Api,
    tenant: &TenantName,
    id: MessageId,
    wait: Option<(u8, Instant)>,
) -> Result<Box<FanOutView>, Problem> {
    let watch = api.watchers().watch(id);
    let mut health = api.centre().watch_health();
    let missing = Children {
        from: 0,
        at_most: NAMES_MAX as u32,
        missing: true,
    };
    loop {
        // Listening before looking: a change between the two is not missed.
        let mut changed = pin!(watch.changed());
        changed.as_mut().enable();
        let view = view(api, tenant, id, Some(missing)).await?;
        let view = view.ok_or_else(|| look::unknown(id))?;
        let Some((_, until)) = wait.filter(|(aim, _)| reached(&view) < *aim) else {
            return Ok(view);
        };
        tokio::select! {
            () = changed => {}
            // Nothing will change any more.
            _ = health.wait_for(|health| *health == Health::Stopped) => {
                return Err(Problem::new(codes::STOPPED, "the store has stopped"));
            }
            () = sleep_until(until) => return Ok(view),
        }
    }
}

/// How far the whole has come: as far as the last of its messages, or to its end once there is a
/// verdict.
fn reached(view: &FanOutView) -> u8 {
    let is_over = view.waiting + view.pushed + view.stored == 0;
    match &view.verdict {
        Some(_) => 3,
        None if is_over && view.needed.is_none() => 3,
        None if view.waiting + view.pushed == 0 => 2,
        None if view.waiting == 0 => 1,
        None => 0,
    }
}

fn describe(view: &FanOutView, history: &History) -> Vec<u8> {
    let ends = &view.ends;
    let under_way = view.waiting + view.pushed + view.stored;
    let children = view.children.iter();
    to_json(&Whole {
        id: Text(view.id),
        state: match (&view.verdict, view.needed) {
            (Some(Verdict::Reached { .. }), _) => "reached",
            (Some(Verdict::Missed { .. }), _) => "missed",
            (None, None) if under_way == 0 => "ended",
            (None, _) => "open",
        },
        to: audience(&view.audience),
        version: view.version,
        addressed: view.addressed,
        agents_sha256: digest_of(&view.agents),
        counts: Counts {
            waiting: view.waiting,
            pushed: view.pushed,
            stored: view.stored,
            acknowledged: ends.processed,
            rejected: ends.rejected,
            dead: ends.dead,
            expired: ends.expired,
            cancelled: ends.cancelled,
        },
        quorum: view.needed.map(|needed| Quorum {
            needed,
            acknowledged: ends.processed,
            deadline: view.deadline.map(Text),
            reached_at: match view.verdict {
                Some(Verdict::Reached { at }) => Some(Text(at)),
                _ => None,
            },
            missed_at: match view.verdict {
                Some(Verdict::Missed { at, .. }) => Some(Text(at)),
                _ => None,
            },
        }),
        missing: Missing {
            count: view.missing,
            agents: children.map(|child| child.agent.as_str()).collect(),
        },
        sent: history.accepted().map(|(_, accepted)| sent(&accepted)),
        incomplete: history.missing.as_ref().map(|_| true),
        links: links(view.id),
    })
}

/// Which messages are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    from: Option<u32>,
    limit: Option<u32>,
    only: Option<String>,
}

/// `GET /v1/messages/{id}/children`: its messages in the order of their rows, a page at a time.
pub(crate) async fn children(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let id = look::message_id(&id)?;
    let Query(page) = page.map_err(|error| Problem::new(codes::FIELD, error.body_text()))?;
    let missing = match page.only.as_deref() {
        None => false,
        Some("missing") => true,
        Some(other) => {
            let detail = format!("only={other} is not known; write only=missing");
            return Err(Problem::new(codes::FIELD, detail));
        }
    };
    let asked = Children {
        from: page.from.unwrap_or(0),
        at_most: page.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX),
        missing,
    };
    let view = view(&api, &tenant, id, Some(asked)).await?;
    let view = view.ok_or_else(|| look::unknown(id))?;
    let last = view.children.last();
    let more = last.filter(|_| view.children.len() == asked.at_most as usize);
    let only = if missing { "&only=missing" } else { "" };
    let next = more.map(|last| {
        let (from, limit) = (last.index + 1, asked.at_most);
        format!("/v1/messages/{id}/children?from={from}&limit={limit}{only}")
    });
    let children = view.children.iter().map(|child| {
        json!({
            "id": child.id.to_string(),
            "agent": child.agent.as_str(),
            "state": child.place.map_or("forgotten", state),
            "links": { "self": format!("/v1/messages/{}", child.id) },
        })
    });
    let document = json!({
        "id": id.to_string(),
        "addressed": view.addressed,
        "children": children.collect::<Vec<_>>(),
        "next": next,
    });
    Ok(([JSON], document.to_string()).into_response())
}
