//! Records in words, for whoever reads a witness.

use countersign_rules::MessageId;
use countersign_rules::ack::AckRecord;
use countersign_rules::delivery::Record;
use countersign_rules::site::{Record as SiteRecord, Worked};

/// The message a record of the centre is about, and what it says; `None` for those about none.
pub fn centre_in_words(record: &Record<'_>) -> Option<(MessageId, String)> {
    let told = match record {
        Record::Accepted(accepted) => {
            let (to, lane, seq) = (accepted.to, accepted.lane, accepted.seq);
            (
                accepted.id,
                format!("accepted for {to}, lane {lane}, number {seq}"),
            )
        }
        Record::Scheduled {
            not_before,
            accepted,
        } => {
            let to = accepted.to;
            (
                accepted.id,
                format!("accepted for {to}, not before {not_before}"),
            )
        }
        Record::AcceptedUnder {
            rule,
            not_before,
            accepted,
        }
        | Record::AcceptedByReference {
            rule,
            not_before,
            accepted,
            ..
        } => {
            let (to, lane, seq) = (accepted.to, accepted.lane, accepted.seq);
            let rule = rule.as_str();
            let when = not_before.map_or_else(String::new, |at| format!(", not before {at}"));
            (
                accepted.id,
                format!("accepted for {to}, lane {lane} ({rule}), number {seq}{when}"),
            )
        }
        Record::FannedOut {
            version,
            count,
            accepted,
            ..
        } => (
            accepted.id,
            format!("accepted for {count} recipients, by version {version} of their list"),
        ),
        Record::Addressed(row) => (
            row.id,
            format!(
                "accepted for {} by send to many {}, number {}",
                row.to, row.fan_out, row.seq
            ),
        ),
        Record::Attempted {
            id,
            stage,
            attempt,
            outcome,
            ..
        } => {
            let (stage, code) = (stage.as_str(), &outcome.code);
            (*id, format!("{stage} after attempt {attempt} ({code})"))
        }
        Record::LaneParked { id, lane, .. } => {
            (*id, format!("the site says: it parked lane {lane}"))
        }
        Record::LaneResumed { id, lane, by, .. } => {
            (*id, format!("{by} lets its lane {lane} go on"))
        }
        Record::LaneHeard { id, .. } => (*id, String::from("the site has its lane going on")),
        Record::Offered {
            id,
            term,
            attempt,
            cause,
            ..
        } => {
            let cause = cause.as_str();
            (
                *id,
                format!("push {attempt} over connection term {term} ({cause})"),
            )
        }
        Record::Overdue { id, .. } => (*id, String::from("no receipt in time")),
        Record::Stored { id, attempt, .. } => (*id, format!("stored, by push {attempt}")),
        Record::Settled {
            id,
            end,
            attempt,
            outcome,
            ..
        } => {
            let code = &outcome.code;
            (
                *id,
                format!("ended as {end:?} by attempt {attempt} ({code})"),
            )
        }
        Record::Kept {
            id, why, stage, by, ..
        } => {
            let (stage, why) = (stage.as_str(), why.as_str());
            (*id, format!("{by} says {stage}; kept as evidence ({why})"))
        }
        Record::Carried { id, .. } => (*id, String::from("copied forward")),
        Record::Due { id, seq, .. } => (*id, format!("due, number {seq}")),
        Record::Reprocessed {
            id,
            generation,
            seq,
            by,
            ..
        } => (
            *id,
            format!("{by} wants it once more: life {generation}, number {seq}"),
        ),
        _ => return None,
    };
    Some(told)
}

/// The message a record of the ack store is about, and what it says.
pub fn ack_in_words(record: &AckRecord) -> Option<(MessageId, String)> {
    let (AckRecord::Given(ack) | AckRecord::GivenNext { ack, .. }) = record else {
        return None;
    };
    let (agent, item) = (&ack.agent, &ack.item);
    let (stage, attempt, generation) = (item.stage.as_str(), item.attempt, item.generation);
    let says = format!("{agent} says {stage}, attempt {attempt}, life {generation}");
    Some((item.message, says))
}

/// The message a record of a site is about, and what it says; `None` for those about none.
pub fn site_in_words(record: &SiteRecord<'_>) -> Option<(MessageId, String)> {
    let told = match record {
        SiteRecord::Inboxed {
            id,
            generation,
            seq,
            attempt,
            lane,
            ..
        }
        | SiteRecord::TakenIn {
            id,
            generation,
            seq,
            attempt,
            lane,
            ..
        } => {
            let says = format!(
                "into the inbox by push {attempt}, lane {lane}, number {seq}, life {generation}"
            );
            (*id, says)
        }
        SiteRecord::Repeated { id, attempt, .. } => {
            (*id, format!("arrived again by push {attempt}"))
        }
        SiteRecord::WorkStarted { id, attempt, .. } => (*id, format!("attempt {attempt} begins")),
        SiteRecord::Worked {
            id,
            attempt,
            worked,
            ..
        } => {
            let end = match worked {
                Worked::Done(_) => "done",
                Worked::Rejected(_) => "rejected",
                Worked::Dead(_) => "dead",
                Worked::Again { .. } => "to be tried again",
                Worked::StillWorking { .. } => "the back office is still working",
                _ => "otherwise",
            };
            let code = &worked.outcome().code;
            (*id, format!("attempt {attempt} ended: {end} ({code})"))
        }
        SiteRecord::Passed { id, over, .. } => {
            let over: Vec<_> = over.iter().map(|(id, _)| id.to_string()).collect();
            (*id, format!("goes past {}", over.join(", ")))
        }
        SiteRecord::LaneResumed { id, lane, .. } => (*id, format!("its lane {lane} goes on")),
        SiteRecord::Carried { id, .. } => (*id, String::from("copied forward")),
        _ => return None,
    };
    Some(told)
}
