//! Each check catches a defect that stands in a small history, and says of which message.

#[path = "planted/operations.rs"]
mod operations;

use countersign_checker::{Checker, Invariant, Key, Limits, Party, Report, Verdict};
use countersign_rules::ack::{Ack, AckItem, AckRecord, Outcome, Stage};
use countersign_rules::delivery::{Accepted, Cause, End, Record, Remembered};
use countersign_rules::site::{Record as SiteRecord, Worked};
use countersign_rules::{AgentName, LaneName, MessageId, TenantName, Timestamp};

const BODY: [u8; 32] = [7; 32];

fn id(number: u8) -> MessageId {
    MessageId([number; 16])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

fn tenant() -> TenantName {
    TenantName::parse("default").expect("it is a name")
}

fn lyon() -> AgentName {
    AgentName::parse("lyon").expect("it is a name")
}

fn accepted(number: u8, seq: u64) -> Accepted<'static> {
    Accepted {
        rule: countersign_rules::LaneRule::Block,
        body: None,
        at: at(10),
        id: id(number),
        partition: 0,
        recipient: 0,
        seq,
        generation: 1,
        key: [0; 16],
        fingerprint: [0; 16],
        body_sha256: BODY,
        expires_at: None,
        tenant: "default",
        to: "lyon",
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

/// A history as it is told, journal by journal.
struct Told {
    checker: Checker,
    centre: u64,
    acks: u64,
    site: u64,
    last: std::collections::BTreeMap<MessageId, u64>,
}

impl Told {
    /// Whole journals of all three, and agent lyon connected and ready over term 1.
    fn new() -> Self {
        Self::within(Limits::default())
    }

    fn within(limits: Limits) -> Self {
        let mut told = Self {
            checker: Checker::new(limits),
            centre: 0,
            acks: 0,
            site: 0,
            last: std::collections::BTreeMap::new(),
        };
        for party in [Party::Centre, Party::Acks, Party::Site(0)] {
            told.checker.tell_of(party);
        }
        told.checker.name_site(0, lyon());
        told.centre(&Record::Started {
            at: at(1),
            epoch: 1,
        });
        told.centre(&Record::Recipient {
            at: at(1),
            recipient: 0,
            partition: 0,
            tenant: tenant(),
            name: lyon(),
        });
        told.connect(1);
        told
    }

    fn centre(&mut self, record: &Record<'_>) {
        self.centre += 1;
        self.checker.centre(self.centre, record);
    }

    /// A record about a message, linked to the one before it.
    fn about(&mut self, number: u8, record: impl FnOnce(u64) -> Record<'static>) {
        let previous = self.last.get(&id(number)).copied().unwrap_or(0);
        self.centre(&record(previous));
        self.last.insert(id(number), self.centre);
    }

    fn connect(&mut self, term: u64) {
        self.centre(&Record::Connected {
            at: at(2),
            recipient: 0,
            term,
            connection: term,
            token_expires_at: at(1000),
        });
        self.ready(term);
    }

    fn ready(&mut self, term: u64) {
        self.centre(&Record::Ready {
            at: at(2),
            recipient: 0,
            term,
            agent_epoch: 1,
            floor: 1,
            cursor: 0,
        });
    }

    fn accept(&mut self, number: u8, seq: u64) {
        self.about(number, |_| Record::Accepted(accepted(number, seq)));
    }

    fn offer(&mut self, number: u8, attempt: u32, cause: Cause) {
        self.offer_over(number, 1, attempt, cause);
    }

    fn offer_over(&mut self, number: u8, term: u64, attempt: u32, cause: Cause) {
        self.about(number, |previous| Record::Offered {
            at: at(20),
            id: id(number),
            term,
            attempt,
            cause,
            previous,
        });
    }

    fn settle(&mut self, number: u8, end: End) {
        self.about(number, |previous| Record::Settled {
            at: at(40),
            id: id(number),
            end,
            attempt: 1,
            occurred_at: at(39),
            outcome: Outcome::default(),
            duration_ms: 1,
            previous,
        });
    }

    fn site(&mut self, record: &SiteRecord<'_>, body: Option<&[u8; 32]>) {
        self.site += 1;
        self.checker.site_record(0, self.site, record, body);
    }

    fn inbox(&mut self, number: u8, seq: u64) {
        self.inbox_with(number, seq, &BODY);
    }

    fn inbox_with(&mut self, number: u8, seq: u64, body: &[u8; 32]) {
        let record = SiteRecord::Inboxed {
            at: at(21),
            id: id(number),
            generation: 1,
            seq,
            attempt: 1,
            lane: LaneName::default_lane(),
            attempts_max: Some(2),
            envelope: b"",
        };
        self.site(&record, Some(body));
    }

    fn work(&mut self, number: u8, attempt: u32) {
        let record = SiteRecord::WorkStarted {
            at: at(22),
            id: id(number),
            generation: 1,
            attempt,
        };
        self.site(&record, None);
    }

    fn done(&mut self, number: u8) {
        let record = SiteRecord::Worked {
            at: at(23),
            id: id(number),
            generation: 1,
            attempt: 1,
            worked: Worked::Done(Outcome::default()),
            duration_ms: 1,
        };
        self.site(&record, None);
    }

    fn say(&mut self, number: u8, stage: Stage) {
        self.acks += 1;
        let item = AckItem {
            next_at: None,
            message: id(number),
            stage,
            attempt: 1,
            generation: 1,
            occurred_at: at(24),
            outcome: Outcome::default(),
            duration_ms: 1,
            traceparent: String::new(),
        };
        let ack = Ack {
            at: at(25),
            tenant: tenant(),
            agent: lyon(),
            item,
        };
        self.checker.ack(self.acks, &AckRecord::Given(ack));
    }

    fn acks_read(&mut self) {
        let through = self.acks;
        self.centre(&Record::AcksRead {
            at: at(40),
            source: 1,
            through,
        });
    }

    /// A message that went all the way.
    fn whole(&mut self, number: u8, seq: u64) {
        self.accept(number, seq);
        self.offer(number, 1, Cause::New);
        self.inbox(number, seq);
        self.work(number, 1);
        self.done(number);
        self.say(number, Stage::Acknowledged);
        self.settle(number, End::Processed);
        self.acks_read();
    }

    fn finish(self) -> Report {
        self.checker.finish()
    }

    /// The history breaks this invariant, and the witness names these messages.
    fn breaks(self, invariant: Invariant, about: &[u8]) {
        let report = self.finish();
        let judged = report.of(invariant);
        assert_eq!(judged.verdict, Verdict::Violated, "{judged:?}");
        let about: Vec<_> = about.iter().map(|number| id(*number)).collect();
        assert_eq!(judged.witnesses[0].about, about, "{judged:?}");
        for other in &report.judged {
            let allowed = other.invariant == invariant || other.broken == 0;
            assert!(allowed, "{other:?}");
        }
    }
}

#[test]
fn a_history_without_a_defect_violates_nothing_and_its_figures_add_up() {
    let mut told = Told::new();
    told.checker.tell_of_sends();
    told.checker.tell_of_effects();
    for number in 1..=5 {
        told.checker.sent(id(number), Some("lane"));
        told.checker.effect(Key {
            id: id(number),
            generation: 1,
        });
        told.whole(number, u64::from(number));
    }
    let report = told.finish();
    assert!(!report.is_violated(), "{report:?}");
    use Invariant::*;
    for invariant in [
        I1, I2, I5, I6, I7, I8, I9, I10, I11, I13, I14, I15, I16, I18, I20,
    ] {
        assert_eq!(report.of(invariant).verdict, Verdict::Held, "{invariant:?}");
    }
    let figures = &report.figures;
    assert_eq!((figures.accepted, figures.pending()), (5, 0));
    assert_eq!((figures.ended(End::Processed), figures.effects), (5, 5));
    assert_eq!((figures.pushes, figures.pushed_again()), (5, 0));
}

#[test]
fn a_promised_message_that_the_centre_does_not_know_is_lost() {
    let mut told = Told::new();
    told.whole(1, 1);
    told.whole(3, 2);
    told.checker.tell_of_sends();
    [1, 2, 3]
        .into_iter()
        .for_each(|number| told.checker.sent(id(number), None));
    told.breaks(Invariant::I1, &[2]);
}

#[test]
fn what_a_site_has_and_nobody_accepted_is_a_phantom() {
    let mut told = Told::new();
    told.inbox(9, 1);
    told.breaks(Invariant::I2, &[9]);
}

#[test]
fn another_body_in_the_inbox_is_a_phantom_whichever_journal_is_told_first() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.inbox_with(1, 1, &[8; 32]);
    told.breaks(Invariant::I2, &[1]);
    let mut told = Told::new();
    told.inbox_with(1, 1, &[8; 32]);
    told.accept(1, 1);
    told.breaks(Invariant::I2, &[1]);
}

impl Told {
    /// Accepts a message with this key and ends it.
    fn keyed(&mut self, number: u8, key: u8) {
        let accepted = Accepted {
            key: [key; 16],
            ..accepted(number, u64::from(number))
        };
        self.about(number, |_| Record::Accepted(accepted));
        self.settle(number, End::Cancelled);
    }

    fn archive(&mut self, batch: u64, numbers: &[u8]) {
        let messages = numbers.iter().map(|number| remembered(*number)).collect();
        self.centre(&Record::Archived {
            at: at(41),
            batch,
            messages,
        });
    }
}

fn remembered(number: u8) -> Remembered {
    Remembered {
        id: id(number),
        key: [0; 16],
        fingerprint: [0; 4],
        recipient: 0,
        end: End::Cancelled,
        generation: 1,
        pushes: 0,
        seq: u64::from(number),
        bytes: 2,
        lane: 0,
        accepted: 1,
        last: 1,
        ended: at(40),
        discarded: false,
    }
}

#[test]
fn one_key_accepted_as_two_messages_is_found() {
    let mut told = Told::new();
    told.keyed(1, 5);
    told.keyed(2, 5);
    told.breaks(Invariant::I3, &[1, 2]);
}

#[test]
fn a_key_stands_for_its_message_until_its_batch_of_the_archive_has_aged() {
    let mut told = Told::new();
    told.keyed(1, 5);
    told.archive(1, &[1]);
    told.keyed(2, 5);
    told.breaks(Invariant::I3, &[1, 2]);

    let mut told = Told::new();
    told.keyed(1, 5);
    told.archive(1, &[1]);
    told.centre(&Record::ArchiveAged {
        at: at(50),
        below: 2,
    });
    told.keyed(2, 5);
    assert!(!told.finish().is_violated());
}

#[test]
fn a_message_that_came_back_from_the_archive_ages_behind_those_in_memory() {
    let aged = || {
        let mut told = Told::new();
        (1..=3).for_each(|number| told.keyed(number, number));
        told.archive(1, &[1, 2]);
        told.centre(&Record::Recalled {
            at: at(42),
            batch: 1,
            message: remembered(1),
        });
        told.centre(&Record::ArchiveAged {
            at: at(50),
            below: 2,
        });
        told.centre(&Record::AgedOut {
            at: at(51),
            count: 1,
        });
        told
    };
    let mut told = aged();
    told.keyed(4, 2);
    told.keyed(5, 3);
    assert!(!told.finish().is_violated());
    let mut told = aged();
    told.keyed(4, 1);
    told.breaks(Invariant::I3, &[1, 4]);
}

#[test]
fn a_message_accepted_twice_is_not_conserved() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.accept(1, 2);
    told.breaks(Invariant::I4, &[1]);
}

