//! What others wrote down: lists of sends and of effects, one JSON object a line; and envelopes.

use crate::exit::{Exit, Failure};
use countersign_checker::{Checker, Key};
use countersign_rules::{AgentName, MessageId};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// One confirmed send. Those of one lane stand in the order in which they were sent.
#[derive(Debug, Deserialize)]
struct Sent {
    id: String,
    lane: Option<serde_json::Value>,
}

/// One row of the back office: the message it came from, and which life of it.
#[derive(Debug, Deserialize)]
struct Effect {
    message_id: String,
    generation: Option<u32>,
    /// `<message id>:<generation>`, as the agent sends it.
    idempotency_key: Option<String>,
}

pub(super) fn sends(path: &Path, checker: &mut Checker) -> Result<(), Failure> {
    checker.tell_of_sends();
    each_line(path, |sent: Sent| {
        let id = id(&sent.id)?;
        let lane = sent.lane.map(|lane| lane.to_string());
        checker.sent(id, lane.as_deref());
        Ok(())
    })
}

pub(super) fn effects(path: &Path, checker: &mut Checker) -> Result<(), Failure> {
    checker.tell_of_effects();
    each_line(path, |effect: Effect| {
        let of_key = effect.idempotency_key.as_deref();
        let of_key = of_key.and_then(|key| key.rsplit_once(':')?.1.parse().ok());
        checker.effect(Key {
            id: id(&effect.message_id)?,
            generation: effect.generation.or(of_key).unwrap_or(1),
        });
        Ok(())
    })
}

fn id(text: &str) -> Result<MessageId, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn each_line<T: for<'de> Deserialize<'de>>(
    path: &Path,
    mut take: impl FnMut(T) -> Result<(), String>,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file(path, "read", &error);
    let lines = BufReader::new(File::open(path).map_err(failed)?).lines();
    for (number, line) in lines.enumerate() {
        let line = line.map_err(failed)?;
        if line.trim().is_empty() {
            continue;
        }
        let read = serde_json::from_str(&line).map_err(|error| error.to_string());
        read.and_then(&mut take).map_err(|why| {
            Failure::new(
                Exit::Usage,
                "E-VERIFY-LIST",
                format!("line {} of {} does not read", number + 1, path.display()),
                why,
                "write one JSON object a line: {\"id\":\"…\",\"lane\":\"…\"} for a send, \
                 {\"message_id\":\"…\",\"generation\":1} for an effect",
            )
        })?;
    }
    Ok(())
}

/// What an envelope tells beside what its record holds.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) to: Option<AgentName>,
    pub(super) body_sha256: Option<[u8; 32]>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    to: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_ref: Option<LargeBody>,
}

/// A body that was fetched before its envelope was taken in, and compared with this.
#[derive(Deserialize)]
struct LargeBody {
    sha256: String,
}

/// Reads an envelope; one that breaks the rules tells nothing.
pub(super) fn head(envelope: &[u8]) -> Head {
    let Ok(read) = serde_json::from_slice::<Envelope<'_>>(envelope) else {
        return Head::default();
    };
    let to = read
        .to
        .and_then(|to| serde_json::from_str::<String>(to.get()).ok());
    let large = read.data_ref.and_then(|body| from_hex(&body.sha256));
    let digest = large.or_else(|| {
        read.data.map(|data| {
            let digest =
                aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data.get().as_bytes());
            let mut bytes = [0; 32];
            bytes.copy_from_slice(digest.as_ref());
            bytes
        })
    });
    Head {
        to: to.and_then(|to| AgentName::parse(&to).ok()),
        body_sha256: digest,
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}
