//! A message's records, read back from its last one: each names the one before.

use bytes::Bytes;
use countersign_driver::Handle;
use countersign_driver::journal::ReadError;
use countersign_rules::Position;
use countersign_rules::delivery::{Centre, Record, decode_record};

/// A message's records, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) records: Vec<(Position, Bytes)>,
    /// Why older records are missing, if they are.
    pub(crate) incomplete: Option<String>,
}

/// Most records read back for one message: a message pushed again for months has more than anybody
/// reads.
const RECORDS_MAX: usize = 10_000;

/// Reads back from `last`. Waits for the disk.
pub(crate) fn read(centre: &Handle<Centre>, last: Position) -> History {
    let mut history = History {
        records: Vec::new(),
        incomplete: None,
    };
    let mut at = last;
    while at != 0 && history.records.len() < RECORDS_MAX {
        let record = match centre.read(at) {
            Ok(record) => record,
            Err(error) => {
                history.incomplete = Some(explain(at, &error));
                break;
            }
        };
        let previous = match decode_record(&record) {
            Ok(decoded) => previous(&decoded),
            Err(error) => {
                history.incomplete = Some(format!("record {at} is not understood: {error}"));
                break;
            }
        };
        history.records.push((at, record));
        at = previous;
    }
    history.records.reverse();
    history
}

fn explain(at: Position, error: &ReadError) -> String {
    format!("record {at} and those before it cannot be read: {error}")
}

fn previous(record: &Record<'_>) -> Position {
    match record {
        Record::Offered { previous, .. }
        | Record::Overdue { previous, .. }
        | Record::Stored { previous, .. }
        | Record::Settled { previous, .. }
        | Record::Kept { previous, .. }
        | Record::Carried { previous, .. } => *previous,
        _ => 0,
    }
}
