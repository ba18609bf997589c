//! What a failure means for what is behind it, and how failures are tried again.

use super::*;

fn ruled(number: u8, lane: &str, rule: LaneRule) -> Arrival {
    Arrival {
        rule,
        ..arrival(number, lane)
    }
}

fn still_working(seconds: u64) -> WorkResult {
    WorkResult::StillWorking {
        outcome: outcome("http-202"),
        ask_after: Some(Duration::from_secs(seconds)),
    }
}

impl World {
    /// Messages of one lane, all with this rule and one attempt.
    fn lane_of(&mut self, rule: LaneRule, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            let arrival = Arrival {
                attempts_max: Some(2),
                ..ruled(number, "default", rule)
            };
            assert!(self.arrive(arrival));
        }
    }

    fn again(&mut self, number: u8, generation: u32, seq: u64) -> bool {
        self.arrive(Arrival {
            generation,
            seq,
            ..ruled(number, "default", LaneRule::Park)
        })
    }

    fn worked_in(&mut self, number: u8, generation: u32, attempt: u32, result: WorkResult) {
        self.input(Input::Worked {
            id: id(number),
            generation,
            attempt,
            result,
            duration_ms: 4,
        });
    }

    fn resume(&mut self, number: u8, generation: u32) {
        let id = id(number);
        self.input(Input::Resumed(vec![Resumed { id, generation }]));
    }

    fn parked(&self) -> Vec<(u8, u32, u64)> {
        let lanes = self.site.state().parked();
        lanes
            .map(|lane| (lane.by.0[0], lane.generation, lane.held))
            .collect()
    }

    fn passed(&self) -> Vec<(u8, Vec<u8>)> {
        let records = self.records.iter();
        let records = records.map(|record| decode_record(record).unwrap());
        records
            .filter_map(|record| match record {
                Record::Passed { id, over, .. } => {
                    Some((id.0[0], over.iter().map(|(id, _)| id.0[0]).collect()))
                }
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_blocking_message_holds_its_lane_until_it_has_ended_and_no_longer() {
    let mut world = World::new();
    world.lane_of(LaneRule::Block, 1..=2);
    world.worked(1, 1, failed());
    assert_eq!(world.working(), [(1, 1)]);
    world.pass(Duration::from_secs(1));
    world.worked(1, 2, failed());
    assert_eq!(world.working(), [(1, 2), (2, 1)], "it is dead");
    assert_eq!(world.parked(), []);
}

#[test]
fn a_skipping_message_lets_others_pass_while_it_waits_and_each_passing_is_recorded_once() {
    let mut world = World::new();
    world.lane_of(LaneRule::Skip, 1..=3);
    world.worked(1, 1, failed());
    assert_eq!(world.working(), [(1, 1), (2, 1)]);
    assert_eq!(world.passed(), [(2, vec![1])]);
    world.worked(2, 1, done());
    assert_eq!(world.working(), [(3, 1)]);
    assert_eq!(world.passed().len(), 1, "the third goes past it as well");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.working(), [], "one of a lane at a time");
    world.worked(3, 1, done());
    assert_eq!(world.working(), [(1, 2)]);
    world.worked(1, 2, done());
    assert_eq!(world.counters().done, 3);
}

#[test]
fn a_skipped_message_that_is_due_goes_before_what_has_not_begun() {
    let mut world = World::new();
    world.lane_of(LaneRule::Skip, 1..=3);
    world.worked(1, 1, failed());
    world.pass(Duration::from_secs(1));
    world.working();
    world.worked(2, 1, failed());
    assert_eq!(world.working(), [(1, 2)], "it is the oldest that may run");
    world.restart();
    assert_eq!(world.working(), [(3, 1)], "its second attempt was its last");
    assert_eq!(world.passed(), [(2, vec![1]), (1, vec![2])]);
    world.pass(Duration::from_secs(1));
    world.worked(3, 1, done());
    assert_eq!(world.working(), [(2, 2)]);
}

#[test]
fn a_message_that_dies_parks_its_lane_and_no_other() {
    let mut world = World::new();
    world.lane_of(LaneRule::Park, 1..=3);
    world.arrive(arrival(9, "other"));
    world.worked(1, 1, failed());
    assert_eq!(world.working(), [(1, 1), (9, 1)], "it waits for its retry");
    world.pass(Duration::from_secs(1));
    world.worked(1, 2, failed());
    world.worked(9, 1, done());
    assert_eq!(world.parked(), [(1, 1, 2)]);
    world.arrive(arrival(10, "other"));
    assert!(world.arrive(ruled(4, "default", LaneRule::Block)));
    assert_eq!(world.working(), [(1, 2), (10, 1)]);
    world.restart();
    world.pass(Duration::from_secs(86_400));
    assert_eq!(world.parked(), [(1, 1, 3)]);
    assert_eq!(world.counters().held, 3);
    assert!(world.working().iter().all(|(number, _)| *number == 10));
    assert_eq!(world.standing().parked[0].by, id(1), "it says so at ready");
}

#[test]
fn a_rejected_message_parks_its_lane_and_a_resumed_lane_goes_on_in_order() {
    let mut world = World::new();
    world.lane_of(LaneRule::Park, 1..=3);
    world.worked(1, 1, WorkResult::Rejected(outcome("http-422")));
    world.working();
    world.resume(2, 1);
    assert_eq!(world.working(), [], "that one has not parked it");
    world.resume(1, 1);
    assert_eq!(world.working(), [(2, 1)]);
    world.worked(2, 1, done());
    assert_eq!(world.working(), [(3, 1)]);
    world.resume(1, 1);
    assert_eq!(world.parked(), [], "said twice");
}

#[test]
fn what_has_parked_a_lane_goes_first_when_it_comes_once_more() {
    let mut world = World::new();
    world.lane_of(LaneRule::Park, 1..=3);
    world.worked(1, 1, WorkResult::Rejected(outcome("http-422")));
    world.working();
    assert!(world.again(1, 2, 9));
    assert_eq!(world.working(), [(1, 1)], "before what is held");
    world.worked_in(1, 2, 1, done());
    assert_eq!(world.working(), [(2, 1)], "and the lane goes on");
    assert_eq!(world.parked(), []);
}

#[test]
fn what_fails_once_more_parks_the_lane_again_over_restarts() {
    let mut world = World::new();
    world.lane_of(LaneRule::Park, 1..=2);
    world.worked(1, 1, WorkResult::Rejected(outcome("http-422")));
    assert!(world.again(1, 2, 9));
    world.worked_in(1, 2, 1, failed());
    world.restart();
    assert_eq!(world.parked(), [(1, 1, 2)]);
    world.pass(Duration::from_secs(1));
    world.worked_in(1, 2, 2, WorkResult::Rejected(outcome("http-422")));
    assert_eq!(world.parked(), [(1, 2, 1)]);
    world.resume(1, 1);
    assert_eq!(
        world.parked(),
        [(1, 2, 1)],
        "that was about an earlier life"
    );
    world.resume(1, 2);
    assert_eq!(world.working().last(), Some(&(2, 1)));
}

#[test]
fn a_message_of_another_life_that_has_not_parked_the_lane_is_held_like_the_others() {
    let mut world = World::new();
    world.lane_of(LaneRule::Park, 1..=2);
    world.worked(1, 1, done());
    world.worked(2, 1, WorkResult::Rejected(outcome("http-422")));
    world.working();
    assert!(world.again(1, 2, 9));
    assert_eq!(world.working(), []);
    assert_eq!(world.parked(), [(2, 1, 1)]);
}

#[test]
fn a_body_that_cannot_be_parsed_is_dead_at_once_with_that_reason() {
    let mut world = World::new();
    world.arrive_all(1..=2);
    world.worked(1, 1, WorkResult::Unusable(outcome("envelope-malformed")));
    assert_eq!(world.working(), [(1, 1), (2, 1)]);
    assert!(world.owes().contains(&(1, Stage::Dead, 1)));
    let dead = world.position_of(|record| matches!(record, Record::Worked { .. }));
    let record = decode_record(&world.records[dead as usize - 1]).unwrap();
    let Record::Worked { worked, .. } = record else {
        panic!("{record:?}")
    };
    assert_eq!(worked, Worked::Dead(outcome("envelope-malformed")));
}

#[test]
fn each_type_has_its_own_attempts_and_waits() {
    let kind = |name: &str| TypeName::parse(name).unwrap();
    let quick = RetryPolicy {
        attempts_max: 3,
        immediate: 1,
        delay_first: Duration::from_secs(60),
        delay_max: Duration::from_secs(60),
    };
    let mut world = World::with(Policy {
        types: [(kind("invoice.insert"), quick)].into(),
        ..Policy::default()
    });
    let typed = |number: u8, name: &str| Arrival {
        kind: Some(kind(name)),
        ..arrival(number, name)
    };
    world.arrive(typed(1, "invoice.insert"));
    world.arrive(typed(2, "note.insert"));
    world.worked(1, 1, failed());
    world.worked(2, 1, failed());
    assert_eq!(world.working(), [(1, 1), (2, 1), (1, 2)], "at once");
    world.worked(1, 2, failed());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.working(), [(2, 2)], "the other has waits of its own");
    world.pass(Duration::from_secs(60));
    assert_eq!(world.working(), [(1, 3)]);
    world.worked(1, 3, failed());
    assert_eq!(world.counters().dead, 1);
}

#[test]
fn a_back_office_that_is_still_working_is_asked_again_within_the_same_attempt() {
    let mut world = World::new();
    world.lane_of(LaneRule::Block, 1..=2);
    for _ in 0..5 {
        world.worked(1, 1, still_working(30));
        world.pass(Duration::from_secs(30));
    }
    assert_eq!(
        world.working(),
        [(1, 1); 6],
        "the same attempt, and no other message"
    );
    world.worked(1, 1, failed());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.working(), [(1, 2)]);
    let stages = world.owes().into_iter().map(|(_, stage, _)| stage);
    let working = stages.filter(|stage| *stage == Stage::Working).count();
    assert_eq!(working, 5, "the centre hears of each");
}

