//! Acknowledgements as the ack API takes them.

use crate::status::rfc3339_text;
use bytes::Bytes;
use countersign_driver::Handle;
use countersign_rules::Timestamp;
use countersign_rules::ack::{Outcome, Stage};
use countersign_rules::site::{AckOwed, OwedStage, Record, Site, decode_record};
use serde::Serialize;
use serde_json::value::RawValue;

/// One acknowledgement, and the number by which the site knows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Item {
    #[serde(skip)]
    pub(crate) number: u64,
    message_id: String,
    stage: &'static str,
    attempt: u32,
    generation: u32,
    occurred_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeBody>,
    #[serde(skip_serializing_if = "is_zero")]
    duration_ms: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct OutcomeBody {
    code: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Body<'a> {
    acks: &'a [Item],
}

/// The request that posts `items`.
pub(crate) fn encode(items: &[Item]) -> Vec<u8> {
    serde_json::to_vec(&Body { acks: items }).expect("texts, numbers and checked JSON are JSON")
}

/// What the journal has to say about how an attempt ended.
#[derive(Debug)]
struct Ending {
    at: Timestamp,
    outcome: Option<Outcome>,
    duration_ms: u32,
    next_at: Option<Timestamp>,
}

impl Item {
    /// Reads what is said about `owed` from the journal; waits for the disk. `None` for a
    /// statement that this program has no words for.
    pub(crate) fn read(owed: &AckOwed, handle: &Handle<Site>, now: Timestamp) -> Option<Self> {
        match owed.stage {
            OwedStage::Stored(at) => {
                let ending = Ending {
                    at,
                    outcome: None,
                    duration_ms: 0,
                    next_at: None,
                };
                Some(Self::new(owed, Stage::Stored, ending))
            }
            OwedStage::Ended(stage, position)
            | OwedStage::Again {
                stage,
                worked: position,
                ..
            } => {
                let record = handle.read(position).map_err(|error| error.to_string());
                let ending = record.and_then(|record| ending(&record));
                let ending = ending.unwrap_or_else(|error| {
                    // That it ended is certain, the words are lost: better told without than never.
                    tracing::error!(message = %owed.id, error, "how an attempt ended cannot be read back");
                    Ending { at: now, outcome: None, duration_ms: 0, next_at: None }
                });
                Some(Self::new(owed, stage, ending))
            }
            _ => None,
        }
    }

    fn new(owed: &AckOwed, stage: Stage, ending: Ending) -> Self {
        Self {
            number: owed.number,
            message_id: owed.id.to_string(),
            stage: stage.as_str(),
            attempt: owed.attempt,
            generation: owed.generation,
            occurred_at: precise(ending.at),
            outcome: ending.outcome.map(OutcomeBody::from),
            duration_ms: ending.duration_ms,
            next_at: ending.next_at.map(precise),
        }
    }

    /// The same statement without the words and data of the back office, for an ack API that does
    /// not take those.
    pub(crate) fn bare(&self) -> Self {
        let outcome = self.outcome.as_ref();
        let outcome = outcome.map(|OutcomeBody { code, .. }| OutcomeBody {
            code: code.clone(),
            detail: String::new(),
            data: None,
        });
        Self {
            outcome,
            ..self.clone()
        }
    }

    pub(crate) fn message_id(&self) -> &str {
        &self.message_id
    }
}

impl From<Outcome> for OutcomeBody {
    fn from(Outcome { code, detail, data }: Outcome) -> Self {
        // A sink may have left anything there; what is no JSON cannot be passed on.
        let data = serde_json::from_slice(&data).ok();
        Self { code, detail, data }
    }
}

fn ending(record: &Bytes) -> Result<Ending, String> {
    match decode_record(record).map_err(|error| error.to_string())? {
        Record::Worked {
            at,
            worked,
            duration_ms,
            ..
        } => Ok(Ending {
            at,
            outcome: Some(worked.outcome().clone()),
            duration_ms,
            next_at: worked.next_at(),
        }),
        other => Err(format!("another record stands there: {other:?}")),
    }
}

/// With microseconds: the ack API tells the same words said again by their instant.
fn precise(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(
        |_| rfc3339_text(Timestamp::default()),
        |at| format!("{at:.6}"),
    )
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_rules::MessageId;

    fn owed(stage: OwedStage) -> AckOwed {
        AckOwed {
            number: 7,
            id: MessageId([1; 16]),
            generation: 2,
            attempt: 3,
            stage,
        }
    }

    #[test]
    fn a_receipt_says_no_more_than_it_has_to() {
        let owed = owed(OwedStage::Stored(Timestamp(1_700_000_000_123_456)));
        let ending = Ending {
            at: Timestamp(1_700_000_000_123_456),
            outcome: None,
            duration_ms: 0,
            next_at: None,
        };
        let item = Item::new(&owed, Stage::Stored, ending);
        assert_eq!(
            String::from_utf8(encode(&[item])).unwrap(),
            r#"{"acks":[{"message_id":"01010101-0101-0101-0101-010101010101","stage":"stored","attempt":3,"generation":2,"occurred_at":"2023-11-14T22:13:20.123456Z"}]}"#
        );
    }

    #[test]
    fn data_that_is_no_json_is_left_out_and_a_bare_item_keeps_the_code() {
        let owed = owed(OwedStage::Ended(Stage::Rejected, 9));
        let outcome = |data: &[u8]| Outcome {
            code: String::from("http-422"),
            detail: String::from("no such customer"),
            data: data.to_vec(),
        };
        let item = |data: &[u8]| {
            let outcome = Some(outcome(data));
            Item::new(
                &owed,
                Stage::Rejected,
                Ending {
                    at: Timestamp(0),
                    outcome,
                    duration_ms: 5,
                    next_at: None,
                },
            )
        };
        let text = |item| String::from_utf8(encode(&[item])).unwrap();
        assert!(text(item(b"{\"a\" :1}")).contains(r#""data":{"a" :1}}"#));
        assert!(!text(item(b"<html>")).contains("data"));
        let bare = text(item(b"1").bare());
        assert!(bare.contains(r#""outcome":{"code":"http-422"}"#), "{bare}");
    }
}
