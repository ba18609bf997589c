//! What operators and senders decide about time and turns: later, not at all, once more, not now.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn later(number: u8, at: Timestamp) -> Submission {
    Submission {
        not_before: Some(at),
        ..message(number, "lyon")
    }
}

impl World {
    fn operate(&mut self, input: Input) -> Result<(), Refusal> {
        match self.input(input) {
            Reply::Operated(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn cancel(&mut self, number: u8) -> Result<(), Refusal> {
        self.operate(Input::Cancel {
            tenant: tenant(),
            id: id(number),
            by: String::from("ada"),
        })
    }

    fn reprocess(&mut self, number: u8) -> Result<(), Refusal> {
        self.operate(Input::Reprocess {
            tenant: tenant(),
            id: id(number),
            may_process_twice: false,
            by: String::from("ada"),
        })
    }

    fn pause(&mut self, paused: bool) {
        let result = self.operate(Input::Pause {
            tenant: tenant(),
            agent: agent("lyon"),
            paused,
            reason: String::from("stocktaking"),
            by: String::from("ada"),
        });
        assert_eq!(result, Ok(()));
    }

    fn hold(&mut self, number: u8) -> Option<Hold> {
        self.view(number).unwrap().hold
    }

    fn agent_view(&mut self, of: &TenantName) -> Option<AgentView> {
        match self.input(Input::LookAgent {
            tenant: of.clone(),
            agent: agent("lyon"),
        }) {
            Reply::Agent(view) => view,
            other => panic!("{other:?}"),
        }
    }
}

fn other_tenant() -> TenantName {
    TenantName::parse("other").unwrap()
}

#[test]
fn a_message_for_later_waits_for_its_instant_and_goes_behind_what_waits_by_then() {
    let mut world = World::new();
    world.online();
    let at = world.now + MINUTE;
    let receipt = world.submit(later(1, at)).unwrap();
    assert_eq!(receipt.seq, 0, "it has no number yet");
    assert_eq!(world.hold(1), Some(Hold::NotBefore(at)));
    assert_eq!(world.place(1), Some(Place::Queued));
    world.send([2]);
    assert_eq!(world.pushed(), [(2, 1)]);
    assert_eq!(
        world.centre.next_deadline(),
        Some(world.now + Duration::from_secs(30))
    );
    world.pass(MINUTE - Duration::from_micros(1));
    assert!(world.pushed().iter().all(|(number, _)| *number == 2));
    world.pass(Duration::from_micros(1));
    assert_eq!(world.pushed(), [(1, 1)]);
    assert_eq!(world.hold(1), None);
}

#[test]
fn messages_for_later_come_due_in_the_order_of_their_instants_over_restarts() {
    let mut world = World::new();
    let start = world.now;
    for (number, minutes) in [(1, 3), (2, 1), (3, 2)] {
        world
            .submit(later(number, start + MINUTE * minutes))
            .unwrap();
    }
    world.restart();
    assert_eq!(world.agent_view(&tenant()).unwrap().held, 3);
    world.pass(MINUTE * 5);
    world.online();
    assert_eq!(world.pushed(), [(2, 1), (3, 1), (1, 1)]);
}

#[test]
fn an_instant_that_has_passed_already_holds_nothing_back() {
    let mut world = World::new();
    world.online();
    world.submit(later(1, world.now)).unwrap();
    assert_eq!(world.pushed(), [(1, 1)]);
}

#[test]
fn a_message_that_would_expire_before_it_is_due_is_refused() {
    let mut world = World::new();
    let at = world.now + MINUTE;
    let submitted = world.submit(Submission {
        expires_at: Some(at),
        ..later(1, at)
    });
    assert_eq!(submitted, Err(Refusal::AlreadyExpired));
}

#[test]
fn a_message_cancelled_before_it_is_due_is_nobodys_gap() {
    let mut world = World::new();
    world.submit(later(1, world.now + MINUTE)).unwrap();
    world.cancel(1).unwrap();
    assert_eq!(world.place(1), Some(Place::Ended(End::Cancelled)));
    world.pass(MINUTE * 2);
    let connection = world.connect("lyon");
    assert_eq!(world.ready(connection).gap, None);
    assert_eq!(world.pushed(), []);
}

#[test]
fn a_message_for_later_expires_like_any_other_when_its_agent_stays_away() {
    let mut world = World::new();
    world
        .submit(Submission {
            expires_at: Some(world.now + MINUTE * 2),
            ..later(1, world.now + MINUTE)
        })
        .unwrap();
    world.pass(MINUTE);
    assert_eq!(world.place(1), Some(Place::Queued));
    world.pass(MINUTE);
    assert_eq!(world.place(1), Some(Place::Ended(End::Expired)));
}

#[test]
fn a_retry_of_a_message_for_later_is_told_its_number_when_it_has_one() {
    let mut world = World::new();
    let keyed = Submission {
        key: Some([9; 16]),
        ..later(1, world.now + MINUTE)
    };
    let first = world.submit(keyed.clone()).unwrap();
    let again = world.submit(keyed.clone()).unwrap();
    assert_eq!((again.seq, again.repeated), (first.seq, true));
    world.send([2]);
    world.pass(MINUTE);
    assert_eq!(world.submit(keyed).unwrap().seq, 2);
}

#[test]
fn a_message_that_its_agent_has_already_waits_for_no_instant() {
    // The centre's store was restored from a time before it was pushed.
    let mut world = World::new();
    world.submit(later(1, world.now + MINUTE)).unwrap();
    world.ack(1, Stage::Stored, 1);
    assert_eq!(world.place(1), Some(Place::Received));
    world.pass(MINUTE);
    world.ack(1, Stage::Acknowledged, 1);
    assert_eq!(world.place(1), Some(Place::Ended(End::Processed)));
}

#[test]
fn a_message_that_waits_is_taken_back_and_never_pushed() {
    let mut world = World::new();
    world.send([1, 2]);
    assert_eq!(world.cancel(1), Ok(()));
    assert_eq!(world.cancel(1), Ok(()), "it is as wanted");
    world.online();
    assert_eq!(world.pushed(), [(2, 1)]);
    assert_eq!(world.counters().cancelled, 1);
}

#[test]
fn what_its_agent_may_have_cannot_be_taken_back() {
    let mut world = World::new();
    world.send([1, 2, 3]);
    world.online();
    world.ack(2, Stage::Stored, 1);
    world.ack(3, Stage::Acknowledged, 1);
    for number in 1..=3 {
        let refused = world.cancel(number);
        assert!(matches!(refused, Err(Refusal::TooLate { .. })), "{number}");
    }
    let records = world.records.len();
    assert_eq!(world.cancel(9), Err(Refusal::UnknownMessage { id: id(9) }));
    assert_eq!(world.records.len(), records);
}

#[test]
fn a_message_pushed_in_vain_is_taken_back_and_an_acknowledgement_after_that_is_late() {
    let mut world = World::new();
    world.send([1]);
    let connection = world.online();
    world.disconnect(connection);
    assert_eq!(world.cancel(1), Ok(()));
    world.ack(1, Stage::Acknowledged, 1);
    assert_eq!(world.place(1), Some(Place::Ended(End::Cancelled)));
    assert_eq!(world.kept(), [Why::Late]);
}

#[test]
fn a_message_that_has_ended_is_done_once_more_behind_what_waits() {
    let mut world = World::new();
    world.send([1]);
    world.online();
    world.ack(1, Stage::Stored, 1);
    world.ack(1, Stage::Dead, 10);
    world.send([2]);
    world.pushes();
    assert_eq!(world.reprocess(1), Ok(()));
    let pushes = world.pushes();
    let [push] = &pushes[..] else {
        panic!("{pushes:?}")
    };
    assert_eq!((push.generation, push.attempt, push.seq), (2, 1, 3));
    assert_eq!(world.causes(1), [Cause::New, Cause::Reprocessed]);
    assert_eq!(world.counters().reprocessed, 1);
    assert_eq!((world.counters().dead, world.counters().pending), (0, 2));
    // What is said of its first life ends the second no more.
    world.ack(1, Stage::Acknowledged, 1);
    assert_eq!(world.place(1), Some(Place::Offered));
    assert_eq!(world.kept(), [Why::OtherGeneration]);
    let mut ack = world.ack_of("lyon", 1, Stage::Acknowledged, 1);
    ack.item.generation = 2;
    world.acks(vec![ack]);
    assert_eq!(world.place(1), Some(Place::Ended(End::Processed)));
}

#[test]
fn a_message_under_way_is_not_done_once_more() {
    let mut world = World::new();
    world.send([1]);
    assert_eq!(world.reprocess(1), Err(Refusal::NotEnded { id: id(1) }));
    world.online();
    assert_eq!(world.reprocess(1), Err(Refusal::NotEnded { id: id(1) }));
    world.ack(1, Stage::Stored, 1);
    assert_eq!(world.reprocess(1), Err(Refusal::NotEnded { id: id(1) }));
}

#[test]
fn an_expired_message_done_once_more_expires_no_more() {
    let mut world = World::new();
    world
        .submit(Submission {
            expires_at: Some(world.now + MINUTE),
            ..message(1, "lyon")
        })
        .unwrap();
    world.pass(MINUTE);
    world.reprocess(1).unwrap();
    world.pass(MINUTE * 60);
    world.restart();
    world.online();
    assert_eq!(world.pushed(), [(1, 1)]);
}

#[test]
fn a_message_done_once_more_outlives_the_retention_of_its_first_end() {
    let mut world = World::new();
    world.send([1]);
    world.cancel(1).unwrap();
    world.pass(Duration::from_secs(300));
    world.reprocess(1).unwrap();
    let retention = world.policy.retention;
    for _ in 0..3000 {
        world.pass(retention / 1000);
    }
    assert_eq!(world.place(1), Some(Place::Queued));
    assert_eq!(world.counters().aged_out, 0);
}

#[test]
fn nothing_is_pushed_to_a_paused_recipient_and_what_waits_goes_when_it_is_let_go() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.pushes();
    world.pause(true);
    world.send([2]);
    world.ack(1, Stage::Acknowledged, 1);
    assert_eq!(world.pushed(), []);
    assert_eq!(world.hold(2), Some(Hold::Paused));
    let seen = world.agent_view(&tenant()).unwrap();
    assert!(seen.paused && seen.online && seen.waiting == 1);
    world.restart();
    world.online();
    assert_eq!(world.pushed(), [], "the pause outlives a restart");
    world.pause(false);
    assert_eq!(world.pushed(), [(2, 1)]);
}

#[test]
fn a_pause_that_changes_nothing_is_not_written_down() {
    let mut world = World::new();
    world.pause(true);
    let records = world.records.len();
    world.pause(true);
    assert_eq!(world.records.len(), records);
}

#[test]
fn nobody_decides_about_messages_and_recipients_of_another_tenant() {
    let mut world = World::new();
    world.send([1]);
    let records = world.records.len();
    let (theirs, by) = (other_tenant(), String::from("eve"));
    let cancelled = world.operate(Input::Cancel {
        tenant: theirs.clone(),
        id: id(1),
        by: by.clone(),
    });
    assert_eq!(cancelled, Err(Refusal::UnknownMessage { id: id(1) }));
    let reprocessed = world.operate(Input::Reprocess {
        tenant: theirs.clone(),
        id: id(1),
        may_process_twice: false,
        by: by.clone(),
    });
    assert_eq!(reprocessed, Err(Refusal::UnknownMessage { id: id(1) }));
    let paused = world.operate(Input::Pause {
        tenant: theirs.clone(),
        agent: agent("lyon"),
        paused: true,
        reason: String::new(),
        by,
    });
    assert_eq!(
        paused,
        Err(Refusal::UnknownRecipient {
            agent: agent("lyon")
        })
    );
    assert_eq!(world.agent_view(&theirs), None);
    assert_eq!(world.records.len(), records);
}
