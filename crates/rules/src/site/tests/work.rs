//! Work.

use super::*;

#[test]
fn a_message_is_kept_owed_as_stored_and_worked_on() {
    let mut world = World::new();
    assert!(world.arrive(arrival(1, "default")));
    assert_eq!(world.owes(), [(1, Stage::Stored, 1)]);
    let works = world.works();
    let [work] = &works[..] else {
        panic!("{works:?}")
    };
    assert_eq!(
        (work.id, work.attempt, work.possibly_repeated),
        (id(1), 1, false)
    );
    let record = decode_record(&world.records[work.inboxed as usize - 1]).unwrap();
    assert!(
        matches!(record, Record::TakenIn { id: of, envelope: b"{}", .. } if of == id(1)),
        "{record:?}"
    );
    world.worked(1, 1, done());
    assert_eq!(
        world.owes(),
        [(1, Stage::Stored, 1), (1, Stage::Acknowledged, 1)]
    );
}

#[test]
fn seen_is_not_done() {
    let mut world = World::new();
    world.arrive_all([1]);
    world.restart();
    assert_eq!(world.working(), [(1, 2)], "it was seen, and is still to do");
    assert!(!world.arrive(arrival(1, "default")), "it was seen");
}

#[test]
fn one_message_of_a_lane_is_worked_on_at_a_time_in_order_of_arrival() {
    let mut world = World::new();
    world.arrive_all(1..=3);
    assert_eq!(world.working(), [(1, 1)]);
    world.worked(1, 1, done());
    assert_eq!(world.working(), [(2, 1)]);
    world.worked(2, 1, WorkResult::Rejected(outcome("http-422")));
    assert_eq!(world.working(), [(3, 1)]);
}

#[test]
fn a_failing_head_blocks_its_lane_and_no_other() {
    let mut world = World::new();
    for (number, lane) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        world.arrive(arrival(number, lane));
    }
    assert_eq!(world.working(), [(1, 1), (3, 1)]);
    world.worked(1, 1, failed());
    world.worked(3, 1, done());
    assert_eq!(world.working(), [(4, 1)]);
    world.pass(Duration::from_millis(700));
    assert_eq!(world.working(), [], "its wait is at least 750 ms");
    world.pass(Duration::from_millis(300));
    assert_eq!(world.working(), [(1, 2)]);
    world.worked(1, 2, done());
    assert_eq!(world.working(), [(2, 1)]);
}

#[test]
fn no_more_work_is_begun_than_there_are_workers() {
    let mut world = World::with(Policy {
        workers: 2,
        ..Policy::default()
    });
    for (number, lane) in [(1, "a"), (2, "b"), (3, "c")] {
        world.arrive(arrival(number, lane));
    }
    assert_eq!(world.working(), [(1, 1), (2, 1)]);
    assert_eq!(world.site.next_deadline(), None, "nobody is free");
    world.worked(2, 1, done());
    assert_eq!(world.working(), [(3, 1)]);
}

#[test]
fn a_crash_during_work_counts_the_attempt_and_declares_the_repeat() {
    let mut world = World::new();
    world.arrive_all([1]);
    world.worked(1, 1, failed());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.working(), [(1, 1), (1, 2)]);
    world.restart();
    let works = world.works();
    assert_eq!((works[0].attempt, works[0].possibly_repeated), (3, true));
}

#[test]
fn a_crash_between_attempts_counts_none() {
    let mut world = World::new();
    world.arrive_all([1]);
    world.worked(1, 1, failed());
    world.restart();
    assert_eq!(world.working(), [], "it still waits");
    world.pass(Duration::from_secs(1));
    let works = world.works();
    assert_eq!((works[0].attempt, works[0].possibly_repeated), (2, false));
}

#[test]
fn a_message_whose_attempts_are_used_up_is_dead_and_its_lane_goes_on() {
    let mut world = World::new();
    let poison = Arrival {
        attempts_max: Some(2),
        ..arrival(1, "default")
    };
    world.arrive(poison);
    world.arrive_all([2]);
    world.worked(1, 1, failed());
    world.pass(Duration::from_secs(1));
    world.worked(1, 2, failed());
    assert_eq!(world.working(), [(1, 1), (1, 2), (2, 1)]);
    assert!(world.owes().contains(&(1, Stage::Dead, 2)));
    assert_eq!(world.counters().dead, 1);
}

#[test]
fn a_message_that_kills_the_agent_in_its_last_attempt_is_dead_and_its_lane_goes_on() {
    let mut world = World::new();
    let poison = Arrival {
        attempts_max: Some(2),
        ..arrival(1, "default")
    };
    world.arrive(poison);
    world.arrive_all([2]);
    world.restart();
    assert_eq!(world.working(), [(1, 2)]);
    world.restart();
    assert_eq!(world.working(), [(2, 1)]);
    assert!(world.owes().contains(&(1, Stage::Dead, 2)));
}

