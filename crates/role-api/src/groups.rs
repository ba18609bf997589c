//! Groups of agents: who is a member, and since which version.

use crate::codes;
use crate::operate::agent_name;
use crate::problem::Problem;
use crate::service::{Api, JSON};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_rules::GroupName;
use countersign_rules::delivery::{Input, Reply};
use serde::Deserialize;
use serde_json::json;

/// Most groups in one answer.
const PAGE_MAX: usize = 1000;

/// Which part of a list is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/groups`: by name, a page at a time.
pub(crate) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let Query(page) = page.map_err(|error| Problem::new(codes::FIELD, error.body_text()))?;
    let at_most = page.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let input = Input::LookGroups {
        tenant,
        after: page.after.as_deref().map(group_name).transpose()?,
        at_most,
    };
    let Reply::Groups(groups) = api.centre().ask(input).await? else {
        unreachable!("the question is answered by its own reply");
    };
    let last = groups.last().filter(|_| groups.len() == at_most);
    let next = last.map(|last| format!("/v1/groups?after={}&limit={at_most}", last.name));
    let groups = groups.iter().map(|group| {
        json!({
            "group": group.name.as_str(),
            "version": group.version,
            "members": group.members,
        })
    });
    let document = json!({ "groups": groups.collect::<Vec<_>>(), "next": next });
    Ok(([JSON], document.to_string()).into_response())
}

/// `GET /v1/groups/{group}`: its members by name, and its version.
pub(crate) async fn one(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(group): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let name = group_name(&group)?;
    let group = name.clone();
    let Reply::Group(view) = api.centre().ask(Input::LookGroup { tenant, group }).await? else {
        unreachable!("the question is answered by its own reply");
    };
    let view = view.ok_or_else(|| {
        let detail = format!("group {name} is not known");
        Problem::new(codes::UNKNOWN_GROUP, detail)
    })?;
    let members: Vec<_> = view.members.iter().map(|agent| agent.as_str()).collect();
    let document = json!({
        "group": name.as_str(),
        "version": view.version,
        "members": members,
    });
    Ok(([JSON], document.to_string()).into_response())
}

/// `PUT /v1/groups/{group}/members/{agent}`: a member from now on.
pub(crate) async fn add(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(names): Path<(String, String)>,
) -> Result<Response, Problem> {
    change(&api, &headers, names, true).await
}

/// `DELETE /v1/groups/{group}/members/{agent}`: no longer one. What was sent to it stays its own.
pub(crate) async fn remove(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(names): Path<(String, String)>,
) -> Result<Response, Problem> {
    change(&api, &headers, names, false).await
}

async fn change(
    api: &Api,
    headers: &HeaderMap,
    (group, agent): (String, String),
    member: bool,
) -> Result<Response, Problem> {
    let (access, tenant) = api.access(headers, Scope::Admin)?;
    let input = Input::ChangeMember {
        tenant,
        group: group_name(&group)?,
        agent: agent_name(&agent)?,
        member,
        by: access.subject.clone(),
    };
    let Reply::GroupVersion(version) = api.centre().ask(input).await? else {
        unreachable!("a change of a group is answered by its own reply");
    };
    let version = [("group-version", version?.to_string())];
    Ok((StatusCode::NO_CONTENT, version).into_response())
}

fn group_name(text: &str) -> Result<GroupName, Problem> {
    GroupName::parse(text)
        .map_err(|error| Problem::new(codes::FIELD, format!("{text:?} is no name: {error}")))
}
