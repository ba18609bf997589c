//! Records of schema version 1, as bytes: they must be read for ever.

use super::*;
use crate::body::{BodyId, BodyRef};

const AT: Timestamp = Timestamp::from_millis(1_000_000);

const BODY: BodyRef = BodyRef {
    id: BodyId([4; 16]),
    bytes: 300,
};

fn outcome() -> Outcome {
    Outcome {
        code: String::from("inserted"),
        detail: String::from("row 7"),
        data: b"{}".to_vec(),
    }
}

fn accepted() -> Accepted<'static> {
    Accepted {
        at: AT,
        id: id(1),
        partition: 3,
        recipient: 2,
        seq: 300,
        generation: 1,
        key: [5; 16],
        fingerprint: [6; 16],
        body_sha256: [7; 32],
        expires_at: Some(AT),
        tenant: "default",
        to: "lyon",
        kind: "document.insert",
        lane: "default",
        attempts_max: Some(4),
        correlation_id: "c",
        causation_id: "b",
        traceparent: "p",
        tracestate: "s",
        sender: "erp",
        content_type: "text/xml",
        data: b"\"<a/>\"",
        rule: LaneRule::Block,
        body: None,
    }
}

fn every_kind() -> Vec<(&'static str, Record<'static>)> {
    vec![
        ("started", Record::Started { at: AT, epoch: 2 }),
        (
            "recipient",
            Record::Recipient {
                at: AT,
                recipient: 1,
                partition: 9,
                tenant: tenant(),
                name: agent("lyon"),
            },
        ),
        ("accepted", Record::Accepted(accepted())),
        (
            "offered",
            Record::Offered {
                at: AT,
                id: id(1),
                term: 4,
                attempt: 2,
                cause: Cause::Restarted,
                previous: 200,
            },
        ),
        (
            "connected",
            Record::Connected {
                at: AT,
                recipient: 1,
                term: 4,
                connection: 5,
                token_expires_at: AT,
            },
        ),
        (
            "ready",
            Record::Ready {
                at: AT,
                recipient: 1,
                term: 4,
                agent_epoch: 7,
                floor: 8,
                cursor: 9,
            },
        ),
        (
            "disconnected",
            Record::Disconnected {
                at: AT,
                recipient: 1,
                term: 4,
            },
        ),
        (
            "overdue",
            Record::Overdue {
                at: AT,
                id: id(1),
                previous: 3,
            },
        ),
        (
            "stored",
            Record::Stored {
                at: AT,
                id: id(1),
                attempt: 2,
                occurred_at: AT,
                previous: 3,
            },
        ),
        (
            "settled",
            Record::Settled {
                at: AT,
                id: id(1),
                end: End::Rejected,
                attempt: 2,
                occurred_at: AT,
                outcome: outcome(),
                duration_ms: 15,
                previous: 3,
            },
        ),
        (
            "kept",
            Record::Kept {
                at: AT,
                id: id(1),
                why: Why::OtherGeneration,
                stage: Stage::Dead,
                tenant: tenant(),
                by: agent("lyon"),
                occurred_at: AT,
                outcome: outcome(),
                previous: 0,
            },
        ),
        (
            "acks_read",
            Record::AcksRead {
                at: AT,
                source: 1,
                through: 77,
            },
        ),
        (
            "carried",
            Record::Carried {
                at: AT,
                id: id(1),
                accepted: b"\x01\x00",
                previous: 3,
            },
        ),
        ("aged_out", Record::AgedOut { at: AT, count: 12 }),
        (
            "numbers_raised",
            Record::NumbersRaised {
                at: AT,
                recipient: 2,
                seq_last: 300,
            },
        ),
        (
            "site_set_back",
            Record::SiteSetBack {
                at: AT,
                recipient: 2,
            },
        ),
        (
            "acks_damaged",
            Record::AcksDamaged {
                at: AT,
                source: 11,
                damaged: vec![5, 300],
            },
        ),
        (
            "damaged",
            Record::Damaged {
                at: AT,
                damaged: vec![5, 300],
            },
        ),
        ("time_passed", Record::TimePassed { at: AT }),
        (
            "scheduled",
            Record::Scheduled {
                not_before: AT,
                accepted: accepted(),
            },
        ),
        (
            "due",
            Record::Due {
                at: AT,
                id: id(1),
                seq: 300,
                previous: 3,
            },
        ),
        (
            "reprocessed",
            Record::Reprocessed {
                at: AT,
                id: id(1),
                generation: 2,
                seq: 300,
                by: "ada",
                operation: Some(OperationId(id(4))),
                may_process_twice: true,
                previous: 3,
            },
        ),
        (
            "paused",
            Record::Paused {
                at: AT,
                recipient: 2,
                paused: true,
                reason: "stocktaking",
                by: "ada",
            },
        ),
        (
            "accepted_under",
            Record::AcceptedUnder {
                rule: LaneRule::Park,
                not_before: Some(AT),
                accepted: Accepted {
                    rule: LaneRule::Park,
                    ..accepted()
                },
            },
        ),
        (
            "attempted",
            Record::Attempted {
                at: AT,
                id: id(1),
                stage: Stage::Retrying,
                attempt: 2,
                occurred_at: AT,
                outcome: outcome(),
                duration_ms: 300,
                next_at: Some(AT),
                previous: 5,
            },
        ),
        (
            "lane_parked",
            Record::LaneParked {
                at: AT,
                recipient: 1,
                lane: LaneName::default_lane(),
                id: id(1),
                generation: 2,
            },
        ),
        (
            "lane_resumed",
            Record::LaneResumed {
                at: AT,
                recipient: 1,
                lane: LaneName::default_lane(),
                id: id(1),
                generation: 2,
                reason: "corrected",
                by: "ada",
            },
        ),
        (
            "lane_heard",
            Record::LaneHeard {
                at: AT,
                recipient: 1,
                id: id(1),
                generation: 2,
            },
        ),
        (
            "archived",
            Record::Archived {
                at: AT,
                batch: 300,
                messages: vec![remembered()],
            },
        ),
        (
            "recalled",
            Record::Recalled {
                at: AT,
                batch: 2,
                message: remembered(),
            },
        ),
        ("archive_aged", Record::ArchiveAged { at: AT, below: 3 }),
        (
            "group_changed",
            Record::GroupChanged {
                at: AT,
                tenant: tenant(),
                group: GroupName::parse("north").unwrap(),
                version: 300,
                recipient: 2,
                partition: 3,
                agent: agent("lyon"),
                member: true,
                by: "ops",
            },
        ),
        (
            "labelled",
            Record::Labelled {
                at: AT,
                tenant: tenant(),
                recipient: 2,
                partition: 3,
                agent: agent("lyon"),
                labels: labels(&[("tier", "gold")]),
                by: "ops",
            },
        ),
        (
            "fanned_out",
            Record::FannedOut {
                number: 4,
                audience: Audience::Group(GroupName::parse("north").unwrap()),
                version: 300,
                count: 2,
                needed: Some(1),
                deadline: Some(AT),
                rule: LaneRule::Park,
                not_before: None,
                accepted: Accepted {
                    rule: LaneRule::Park,
                    ..accepted()
                },
            },
        ),
        (
            "addressed",
            Record::Addressed(Addressed {
                at: AT,
                fan_out: 4,
                index: 1,
                id: id(2),
                partition: 3,
                recipient: 2,
                seq: 300,
                expires_at: Some(AT),
                not_before: None,
                lane: 9,
                bytes: 6,
                tenant: "default",
                to: "lyon",
                accepted: 200,
            }),
        ),
        (
            "quorum_reached",
            Record::QuorumReached {
                at: AT,
                number: 4,
                processed: 1,
            },
        ),
        (
            "quorum_missed",
            Record::QuorumMissed {
                at: AT,
                number: 4,
                processed: 1,
                missing: vec![2],
            },
        ),
        ("fan_out_aged", Record::FanOutAged { at: AT, number: 4 }),
        (
            "body_kept",
            Record::BodyKept {
                at: AT,
                body: BodyId([4; 16]),
                tenant: tenant(),
                bytes: 300,
                sha256: [7; 32],
            },
        ),
        (
            "accepted_by_reference",
            Record::AcceptedByReference {
                body: BODY,
                rule: LaneRule::Skip,
                not_before: Some(AT),
                accepted: Accepted {
                    rule: LaneRule::Skip,
                    body: Some(BODY),
                    data: b"",
                    ..accepted()
                },
            },
        ),
        (
            "body_dropped",
            Record::BodyDropped {
                at: AT,
                body: BodyId([4; 16]),
            },
        ),
        (
            "operation_begun",
            Record::OperationBegun {
                at: AT,
                operation: OperationId(id(4)),
                tenant: tenant(),
                kind: OperationKind::Restore,
                filter: Filter {
                    agent: Some(agent("lyon")),
                    kind: TypeName::parse("document.insert").ok(),
                    code: Some(String::from("down")),
                    states: vec![Wanted::Waiting, Wanted::Ended(End::Dead)],
                    since: Some(AT),
                    until: Some(AT),
                    discarded: Some(true),
                    by_ids: true,
                },
                as_of: 300,
                total: 2,
                rate: 100,
                may_process_twice: true,
                reason: "stocktaking",
                by: "ada",
            },
        ),
        (
            "operation_selected",
            Record::OperationSelected {
                at: AT,
                operation: OperationId(id(4)),
                pairs: vec![(id(1), 2), (id(2), 0)],
            },
        ),
        (
            "operation_did",
            Record::OperationDid {
                at: AT,
                operation: OperationId(id(4)),
                id: id(1),
                did: Did::BelowFloor,
            },
        ),
        (
            "operation_stopped",
            Record::OperationStopped {
                at: AT,
                operation: OperationId(id(4)),
                by: "ada",
            },
        ),
        (
            "discarded",
            Record::Discarded {
                at: AT,
                id: id(1),
                operation: OperationId(id(4)),
                reason: "stocktaking",
                by: "ada",
                previous: 3,
            },
        ),
        (
            "restored",
            Record::Restored {
                at: AT,
                id: id(1),
                operation: OperationId(id(4)),
                by: "ada",
                previous: 3,
            },
        ),
    ]
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let parsed = pairs.iter().map(|(name, value)| {
        let name = crate::message::LabelName::parse(name).unwrap();
        (name, crate::message::LabelValue::parse(value).unwrap())
    });
    parsed.collect()
}