#[test]
fn the_policy_of_the_site_counts_when_the_sender_said_nothing() {
    let mut world = World::new();
    world.arrive_all([1]);
    for attempt in 1..10 {
        world.worked(1, attempt, failed());
        world.pass(Duration::from_secs(300));
    }
    assert_eq!(world.counters().dead, 0);
    world.worked(1, 10, failed());
    assert_eq!(world.counters().dead, 1);
}

#[test]
fn the_back_office_may_ask_for_a_wait_but_not_for_longer_than_the_longest() {
    let mut world = World::new();
    let busy = |seconds| WorkResult::Failed {
        outcome: outcome("http-429"),
        retry_after: Some(Duration::from_secs(seconds)),
    };
    world.arrive_all([1]);
    world.worked(1, 1, busy(60));
    assert_eq!(
        world.site.next_deadline(),
        Some(world.now + Duration::from_secs(60))
    );
    world.pass(Duration::from_secs(60));
    world.worked(1, 2, busy(86_400));
    assert_eq!(
        world.site.next_deadline(),
        Some(world.now + Duration::from_secs(300))
    );
}

#[test]
fn a_clock_that_was_ahead_and_is_set_back_does_not_freeze_retries() {
    let mut world = World::new();
    world.now = NOON + Duration::from_secs(86_400);
    world.arrive_all([1]);
    world.worked(1, 1, failed());
    world.working();
    world.now = NOON;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.working(), [(1, 2)]);
}

#[test]
fn an_answer_from_before_a_restart_is_an_echo() {
    let mut world = World::new();
    world.arrive_all([1]);
    world.restart();
    world.worked(1, 1, done());
    assert_eq!(world.counters().done, 0);
    world.worked(1, 2, done());
    world.worked(1, 2, failed());
    assert_eq!(world.counters().done, 1);
}

#[test]
fn a_long_waiting_message_is_copied_forward_and_worked_on_from_its_copy() {
    let mut world = World::new();
    world.arrive_all([1]);
    world.worked(1, 1, failed());
    for _ in 0..2 {
        world.effects.clear();
        let before = world.records.len() as Position + 1;
        world.site.release(before, u64::MAX, &mut world.out);
        world.settle();
        let effects = core::mem::take(&mut world.effects);
        let [
            Effect::CopyForward {
                id: of,
                generation,
                inboxed,
            },
        ] = effects[..]
        else {
            panic!("{effects:?}")
        };
        let record = Bytes::from(world.records[inboxed as usize - 1].clone());
        world.input(Input::Carry {
            id: of,
            generation,
            inboxed: record,
        });
    }
    world.pass(Duration::from_secs(1));
    let inboxed = world.works()[0].inboxed;
    assert_eq!(inboxed, world.records.len() as Position - 1);
    let record = decode_record(&world.records[inboxed as usize - 1]).unwrap();
    let Record::Carried { inboxed, .. } = record else {
        panic!("{record:?}")
    };
    assert!(matches!(decode_record(inboxed), Ok(Record::TakenIn { .. })));
}

#[test]
fn a_site_that_is_about_to_stop_begins_no_attempt_and_so_none_is_cut_short() {
    let mut world = World::with(Policy {
        workers: 1,
        ..Policy::default()
    });
    world.arrive_all(1..=2);
    assert_eq!(world.working(), [(1, 1)]);
    world.input(Input::StopWork);
    assert_eq!(world.effects.last(), Some(&Effect::NoMoreWork));
    world.worked(1, 1, done());
    world.arrive_all([3]);
    world.pass(Duration::from_secs(3600));
    assert_eq!(world.site.next_deadline(), None);
    assert_eq!(world.working(), []);
    world.restart();
    let works = world.works();
    assert_eq!(
        (works[0].id, works[0].attempt, works[0].possibly_repeated),
        (id(2), 1, false)
    );
}

#[test]
fn a_group_of_arrivals_is_taken_in_whole_and_in_order() {
    let mut world = World::new();
    let group = (1..=3).map(|number| arrival(number, "default")).collect();
    assert_eq!(
        world.input(Input::Arrived(group)),
        Reply::Arrived { new: 3 }
    );
    assert_eq!(world.working(), [(1, 1)]);
    let again = [2, 4].map(|number| arrival(number, "default")).to_vec();
    assert_eq!(
        world.input(Input::Arrived(again)),
        Reply::Arrived { new: 1 }
    );
    assert_eq!(world.standing().cursor, 4);
}