#[test]
fn counters_that_are_not_the_records_are_not_conserved() {
    let mut told = Told::new();
    told.accept(1, 1);
    let counters = countersign_rules::delivery::Counters::default();
    told.checker.counters(&counters);
    told.breaks(Invariant::I4, &[]);
}

#[test]
fn a_message_that_waits_for_a_ready_agent_for_hours_is_stuck() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.centre(&Record::TimePassed { at: at(10 + 4000) });
    told.breaks(Invariant::I5, &[1]);
}

#[test]
fn a_message_that_waits_for_an_absent_or_paused_agent_is_pending_and_not_stuck() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.centre(&Record::Paused {
        at: at(11),
        recipient: 0,
        paused: true,
        reason: "",
        by: "",
    });
    told.centre(&Record::TimePassed { at: at(10 + 4000) });
    let report = told.finish();
    assert_eq!(report.of(Invariant::I5).verdict, Verdict::Undecided);
    assert_eq!(report.figures.pending(), 1);
}

#[test]
fn a_lane_that_overtakes_itself_is_reordered_into_the_inbox_and_to_work() {
    let mut told = Told::new();
    [1, 2]
        .into_iter()
        .for_each(|number| told.accept(number, u64::from(number)));
    told.inbox(2, 2);
    told.inbox(1, 1);
    told.breaks(Invariant::I6, &[1, 2]);
    let mut told = Told::new();
    [1, 2]
        .into_iter()
        .for_each(|number| told.accept(number, u64::from(number)));
    [1, 2]
        .into_iter()
        .for_each(|number| told.inbox(number, u64::from(number)));
    told.work(2, 1);
    told.work(1, 1);
    told.breaks(Invariant::I6, &[1, 2]);
}

