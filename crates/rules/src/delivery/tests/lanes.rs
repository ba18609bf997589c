//! Parked lanes at the centre, and the attempts it hears of.

use super::*;
use crate::site::ParkedLane;

fn lane(name: &str) -> LaneName {
    LaneName::parse(name).unwrap()
}

fn ruled(number: u8, of: &str, rule: LaneRule) -> Submission {
    Submission {
        lane: lane(of),
        rule,
        ..message(number, "lyon")
    }
}

impl World {
    /// Messages of lane `a` that park it when they fail.
    fn send_parking(&mut self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            self.submit(ruled(number, "a", LaneRule::Park)).unwrap();
        }
    }

    fn resume_lane(&mut self, of: &str) -> Result<(), Refusal> {
        let input = Input::ResumeLane {
            tenant: tenant(),
            agent: agent("lyon"),
            lane: lane(of),
            reason: String::from("corrected in the back office"),
            by: String::from("ada"),
        };
        match self.input(input) {
            Reply::Operated(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn replay(&mut self, number: u8) -> Result<(), Refusal> {
        let input = Input::Reprocess {
            tenant: tenant(),
            id: id(number),
            may_process_twice: false,
            by: String::from("ada"),
        };
        match self.input(input) {
            Reply::Operated(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn ready_naming(&mut self, connection: u64, parked: Vec<ParkedLane>) -> Welcome {
        let input = Input::Ready {
            connection,
            agent_epoch: 7,
            floor: 0,
            cursor: 0,
            highest: None,
            centre_epoch: 1,
            parked,
        };
        match self.input(input) {
            Reply::Ready(Some(welcome)) => welcome,
            other => panic!("{other:?}"),
        }
    }

    fn lanes(&mut self) -> Vec<LaneView> {
        let input = Input::LookAgent {
            tenant: tenant(),
            agent: agent("lyon"),
        };
        match self.input(input) {
            Reply::Agent(Some(view)) => view.parked,
            other => panic!("{other:?}"),
        }
    }

    fn ack_life(&mut self, number: u8, generation: u32, stage: Stage) {
        let mut ack = self.ack_of("lyon", number, stage, 1);
        ack.item.generation = generation;
        self.acks(vec![ack]);
    }

    fn hold_of(&mut self, number: u8) -> Option<Hold> {
        self.view(number).unwrap().hold
    }
}

fn parked(number: u8, generation: u32) -> ParkedLane {
    ParkedLane {
        lane: lane("a"),
        by: id(number),
        generation,
        held: 0,
    }
}

const BY_1: Option<Hold> = Some(Hold::LaneParked {
    by: MessageId([1; 16]),
});

#[test]
fn a_rejected_message_parks_its_lane_and_what_was_never_pushed_is_held() {
    let mut world = World::with(Policy {
        window_messages: 2,
        ..Policy::default()
    });
    world.online();
    world.send_parking(1..=4);
    world.submit(ruled(9, "b", LaneRule::Park)).unwrap();
    assert_eq!(world.pushed(), [(1, 1), (2, 1)]);
    world.ack(1, Stage::Rejected, 1);
    assert_eq!(world.pushed(), [(9, 1)], "another lane goes on");
    world.send_parking([5]);
    assert_eq!(world.pushed(), []);
    for number in [2, 3, 4, 5] {
        assert_eq!(world.hold_of(number), BY_1, "{number}");
    }
    assert_eq!(world.hold_of(9), None);
    let lanes = world.lanes();
    assert_eq!((lanes[0].behind, lanes[0].held), (4, 3));
    assert_eq!(world.view(3).unwrap().seq, 0, "it has no number");
    world.restart();
    world.online();
    assert_eq!(world.pushed(), [(2, 2), (9, 2)]);
}

#[test]
fn a_resumed_lane_goes_on_in_its_order_behind_what_waits_and_the_site_is_told() {
    let mut world = World::new();
    world.send_parking(1..=4);
    let connection = world.online();
    world.ack(1, Stage::Dead, 1);
    world.pushed();
    world.disconnect(connection);
    world.send_parking(5..=6);
    world.submit(ruled(9, "b", LaneRule::Block)).unwrap();
    assert_eq!(
        world.resume_lane("b"),
        Err(Refusal::NotParked { lane: lane("b") })
    );
    assert_eq!(world.resume_lane("a"), Ok(()));
    assert_eq!(world.hold_of(5), None);
    let connection = world.connect("lyon");
    let welcome = world.ready_naming(connection, vec![parked(1, 1)]);
    let resumed = crate::site::Resumed {
        id: id(1),
        generation: 1,
    };
    assert_eq!(welcome.resumed, [resumed], "until it no longer says so");
    let pushed: Vec<_> = world
        .pushed()
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(pushed, [2, 3, 4, 9, 5, 6]);
    assert_eq!(world.ready_naming(connection, vec![]).resumed, []);
    assert_eq!(world.lanes(), []);
    assert!(world.resume_lane("a").is_err());
}

#[test]
fn a_connected_site_is_told_at_once_that_a_lane_goes_on() {
    let mut world = World::new();
    let connection = world.online();
    world.send_parking(1..=2);
    world.ack(1, Stage::Rejected, 1);
    world.effects.clear();
    assert_eq!(world.resume_lane("a"), Ok(()));
    let told = world.effects.iter().any(|effect| {
        matches!(effect, Effect::Resume { connection: to, lanes } if *to == connection && lanes[0].id == id(1))
    });
    assert!(told, "{:?}", world.effects);
}

#[test]
fn what_has_parked_a_lane_goes_first_when_it_is_done_once_more_and_success_resumes_the_lane() {
    let mut world = World::new();
    world.online();
    world.send_parking([1]);
    world.pushed();
    world.ack(1, Stage::Rejected, 1);
    world.send_parking(2..=3);
    assert_eq!(world.replay(1), Ok(()));
    assert_eq!(world.pushed(), [(1, 1)], "alone");
    world.ack_life(1, 2, Stage::Dead);
    assert_eq!(world.pushed(), [], "it failed once more");
    assert_eq!(world.lanes()[0].generation, 2);
    assert_eq!(world.replay(1), Ok(()));
    world.pushed();
    world.ack_life(1, 3, Stage::Acknowledged);
    world.pass(Duration::ZERO);
    assert_eq!(world.pushed(), [(2, 1), (3, 1)]);
    assert_eq!(world.lanes(), []);
}

#[test]
fn another_message_that_is_done_once_more_waits_in_the_parked_lane_and_can_be_cancelled() {
    let mut world = World::new();
    world.online();
    world.send_parking(1..=2);
    world.ack(1, Stage::Acknowledged, 1);
    world.ack(2, Stage::Dead, 1);
    world.pushed();
    assert_eq!(world.replay(1), Ok(()));
    assert_eq!(world.pushed(), []);
    assert_eq!(world.lanes()[0].held, 1);
    let cancelled = world.input(Input::Cancel {
        tenant: tenant(),
        id: id(1),
        by: String::from("ada"),
    });
    assert_eq!(cancelled, Reply::Operated(Ok(())));
    assert_eq!((world.lanes()[0].held, world.lanes()[0].behind), (0, 0));
}

#[test]
fn a_message_for_later_that_comes_due_is_held_in_its_parked_lane() {
    let mut world = World::new();
    world.online();
    world.send_parking([1]);
    let later = Submission {
        not_before: Some(world.now + Duration::from_secs(5)),
        ..ruled(2, "a", LaneRule::Skip)
    };
    world.submit(later).unwrap();
    world.ack(1, Stage::Rejected, 1);
    world.pushed();
    world.pass(Duration::from_secs(5));
    assert_eq!(world.hold_of(2), BY_1);
    assert_eq!(world.pushed(), []);
    assert_eq!(world.resume_lane("a"), Ok(()));
    assert_eq!(world.pushed(), [(2, 1)]);
}

#[test]
fn a_lane_parked_again_while_it_catches_up_keeps_its_order() {
    let mut world = World::with(Policy {
        window_messages: 1,
        ..Policy::default()
    });
    world.online();
    world.send_parking(1..=5);
    world.ack(1, Stage::Rejected, 1);
    world.resume_lane("a").unwrap();
    assert_eq!(world.pushed(), [(1, 1), (2, 1)]);
    world.ack(2, Stage::Rejected, 1);
    world.send_parking([6]);
    assert_eq!(world.pushed(), []);
    world.resume_lane("a").unwrap();
    for number in 3..=6 {
        assert_eq!(world.pushed(), [(number, 1)]);
        world.ack(number, Stage::Acknowledged, 1);
    }
}

#[test]
fn an_end_that_comes_too_late_parks_the_lane_all_the_same() {
    let mut world = World::new();
    world.online();
    let short = Submission {
        expires_at: Some(world.now + Duration::from_secs(1)),
        ..ruled(1, "a", LaneRule::Park)
    };
    world.submit(short).unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.place(1), Some(Place::Ended(End::Expired)));
    world.ack(1, Stage::Rejected, 1);
    assert_eq!(world.kept(), [Why::Late]);
    assert_eq!(world.lanes()[0].by, id(1), "the site goes by it");
}

#[test]
fn a_site_that_names_an_unknown_parked_lane_is_believed() {
    let mut world = World::new();
    let connection = world.connect("lyon");
    world.ready_naming(connection, vec![parked(77, 1)]);
    world.send_parking([1]);
    assert_eq!(world.pushed(), []);
    world.restart();
    assert_eq!(world.lanes()[0].by, id(77));
    assert_eq!(world.resume_lane("a"), Ok(()));
    let connection = world.connect("lyon");
    let welcome = world.ready_naming(connection, vec![parked(77, 1)]);
    assert_eq!(welcome.resumed.len(), 1, "and heard, also while it is away");
}

#[test]
fn a_site_that_names_a_lane_whose_end_is_on_its_way_is_not_news() {
    let mut world = World::new();
    world.online();
    world.send_parking(1..=2);
    let connection = world.connect("lyon");
    let records = world.records.len();
    world.ready_naming(connection, vec![parked(1, 1)]);
    let said = world.records[records..].iter();
    let parked =
        said.filter(|record| matches!(decode_record(record), Ok(Record::LaneParked { .. })));
    assert_eq!(parked.count(), 0);
    world.ack(1, Stage::Dead, 1);
    assert_eq!(world.lanes().len(), 1);
}

#[test]
fn attempts_that_failed_stand_in_the_messages_records_and_change_nothing_else() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    let mut ack = world.ack_of("lyon", 1, Stage::Retrying, 1);
    ack.item.next_at = Some(world.now + Duration::from_secs(3));
    ack.item.outcome.code = String::from("http-503");
    ack.item.duration_ms = 12;
    world.acks(vec![ack]);
    assert_eq!(
        world.place(1),
        Some(Place::Offered),
        "it is the receipt that says so"
    );
    let last = world.view(1).unwrap().last;
    let record = decode_record(&world.records[last as usize - 1]).unwrap();
    let Record::Attempted {
        stage,
        attempt,
        outcome,
        next_at,
        duration_ms,
        ..
    } = record
    else {
        panic!("{record:?}")
    };
    assert_eq!((stage, attempt, duration_ms), (Stage::Retrying, 1, 12));
    assert_eq!(outcome.code, "http-503");
    assert_eq!(next_at, Some(world.now + Duration::from_secs(3)));
    world.ack(1, Stage::Dead, 2);
    world.ack(1, Stage::Retrying, 1);
    assert_eq!(
        world.place(1),
        Some(Place::Ended(End::Dead)),
        "it came late"
    );
}

#[test]
fn an_attempt_in_a_store_that_was_lost_since_is_no_receipt() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.ack(1, Stage::Stored, 1);
    let connection = world.connect("lyon");
    world.ready_saying(connection, 8, 0, 1);
    assert_eq!(world.causes(1), [Cause::New, Cause::AgentStoreLost]);
    world.ack(1, Stage::Retrying, 2);
    assert_eq!(world.place(1), Some(Place::Offered), "it is awaited still");
}

#[test]
fn a_lane_whose_end_or_release_is_damaged_loses_no_message_and_doubles_none() {
    let is_end = |record: &Record<'_>| matches!(record, Record::Settled { .. });
    let is_due = |record: &Record<'_>| matches!(record, Record::Due { .. });
    for damaged in [is_end as fn(&Record<'_>) -> bool, is_due] {
        let mut world = World::with(Policy {
            window_messages: 1,
            ..Policy::default()
        });
        world.online();
        world.send_parking(1..=3);
        world.ack(1, Stage::Rejected, 1);
        world.resume_lane("a").unwrap();
        world.ack(2, Stage::Stored, 1);
        let damaged = world.position_of(damaged);
        world.restart_with_damage(&[damaged]);
        assert!(world.centre.state().accounted());
        world.sound = false;
        world.online();
        for number in 1..=3 {
            world.ack(number, Stage::Acknowledged, 1);
        }
        assert!(world.centre.state().accounted());
        assert_eq!(world.counters().pending, 0);
    }
}

#[test]
fn an_end_of_an_earlier_life_parks_the_lane_of_a_replay_that_was_taken_back() {
    let mut world = World::new();
    let connection = world.online();
    let short = Submission {
        expires_at: Some(world.now + Duration::from_secs(1)),
        ..ruled(1, "a", LaneRule::Park)
    };
    world.submit(short).unwrap();
    world.pass(Duration::from_secs(1));
    world.disconnect(connection);
    assert_eq!(world.replay(1), Ok(()));
    let cancelled = world.input(Input::Cancel {
        tenant: tenant(),
        id: id(1),
        by: String::from("ada"),
    });
    assert_eq!(cancelled, Reply::Operated(Ok(())));
    world.ack(1, Stage::Dead, 1);
    assert_eq!(world.kept(), [Why::OtherGeneration]);
    assert_eq!(world.lanes()[0].by, id(1), "its site goes by it");
    assert_eq!(world.resume_lane("a"), Ok(()));
    let connection = world.connect("lyon");
    let welcome = world.ready_naming(connection, vec![parked(1, 1)]);
    assert_eq!(
        welcome.resumed.len(),
        1,
        "the site has an earlier life of it"
    );
}

#[test]
fn a_lane_that_two_messages_parked_goes_on_when_both_are_done_or_somebody_says_so() {
    for is_resumed in [false, true] {
        let mut world = World::new();
        world.online();
        world.send_parking([1, 2, 3]);
        world.ack(1, Stage::Dead, 1);
        world.ack(2, Stage::Dead, 1);
        assert_eq!(world.lanes().len(), 1);
        world.replay(1).unwrap();
        world.ack_life(1, 2, Stage::Acknowledged);
        assert_eq!(world.lanes()[0].by, id(2), "it is parked by the other");
        if is_resumed {
            world.resume_lane("a").unwrap();
        } else {
            world.replay(2).unwrap();
            world.ack_life(2, 2, Stage::Acknowledged);
        }
        assert_eq!(world.lanes(), []);
    }
}
