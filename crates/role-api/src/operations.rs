//! Operations: one decision about many messages, first tried dry, then watched, and stopped if need
//! be.
//!
//! The messages are chosen here, from what stands in the journal, and handed to the engine one by
//! one; so it is fixed when the answer is given what the operation is about.

use crate::letters::{agent, instant, kind};
use crate::problem::Problem;
use crate::select::{named, select};
use crate::service::{Api, JSON};
use crate::{body, codes, look, message};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_rules::delivery::{
    Did, End, Facts, Filter, Input, OperationId, OperationKind, OperationView, Order, Place, Reply,
    Wanted, dead_letters,
};
use countersign_rules::limits::{
    OPERATION_PAIRS_MAX, OPERATION_RATE_MAX, OUTCOME_DETAIL_BYTES_MAX,
};
use countersign_rules::{MessageId, Position, TenantName};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Room for as many ids as one operation takes.
const ORDER_BYTES_MAX: usize = 64 * OPERATION_PAIRS_MAX;

/// Messages a second, when nothing else is asked for: what a small back office takes beside its work.
const RATE: u32 = 100;

/// Messages that a dry run names.
const SAMPLE: usize = 10;

/// Most recipients that a dry run names.
const RECIPIENTS_NAMED_MAX: usize = 100;

/// Results to a page, when nothing else is asked for, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    id: Option<String>,
    kind: String,
    #[serde(default)]
    filter: AskedFilter,
    ids: Option<Vec<String>>,
    rate: Option<u32>,
    reason: Option<String>,
    #[serde(default)]
    may_process_twice: bool,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedFilter {
    agent: Option<String>,
    r#type: Option<String>,
    code: Option<String>,
    state: Option<OneOrMany>,
    since: Option<String>,
    until: Option<String>,
    discarded: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What an operation is about.
struct Chosen {
    facts: Vec<Facts>,
    /// Named by their ids, and not known or not readable: each with its life, if that is known.
    others: Vec<(MessageId, u32)>,
    as_of: Position,
}

/// `POST /v1/operations`.
pub(crate) async fn begin(
    State(api): State<Api>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Problem> {
    let (access, tenant) = api.access(&headers, Scope::Operate)?;
    let request = body::read_json(&headers, request, ORDER_BYTES_MAX).await?;
    let asked: Asked = body::parse(body::text(&request)?)?;
    let what = operation_kind(&asked.kind)?;
    let filter = filter(what, &asked)?;
    let reason = reason(what, asked.reason.clone())?;
    let rate = asked.rate.unwrap_or(RATE);
    if !(1..=OPERATION_RATE_MAX).contains(&rate) {
        let message = format!("it is not from 1 to {OPERATION_RATE_MAX}");
        return Err(Problem::field("/rate", message));
    }
    let id = match &asked.id {
        None => MessageId(uuid::Uuid::now_v7().into_bytes()),
        Some(id) => id
            .parse()
            .map_err(|_| Problem::field("/id", "it is not a UUID"))?,
    };
    let chosen = choose(&api, &tenant, &filter, asked.ids.as_deref()).await?;
    if asked.dry_run {
        let document = price(what, &chosen, rate);
        return Ok(([JSON], document.to_string()).into_response());
    }
    let mut facts = chosen.facts;
    // In the order in which each recipient had them, so that lanes keep theirs.
    facts.sort_by_key(|facts| (facts.candidate.seq, facts.candidate.id));
    let pairs = facts
        .iter()
        .map(|facts| (facts.candidate.id, facts.candidate.generation));
    let order = Order {
        id: OperationId(id),
        tenant,
        kind: what,
        filter,
        as_of: chosen.as_of,
        pairs: pairs.chain(chosen.others).collect(),
        rate,
        may_process_twice: asked.may_process_twice,
        reason,
        by: access.subject.clone(),
    };
    let view = operation(&api, Input::Begin(Box::new(order))).await?;
    let location = [(header::LOCATION, format!("/v1/operations/{}", view.id))];
    let status = match view.repeated {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok((status, location, [JSON], shown(&view).to_string()).into_response())
}

/// `GET /v1/operations`.
pub(crate) async fn list(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let Reply::Operations(all) = api.centre().ask(Input::ListOperations { tenant }).await? else {
        unreachable!("the question is answered by its own reply");
    };
    let document = json!({ "operations": all.iter().map(shown).collect::<Vec<_>>() });
    Ok(([JSON], document.to_string()).into_response())
}

/// `GET /v1/operations/{id}`.
pub(crate) async fn one(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let input = Input::LookOperation {
        tenant,
        id: OperationId(look::message_id(&id)?),
        after: 0,
        count: 0,
    };
    let view = operation(&api, input).await?;
    Ok(([JSON], shown(&view).to_string()).into_response())
}

/// Where a page of results begins, and how long it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paged {
    cursor: Option<usize>,
    limit: Option<usize>,
}

/// `GET /v1/operations/{id}/results`: what became of each message.
pub(crate) async fn results(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
    paged: Result<Query<Paged>, QueryRejection>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let Query(paged) = paged.map_err(|error| Problem::new(codes::FIELD, error.body_text()))?;
    let (after, count) = (
        paged.cursor.unwrap_or(0),
        paged.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX),
    );
    let input = Input::LookOperation {
        tenant,
        id: OperationId(look::message_id(&id)?),
        after,
        count,
    };
    let view = operation(&api, input).await?;
    let results = view.results.iter().map(|item| {
        json!({
            "id": item.id.to_string(),
            "generation": item.generation,
            "result": item.did.map_or("waiting", Did::as_str),
        })
    });
    let through = after + view.results.len();
    let document = json!({
        "operation": view.id.to_string(),
        "results": results.collect::<Vec<_>>(),
        "results_forgotten": view.results_forgotten,
        "next": (view.results.len() == count).then_some(through),
    });
    Ok(([JSON], document.to_string()).into_response())
}

/// `DELETE /v1/operations/{id}`: stops it. What it did stays.
pub(crate) async fn stop(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (access, tenant) = api.access(&headers, Scope::Operate)?;
    let input = Input::StopOperation {
        tenant,
        id: OperationId(look::message_id(&id)?),
        by: access.subject.clone(),
    };
    let view = operation(&api, input).await?;
    Ok(([JSON], shown(&view).to_string()).into_response())
}

async fn operation(api: &Api, input: Input) -> Result<OperationView, Problem> {
    match api.centre().ask(input).await? {
        Reply::Operation(result) => Ok((*result)?),
        other => unreachable!("an operation is answered by its own reply, not {other:?}"),
    }
}

fn operation_kind(text: &str) -> Result<OperationKind, Problem> {
    match text {
        "replay" => Ok(OperationKind::Replay),
        "discard" => Ok(OperationKind::Discard),
        "restore" => Ok(OperationKind::Restore),
        "cancel" => Ok(OperationKind::Cancel),
        other => {
            let message = format!("{other:?} is none of replay, discard, restore, cancel");
            Err(Problem::field("/kind", message))
        }
    }
}

fn reason(what: OperationKind, reason: Option<String>) -> Result<String, Problem> {
    let reason = reason.unwrap_or_default();
    if what == OperationKind::Discard && reason.trim().is_empty() {
        let message = "say why: whoever looks for these dead letters will want to know";
        return Err(Problem::field("/reason", message));
    }
    if reason.len() > OUTCOME_DETAIL_BYTES_MAX {
        let message = format!("it is longer than {OUTCOME_DETAIL_BYTES_MAX} bytes");
        return Err(Problem::field("/reason", message));
    }
    Ok(reason)
}

fn filter(what: OperationKind, asked: &Asked) -> Result<Filter, Problem> {
    let given = &asked.filter;
    let states = match &given.state {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![wanted(one)?],
        Some(OneOrMany::Many(many)) => {
            let states = many.iter().map(|one| wanted(one));
            states.collect::<Result<_, _>>()?
        }
    };
    let (usual, allowed): (_, fn(Wanted) -> bool) = match what {
        OperationKind::Replay => (dead_letters(), |state| state != Wanted::Waiting),
        OperationKind::Cancel => (vec![Wanted::Waiting], |state| state == Wanted::Waiting),
        _ => (dead_letters(), Wanted::is_dead_letter),
    };
    if let Some(state) = states.iter().find(|state| !allowed(**state)) {
        let message = format!("{} cannot be about {}", what.as_str(), word(*state));
        return Err(Problem::field("/filter/state", message));
    }
    let discarded = match what {
        OperationKind::Restore => Some(true),
        OperationKind::Cancel => None,
        OperationKind::Discard => Some(false),
        _ => Some(given.discarded.unwrap_or(false)),
    };
    Ok(Filter {
        agent: given.agent.as_deref().map(agent).transpose()?,
        kind: given.r#type.as_deref().map(kind).transpose()?,
        code: given.code.clone(),
        states: if states.is_empty() { usual } else { states },
        since: instant("since", given.since.as_deref())?,
        until: instant("until", given.until.as_deref())?,
        discarded,
        by_ids: asked.ids.is_some(),
    })
}

fn wanted(word: &str) -> Result<Wanted, Problem> {
    Ok(match word {
        "waiting" => Wanted::Waiting,
        "acknowledged" => Wanted::Ended(End::Processed),
        "rejected" => Wanted::Ended(End::Rejected),
        "dead" => Wanted::Ended(End::Dead),
        "expired" => Wanted::Ended(End::Expired),
        "cancelled" => Wanted::Ended(End::Cancelled),
        other => {
            let states = "waiting, acknowledged, rejected, dead, expired, cancelled";
            let message = format!("{other:?} is none of {states}");
            return Err(Problem::field("/filter/state", message));
        }
    })
}

fn word(state: Wanted) -> &'static str {
    match state {
        Wanted::Waiting => "waiting",
        Wanted::Ended(end) => message::state(Place::Ended(end)),
    }
}

