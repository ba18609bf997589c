//! Dead letters: messages that nobody has and that a person has to see to, one by one and by cause.
//!
//! A list is whole: what has left the memory is in it as well. Looking changes nothing.

use crate::problem::Problem;
use crate::select::{Selection, named, select};
use crate::service::{Api, JSON};
use crate::{codes, look, message};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_rules::delivery::{
    Candidate, Cursor, Facts, Filter, Place, Unread, dead_letters, is_dead_letter,
};
use countersign_rules::{AgentName, MessageId, Timestamp, TypeName};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Letters to a page, when nothing else is asked for, and at most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1000;

/// Most letters that are grouped in one answer; more than a person can see to.
const GROUPED_MAX: usize = 100_000;

/// Most agents that a group names.
const AGENTS_NAMED_MAX: usize = 20;

/// Longest text of a cause, in characters.
const CAUSE_CHARS_MAX: usize = 200;

/// What a list is narrowed to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    agent: Option<String>,
    r#type: Option<String>,
    code: Option<String>,
    since: Option<String>,
    until: Option<String>,
    discarded: Option<bool>,
    cursor: Option<String>,
    limit: Option<usize>,
}

impl Asked {
    fn filter(&self) -> Result<Filter, Problem> {
        Ok(Filter {
            agent: self.agent.as_deref().map(agent).transpose()?,
            kind: self.r#type.as_deref().map(kind).transpose()?,
            code: self.code.clone(),
            states: dead_letters(),
            since: instant("since", self.since.as_deref())?,
            until: instant("until", self.until.as_deref())?,
            discarded: Some(self.discarded.unwrap_or(false)),
            by_ids: false,
        })
    }

    fn after(&self) -> Result<Option<Cursor>, Problem> {
        let id = self.cursor.as_deref().map(str::parse::<MessageId>);
        let id = id.transpose().map_err(|_| {
            let detail = "the cursor is not one that a page gave as its next";
            Problem::new(codes::FIELD, detail)
        })?;
        Ok(id.map(|id| Cursor(u128::from_be_bytes(id.0))))
    }
}

/// `GET /v1/dead-letters`.
pub(crate) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let Query(asked) = asked.map_err(|error| Problem::new(codes::FIELD, error.body_text()))?;
    let limit = asked.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let filter = asked.filter()?;
    let found = select(&api, &tenant, &filter, asked.after()?, limit).await?;
    let unread = found
        .unread
        .iter()
        .map(|(one, why)| (one.id, unreadable(one, why)));
    let read = found
        .facts
        .iter()
        .map(|facts| (facts.candidate.id, letter(facts)));
    let letters: BTreeMap<_, _> = read.chain(unread).collect();
    let document = json!({
        "dead_letters": letters.into_values().collect::<Vec<_>>(),
        "as_of": found.as_of,
        "next": found.next.map(|next| MessageId(next.0.to_be_bytes()).to_string()),
    });
    Ok(([JSON], document.to_string()).into_response())
}

/// `GET /v1/dead-letters/groups`.
pub(crate) async fn groups(
    State(api): State<Api>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let Query(asked) = asked.map_err(|error| Problem::new(codes::FIELD, error.body_text()))?;
    let found = select(&api, &tenant, &asked.filter()?, None, GROUPED_MAX).await?;
    Ok(([JSON], grouped(&found).to_string()).into_response())
}

/// `GET /v1/dead-letters/{id}`: one, with all that was tried.
pub(crate) async fn one(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let id = look::message_id(&id)?;
    let view = look::view(&api, &tenant, id).await?;
    if !matches!(view.place, Place::Ended(end) if is_dead_letter(end)) {
        let state = message::state(view.place);
        let detail = format!("message {id} is no dead letter: it is {state}");
        return Err(Problem::new(codes::UNKNOWN_MESSAGE, detail));
    }
    let history = look::history(&api, &view).await?;
    let (found, _) = named(&api, &tenant, &[id]).await?;
    let letter = found.into_iter().next().map(|(one, facts)| match facts {
        Ok(facts) => letter(&facts),
        Err(why) => unreadable(&one, &why),
    });
    let raw = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).ok();
        text.and_then(|text| RawValue::from_string(text).ok())
    };
    let document = OneLetter {
        dead_letter: letter,
        message: raw(message::describe(&view, &history)),
        timeline: raw(message::timeline(&view, &history, &tenant)),
    };
    let document = serde_json::to_vec(&document).expect("texts and numbers are JSON");
    Ok(([JSON], document).into_response())
}

/// One letter with its message and its timeline, which go out as they are elsewhere.
#[derive(serde::Serialize)]
struct OneLetter {
    dead_letter: Option<Value>,
    message: Option<Box<RawValue>>,
    timeline: Option<Box<RawValue>>,
}

/// A letter as it is shown.
pub(crate) fn letter(facts: &Facts) -> Value {
    let candidate = &facts.candidate;
    let mut letter = known(candidate);
    letter["type"] = json!(facts.kind);
    letter["code"] = json!(facts.code);
    letter["detail"] = json!(facts.detail);
    letter["attempts"] = json!(facts.attempts);
    letter["accepted_at"] = json!(facts.accepted_at.to_string());
    letter["ended_at"] = json!(facts.ended_at.map(|at| at.to_string()));
    letter
}

