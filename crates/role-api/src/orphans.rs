//! `GET /v1/orphan-acks`: what agents acknowledged and this store does not know.
//!
//! After a restore these are the messages that were accepted behind the backup (N6). Nothing is
//! refused or forgotten for being listed here: the list is evidence, for whoever sends again.

use crate::problem::Problem;
use crate::service::{Api, JSON};
use crate::{codes, look};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use countersign_access::Scope;
use countersign_rules::delivery::{Input, OrphanAck, Reply};
use countersign_rules::{MessageId, Timestamp};
use serde_json::{Value, json};

/// Orphans on one page, unless another number is asked for.
const LIMIT: usize = 100;
/// And at most.
const LIMIT_MAX: usize = 1000;
/// Clocks of sender and centre may differ by this when it is told which side of a backup a message
/// is on.
const CLOCK_SKEW_MS: u64 = 60_000;

/// `GET /v1/orphan-acks?after=ID&limit=N`.
pub(crate) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (_, tenant) = api.access(&headers, Scope::Read)?;
    let (after, limit) = parse(query.as_deref().unwrap_or_default())?;
    let input = Input::LookOrphans {
        tenant,
        after,
        limit,
    };
    let Reply::Orphans(page) = api.centre().ask(input).await? else {
        unreachable!("the question is answered by its own reply");
    };
    let orphans = page.orphans.iter();
    let document = json!({
        "orphans": orphans.map(|one| described(one, page.restored)).collect::<Vec<_>>(),
        "next": page.orphans.last().filter(|_| page.more).map(|last| last.id.to_string()),
        "restored_at": page.restored.map(|(_, at)| at.to_string()),
        "restored_through": page.restored.map(|(last, _)| last.to_string()),
    });
    Ok(([JSON], document.to_string()).into_response())
}

fn parse(query: &str) -> Result<(Option<MessageId>, usize), Problem> {
    let (mut after, mut limit) = (None, LIMIT);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("after", id)) => after = Some(look::message_id(id)?),
            Some(("limit", text)) => {
                let number = text.parse().ok();
                let number = number.filter(|number| (1..=LIMIT_MAX).contains(number));
                limit = number.ok_or_else(|| {
                    let says = format!("limit is a number from 1 to {LIMIT_MAX}");
                    Problem::new(codes::FIELD, says)
                })?;
            }
            _ => {
                let says = format!("{pair:?} is not asked here: ask with after and limit");
                return Err(Problem::new(codes::FIELD, says));
            }
        }
    }
    Ok((after, limit))
}

fn described(orphan: &OrphanAck, restored: Option<(Timestamp, Timestamp)>) -> Value {
    let why = match restored {
        Some(restored) if is_behind_backup(orphan.id, restored) => "accepted_after_the_backup",
        _ => "unknown",
    };
    json!({
        "id": orphan.id.to_string(),
        "agent": orphan.by.as_str(),
        "stage": orphan.stage.as_str(),
        "code": orphan.code,
        "occurred_at": orphan.occurred_at.to_string(),
        "learned_at": orphan.at.to_string(),
        "why": why,
    })
}

/// Whether the message was made between the last record that was restored and the restore. Ids that
/// senders made in another way tell no time.
fn is_behind_backup(id: MessageId, (last, first): (Timestamp, Timestamp)) -> bool {
    let is_v7 = id.0[6] >> 4 == 7;
    let made = id.0[..6].iter();
    let made_ms = made.fold(0, |ms, byte| ms << 8 | u64::from(*byte));
    let ms = |at: Timestamp| u64::try_from(at.0).unwrap_or(0) / 1000;
    is_v7 && made_ms + CLOCK_SKEW_MS >= ms(last) && made_ms <= ms(first) + CLOCK_SKEW_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_between_backup_and_restore_counts_as_accepted_behind_the_backup() {
        let restored = (
            Timestamp::from_millis(1_795_435_200_000),
            Timestamp::from_millis(1_795_438_800_000),
        );
        let made = |ms: u64, version: u8| {
            let mut id = [0; 16];
            id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
            id[6] = version << 4;
            MessageId(id)
        };
        assert!(is_behind_backup(made(1_795_436_000_000, 7), restored));
        assert!(!is_behind_backup(made(1_795_436_000_000, 4), restored));
        assert!(!is_behind_backup(made(1_795_430_000_000, 7), restored));
        assert!(!is_behind_backup(made(1_795_440_000_000, 7), restored));
    }

    #[test]
    fn a_question_that_is_none_is_refused() {
        for query in ["limit=0", "limit=1001", "limit=x", "after=x", "agent=lyon"] {
            assert!(parse(query).is_err(), "{query}");
        }
        assert_eq!(parse("").expect("it is one"), (None, LIMIT));
    }
}
