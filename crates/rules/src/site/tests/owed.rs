//! What is owed, what is remembered, what is said at `ready`.

use super::*;

#[test]
fn acknowledgements_are_owed_in_the_order_of_their_facts_until_they_are_posted() {
    let mut world = World::new();
    world.arrive_all(1..=2);
    world.worked(1, 1, done());
    world.worked(2, 1, WorkResult::Rejected(outcome("http-422")));
    let all = [
        (1, Stage::Stored, 1),
        (2, Stage::Stored, 1),
        (1, Stage::Acknowledged, 1),
        (2, Stage::Rejected, 1),
    ];
    assert_eq!(world.owes(), all);
    assert_eq!(world.owes(), all, "taking is not telling");
    let first = world.owed()[0].number;
    world.input(Input::Posted {
        numbers: vec![first, first, 99],
    });
    world.restart();
    assert_eq!(world.owes(), all[1..]);
    assert_eq!(world.counters().owed, 3);
}

#[test]
fn at_most_as_many_are_taken_as_asked_for() {
    let mut world = World::new();
    world.arrive_all(1..=3);
    let Reply::Owed(owed) = world.input(Input::TakeOwed { at_most: 2 }) else {
        panic!("owed is answered")
    };
    assert_eq!(owed.len(), 2);
}

#[test]
fn each_failed_attempt_is_owed_with_its_own_number_and_before_the_end() {
    let mut world = World::new();
    world.arrive_all([1]);
    world.post_all();
    world.worked(1, 1, failed());
    world.pass(Duration::from_secs(1));
    world.worked(1, 2, failed());
    world.pass(Duration::from_secs(2));
    world.worked(1, 3, done());
    assert_eq!(
        world.owes(),
        [
            (1, Stage::Retrying, 1),
            (1, Stage::Retrying, 2),
            (1, Stage::Acknowledged, 3)
        ]
    );
    world.restart();
    assert_eq!(world.owes().len(), 3);
    let OwedStage::Again { worked, .. } = world.owed()[0].stage else {
        panic!("it was to be tried again")
    };
    assert!(world.site.oldest_needed() <= worked, "its words are kept");
    let record = decode_record(&world.records[worked as usize - 1]).unwrap();
    let Record::Worked { worked, at, .. } = record else {
        panic!("{record:?}")
    };
    assert!(worked.next_at() > Some(at));
    assert_eq!(worked.outcome(), &outcome("http-503"));
}

#[test]
fn an_end_names_the_record_that_holds_its_outcome() {
    let mut world = World::new();
    world.arrive_all([1]);
    world.worked(1, 1, done());
    let OwedStage::Ended(Stage::Acknowledged, position) = world.owed()[1].stage else {
        panic!("it ended")
    };
    assert!(world.site.oldest_needed() <= position);
    let record = decode_record(&world.records[position as usize - 1]).unwrap();
    let Record::Worked { worked, .. } = record else {
        panic!("{record:?}")
    };
    assert_eq!(worked.outcome(), &outcome("inserted"));
}

#[test]
fn a_message_that_arrives_again_is_dropped_and_told_again_once_it_had_been_told() {
    let mut world = World::new();
    world.arrive_all([1]);
    let again = Arrival {
        attempt: 2,
        ..arrival(1, "default")
    };
    let records = world.records.len();
    assert!(!world.arrive(again.clone()));
    assert_eq!(world.records.len(), records, "it is owed anyway");
    world.post_all();
    assert!(!world.arrive(again));
    assert_eq!(world.owes(), [(1, Stage::Stored, 2)]);
    assert_eq!(world.working(), [(1, 1)], "it is worked on once");
}

#[test]
fn a_done_message_that_arrives_again_is_not_worked_on_again_and_its_end_is_told_again() {
    let mut world = World::new();
    world.arrive_all([1]);
    world.worked(1, 1, done());
    world.post_all();
    world.working();
    assert!(!world.arrive(arrival(1, "default")));
    assert_eq!(world.working(), []);
    assert_eq!(world.owes(), [(1, Stage::Acknowledged, 1)]);
    assert_eq!(world.counters().repeated, 1);
}

