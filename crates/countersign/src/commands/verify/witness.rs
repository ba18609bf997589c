//! The records about the messages of a witness, in words, from a second reading.

use super::journals::Journals;
use crate::exit::Failure;
use countersign_checker::{Party, Report, ack_in_words, centre_in_words, site_in_words};
use countersign_rules::MessageId;
use std::collections::BTreeMap;

/// One record about a message.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) journal: String,
    pub(super) position: u64,
    pub(super) says: String,
}

/// The records about every message that a first witness names.
pub(super) fn gather(
    report: &Report,
    journals: &Journals,
) -> Result<BTreeMap<MessageId, Vec<Line>>, Failure> {
    let mut lines = BTreeMap::new();
    for judged in &report.judged {
        let first = judged.witnesses.first();
        let about = first
            .into_iter()
            .flat_map(|violation| violation.about.iter());
        lines.extend(about.map(|id| (*id, Vec::new())));
    }
    if lines.is_empty() {
        return Ok(lines);
    }
    for (party, journal) in journals.all() {
        let mut journal = journal.again()?;
        let name = journal.named();
        while let Some(record) = journal.next_record()? {
            let Ok(payload) = record.payload else {
                continue;
            };
            let told = match party {
                Party::Centre => countersign_rules::delivery::decode_record(&payload)
                    .ok()
                    .and_then(|record| centre_in_words(&record)),
                Party::Acks => countersign_rules::ack::decode_record(&payload)
                    .ok()
                    .and_then(|record| ack_in_words(&record)),
                Party::Site(_) => countersign_rules::site::decode_record(&payload)
                    .ok()
                    .and_then(|record| site_in_words(&record)),
            };
            let Some((id, says)) = told else { continue };
            if let Some(lines) = lines.get_mut(&id)
                && lines.len() < LINES_MAX
            {
                lines.push(Line {
                    journal: name.clone(),
                    position: record.position,
                    says,
                });
            }
        }
    }
    Ok(lines)
}

/// Records shown of one message: enough for its whole life, unless it was pushed for ever.
const LINES_MAX: usize = 40;
