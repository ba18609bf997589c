//! `POST /v1/messages`.

use crate::problem::Problem;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_driver::{Answer, Handle};
use countersign_rules::delivery::{Centre, Input, Receipt, Reply, Submission};
use std::fmt::Write;

/// Brings a submission to the engine; the answer comes once it is durable.
pub(crate) async fn submit(
    centre: &Handle<Centre>,
    submission: Submission,
) -> Result<Receipt, Problem> {
    received(bring(centre, submission).await?).await
}

/// Brings a submission to the engine, and waits only for its place in the queue.
pub(crate) async fn bring(
    centre: &Handle<Centre>,
    submission: Submission,
) -> Result<Answer<Centre>, Problem> {
    Ok(centre.bring(Input::Submit(Box::new(submission))).await?)
}

/// Waits for what became of a submission.
pub(crate) async fn received(answer: Answer<Centre>) -> Result<Receipt, Problem> {
    match answer.await? {
        Reply::Submitted(result) => Ok(result?),
        other => unreachable!("a submission is answered by its own reply, not {other:?}"),
    }
}

/// The receipt as JSON.
pub(crate) fn receipt(receipt: &Receipt, agent: &str) -> String {
    let Receipt {
        id,
        position,
        epoch,
        seq,
        repeated,
        online,
    } = receipt;
    let mut to = String::with_capacity(320);
    // Names need no escaping: they were parsed. The epoch is a text because JavaScript rounds.
    write!(
        to,
        r#"{{"id":"{id}","state":"accepted","agent":"{agent}","seq":{seq},"position":{position},"epoch":"{epoch}","online":{online},"repeated":{repeated},"links":{{"self":"/v1/messages/{id}","timeline":"/v1/messages/{id}/timeline"}}}}"#,
    )
    .expect("writing to memory cannot fail");
    to
}

/// 202 for a new message, 200 for one whose key was known.
pub(crate) fn response(got: &Receipt, agent: &str) -> Response {
    let location = format!("/v1/messages/{}", got.id);
    let json = (header::CONTENT_TYPE, "application/json".to_owned());
    let body = receipt(got, agent);
    if got.repeated {
        let replayed = [("idempotency-replayed", "true")];
        (
            StatusCode::OK,
            replayed,
            [json, (header::LOCATION, location)],
            body,
        )
            .into_response()
    } else {
        (
            StatusCode::ACCEPTED,
            [json, (header::LOCATION, location)],
            body,
        )
            .into_response()
    }
}