#[test]
fn another_generation_is_another_message() {
    let mut world = World::new();
    world.arrive_all([1]);
    world.worked(1, 1, done());
    world.working();
    let again = Arrival {
        generation: 2,
        ..arrival(1, "default")
    };
    assert!(world.arrive(again));
    assert_eq!(world.working(), [(1, 1)]);
}

#[test]
fn the_cursor_is_the_highest_number_below_which_all_arrived() {
    let mut world = World::new();
    world.welcomed(5, 1);
    for number in [1, 3, 4] {
        world.arrive(arrival(number, "default"));
    }
    assert_eq!(world.standing().cursor, 1);
    world.arrive(arrival(2, "default"));
    assert_eq!(
        world.standing(),
        Standing {
            epoch: 1,
            centre_epoch: 5,
            floor: 1,
            cursor: 4,
            highest: 4,
            parked: vec![],
        }
    );
}

#[test]
fn what_will_never_be_pushed_again_is_forgotten_once_it_is_done_and_told() {
    let mut world = World::new();
    world.welcomed(5, 1);
    world.arrive_all(1..=3);
    world.worked(1, 1, done());
    world.post_all();
    world.worked(2, 1, done());
    world.welcomed(5, 3);
    assert!(!world.site.state().knows(id(1), 1), "done and told");
    assert!(world.site.state().knows(id(2), 1), "its end is owed");
    assert!(world.site.state().knows(id(3), 1), "above the floor");
    assert_eq!((world.standing().floor, world.standing().cursor), (3, 3));
    world.post_all();
    world.welcomed(5, 4);
    assert!(!world.site.state().knows(id(2), 1));
    assert!(world.site.state().knows(id(3), 1), "not done");
}

#[test]
fn a_stray_push_of_a_later_life_is_not_worked_on_again_either() {
    let mut world = World::new();
    world.welcomed(5, 1);
    let again = Arrival {
        generation: 2,
        seq: 7,
        ..arrival(1, "default")
    };
    assert!(world.arrive(again.clone()));
    world.working();
    let worked = Input::Worked {
        id: again.id,
        generation: 2,
        attempt: 1,
        result: done(),
        duration_ms: 1,
    };
    world.input(worked);
    world.post_all();
    world.welcomed(5, 8);
    assert!(world.arrive(again));
    assert_eq!(world.working(), []);
}

#[test]
fn a_push_from_below_the_floor_is_not_worked_on_and_ends_where_a_person_sees_it() {
    let mut world = World::new();
    world.welcomed(5, 1);
    world.arrive_all([1]);
    world.worked(1, 1, done());
    world.post_all();
    world.welcomed(5, 2);
    assert!(!world.site.state().knows(id(1), 1));
    world.working();
    world.arrive(arrival(1, "default"));
    assert_eq!(world.working(), [], "it may have been worked on");
    assert_eq!(
        world.owes(),
        [(1, Stage::Stored, 1), (1, Stage::Dead, 0)],
        "silence would have it pushed for ever"
    );
}

#[test]
fn the_cursor_passes_what_will_never_come() {
    let mut world = World::new();
    world.welcomed(5, 1);
    world.arrive_all([1]);
    world.arrive(arrival(5, "default"));
    world.welcomed(5, 5);
    assert_eq!(world.standing().cursor, 5);
}

#[test]
fn a_floor_that_says_nothing_new_is_not_written() {
    let mut world = World::new();
    world.welcomed(5, 3);
    world.welcomed(5, 3);
    let records = world.records.len();
    world.welcomed(5, 3);
    world.welcomed(5, 2);
    assert_eq!(world.records.len(), records);
}

#[test]
fn another_life_of_the_centre_keeps_what_was_seen_and_counts_from_the_start() {
    let mut world = World::new();
    world.welcomed(5, 1);
    world.arrive_all(1..=2);
    world.worked(1, 1, done());
    world.post_all();
    world.working();
    world.welcomed(6, 1);
    let standing = world.standing();
    assert_eq!(
        (standing.centre_epoch, standing.floor, standing.cursor),
        (6, 1, 0)
    );
    assert!(!world.arrive(arrival(1, "default")), "ids are compared");
    assert_eq!(world.working(), []);
}
