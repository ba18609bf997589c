//! Senders: one a lane, each message repeated with its key until it is answered.

use crate::Args;
use crate::site::{AGENT, Site};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// A message that was answered as accepted.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) lane: u64,
    pub(crate) index: u64,
}

/// Senders at work.
pub(crate) struct Senders(JoinSet<Result<Vec<Sent>>>);

/// Starts one sender a lane.
pub(crate) fn start(args: &Args, site: &std::sync::Arc<Site>) -> Senders {
    let mut senders = JoinSet::new();
    let begun = Instant::now();
    for lane in 0..args.lanes {
        let (site, args) = (std::sync::Arc::clone(site), args.clone());
        senders.spawn(async move { send_lane(&args, &site, lane, begun).await });
    }
    Senders(senders)
}

impl Senders {
    /// Waits until everything was sent.
    pub(crate) async fn finish(mut self) -> Result<Vec<Sent>> {
        let mut sent = Vec::new();
        while let Some(lane) = self.0.join_next().await {
            sent.extend(lane??);
        }
        Ok(sent)
    }
}

async fn send_lane(args: &Args, site: &Site, lane: u64, begun: Instant) -> Result<Vec<Sent>> {
    let mut sent = Vec::new();
    let mut number = lane;
    let is_over = |number| match (args.messages, args.duration) {
        (Some(messages), _) => number >= messages,
        (None, duration) => begun.elapsed() >= duration.unwrap_or_default(),
    };
    while !is_over(number) {
        if let Some(rate) = args.rate {
            sleep_until(begun + Duration::from_micros(number * 1_000_000 / rate)).await;
        }
        site.until_few_wait().await;
        let index = number / args.lanes;
        let id = send(site, number, lane, index).await?;
        sent.push(Sent { id, lane, index });
        number += args.lanes;
    }
    Ok(sent)
}

/// Sends until an answer says what became of the message.
async fn send(site: &Site, number: u64, lane: u64, index: u64) -> Result<String> {
    let body = json!({
        "to": { "agent": AGENT },
        "type": "document.insert",
        "order_key": format!("lane-{lane}"),
        "data": { "number": number.to_string(), "lane": lane, "index": index },
    });
    loop {
        match try_send(site, number, &body).await {
            Ok(Some(id)) => return Ok(id),
            Ok(None) | Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn try_send(site: &Site, number: u64, body: &Value) -> Result<Option<String>> {
    let request = site.http.post(format!("{}/v1/messages", site.api));
    let request = request.bearer_auth(site.token().await?).json(body);
    let answer = request
        .header("idempotency-key", format!("message-{number}"))
        .send()
        .await?;
    let status = answer.status();
    let answer: Value = answer.json().await?;
    if status.is_success() {
        let id = answer["id"]
            .as_str()
            .context("an accepted message has an id")?;
        return Ok(Some(id.to_owned()));
    }
    match status.as_u16() {
        401 => site.forget_token().await,
        507 => {
            site.refused_for_space.fetch_add(1, Ordering::Relaxed);
        }
        _ if status.is_client_error() => eprintln!("refused with {status}: {answer}"),
        _ => {}
    }
    Ok(None)
}