fn remembered() -> Remembered {
    Remembered {
        id: id(1),
        key: [5; 16],
        fingerprint: [6; 4],
        recipient: 2,
        end: End::Dead,
        generation: 2,
        pushes: 3,
        seq: 300,
        bytes: 17,
        lane: 9,
        accepted: 200,
        last: 400,
        ended: AT,
        discarded: true,
    }
}

#[test]
fn records_of_version_1_are_written_and_read_as_recorded() {
    let recorded = include_str!("records-v1.txt");
    let expected: Vec<(&str, &str)> = recorded
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let mut written = String::new();
    for (name, record) in every_kind() {
        let bytes = crate::record::encode(&record, vec![]);
        assert_eq!(decode_record(&bytes), Ok(record));
        let hex: String = bytes.iter().map(|b| alloc::format!("{b:02x}")).collect();
        written += &alloc::format!("{name} {hex}\n");
    }
    let kinds = expected.len();
    assert_eq!(recorded, written, "{kinds} kinds are recorded");
}

#[test]
fn a_record_of_a_newer_schema_is_not_guessed_at() {
    let mut bytes = crate::record::encode(&Record::AgedOut { at: AT, count: 1 }, vec![]);
    bytes[0] = 2;
    assert_eq!(
        decode_record(&bytes),
        Err(RecordError::NewerSchema { found: 2 })
    );
    assert_eq!(decode_record(&[]), Err(RecordError::Empty));
    bytes[0] = 0;
    assert!(matches!(
        decode_record(&bytes),
        Err(RecordError::Malformed { version: 0 })
    ));
}

#[test]
fn a_record_cut_short_is_no_record() {
    for (name, record) in every_kind() {
        let bytes = crate::record::encode(&record, vec![]);
        for len in 1..bytes.len() {
            assert!(decode_record(&bytes[..len]).is_err(), "{name} cut at {len}");
        }
    }
}