async fn choose(
    api: &Api,
    tenant: &TenantName,
    filter: &Filter,
    ids: Option<&[String]>,
) -> Result<Chosen, Problem> {
    let Some(ids) = ids else {
        let found = select(api, tenant, filter, None, OPERATION_PAIRS_MAX).await?;
        if found.next.is_some() {
            let detail = format!("the filter means more than {OPERATION_PAIRS_MAX} messages");
            return Err(Problem::new(codes::OPERATION_TOO_LARGE, detail));
        }
        if let Some((one, why)) = found.unread.first() {
            let count = found.unread.len();
            let detail = format!("{count} messages, the first is {}: {why}", one.id);
            return Err(Problem::new(codes::SELECTION, detail));
        }
        return Ok(Chosen {
            facts: found.facts,
            others: Vec::new(),
            as_of: found.as_of,
        });
    };
    let ids = ids.iter().map(|id| look::message_id(id));
    let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
    let (found, as_of) = named(api, tenant, &ids).await?;
    let mut others: BTreeMap<_, _> = ids.into_iter().map(|id| (id, 0)).collect();
    let mut facts = Vec::new();
    for (candidate, read) in found {
        match read {
            Ok(read) => {
                others.remove(&candidate.id);
                facts.push(read);
            }
            Err(_) => {
                others.insert(candidate.id, candidate.generation);
            }
        }
    }
    facts.sort_by_key(|facts| facts.candidate.id);
    facts.dedup_by_key(|facts| facts.candidate.id);
    Ok(Chosen {
        facts,
        others: others.into_iter().collect(),
        as_of,
    })
}

