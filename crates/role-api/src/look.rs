//! `GET /v1/messages/{id}` with its waiting, its timeline and its data.

use crate::history::{self, History};
use crate::message::{self, rank, reached};
use crate::problem::Problem;
use crate::request::parse_duration;
use crate::service::{Api, JSON};
use crate::{bodies, codes, fanout};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use countersign_access::Scope;
use countersign_driver::Health;
use countersign_rules::delivery::{Input, Reply, View};
use countersign_rules::{MessageId, Position, TenantName};
use serde::Deserialize;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Longest wait of one request: shorter than the patience of proxies.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    wait: Option<String>,
    timeout: Option<String>,
}

pub(crate) async fn message(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
    wait: Result<Query<Wait>, QueryRejection>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let id = message_id(&id)?;
    let Query(wait) = wait.map_err(|error| Problem::new(codes::FIELD, error.body_text()))?;
    let until = wait
        .aim()?
        .map(|(aim, timeout)| (aim, Instant::now() + timeout));
    let looked = match until {
        None => view(&api, &tenant, id).await,
        Some((aim, until)) => wait_for(&api, &tenant, id, aim, until).await,
    };
    let view = match looked {
        Err(problem) if problem.is(codes::FAN_OUT) => {
            return fanout::shown(&api, &tenant, id, until).await;
        }
        looked => looked?,
    };
    let history = history(&api, &view).await?;
    Ok(([JSON], message::describe(&view, &history)).into_response())
}

pub(crate) async fn timeline(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let view = view(&api, &tenant, message_id(&id)?).await?;
    let history = history(&api, &view).await?;
    Ok(([JSON], message::timeline(&view, &history, &tenant)).into_response())
}

/// The document as it was sent.
pub(crate) async fn data(
    State(api): State<Api>,
    method: Method,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let view = view(&api, &tenant, message_id(&id)?).await?;
    let history = history(&api, &view).await?;
    let Some((record, accepted)) = history.accepted() else {
        let why = history.missing.map(|missing| missing.reason);
        return Err(Problem::new(codes::UNREADABLE, why.unwrap_or_default()));
    };
    if accepted.body.is_some() {
        return bodies::data_of(&api, &view, &accepted, &method, &headers).await;
    }
    let (content_type, body) = match accepted.content_type {
        "" => (
            "application/json".to_owned(),
            record.slice_ref(accepted.data),
        ),
        other => {
            let text: String = serde_json::from_slice(accepted.data)
                .map_err(|error| Problem::new(codes::UNREADABLE, error.to_string()))?;
            (other.to_owned(), Bytes::from(text))
        }
    };
    // A document is somebody else's: a browser must not take it for a page of ours.
    let guards = [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
    ];
    Ok(([(header::CONTENT_TYPE, content_type)], guards, body).into_response())
}

impl Wait {
    /// How far to wait, and for how long; `None` when nobody wants to wait.
    fn aim(&self) -> Result<Option<(u8, Duration)>, Problem> {
        let Some(aim) = &self.wait else {
            return Ok(None);
        };
        let aim = rank(aim).ok_or_else(|| {
            let states = "accepted, waiting, pushed, stored or acknowledged";
            Problem::new(
                codes::FIELD,
                format!("wait={aim} names no state; use {states}"),
            )
        })?;
        let timeout = self.timeout.as_deref().unwrap_or("30s");
        let timeout = parse_duration(timeout).ok_or_else(|| {
            Problem::new(
                codes::FIELD,
                format!("timeout={timeout} is no duration; write 30s"),
            )
        })?;
        Ok(Some((aim, timeout.min(WAIT_MAX))))
    }
}

pub(crate) async fn view(api: &Api, tenant: &TenantName, id: MessageId) -> Result<View, Problem> {
    match api
        .centre()
        .ask(Input::Look {
            tenant: tenant.clone(),
            id,
        })
        .await?
    {
        Reply::Message(Some(view)) => Ok(view),
        _ => match fanout::view(api, tenant, id, None).await? {
            Some(_) => {
                let detail = format!("message {id} is a send to many: name one of its messages");
                Err(Problem::new(codes::FAN_OUT, detail))
            }
            None => Err(unknown(id)),
        },
    }
}

pub(crate) fn unknown(id: MessageId) -> Problem {
    let detail = format!("message {id} is not known");
    Problem::new(codes::UNKNOWN_MESSAGE, detail)
}

pub(crate) async fn history(api: &Api, view: &View) -> Result<History, Problem> {
    records(api, view.last).await
}

/// The records from `last` back to the first; none when `last` is zero.
pub(crate) async fn records(api: &Api, last: Position) -> Result<History, Problem> {
    let centre = api.centre().clone();
    let read = tokio::task::spawn_blocking(move || history::read(&centre, last)).await;
    read.map_err(|_| Problem::new(codes::STOPPED, "the process is ending"))
}

/// Looks until the message has come as far as `aim` or the time is over.
async fn wait_for(
    api: &Api,
    tenant: &TenantName,
    id: MessageId,
    aim: u8,
    until: Instant,
) -> Result<View, Problem> {
    let watch = api.watchers().watch(id);
    let mut health = api.centre().watch_health();
    loop {
        // Listening before looking: a change between the two is not missed.
        let mut changed = pin!(watch.changed());
        changed.as_mut().enable();
        let view = view(api, tenant, id).await?;
        if reached(&view) >= aim {
            return Ok(view);
        }
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

pub(crate) fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse()
        .map_err(|error| Problem::new(codes::FIELD, format!("{text:?} is no message id: {error}")))
}