#[test]
fn sends_of_one_lane_that_get_falling_numbers_are_reordered() {
    let mut told = Told::new();
    told.accept(2, 1);
    told.accept(1, 2);
    told.checker.tell_of_sends();
    [1, 2]
        .into_iter()
        .for_each(|number| told.checker.sent(id(number), Some("a")));
    told.breaks(Invariant::I6, &[1, 2]);
}

#[test]
fn messages_due_together_that_come_due_in_another_order_than_they_were_accepted_are_found() {
    let scheduled = |second: i64| {
        move |number: u8| {
            move |_| Record::Scheduled {
                not_before: at(second),
                accepted: accepted(number, 0),
            }
        }
    };
    let due = |number: u8, seq: u64| {
        move |previous: u64| Record::Due {
            at: at(60),
            id: id(number),
            seq,
            previous,
        }
    };
    for instants in [[60, 60], [50, 60]] {
        let told_of = |order: [u8; 2]| {
            let mut told = Told::new();
            for (number, instant) in (1..).zip(instants) {
                told.about(number, scheduled(instant)(number));
            }
            for (seq, number) in (1..).zip(order) {
                told.about(number, due(number, seq));
            }
            told
        };
        let report = told_of([1, 2]).finish();
        assert!(!report.is_violated(), "{report:?}");
        told_of([2, 1]).breaks(Invariant::I6, &[1, 2]);
    }
}

