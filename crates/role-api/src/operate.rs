//! What operators do and see: recipients made known and paused, messages taken back, done once more
//! and counted.

use crate::problem::Problem;
use crate::service::{Api, JSON};
use crate::{body, codes, look, message};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_rules::delivery::{Input, LabelChanges, Labels, LaneView, Reply};
use countersign_rules::limits::OUTCOME_DETAIL_BYTES_MAX;
use countersign_rules::message::NameError;
use countersign_rules::{AgentName, LabelName, LabelValue, LaneName, MessageId, TenantName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `PUT /v1/agents/{agent}`: from now on it can be sent to, although it never connected.
pub(crate) async fn register(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(agent): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Operate)?;
    let agent = agent_name(&agent)?;
    let document = json!({ "agent": agent.as_str(), "tenant": tenant.as_str() });
    match api.centre().ask(Input::Register { tenant, agent }).await? {
        Reply::Registered(result) => result?,
        other => unreachable!("a registration is answered by its own reply, not {other:?}"),
    }
    Ok(([JSON], document.to_string()).into_response())
}

/// `GET /v1/agents/{agent}`: whether it is connected, and what waits for it.
pub(crate) async fn agent(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(agent): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    shown(&api, tenant, agent_name(&agent)?).await
}

/// Room for a change of an agent: its reason is far shorter.
const CHANGE_BYTES_MAX: usize = 16 * 1024;

/// What an operator asks of an agent.
struct Asked<T> {
    tenant: TenantName,
    agent: AgentName,
    what: T,
    by: String,
}

async fn asked<T: DeserializeOwned>(
    api: &Api,
    headers: &HeaderMap,
    agent: &str,
    request: Body,
) -> Result<Asked<T>, Problem> {
    let (access, tenant) = api.access(headers, Scope::Operate)?;
    let agent = agent_name(agent)?;
    let request = body::read_json(headers, request, CHANGE_BYTES_MAX).await?;
    Ok(Asked {
        tenant,
        agent,
        what: body::parse(body::text(&request)?)?,
        by: access.subject.clone(),
    })
}

/// What may be changed of an agent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentChange {
    paused: Option<bool>,
    reason: Option<String>,
    /// A value sets a label, null takes it away; the others stay.
    labels: Option<BTreeMap<String, Option<String>>>,
}

/// `PATCH /v1/agents/{agent}`: holds everything back from it, or lets it go again; changes its labels.
pub(crate) async fn change_agent(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(agent): Path<String>,
    request: Body,
) -> Result<Response, Problem> {
    let asked: Asked<AgentChange> = asked(&api, &headers, &agent, request).await?;
    let changes = labels(asked.what.labels.unwrap_or_default())?;
    if asked.what.paused.is_none() && changes.is_empty() {
        let detail = "nothing is to change: name paused or labels";
        return Err(Problem::new(codes::FIELD, detail));
    }
    let reason = bounded(asked.what.reason)?;
    if !changes.is_empty() {
        let input = Input::Label {
            tenant: asked.tenant.clone(),
            agent: asked.agent.clone(),
            changes,
            by: asked.by.clone(),
        };
        operated(&api, input).await?;
    }
    if let Some(paused) = asked.what.paused {
        let input = Input::Pause {
            tenant: asked.tenant.clone(),
            agent: asked.agent.clone(),
            paused,
            reason,
            by: asked.by,
        };
        operated(&api, input).await?;
    }
    shown(&api, asked.tenant, asked.agent).await
}

/// Which lane goes on, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneResumption {
    lane: String,
    reason: Option<String>,
}

/// `POST /v1/agents/{agent}/lanes/resume`: lets a parked lane go on. The lane stands in the body,
/// because a lane may have any name and an address may not.
pub(crate) async fn resume_lane(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(agent): Path<String>,
    request: Body,
) -> Result<Response, Problem> {
    let asked: Asked<LaneResumption> = asked(&api, &headers, &agent, request).await?;
    let lane = LaneName::parse(&asked.what.lane);
    let lane = lane.map_err(|error| Problem::field("/lane", error.to_string()))?;
    let input = Input::ResumeLane {
        tenant: asked.tenant.clone(),
        agent: asked.agent.clone(),
        lane,
        reason: bounded(asked.what.reason)?,
        by: asked.by,
    };
    operated(&api, input).await?;
    shown(&api, asked.tenant, asked.agent).await
}

fn labels(changes: BTreeMap<String, Option<String>>) -> Result<LabelChanges, Problem> {
    let parsed = changes.into_iter().map(|(name, value)| {
        let misfit = |error: NameError| {
            let at = format!("/labels/{}", name.replace('~', "~0").replace('/', "~1"));
            Problem::field(&at, error.to_string())
        };
        let value = value.map(|value| LabelValue::parse(&value)).transpose();
        let value = value.map_err(misfit)?;
        Ok((LabelName::parse(&name).map_err(misfit)?, value))
    });
    parsed.collect()
}

