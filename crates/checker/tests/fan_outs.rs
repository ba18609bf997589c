//! Sends to many: a small history that keeps I26, and such as break it.

use countersign_checker::{Checker, Invariant, Limits, Party, Report, Verdict};
use countersign_rules::ack::Outcome;
use countersign_rules::delivery::{Accepted, Addressed, Audience, End, Record};
use countersign_rules::{
    AgentName, GroupName, LaneRule, MessageId, Position, TenantName, Timestamp,
};

const NAMES: [&str; 3] = ["lyon", "metz", "nice"];

fn id(number: u8) -> MessageId {
    MessageId([number; 16])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

fn tenant() -> TenantName {
    TenantName::parse("default").expect("it is a name")
}

fn agent(number: u32) -> AgentName {
    AgentName::parse(NAMES[number as usize]).expect("it is a name")
}

fn accepted() -> Accepted<'static> {
    Accepted {
        rule: LaneRule::Block,
        body: None,
        at: at(10),
        id: id(9),
        partition: 0,
        recipient: 0,
        seq: 0,
        generation: 1,
        key: [0; 16],
        fingerprint: [0; 16],
        body_sha256: [7; 32],
        expires_at: None,
        tenant: "default",
        to: "",
        kind: "a",
        lane: "default",
        attempts_max: None,
        correlation_id: "",
        causation_id: "",
        traceparent: "",
        tracestate: "",
        sender: "x",
        content_type: "",
        data: b"{}",
    }
}

/// The centre's journal as it is told; the messages of the send are those from 10 on.
struct Told {
    checker: Checker,
    position: Position,
    rows: Vec<Position>,
}

/// Lyon and Metz are members of group north, Nice has left it; a send goes to these of them.
fn fanned_out(to: &[u32], needed: Option<u32>) -> Told {
    let mut told = Told {
        checker: Checker::new(Limits::default()),
        position: 0,
        rows: vec![0; 3],
    };
    told.checker.tell_of(Party::Centre);
    told.tell(&Record::Started {
        at: at(1),
        epoch: 1,
    });
    for recipient in 0..3 {
        told.tell(&Record::Recipient {
            at: at(3),
            recipient,
            partition: 0,
            tenant: tenant(),
            name: agent(recipient),
        });
    }
    let north = GroupName::parse("north").expect("it is a name");
    let changes = [(0, true), (1, true), (2, true), (2, false)];
    for (version, (recipient, member)) in (1..).zip(changes) {
        told.tell(&Record::GroupChanged {
            at: at(4),
            tenant: tenant(),
            group: north.clone(),
            version,
            recipient,
            partition: 0,
            agent: agent(recipient),
            member,
            by: "ops",
        });
    }
    told.tell(&Record::FannedOut {
        number: 1,
        audience: Audience::Group(north),
        version: 4,
        count: to.len() as u32,
        needed,
        deadline: needed.map(|_| at(100)),
        rule: LaneRule::Block,
        not_before: None,
        accepted: accepted(),
    });
    let send = told.position;
    for (index, recipient) in (0..).zip(to) {
        let row = Addressed {
            at: at(10),
            fan_out: 1,
            index,
            id: id(10 + *recipient as u8),
            partition: 0,
            recipient: *recipient,
            seq: 1,
            expires_at: None,
            not_before: None,
            lane: 0,
            bytes: 2,
            tenant: "default",
            to: NAMES[*recipient as usize],
            accepted: send,
        };
        told.tell(&Record::Addressed(row));
        told.rows[*recipient as usize] = told.position;
    }
    told
}

impl Told {
    fn tell(&mut self, record: &Record<'_>) {
        self.position += 1;
        self.checker.centre(self.position, record);
    }

    fn done_by(&mut self, recipient: u8) {
        self.tell(&Record::Settled {
            at: at(40),
            id: id(10 + recipient),
            end: End::Processed,
            attempt: 1,
            occurred_at: at(39),
            outcome: Outcome::default(),
            duration_ms: 1,
            previous: self.rows[usize::from(recipient)],
        });
    }

    fn missed(mut self, missing: u8, second: i64) -> Self {
        self.tell(&Record::QuorumMissed {
            at: at(second),
            number: 1,
            processed: 1,
            missing: vec![missing],
        });
        self
    }

    fn breaks(self) {
        let report = self.checker.finish();
        let judged = report.of(Invariant::I26);
        assert_eq!(judged.verdict, Verdict::Violated, "{judged:?}");
        assert_eq!(judged.witnesses[0].about, [id(9)], "{judged:?}");
        only_i26(&report);
    }

    fn holds(self) -> Report {
        let report = self.checker.finish();
        assert_eq!(report.of(Invariant::I26).verdict, Verdict::Held);
        only_i26(&report);
        report
    }
}

fn only_i26(report: &Report) {
    for other in &report.judged {
        let allowed = other.invariant == Invariant::I26 || other.broken == 0;
        assert!(allowed, "{other:?}");
    }
}

fn done_by_lyon() -> Told {
    let mut told = fanned_out(&[0, 1], Some(2));
    told.done_by(0);
    told
}

#[test]
fn a_send_to_a_group_is_complete_when_its_rows_are_the_members_of_that_version() {
    let report = fanned_out(&[0, 1], None).holds();
    assert_eq!(report.figures.accepted, 2);
}

#[test]
fn a_member_that_was_left_out_and_one_that_had_left_are_found() {
    fanned_out(&[0], None).breaks();
    fanned_out(&[0, 1, 2], None).breaks();
}

#[test]
fn a_quorum_that_is_said_too_early_or_never_is_found() {
    let mut early = done_by_lyon();
    early.tell(&Record::QuorumReached {
        at: at(50),
        number: 1,
        processed: 1,
    });
    early.breaks();
    let mut never = done_by_lyon();
    never.done_by(1);
    never.breaks();
}

#[test]
fn a_deadline_that_comes_too_early_or_names_others_than_those_who_have_not_is_found() {
    done_by_lyon().missed(0b10, 100).holds();
    done_by_lyon().missed(0b11, 100).breaks();
    done_by_lyon().missed(0b00, 100).breaks();
    done_by_lyon().missed(0b10, 99).breaks();
}

#[test]
fn without_the_beginning_of_the_journal_nothing_is_decided() {
    let mut told = fanned_out(&[0], None);
    told.checker = Checker::new(Limits::default());
    told.checker.tell_of(Party::Centre);
    told.checker.leave_out(Party::Centre, "it was trimmed");
    told.position = 100;
    told.tell(&Record::FannedOut {
        number: 1,
        audience: Audience::All,
        version: 4,
        count: 0,
        needed: None,
        deadline: None,
        rule: LaneRule::Block,
        not_before: None,
        accepted: accepted(),
    });
    let report = told.checker.finish();
    let judged = report.of(Invariant::I26);
    assert_eq!(judged.verdict, Verdict::Undecided);
    assert_eq!(judged.reasons, ["it was trimmed"]);
}