#[test]
fn a_push_without_a_cause_and_a_number_given_twice_are_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.offer(1, 1, Cause::New);
    told.offer(1, 2, Cause::Disconnected);
    told.breaks(Invariant::I7, &[1]);
    let mut told = Told::new();
    told.accept(1, 1);
    told.offer(1, 1, Cause::New);
    told.about(1, |previous| Record::Overdue {
        at: at(30),
        id: id(1),
        previous,
    });
    told.offer(1, 1, Cause::Overdue);
    told.breaks(Invariant::I7, &[1]);
}

#[test]
fn an_acknowledgement_of_what_was_never_in_the_inbox_is_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.say(1, Stage::Stored);
    told.breaks(Invariant::I8, &[1]);
}

#[test]
fn processed_without_a_success_at_the_site_or_a_row_in_the_back_office_is_a_false_success() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.inbox(1, 1);
    told.say(1, Stage::Acknowledged);
    told.settle(1, End::Processed);
    told.breaks(Invariant::I9, &[1]);
    let mut told = Told::new();
    told.checker.tell_of_effects();
    told.whole(1, 1);
    told.breaks(Invariant::I9, &[1]);
}

#[test]
fn a_second_effect_is_found_unless_keys_are_not_looked_at_and_a_repeat_was_declared() {
    let twice = |limits: Limits, declared: bool| {
        let mut told = Told::within(limits);
        told.checker.tell_of_effects();
        let key = Key {
            id: id(1),
            generation: 1,
        };
        [key, key]
            .into_iter()
            .for_each(|key| told.checker.effect(key));
        told.accept(1, 1);
        told.inbox(1, 1);
        told.work(1, 1);
        if declared {
            told.work(1, 2);
        }
        told.done(1);
        told
    };
    twice(Limits::default(), true).breaks(Invariant::I10, &[1]);
    let lax = || Limits {
        keys_honoured: false,
        ..Limits::default()
    };
    twice(lax(), false).breaks(Invariant::I10, &[1]);
    let report = twice(lax(), true).finish();
    assert_eq!(report.of(Invariant::I10).verdict, Verdict::Held);
    assert_eq!(report.figures.possibly_repeated, 1);
}