/// What an operation would cost, and risk (N7).
fn price(what: OperationKind, chosen: &Chosen, rate: u32) -> Value {
    let facts = &chosen.facts;
    let count = facts.len() + chosen.others.len();
    let bytes: u64 = facts
        .iter()
        .map(|facts| u64::from(facts.candidate.bytes))
        .sum();
    let oldest = facts.iter().min_by_key(|facts| facts.accepted_at);
    let mut recipients: BTreeMap<_, usize> = BTreeMap::new();
    for facts in facts {
        *recipients
            .entry(facts.candidate.agent.as_str())
            .or_default() += 1;
    }
    let mut by_count: Vec<_> = recipients.iter().collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let named = by_count.iter().take(RECIPIENTS_NAMED_MAX);
    let named = named.map(|(agent, count)| json!({ "agent": agent, "count": count }));
    let is_replay = what == OperationKind::Replay;
    let of =
        |is: &dyn Fn(&Facts) -> bool| facts.iter().filter(|facts| is_replay && is(facts)).count();
    let done = |facts: &Facts| facts.candidate.end == Some(End::Processed);
    let under_way = |facts: &Facts| facts.candidate.end.is_none();
    let below_floor = |facts: &Facts| facts.candidate.is_below_floor && !under_way(facts);
    json!({
        "dry_run": true,
        "kind": what.as_str(),
        "count": count,
        "unknown": chosen.others.len(),
        "bytes": bytes,
        "oldest": oldest.map(|facts| json!({
            "id": facts.candidate.id.to_string(),
            "accepted_at": facts.accepted_at.to_string(),
        })),
        "recipients": named.collect::<Vec<_>>(),
        "recipients_count": recipients.len(),
        "expected_duplicates": of(&|facts| done(facts) || below_floor(facts) || under_way(facts)),
        "duplicates": {
            "acknowledged": of(&done),
            "not_ended": of(&under_way),
            "agent_does_not_remember": of(&below_floor),
        },
        "as_of": chosen.as_of,
        "rate": rate,
        "seconds": (count as f64 / f64::from(rate)).ceil(),
        "sample": facts.iter().take(SAMPLE).map(|facts| facts.candidate.id.to_string()).collect::<Vec<_>>(),
    })
}

