//! What operators do and see: recipients made known, messages counted.

use crate::problem::Problem;
use crate::service::{Api, JSON};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_rules::AgentName;
use countersign_rules::delivery::{Input, Reply};
use serde_json::json;

/// `PUT /v1/agents/{agent}`: from now on it can be sent to, although it never connected.
pub(crate) async fn register(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(agent): Path<String>,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Operate)?;
    let agent = AgentName::parse(&agent).map_err(|error| {
        Problem::new(
            crate::codes::FIELD,
            format!("{agent:?} is no name: {error}"),
        )
    })?;
    let document = json!({ "agent": agent.as_str(), "tenant": tenant.as_str() });
    match api.centre().ask(Input::Register { tenant, agent }).await? {
        Reply::Registered(result) => result?,
        other => unreachable!("a registration is answered by its own reply, not {other:?}"),
    }
    Ok(([JSON], document.to_string()).into_response())
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
