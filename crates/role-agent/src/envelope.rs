//! The one argument of a push, read only as far as needed.
//!
//! Promise: the envelope is kept byte for byte; reading it changes nothing, so the document that
//! leaves a sink has the hash it had at the sender. Unknown fields are ignored, because a newer hub
//! may add some.

use crate::fetch::LargeBody;
use bytes::Bytes;
use countersign_rules::site::{Arrival, Resumed};
use countersign_rules::{LaneName, LaneRule, MessageId, TypeName};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A text that borrows from the envelope where it can.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// What the inbox has to know.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(deserialize_with = "number")]
    seq: u64,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    lane: Option<Text<'a>>,
    #[serde(borrow)]
    lane_rule: Option<Text<'a>>,
    #[serde(default = "first")]
    attempt: u32,
    #[serde(default = "first")]
    generation: u32,
    #[serde(default)]
    max_attempts: Option<u32>,
    #[serde(borrow)]
    ack_url: Option<Text<'a>>,
    #[serde(borrow)]
    data_ref: Option<DataRef<'a>>,
}

/// Where a body is that was too large to be pushed.
#[derive(Deserialize)]
pub(crate) struct DataRef<'a> {
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(deserialize_with = "number")]
    bytes: u64,
    #[serde(borrow)]
    sha256: Text<'a>,
}

impl DataRef<'_> {
    /// `None` when it names no body that can be checked.
    pub(crate) fn read(&self, message: MessageId) -> Option<LargeBody> {
        let digits = self.sha256.0.as_bytes();
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let mut sha256 = [0; 32];
        for (at, byte) in sha256.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&self.sha256.0[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(LargeBody {
            message,
            url: self.url.0.clone().into_owned(),
            bytes: self.bytes,
            sha256,
        })
    }
}

/// What the work has to know.
#[derive(Deserialize)]
pub(crate) struct Content<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) message_type: Text<'a>,
    #[serde(borrow)]
    pub(crate) id: Text<'a>,
    #[serde(deserialize_with = "number")]
    pub(crate) seq: u64,
    #[serde(borrow)]
    pub(crate) lane: Option<Text<'a>>,
    #[serde(default = "first")]
    pub(crate) generation: u32,
    #[serde(borrow)]
    pub(crate) content_type: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) correlation_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) causation_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) traceparent: Option<Text<'a>>,
    /// `null` is a document too.
    #[serde(borrow, default, deserialize_with = "some")]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) data_ref: Option<DataRef<'a>>,
}

fn some<'a, D: serde::Deserializer<'a>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

fn first() -> u32 {
    1
}

/// Reads a number that may have come as a string, because JavaScript rounds above 2^53.
pub(crate) fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<'a> {
        Number(u64),
        Text(#[serde(borrow)] Cow<'a, str>),
    }
    match Either::deserialize(from)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// A lane that goes on, by the message whose end had parked it.
#[derive(Debug, Deserialize)]
pub(crate) struct ResumedLane {
    id: String,
    #[serde(default = "first")]
    generation: u32,
}

impl ResumedLane {
    /// One without a usable id names nothing.
    pub(crate) fn read(&self) -> Option<Resumed> {
        Some(Resumed {
            id: self.id.parse().ok()?,
            generation: self.generation,
        })
    }
}

/// What the hub says of lanes over a living connection.
#[derive(Debug, Deserialize)]
struct ResumedLanes {
    lanes: Vec<ResumedLane>,
}

/// Reads the argument of [`LANES_RESUMED`].
pub(crate) fn read_resumed(argument: &[u8]) -> Result<Vec<Resumed>, serde_json::Error> {
    let said: ResumedLanes = serde_json::from_slice(argument)?;
    Ok(said.lanes.iter().filter_map(ResumedLane::read).collect())
}

/// The invocation by which the hub names lanes that go on. No message type has such a name.
pub(crate) const LANES_RESUMED: &str = "lanes:resumed";

/// A push as the inbox takes it.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) arrival: Arrival,
    pub(crate) ack_url: Option<String>,
    /// The body that has to be fetched first.
    pub(crate) body: Option<LargeBody>,
}

/// Why a push cannot be taken in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Nothing can be said about it, not even to the centre.
    #[error("the pushed message has no usable id: {0}")]
    NoId(String),
}

/// Reads the envelope of a push.
///
/// One that cannot be read but has an id is taken in all the same: working on it then fails for
/// good, and the centre hears why.
pub(crate) fn read(envelope: Bytes) -> Result<Pushed, NotTaken> {
    match read_head(&envelope) {
        Ok((arrival, ack_url, body)) => Ok(Pushed {
            arrival: Arrival {
                envelope,
                ..arrival
            },
            ack_url,
            body,
        }),
        Err(why) => match salvage(&envelope) {
            Some(arrival) => Ok(Pushed {
                arrival: Arrival {
                    envelope,
                    ..arrival
                },
                ack_url: None,
                body: None,
            }),
            None => Err(NotTaken::NoId(why)),
        },
    }
}

