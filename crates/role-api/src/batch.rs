//! `POST /v1/messages/batch`: many messages, each judged alone, all in one flush.

use crate::problem::Problem;
use crate::request::{self, Sender};
use crate::submit::{Accepted, Brought};
use crate::{body, codes, submit};
use bytes::Bytes;
use countersign_driver::Handle;
use countersign_rules::delivery::Centre;
use countersign_rules::{Timestamp, limits};
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
            Ok(brought) => brought.received().await,
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
) -> Result<Brought, Problem> {
    let asked = request::read(message.get(), bytes, sender, now)?;
    submit::bring(centre, asked).await
}

fn write_result(to: &mut String, result: Result<Accepted, Problem>) {
    let written = match result {
        Ok(accepted) => {
            let status = if accepted.is_repeated() { 200 } else { 202 };
            let message = accepted.document();
            write!(to, r#"{{"status":{status},"message":{message}}}"#)
        }
        Err(problem) => {
            let (status, document) = (problem.status().as_u16(), problem.document());
            write!(to, r#"{{"status":{status},"problem":{document}}}"#)
        }
    };
    written.expect("writing to memory cannot fail");
}