fn bounded(reason: Option<String>) -> Result<String, Problem> {
    let reason = reason.unwrap_or_default();
    if reason.len() > OUTCOME_DETAIL_BYTES_MAX {
        let message = format!("it is longer than {OUTCOME_DETAIL_BYTES_MAX} bytes");
        return Err(Problem::field("/reason", message));
    }
    Ok(reason)
}

/// `POST /v1/messages/{id}/cancel`: takes a message back that nobody can have yet.
pub(crate) async fn cancel(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (access, tenant) = api.access(&headers, Scope::Operate)?;
    let id = look::message_id(&id)?;
    let input = Input::Cancel {
        tenant: tenant.clone(),
        id,
        by: access.subject.clone(),
    };
    operated(&api, input).await?;
    Ok(([JSON], described(&api, &tenant, id).await?).into_response())
}

/// What a replay of one message may do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replay {
    #[serde(default)]
    may_process_twice: bool,
}

/// `POST /v1/messages/{id}/replay`: does a message that has ended once more.
pub(crate) async fn replay(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
    how: Result<Query<Replay>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(how) = how.map_err(|error| Problem::new(codes::FIELD, error.body_text()))?;
    let (access, tenant) = api.access(&headers, Scope::Operate)?;
    let id = look::message_id(&id)?;
    let input = Input::Reprocess {
        tenant: tenant.clone(),
        id,
        may_process_twice: how.may_process_twice,
        by: access.subject.clone(),
    };
    operated(&api, input).await?;
    let location = [(header::LOCATION, format!("/v1/messages/{id}"))];
    let message = described(&api, &tenant, id).await?;
    Ok((StatusCode::ACCEPTED, location, [JSON], message).into_response())
}

pub(crate) fn agent_name(text: &str) -> Result<AgentName, Problem> {
    AgentName::parse(text)
        .map_err(|error| Problem::new(codes::FIELD, format!("{text:?} is no name: {error}")))
}

async fn operated(api: &Api, input: Input) -> Result<(), Problem> {
    match api.centre().ask(input).await? {
        Reply::Operated(result) => Ok(result?),
        other => unreachable!("what operators do is answered by its own reply, not {other:?}"),
    }
}

async fn described(api: &Api, tenant: &TenantName, id: MessageId) -> Result<Vec<u8>, Problem> {
    let view = look::view(api, tenant, id).await?;
    let history = look::history(api, &view).await?;
    Ok(message::describe(&view, &history))
}

async fn shown(api: &Api, tenant: TenantName, agent: AgentName) -> Result<Response, Problem> {
    let (name, of) = (agent.clone(), tenant.clone());
    let Reply::Agent(view) = api.centre().ask(Input::LookAgent { tenant, agent }).await? else {
        unreachable!("the question is answered by its own reply");
    };
    let view = view.ok_or_else(|| {
        Problem::new(
            codes::UNKNOWN_RECIPIENT,
            format!("recipient {name} is not known"),
        )
    })?;
    let mut parked = Vec::with_capacity(view.parked.len());
    for lane in &view.parked {
        parked.push(parked_lane(api, lane).await?);
    }
    let document = json!({
        "agent": name.as_str(),
        "tenant": of.as_str(),
        "online": view.online,
        "paused": view.paused,
        "waiting": view.waiting,
        "in_flight": view.in_flight,
        "held": view.held,
        "labels": labels_of(&view.labels),
        "parked_lanes": parked,
    });
    Ok(([JSON], document.to_string()).into_response())
}

pub(crate) fn labels_of(labels: &Labels) -> Value {
    let pairs = labels.iter();
    let pairs = pairs.map(|(name, value)| (name.as_str().to_owned(), json!(value.as_str())));
    Value::Object(pairs.collect())
}

/// A parked lane: what parked it and why, and how much waits behind that.
async fn parked_lane(api: &Api, lane: &LaneView) -> Result<Value, Problem> {
    let mut document = json!({
        "parked_by": lane.by.to_string(),
        "generation": lane.generation,
        "behind": lane.behind,
        "held": lane.held,
    });
    // Its name and the reason stand in the records of the message, which may be forgotten by now.
    let history = look::records(api, lane.last).await?;
    if let Some((_, accepted)) = history.accepted() {
        document["lane"] = json!(accepted.lane);
    }
    if let Some((at, outcome)) = history.last_end() {
        document["since"] = json!(at.to_string());
        document["reason"] = json!({ "code": outcome.code, "detail": outcome.detail });
    }
    Ok(document)
}

/// `GET /v1/counters`: where all messages are, which always adds up (I4).
pub(crate) async fn counters(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.access(&headers, Scope::Read)?;
    let Reply::Counted(counters) = api.centre().ask(Input::Count).await? else {
        unreachable!("the question is answered by its own reply");
    };
    let mut document = serde_json::to_value(&*counters).expect("counters are numbers");
    document["conserved"] = json!(counters.conserved());
    Ok(([JSON], document.to_string()).into_response())
}