#[test]
fn a_back_office_cannot_be_still_working_for_ever() {
    let mut world = World::new();
    world.lane_of(LaneRule::Block, [1]);
    for _ in 0..=limits::STILL_WORKING_MAX {
        world.worked(1, 1, still_working(1));
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(
        world.working().last(),
        Some(&(1, 2)),
        "that attempt has failed"
    );
}

#[test]
fn a_crash_while_the_back_office_is_asked_again_counts_as_an_attempt() {
    let mut world = World::new();
    world.lane_of(LaneRule::Block, [1]);
    world.worked(1, 1, still_working(1));
    world.restart();
    assert_eq!(world.working(), [], "nothing was running");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.working(), [(1, 1)]);
    world.restart();
    assert_eq!(world.working(), [(1, 2)]);
}

#[test]
fn ten_thousand_healthy_messages_are_not_delayed_by_a_poisoned_one_of_another_lane() {
    let mut world = World::new();
    world.arrive(Arrival {
        attempts_max: Some(5),
        ..arrival(255, "poisoned")
    });
    assert_eq!(world.working(), [(255, 1)]);
    let mut attempts = 1;
    for number in 0..10_000u32 {
        let mut healthy = arrival(0, ["a", "b", "c", "d"][number as usize % 4]);
        healthy.id.0[..4].copy_from_slice(&number.to_be_bytes());
        healthy.seq = 300 + u64::from(number);
        let (id, begins) = (healthy.id, world.now);
        assert!(world.arrive(healthy));
        // The poisoned one fails again and again, as soon as it may.
        if attempts > 0 && world.site.state().running() > 1 {
            world.worked(255, attempts, failed());
            attempts = if attempts == 5 { 0 } else { attempts + 1 };
        }
        let begun = world.works().into_iter().any(|work| work.id == id);
        assert!(begun, "it is worked on in the step in which it arrives");
        assert_eq!(world.now, begins);
        world.input(Input::Worked {
            id,
            generation: 1,
            attempt: 1,
            result: done(),
            duration_ms: 1,
        });
        world.pass(Duration::from_millis(10));
        if attempts > 0 && world.working() != [(255, attempts)] {
            // It waits; its turn comes with time.
            world.effects.clear();
        }
    }
    let counters = world.counters();
    assert_eq!(
        (counters.done, counters.dead, counters.waiting),
        (10_000, 1, 0)
    );
    let of_poison = |record: &Record<'_>| match record {
        Record::Worked { id: of, .. } => *of == id(255),
        _ => false,
    };
    let records = world.records.iter();
    let history = records.filter(|record| of_poison(&decode_record(record).unwrap()));
    assert_eq!(history.count(), 5, "each attempt, with its reason");
}

#[test]
fn a_push_that_strays_in_after_its_message_was_forgotten_parks_nothing() {
    let mut world = World::new();
    world.welcomed(5, 9);
    world.lane_of(LaneRule::Park, [1]);
    assert!(world.owes().contains(&(1, Stage::Dead, 0)));
    assert_eq!(world.parked(), []);
}

#[test]
fn what_a_crash_cut_short_goes_on_before_a_later_message_that_waits_to_be_tried_again() {
    let mut world = World::new();
    for number in 1..=2 {
        world.arrive(ruled(number, "default", LaneRule::Skip));
    }
    world.worked(1, 1, failed());
    world.worked(2, 1, failed());
    world.pass(Duration::from_secs(1));
    let (cut, attempt) = *world.working().last().unwrap();
    assert_eq!(attempt, 2);
    world.restart();
    world.pass(Duration::from_secs(5));
    assert_eq!(world.working(), [(cut, 3)], "the other is due as well");
}
