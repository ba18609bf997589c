//! `POST /v1/messages` and `POST /v1/messages/batch`.
//!
//! Nothing of a body is read before its sender is known.

use crate::problem::Problem;
use crate::request::{self, Sender};
use crate::service::{Api, JSON};
use crate::{batch, body, submit};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;

pub(crate) async fn one(State(api): State<Api>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = send(&api, &parts.headers, body).await;
    answer.unwrap_or_else(|problem| problem.traced(&parts.headers).into_response())
}

async fn send(api: &Api, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let (access, tenant) = api.access(headers, Scope::Send)?;
    api.accepting()?;
    let sender = Sender::new(&tenant, &access.subject, headers, api.types())?;
    let bytes = body::read_json(headers, body, api.one_bytes_max()).await?;
    let asked = request::read(body::text(&bytes)?, &bytes, &sender, api.now())?;
    let receipt = submit::submit(api.centre(), asked).await?;
    Ok(receipt.response())
}

pub(crate) async fn batch(State(api): State<Api>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = send_all(&api, &parts.headers, body).await;
    answer.unwrap_or_else(|problem| problem.traced(&parts.headers).into_response())
}

async fn send_all(api: &Api, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let (access, tenant) = api.access(headers, Scope::Send)?;
    api.accepting()?;
    let sender = Sender::new(&tenant, &access.subject, headers, api.types())?;
    let bytes = body::read_json(headers, body, api.batch_bytes_max()).await?;
    let results = batch::submit_all(api.centre(), &bytes, &sender, api.now()).await?;
    Ok(([JSON], results).into_response())
}
