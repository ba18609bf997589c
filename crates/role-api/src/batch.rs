//! `POST /v1/messages/batch`: many messages, each judged alone, all in one flush.

use crate::problem::Problem;
use crate::request::{self, Sender};
use crate::{body, codes, submit};
use bytes::Bytes;
use countersign_driver::{Answer, Handle};
use countersign_rules::delivery::{Centre, Receipt};
use countersign_rules::{AgentName, Timestamp, limits};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// Submits all messages of a batch, in order; answers with one result each, in order.
///
/// They are brought to the engine one behind the other, without waiting for each other, so that
/// they share a flush. A message's idempotency key is its own `id`; a key for the whole request
/// makes no sense here.
pub(crate) async fn submit_all(
    centre: &Handle<Centre>,
    bytes: &Bytes,
    sender: &Sender<'_>,
    now: Timestamp,
) -> Result<String, Problem> {
    let body: Body<'_> = body::parse(body::text(bytes)?)?;
    let count = body.messages.len();
    if count > limits::MESSAGES_PER_BATCH_MAX {
        let detail = format!(
            "{count} messages; at most {} are taken",
            limits::MESSAGES_PER_BATCH_MAX
        );
        return Err(Problem::new(codes::TOO_LARGE, detail));
    }
    let sender = Sender {
        key: None,
        ..sender.clone()
    };
    // All are on their way before the first is waited for: one flush carries them.
    let mut brought = Vec::with_capacity(count);
    for message in body.messages {
        brought.push(bring(centre, message, bytes, &sender, now).await);
    }
    let mut to = String::from(r#"{"results":["#);
    for (index, brought) in brought.into_iter().enumerate() {
        let result = match brought {
            Ok((agent, answer)) => submit::received(answer)
                .await
                .map(|receipt| (receipt, agent)),
            Err(problem) => Err(problem),
        };
        if index > 0 {
            to.push(',');
        }
        write_result(&mut to, result);
    }
    to.push_str("]}");
    Ok(to)
}

async fn bring(
    centre: &Handle<Centre>,
    message: &RawValue,
    bytes: &Bytes,
    sender: &Sender<'_>,
    now: Timestamp,
) -> Result<(AgentName, Answer<Centre>), Problem> {
    let submission = request::read(message.get(), bytes, sender, now)?;
    let agent = submission.to.clone();
    Ok((agent, submit::bring(centre, submission).await?))
}

fn write_result(to: &mut String, result: Result<(Receipt, AgentName), Problem>) {
    let written = match result {
        Ok((receipt, agent)) => {
            let status = if receipt.repeated { 200 } else { 202 };
            let message = submit::receipt(&receipt, agent.as_str());
            write!(to, r#"{{"status":{status},"message":{message}}}"#)
        }
        Err(problem) => {
            let (status, document) = (problem.status().as_u16(), problem.document());
            write!(to, r#"{{"status":{status},"problem":{document}}}"#)
        }
    };
    written.expect("writing to memory cannot fail");
}
