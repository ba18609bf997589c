//! `POST /v1/messages/batch`: many messages, each judged alone, all in one flush.

use crate::codes;
use crate::problem::Problem;
use crate::request::{self, Sender};
use crate::submit;
use bytes::Bytes;
use countersign_driver::Handle;
use countersign_rules::delivery::Centre;
use countersign_rules::{MessageId, Timestamp, limits};
use futures_util::future::join_all;
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
/// A message's idempotency key is its own `id`; a key for the whole request makes no sense here.
pub(crate) async fn submit_all(
    centre: &Handle<Centre>,
    bytes: &Bytes,
    sender: &Sender<'_>,
    now: Timestamp,
) -> Result<String, Problem> {
    let text =
        std::str::from_utf8(bytes).map_err(|error| Problem::new(codes::BODY, error.to_string()))?;
    let body: Body<'_> =
        serde_json::from_str(text).map_err(|error| Problem::new(codes::BODY, error.to_string()))?;
    let count = body.messages.len();
    if count > limits::MESSAGES_PER_BATCH_MAX {
        let detail = format!(
            "{count} messages; at most {} are taken",
            limits::MESSAGES_PER_BATCH_MAX
        );
        return Err(Problem::new(codes::TOO_LARGE, detail));
    }
    let sender = &Sender {
        key: None,
        ..sender.clone()
    };
    let sends = body.messages.iter().map(|message| async move {
        let id = MessageId(*uuid::Uuid::now_v7().as_bytes());
        let submission = request::read(message.get(), bytes, sender, id, now)?;
        let agent = submission.to.clone();
        let receipt = submit::submit(centre, submission).await?;
        Ok::<_, Problem>((receipt, agent))
    });
    let mut to = String::from(r#"{"results":["#);
    for (index, result) in join_all(sends).await.into_iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let written = match result {
            Ok((receipt, agent)) => {
                let status = if receipt.repeated { 200 } else { 202 };
                let message = submit::receipt(&receipt, agent.as_str());
                write!(to, r#"{comma}{{"status":{status},"message":{message}}}"#)
            }
            Err(problem) => {
                let (status, document) = (problem.status().as_u16(), problem.document());
                write!(to, r#"{comma}{{"status":{status},"problem":{document}}}"#)
            }
        };
        written.expect("writing to memory cannot fail");
    }
    to.push_str("]}");
    Ok(to)
}
