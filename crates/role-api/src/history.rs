//! A message's records, read back from its last one: each names the one before.

use bytes::Bytes;
use countersign_driver::Handle;
use countersign_rules::ack::Outcome;
use countersign_rules::delivery::{Accepted, Centre, Record, decode_accepted, decode_record};
use countersign_rules::{Position, Timestamp};
use serde::Serialize;

/// A message's records, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) records: Vec<(Position, Bytes)>,
    /// Where it breaks off, if it does: what happened before is not known here.
    pub(crate) missing: Option<Missing>,
}

/// A record that cannot be served.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Missing {
    pub(crate) position: Position,
    pub(crate) reason: String,
}

/// Most records read back for one message: a message pushed again for months has more than anybody
/// reads.
const RECORDS_MAX: usize = 10_000;

impl History {
    /// How the message ended last, and when.
    pub(crate) fn last_end(&self) -> Option<(Timestamp, Outcome)> {
        let mut records = self.records.iter().rev();
        records.find_map(|(_, record)| match decode_record(record) {
            Ok(Record::Settled { at, outcome, .. } | Record::Kept { at, outcome, .. }) => {
                Some((at, outcome))
            }
            _ => None,
        })
    }

    /// The accepted message and the record that it lies in.
    pub(crate) fn accepted(&self) -> Option<(&Bytes, Accepted<'_>)> {
        let mut records = self.records.iter().map(|(_, record)| record);
        records.find_map(|record| match decode_record(record) {
            Ok(
                Record::Accepted(accepted)
                | Record::Scheduled { accepted, .. }
                | Record::AcceptedUnder { accepted, .. }
                | Record::FannedOut { accepted, .. }
                | Record::AcceptedByReference { accepted, .. },
            ) => Some((record, accepted)),
            Ok(Record::Carried { accepted, .. }) => decode_accepted(accepted)
                .ok()
                .map(|accepted| (record, accepted)),
            _ => None,
        })
    }
}

/// Reads back from `last`. Waits for the disk.
pub(crate) fn read(centre: &Handle<Centre>, last: Position) -> History {
    let mut history = History {
        records: Vec::new(),
        missing: None,
    };
    let mut at = last;
    while at != 0 {
        match read_one(centre, at, history.records.len()) {
            Ok((record, previous)) => {
                history.records.push((at, record));
                at = previous;
            }
            Err(reason) => {
                history.missing = Some(Missing {
                    position: at,
                    reason,
                });
                break;
            }
        }
    }
    history.records.reverse();
    history
}

/// The record at `at`, and where the one before it stands.
fn read_one(
    centre: &Handle<Centre>,
    at: Position,
    already: usize,
) -> Result<(Bytes, Position), String> {
    if already >= RECORDS_MAX {
        return Err(format!(
            "only the last {RECORDS_MAX} records of a message are read back"
        ));
    }
    let record = centre.read(at).map_err(|error| error.to_string())?;
    let decoded = decode_record(&record);
    let previous = decoded
        .map(|decoded| decoded.about().map_or(0, |(_, previous)| previous))
        .map_err(|error| error.to_string())?;
    Ok((record, previous))
}