fn read_head(envelope: &[u8]) -> Result<(Arrival, Option<String>, Option<LargeBody>), String> {
    let head: Head<'_> = serde_json::from_slice(envelope).map_err(|error| error.to_string())?;
    let arrival = Arrival {
        id: head.id.0.parse().map_err(|error| format!("id: {error}"))?,
        generation: head.generation,
        seq: head.seq,
        attempt: head.attempt,
        lane: lane(head.lane.as_ref())?,
        rule: rule(head.lane_rule.as_ref())?,
        // Whether a type is missing or none is found when the message is worked on.
        kind: head.kind.and_then(|kind| TypeName::parse(&kind.0).ok()),
        attempts_max: head.max_attempts,
        envelope: Bytes::new(),
    };
    let body = head.data_ref.and_then(|body| body.read(arrival.id));
    Ok((arrival, head.ack_url.map(|url| url.0.into_owned()), body))
}

fn lane(text: Option<&Text<'_>>) -> Result<LaneName, String> {
    match text {
        None => Ok(LaneName::default_lane()),
        Some(text) => LaneName::parse(&text.0).map_err(|error| format!("lane: {error}")),
    }
}

fn rule(text: Option<&Text<'_>>) -> Result<LaneRule, String> {
    let Some(Text(word)) = text else {
        return Ok(LaneRule::Block);
    };
    LaneRule::parse(word).ok_or_else(|| format!("lane_rule: {word:?} is none of block, skip, park"))
}

/// What can be made of an envelope that breaks the rules.
fn salvage(envelope: &[u8]) -> Option<Arrival> {
    let value: serde_json::Value = serde_json::from_slice(envelope).ok()?;
    let id: MessageId = value.get("id")?.as_str()?.parse().ok()?;
    let small = |name: &str| value.get(name)?.as_u64()?.try_into().ok();
    let lane = value
        .get("lane")
        .and_then(|lane| LaneName::parse(lane.as_str()?).ok());
    Some(Arrival {
        id,
        generation: small("generation").unwrap_or(1),
        seq: value
            .get("seq")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0),
        attempt: small("attempt").unwrap_or(1),
        lane: lane.unwrap_or_else(LaneName::default_lane),
        rule: LaneRule::Block,
        kind: None,
        attempts_max: None,
        envelope: Bytes::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f";

    fn read_text(text: &str) -> Result<Pushed, NotTaken> {
        read(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn an_envelope_is_read_and_kept_byte_for_byte() {
        let text = format!(
            r#"{{ "id":"{ID}","type":"document.insert","to":{{"agent":"lyon"}},"seq":7, "lane":"invoices","lane_rule":"park","attempt":2,
            "generation":3,"max_attempts":4,"ack_url":"http://127.0.0.1:7421/acks/v1/acks","new_field":[1],"data":{{"a" : 1.0}}}}"#
        );
        let pushed = read_text(&text).unwrap();
        assert_eq!(pushed.arrival.envelope, text.as_bytes());
        assert_eq!(pushed.arrival.id.to_string(), ID);
        assert_eq!((pushed.arrival.seq, pushed.arrival.attempt), (7, 2));
        assert_eq!(
            (pushed.arrival.generation, pushed.arrival.attempts_max),
            (3, Some(4))
        );
        assert_eq!(pushed.arrival.lane.as_str(), "invoices");
        assert_eq!(pushed.arrival.rule, LaneRule::Park);
        let kind = pushed.arrival.kind.unwrap();
        assert_eq!(kind.as_str(), "document.insert");
        assert_eq!(
            pushed.ack_url.as_deref(),
            Some("http://127.0.0.1:7421/acks/v1/acks")
        );
    }

    #[test]
    fn a_number_beyond_what_javascript_holds_may_come_as_a_string() {
        let text = format!(r#"{{"id":"{ID}","type":"a","seq":"18446744073709551615"}}"#);
        let arrival = read_text(&text).unwrap().arrival;
        assert_eq!(arrival.seq, u64::MAX);
        assert_eq!(arrival.lane, LaneName::default_lane());
    }

    #[test]
    fn an_envelope_that_breaks_the_rules_is_taken_in_when_it_has_an_id() {
        let text = format!(r#"{{"id":"{ID}","seq":-4,"generation":2,"lane":""}}"#);
        let arrival = read_text(&text).unwrap().arrival;
        assert_eq!(
            (arrival.id.to_string().as_str(), arrival.generation),
            (ID, 2)
        );
    }

    #[test]
    fn an_envelope_without_an_id_is_not_taken_in() {
        assert!(matches!(
            read_text(r#"{"type":"a","seq":1}"#),
            Err(NotTaken::NoId(_))
        ));
        assert!(matches!(
            read_text(r#"{"id":"7","seq":1}"#),
            Err(NotTaken::NoId(_))
        ));
    }
}
