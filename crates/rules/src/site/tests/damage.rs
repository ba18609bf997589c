//! What damaged records cost, and what they must not cost.

use super::*;

fn is_inboxed(number: u8) -> impl Fn(&Record<'_>) -> bool {
    move |record| matches!(record, Record::TakenIn { id: of, .. } if *of == id(number))
}

#[test]
fn a_site_with_new_damage_begins_another_life_and_with_known_damage_it_does_not() {
    let mut world = World::new();
    world.arrive_all(1..=2);
    let damaged = world.position_of(is_inboxed(1));
    world.restart_with_damage(&[damaged]);
    assert_eq!(world.standing().epoch, 2, "the centre must push again");
    world.restart_with_damage(&[]);
    assert_eq!(world.standing().epoch, 2, "that damage is known");
    world.epoch = 2;
    world.restart_with_damage(&[]);
    assert_eq!(world.standing().epoch, 3, "another life of the store");
}

#[test]
fn a_message_whose_arrival_is_damaged_is_taken_in_again_and_declared_as_possibly_repeated() {
    let mut world = World::new();
    world.arrive_all(1..=2);
    let damaged = world.position_of(is_inboxed(1));
    world.restart_with_damage(&[damaged]);
    world.works();
    let again = Arrival {
        attempt: 2,
        ..arrival(1, "default")
    };
    assert!(world.arrive(again));
    world.worked(2, 1, done());
    let works = world.works();
    assert_eq!((works[0].id, works[0].possibly_repeated), (id(1), true));
}

#[test]
fn an_end_takes_its_own_message_out_of_the_lane_and_no_other() {
    let mut world = World::new();
    world.arrive_all(1..=3);
    world.worked(1, 1, done());
    world.worked(2, 1, done());
    // The first end is lost: on replay the second finds the first message still at the head.
    let damaged =
        world.position_of(|record| matches!(record, Record::Worked { id: of, .. } if *of == id(1)));
    world.restart_with_damage(&[damaged]);
    assert_eq!(world.working(), [(1, 2)]);
    world.worked(1, 2, done());
    assert_eq!(
        world.working(),
        [(3, 2)],
        "the second is done and stays done"
    );
}

#[test]
fn an_acknowledgement_is_struck_off_by_a_number_that_damage_does_not_shift() {
    let mut world = World::new();
    world.arrive_all(1..=3);
    let second = world.owed()[1].number;
    world.input(Input::Posted {
        numbers: vec![second],
    });
    let damaged = world.position_of(is_inboxed(1));
    world.restart_with_damage(&[damaged]);
    assert_eq!(world.owes(), [(3, Stage::Stored, 1)]);
}