#[test]
fn an_end_that_the_owner_did_not_say_first_or_at_all_and_a_second_end_are_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.inbox(1, 1);
    told.work(1, 1);
    told.done(1);
    told.say(1, Stage::Acknowledged);
    told.settle(1, End::Rejected);
    told.breaks(Invariant::I11, &[1]);
    let mut told = Told::new();
    told.accept(1, 1);
    told.settle(1, End::Rejected);
    told.breaks(Invariant::I11, &[1]);
    let mut told = Told::new();
    told.whole(1, 1);
    told.settle(1, End::Processed);
    told.breaks(Invariant::I11, &[1]);
}

#[test]
fn a_push_that_passes_over_a_lower_number_is_found() {
    let mut told = Told::new();
    [1, 2]
        .into_iter()
        .for_each(|number| told.accept(number, u64::from(number)));
    told.offer(2, 1, Cause::New);
    told.breaks(Invariant::I13, &[1, 2]);
}

#[test]
fn a_push_over_an_older_connection_is_found() {
    let mut told = Told::new();
    told.connect(2);
    told.accept(1, 1);
    told.offer_over(1, 1, 1, Cause::New);
    told.breaks(Invariant::I14, &[1]);
}

#[test]
fn a_push_after_the_tokens_end_is_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.about(1, |previous| Record::Offered {
        at: at(1001),
        id: id(1),
        term: 1,
        attempt: 1,
        cause: Cause::New,
        previous,
    });
    told.breaks(Invariant::I15, &[1]);
}

#[test]
fn more_in_flight_than_the_window_holds_and_a_push_to_a_paused_agent_are_found() {
    let limits = Limits {
        window_messages: Some(1),
        window_bytes: Some(1 << 20),
        ..Limits::default()
    };
    let mut told = Told::within(limits);
    for number in [1, 2] {
        told.accept(number, u64::from(number));
        told.offer(number, 1, Cause::New);
    }
    told.breaks(Invariant::I16, &[2]);
    let mut told = Told::new();
    told.accept(1, 1);
    told.centre(&Record::Paused {
        at: at(11),
        recipient: 0,
        paused: true,
        reason: "",
        by: "",
    });
    told.offer(1, 1, Cause::New);
    told.breaks(Invariant::I16, &[1]);
}

#[test]
fn an_acknowledgement_that_was_read_and_not_acted_on_is_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.inbox(1, 1);
    told.say(1, Stage::Stored);
    told.acks_read();
    told.breaks(Invariant::I18, &[1]);
}

#[test]
fn damage_that_nobody_reckoned_with_is_found_and_damage_that_was_is_not() {
    let mut told = Told::new();
    told.checker.damaged(Party::Centre, 77);
    told.breaks(Invariant::I20, &[]);
    let mut told = Told::new();
    told.checker.damaged(Party::Centre, 77);
    told.centre(&Record::Damaged {
        at: at(50),
        damaged: vec![77],
    });
    let report = told.finish();
    assert_eq!(report.of(Invariant::I20).verdict, Verdict::Held);
    assert_eq!(report.figures.corrupt, 1);
}

#[test]
fn a_message_that_expires_without_an_end_of_life_is_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.settle(1, End::Expired);
    told.breaks(Invariant::I21, &[1]);
}

#[test]
fn more_attempts_than_the_sender_allowed_are_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.inbox(1, 1);
    [1, 2, 3]
        .into_iter()
        .for_each(|attempt| told.work(1, attempt));
    told.breaks(Invariant::I23, &[1]);
}

#[test]
fn another_life_of_a_message_that_has_not_ended_is_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.about(1, |previous| Record::Reprocessed {
        at: at(50),
        id: id(1),
        generation: 2,
        seq: 2,
        by: "x",
        operation: None,
        may_process_twice: false,
        previous,
    });
    told.breaks(Invariant::I24, &[1]);
}

