//! `POST /v1/messages`.

use crate::fanout;
use crate::problem::Problem;
use crate::request::Asked;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_driver::{Answer, Handle};
use countersign_rules::delivery::{
    Centre, FanOutReceipt, Input, Receipt, Refusal, Reply, Submission,
};
use countersign_rules::{AgentName, MessageId};
use std::fmt::Write;

/// A send that is on its way to the engine.
#[derive(Debug)]
pub(crate) struct Brought {
    /// Its recipient, when it is one.
    agent: Option<AgentName>,
    answer: Answer<Centre>,
}

/// What a sender is told.
#[derive(Debug)]
pub(crate) enum Accepted {
    One(Receipt, AgentName),
    Many(FanOutReceipt),
}

/// Brings a send to the engine; the answer comes once it is durable.
pub(crate) async fn submit(centre: &Handle<Centre>, asked: Asked) -> Result<Accepted, Problem> {
    bring(centre, asked).await?.received().await
}

/// Brings a send to the engine, and waits only for its place in the queue.
pub(crate) async fn bring(centre: &Handle<Centre>, asked: Asked) -> Result<Brought, Problem> {
    let (agent, input) = match asked {
        Asked::One(mut submission) => {
            look_up(centre, &mut submission).await?;
            (Some(submission.to.clone()), Input::Submit(submission))
        }
        // One that refers to a large body is refused by the rules, whatever the body is.
        Asked::Many(fan_out) => (None, Input::FanOut(fan_out)),
    };
    let answer = centre.bring(input).await?;
    Ok(Brought { agent, answer })
}

/// Completes a submission that refers to a large body by what the centre knows of that body.
async fn look_up(centre: &Handle<Centre>, submission: &mut Submission) -> Result<(), Problem> {
    let Some(body) = &mut submission.body else {
        return Ok(());
    };
    let look = Input::LookBody {
        tenant: submission.tenant.clone(),
        body: body.id,
    };
    let Reply::Body(Some(known)) = centre.ask(look).await? else {
        return Err(Refusal::UnknownBody { body: body.id }.into());
    };
    (*body, submission.body_sha256) = (known.body, known.sha256);
    // The same document sent once more is the same message, whatever body brought it.
    for (mark, byte) in submission.fingerprint.iter_mut().zip(known.sha256) {
        *mark ^= byte;
    }
    Ok(())
}

impl Brought {
    /// Waits for what became of it.
    pub(crate) async fn received(self) -> Result<Accepted, Problem> {
        match (self.answer.await?, self.agent) {
            (Reply::Submitted(result), Some(agent)) => Ok(Accepted::One(result?, agent)),
            (Reply::FannedOut(result), _) => Ok(Accepted::Many(result?)),
            (other, _) => unreachable!("a send is answered by its own reply, not {other:?}"),
        }
    }
}

impl Accepted {
    pub(crate) fn is_repeated(&self) -> bool {
        match self {
            Accepted::One(receipt, _) => receipt.repeated,
            Accepted::Many(receipt) => receipt.repeated,
        }
    }

    fn id(&self) -> MessageId {
        match self {
            Accepted::One(receipt, _) => receipt.id,
            Accepted::Many(receipt) => receipt.id,
        }
    }

    /// The receipt as JSON.
    pub(crate) fn document(&self) -> String {
        match self {
            Accepted::One(got, agent) => receipt(got, agent.as_str()),
            Accepted::Many(got) => fanout::receipt(got),
        }
    }

    /// 202 for a new message, 200 for one whose key was known.
    pub(crate) fn response(&self) -> Response {
        let location = format!("/v1/messages/{}", self.id());
        let json = (header::CONTENT_TYPE, "application/json".to_owned());
        let headers = [json, (header::LOCATION, location)];
        let body = self.document();
        match self.is_repeated() {
            true => {
                let replayed = [("idempotency-replayed", "true")];
                (StatusCode::OK, replayed, headers, body).into_response()
            }
            false => (StatusCode::ACCEPTED, headers, body).into_response(),
        }
    }
}

fn receipt(receipt: &Receipt, agent: &str) -> String {
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