fn shown(view: &OperationView) -> Value {
    let state = match (&view.stopped_by, view.is_running()) {
        (Some(_), _) => "stopped",
        (None, true) => "running",
        (None, false) => "done",
    };
    let filter = &view.filter;
    let time = |at: &countersign_rules::Timestamp| at.to_string();
    let counts = view.counts.iter();
    let reasons: BTreeMap<_, _> = counts.map(|(did, count)| (did.as_str(), *count)).collect();
    let (done, failed) = (
        view.count(|did| did == Did::Done),
        view.count(Did::is_failure) + view.lost,
    );
    let skipped = view.count(|did| did != Did::Done && !did.is_failure());
    let id = view.id;
    json!({
        "id": id.to_string(),
        "kind": view.kind.as_str(),
        "state": state,
        "matched": view.matched,
        "done": done,
        "failed": failed,
        "skipped": skipped,
        "remaining": view.matched - (done + failed + skipped).min(view.matched),
        "results": reasons,
        "lost": view.lost,
        "filter": {
            "agent": filter.agent.as_ref().map(|agent| agent.as_str()),
            "type": filter.kind.as_ref().map(|kind| kind.as_str()),
            "code": filter.code,
            "state": filter.states.iter().map(|state| word(*state)).collect::<Vec<_>>(),
            "since": filter.since.as_ref().map(time),
            "until": filter.until.as_ref().map(time),
            "discarded": filter.discarded,
            "by_ids": filter.by_ids,
        },
        "as_of": view.as_of,
        "rate": view.rate,
        "may_process_twice": view.may_process_twice,
        "reason": view.reason,
        "by": view.by,
        "begun_at": view.begun_at.to_string(),
        "ended_at": view.ended_at.as_ref().map(time),
        "stopped_by": view.stopped_by,
        "links": { "self": format!("/v1/operations/{id}"), "results": format!("/v1/operations/{id}/results") },
    })
}
