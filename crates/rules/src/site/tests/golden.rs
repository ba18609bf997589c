//! Records of schema version 1, as bytes: they must be read for ever.

use super::*;

const AT: Timestamp = Timestamp::from_millis(1_000_000);

fn every_kind() -> Vec<(&'static str, Record<'static>)> {
    let worked = |worked| Record::Worked {
        at: AT,
        id: id(1),
        generation: 1,
        attempt: 2,
        worked,
        duration_ms: 300,
    };
    vec![
        ("started", Record::Started { at: AT, epoch: 2 }),
        (
            "inboxed",
            Record::Inboxed {
                at: AT,
                id: id(1),
                generation: 1,
                seq: 300,
                attempt: 2,
                lane: LaneName::default_lane(),
                attempts_max: Some(4),
                envelope: b"{}",
            },
        ),
        (
            "repeated",
            Record::Repeated {
                at: AT,
                id: id(1),
                generation: 1,
                attempt: 3,
            },
        ),
        (
            "work_started",
            Record::WorkStarted {
                at: AT,
                id: id(1),
                generation: 1,
                attempt: 2,
            },
        ),
        ("worked_done", worked(Worked::Done(outcome("inserted")))),
        (
            "worked_rejected",
            worked(Worked::Rejected(outcome("http-422"))),
        ),
        ("worked_dead", worked(Worked::Dead(outcome("http-503")))),
        (
            "worked_again",
            worked(Worked::Again {
                not_before: AT,
                outcome: outcome("http-503"),
            }),
        ),
        (
            "posted",
            Record::Posted {
                at: AT,
                numbers: vec![1, 300],
            },
        ),
        (
            "floor",
            Record::Floor {
                at: AT,
                centre_epoch: 5,
                oldest_replayable: 300,
            },
        ),
        (
            "carried",
            Record::Carried {
                at: AT,
                id: id(1),
                generation: 1,
                inboxed: b"\x01\x01",
            },
        ),
        (
            "damaged",
            Record::Damaged {
                at: AT,
                damaged: vec![5, 300],
            },
        ),
        ("marked", Record::Marked { at: AT }),
        (
            "taken_in",
            Record::TakenIn {
                at: AT,
                id: id(1),
                generation: 1,
                seq: 300,
                attempt: 2,
                lane: LaneName::default_lane(),
                rule: LaneRule::Park,
                kind: Some(TypeName::parse("document.insert").unwrap()),
                attempts_max: Some(4),
                envelope: b"{}",
            },
        ),
        (
            "passed",
            Record::Passed {
                at: AT,
                id: id(1),
                generation: 1,
                over: vec![(id(2), 1)],
            },
        ),
        (
            "lane_resumed",
            Record::LaneResumed {
                at: AT,
                lane: LaneName::default_lane(),
                id: id(1),
                generation: 2,
            },
        ),
        (
            "worked_still_working",
            worked(Worked::StillWorking {
                not_before: AT,
                outcome: outcome("http-202"),
            }),
        ),
    ]
}

#[test]
fn records_of_version_1_are_written_and_read_as_recorded() {
    let recorded = include_str!("records-v1.txt");
    let mut written = String::new();
    for (name, record) in every_kind() {
        let bytes = crate::record::encode(&record, vec![]);
        assert_eq!(decode_record(&bytes), Ok(record));
        let hex: String = bytes.iter().map(|b| alloc::format!("{b:02x}")).collect();
        written += &alloc::format!("{name} {hex}\n");
    }
    assert_eq!(recorded, written);
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