fn unreadable(candidate: &Candidate, why: &Unread) -> Value {
    let mut letter = known(candidate);
    letter["unreadable"] = json!({ "position": why.position, "reason": why.why });
    letter
}

fn known(candidate: &Candidate) -> Value {
    let id = candidate.id;
    json!({
        "id": id.to_string(),
        "agent": candidate.agent.as_str(),
        "state": candidate.end.map_or("waiting", |end| message::state(Place::Ended(end))),
        "generation": candidate.generation,
        "pushes": candidate.pushes,
        "bytes": candidate.bytes,
        "discarded": candidate.is_discarded,
        "agent_remembers": !candidate.is_below_floor,
        "links": { "message": format!("/v1/messages/{id}"), "dead_letter": format!("/v1/dead-letters/{id}") },
    })
}

/// Letters of one cause.
struct Group<'a> {
    count: usize,
    first: &'a Facts,
    last: &'a Facts,
    agents: BTreeSet<&'a AgentName>,
}

fn grouped(found: &Selection) -> Value {
    let mut groups: BTreeMap<(&str, &str, &'static str, String), Group<'_>> = BTreeMap::new();
    for facts in &found.facts {
        let state = facts
            .candidate
            .end
            .map_or("", |end| message::state(Place::Ended(end)));
        let cause = (
            facts.kind.as_str(),
            facts.code.as_str(),
            state,
            cause(&facts.detail),
        );
        let group = groups.entry(cause).or_insert_with(|| Group {
            count: 0,
            first: facts,
            last: facts,
            agents: BTreeSet::new(),
        });
        group.count += 1;
        group.agents.insert(&facts.candidate.agent);
        if facts.ended_at < group.first.ended_at {
            group.first = facts;
        }
        if facts.ended_at >= group.last.ended_at {
            group.last = facts;
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
    let time = |facts: &Facts| facts.ended_at.map(|at| at.to_string());
    let shown = groups.iter().map(|((kind, code, state, text), group)| {
        json!({
            "type": kind,
            "code": code,
            "state": state,
            "text": text,
            "count": group.count,
            "first": time(group.first),
            "last": time(group.last),
            "agents": group.agents.iter().take(AGENTS_NAMED_MAX).map(|agent| agent.as_str()).collect::<Vec<_>>(),
            "agents_count": group.agents.len(),
            "example": group.last.candidate.id.to_string(),
        })
    });
    json!({
        "groups": shown.collect::<Vec<_>>(),
        "count": found.facts.len(),
        "unreadable": found.unread.len(),
        "as_of": found.as_of,
        "complete": found.next.is_none(),
    })
}

/// The text of a reason without what differs from message to message: numbers, ids, spaces.
fn cause(detail: &str) -> String {
    let mut cause = String::new();
    for word in detail.split_whitespace() {
        if !cause.is_empty() {
            cause.push(' ');
        }
        // Longer runs of hexadecimal digits with one decimal among them are ids.
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let length = match is_token(first) {
                true => rest.find(|c| !is_token(c)).unwrap_or(rest.len()),
                false => first.len_utf8(),
            };
            let (token, behind) = rest.split_at(length);
            let is_variable = token.contains(|c: char| c.is_ascii_digit());
            cause.push_str(if is_variable { "#" } else { token });
            rest = behind;
        }
    }
    match cause.char_indices().nth(CAUSE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &cause[..end]),
        None => cause,
    }
}

pub(crate) fn agent(text: &str) -> Result<AgentName, Problem> {
    AgentName::parse(text)
        .map_err(|error| Problem::new(codes::FIELD, format!("agent {text:?} is no name: {error}")))
}

pub(crate) fn kind(text: &str) -> Result<TypeName, Problem> {
    TypeName::parse(text)
        .map_err(|error| Problem::new(codes::FIELD, format!("type {text:?} is none: {error}")))
}

pub(crate) fn instant(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let at = text.map(str::parse::<jiff::Timestamp>).transpose();
    let at = at.map_err(|error| {
        let example = "write it like 2026-12-24T18:00:00Z";
        Problem::new(
            codes::FIELD,
            format!("{name} is no instant: {error}; {example}"),
        )
    })?;
    Ok(at.map(|at| Timestamp(at.as_microsecond())))
}

#[cfg(test)]
mod tests {
    use super::cause;

    #[test]
    fn a_cause_has_no_numbers_and_no_ids() {
        let one = cause("row 17 of 01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f: deadlock  (code=40P01)");
        let other = cause("row 4 of 01935d3c-0000-7c4b-9f10-5b0e8c1d2a3f: deadlock (code=40P02)");
        assert_eq!(one, other);
        assert_eq!(one, "row # of #: deadlock (code=#)");
        assert_ne!(one, cause("row 17 is gone"));
    }

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        assert_eq!(cause(&"é".repeat(300)).chars().count(), 201);
    }
}
