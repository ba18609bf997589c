//! What damaged records, here and at an ack store, cost, and what they must not cost.

use super::*;

#[test]
fn after_damage_sites_are_asked_again_about_all_that_they_have() {
    let mut world = World::new();
    let connection = world.online();
    world.send(1..=3);
    world.ack(1, Stage::Stored, 1);
    world.ack(2, Stage::Acknowledged, 1);
    world.pushed();
    world.disconnect(connection);
    let settled = world.position_of(|record| matches!(record, Record::Settled { .. }));
    world.restart_with_damage(&[settled]);
    assert_eq!(world.place(2), Some(Place::Queued), "its end is lost");
    world.online();
    assert_eq!(world.pushed(), [(1, 2), (2, 2), (3, 2)]);
    assert_eq!(world.causes(1), [Cause::New, Cause::ReceiptDoubted]);
    world.ack(1, Stage::Stored, 2);
    world.restart_with_damage(&[]);
    assert_eq!(
        world.place(1),
        Some(Place::Received),
        "that damage is known"
    );
}

#[test]
fn acknowledgements_damaged_at_their_store_are_asked_for_again() {
    let mut world = World::new();
    world.online();
    world.send(1..=2);
    world.ack(1, Stage::Stored, 1);
    world.pushed();
    world.input(Input::Acks {
        source: 9,
        through: 2,
        acks: vec![],
        damaged: vec![2],
    });
    assert_eq!(world.pushed(), [(1, 2)], "it was its end, perhaps");
    assert_eq!(world.place(2), Some(Place::Offered));
    world.ack_position = 2;
    world.ack(1, Stage::Acknowledged, 1);
    assert_eq!(world.place(1), Some(Place::Ended(End::Processed)));
}

#[test]
fn an_ack_store_that_is_an_older_copy_of_itself_is_read_from_its_beginning() {
    let mut world = World::new();
    world.online();
    world.send(1..=2);
    world.ack_position = 50;
    world.ack(1, Stage::Acknowledged, 1);
    world.input(Input::ReadAcksAgain { source: 9 });
    assert_eq!(
        world.input(Input::LookAcksRead { source: 9 }),
        Reply::AcksRead(0)
    );
    world.ack_position = 20;
    world.ack(2, Stage::Acknowledged, 1);
    assert_eq!(world.place(2), Some(Place::Ended(End::Processed)));
}

#[test]
fn a_damaged_recipient_costs_no_other_recipient_and_gets_its_name_back_from_its_messages() {
    let mut world = World::new();
    world.register("nice");
    world.register("brest");
    world.submit(message(1, "nice")).unwrap();
    world.submit(message(2, "brest")).unwrap();
    let nice = world.position_of(
        |record| matches!(record, Record::Recipient { name, .. } if *name == agent("nice")),
    );
    world.restart_with_damage(&[nice]);
    for (name, number) in [("nice", 1), ("brest", 2)] {
        let connection = world.connect(name);
        world.ready(connection);
        assert_eq!(world.pushed(), [(number, 1)]);
    }
    world.register("paris");
    world.submit(message(3, "paris")).unwrap();
    world.restart_with_damage(&[]);
    assert_eq!(world.view(3).unwrap().agent, agent("paris"));
}