#[test]
fn a_push_of_what_has_ended_or_is_not_due_is_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.settle(1, End::Cancelled);
    told.offer(1, 1, Cause::New);
    told.breaks(Invariant::I25, &[1]);
    let mut told = Told::new();
    told.about(1, |_| Record::Scheduled {
        not_before: at(500),
        accepted: accepted(1, 0),
    });
    told.offer(1, 1, Cause::New);
    told.breaks(Invariant::I25, &[1]);
}

#[test]
fn a_record_that_is_missing_between_two_of_one_message_is_found() {
    let mut told = Told::new();
    told.accept(1, 1);
    told.centre += 1;
    told.last.insert(id(1), told.centre);
    told.offer(1, 1, Cause::New);
    told.breaks(Invariant::I28, &[1]);
}

#[test]
fn a_record_about_a_message_that_was_never_accepted_is_found() {
    let mut told = Told::new();
    told.offer(1, 1, Cause::New);
    let report = told.finish();
    assert_eq!(report.of(Invariant::I28).verdict, Verdict::Violated);
}

#[test]
fn what_a_missing_beginning_could_explain_is_undecided_with_the_reason() {
    let mut told = Told::new();
    let why = "the journal begins at record 100: what came before was trimmed";
    told.checker.leave_out(Party::Centre, why);
    told.checker.leave_out(Party::Site(0), why);
    told.checker.leave_out(Party::Acks, why);
    told.checker.tell_of_sends();
    told.checker.sent(id(1), None);
    told.inbox(2, 1);
    told.offer(3, 4, Cause::Overdue);
    told.accept(4, 9);
    told.settle(4, End::Processed);
    let report = told.finish();
    assert!(!report.is_violated(), "{report:?}");
    for invariant in [Invariant::I1, Invariant::I2, Invariant::I11, Invariant::I28] {
        let judged = report.of(invariant);
        assert_eq!(judged.verdict, Verdict::Undecided, "{judged:?}");
        assert!(judged.reasons.contains(&why.to_owned()), "{judged:?}");
    }
}

#[test]
fn a_journal_that_is_not_given_leaves_open_what_it_would_have_shown() {
    let mut told = Told::new();
    told.checker = {
        let mut checker = Checker::new(Limits::default());
        checker.tell_of(Party::Centre);
        checker
    };
    told.centre = 0;
    told.accept(1, 1);
    told.settle(1, End::Processed);
    let report = told.finish();
    assert!(!report.is_violated(), "{report:?}");
    let judged = report.of(Invariant::I11);
    assert_eq!(judged.verdict, Verdict::Undecided);
    assert_eq!(
        judged.reasons,
        ["the journal of the ack store is not given"]
    );
}

fn other_life(told: &mut Told, epoch: u64) {
    told.centre(&Record::Started { at: at(20), epoch });
}

fn orphan(number: u8) -> Record<'static> {
    Record::Kept {
        at: at(21),
        id: id(number),
        why: countersign_rules::delivery::Why::Orphan,
        stage: Stage::Acknowledged,
        tenant: tenant(),
        by: lyon(),
        occurred_at: at(15),
        outcome: Outcome::default(),
        previous: 0,
    }
}

#[test]
fn i29_a_store_that_was_replaced_by_an_older_copy_without_another_life_is_seen() {
    let mut told = Told::new();
    told.centre(&Record::Started {
        at: at(20),
        epoch: 1,
    });
    told.connect(2);
    told.centre(&Record::NumbersRaised {
        at: at(21),
        recipient: 0,
        seq_last: 9,
    });
    told.breaks(Invariant::I29, &[]);
}

#[test]
fn i29_a_life_that_is_no_later_one_is_seen() {
    let mut told = Told::new();
    other_life(&mut told, 5);
    other_life(&mut told, 3);
    told.breaks(Invariant::I29, &[]);
}

#[test]
fn i29_an_acknowledgement_of_an_unknown_message_that_is_not_kept_is_seen() {
    for kept in [true, false] {
        let mut told = Told::new();
        other_life(&mut told, 5);
        told.say(4, Stage::Acknowledged);
        if kept {
            told.centre(&orphan(4));
        }
        told.acks_read();
        match kept {
            true => {
                let judged = told.finish();
                assert_eq!(judged.of(Invariant::I29).verdict, Verdict::Held);
            }
            false => told.breaks(Invariant::I29, &[4]),
        }
    }
}
