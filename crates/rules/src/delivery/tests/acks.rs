//! Acknowledgements.

use super::*;

#[test]
fn each_final_stage_ends_the_message_in_its_own_way() {
    let mut world = World::new();
    world.online();
    world.send(1..=3);
    world.ack(1, Stage::Acknowledged, 1);
    world.ack(2, Stage::Rejected, 1);
    world.ack(3, Stage::Dead, 10);
    assert_eq!(world.place(1), Some(Place::Ended(End::Processed)));
    assert_eq!(world.place(2), Some(Place::Ended(End::Rejected)));
    assert_eq!(world.place(3), Some(Place::Ended(End::Dead)));
    let counters = world.counters();
    assert_eq!(
        (counters.processed, counters.rejected, counters.dead),
        (1, 1, 1)
    );
    assert_eq!(counters.pending, 0);
}

#[test]
fn a_receipt_after_the_end_and_the_same_end_again_change_nothing() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.ack(1, Stage::Acknowledged, 1);
    let (records, last) = (world.records.len(), world.view(1).unwrap().last);
    world.ack(1, Stage::Acknowledged, 1);
    world.ack(1, Stage::Stored, 1);
    assert_eq!(world.kept(), []);
    assert_eq!(world.records.len(), records + 2, "only how far was read");
    assert_eq!(world.view(1).unwrap().last, last);
}

#[test]
fn the_first_end_stands_and_another_is_kept_as_a_conflict() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.ack(1, Stage::Acknowledged, 1);
    world.ack(1, Stage::Rejected, 1);
    assert_eq!(world.place(1), Some(Place::Ended(End::Processed)));
    assert_eq!(world.kept(), [Why::Conflict]);
}

#[test]
fn an_acknowledgement_of_an_expired_message_is_kept_as_late() {
    let mut world = World::new();
    let expires_at = Some(world.now + Duration::from_secs(1));
    world
        .submit(Submission {
            expires_at,
            ..message(1, "lyon")
        })
        .unwrap();
    world.pass(Duration::from_secs(1));
    world.ack(1, Stage::Acknowledged, 1);
    assert_eq!(world.place(1), Some(Place::Ended(End::Expired)));
    assert_eq!(world.kept(), [Why::Late]);
}

#[test]
fn an_acknowledgement_of_an_unknown_message_is_kept_as_an_orphan() {
    let mut world = World::new();
    world.ack(1, Stage::Acknowledged, 1);
    assert_eq!(world.kept(), [Why::Orphan]);
    assert_eq!(world.place(1), None);
}

#[test]
fn only_the_recipient_can_acknowledge() {
    let mut world = World::new();
    world.register("nice");
    world.online();
    world.send([1]);
    let foreign = world.ack_of("nice", 1, Stage::Acknowledged, 1);
    let other_tenant = Ack {
        tenant: TenantName::parse("other").unwrap(),
        ..world.ack_of("lyon", 1, Stage::Acknowledged, 1)
    };
    world.acks(vec![foreign, other_tenant]);
    assert_eq!(world.place(1), Some(Place::Offered));
    assert_eq!(world.kept(), [Why::Foreign, Why::Foreign]);
}

#[test]
fn an_acknowledgement_of_another_generation_is_kept_and_changes_nothing() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    let mut ack = world.ack_of("lyon", 1, Stage::Acknowledged, 1);
    ack.item.generation = 2;
    world.acks(vec![ack]);
    assert_eq!(world.place(1), Some(Place::Offered));
    assert_eq!(world.kept(), [Why::OtherGeneration]);
}

#[test]
fn an_acknowledgement_counts_over_any_connection_or_none() {
    let mut world = World::new();
    let connection = world.online();
    world.send(1..=2);
    world.disconnect(connection);
    world.ack(1, Stage::Stored, 1);
    world.ack(2, Stage::Acknowledged, 1);
    assert_eq!(world.place(1), Some(Place::Received));
    assert_eq!(world.place(2), Some(Place::Ended(End::Processed)));
    world.pushed();
    let connection = world.connect("lyon");
    world.ready_saying(connection, 7, 2, 1);
    assert_eq!(world.pushed(), []);
}

#[test]
fn what_was_read_from_an_ack_store_is_not_acted_on_again() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    let conflict = world.ack_of("lyon", 1, Stage::Rejected, 1);
    world.ack(1, Stage::Acknowledged, 1);
    world.input(Input::Acks {
        source: 9,
        through: 1,
        acks: vec![conflict],
        damaged: vec![],
    });
    assert_eq!(world.kept(), []);
    world.restart();
    assert_eq!(
        world.input(Input::LookAcksRead { source: 9 }),
        Reply::AcksRead(1)
    );
    assert_eq!(
        world.input(Input::LookAcksRead { source: 10 }),
        Reply::AcksRead(0),
        "another store is read from its start"
    );
}

#[test]
fn how_far_was_read_is_written_in_the_same_step_as_what_it_led_to() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.ack(1, Stage::Acknowledged, 1);
    let tail: Vec<_> = world.records[world.records.len() - 2..]
        .iter()
        .map(|record| decode_record(record).unwrap())
        .collect();
    assert!(matches!(
        tail[..],
        [
            Record::Settled { .. },
            Record::AcksRead {
                source: 9,
                through: 1,
                ..
            }
        ]
    ));
}

#[test]
fn records_of_one_message_are_chained() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.ack(1, Stage::Stored, 1);
    world.ack(1, Stage::Acknowledged, 1);
    let (mut at, mut kinds) = (world.view(1).unwrap().last, vec![]);
    while at != 0 {
        let record = decode_record(&world.records[at as usize - 1]).unwrap();
        let (kind, previous) = match record {
            Record::Settled { previous, .. } => ("settled", previous),
            Record::Stored { previous, .. } => ("stored", previous),
            Record::Offered { previous, .. } => ("offered", previous),
            Record::Accepted(_) => ("accepted", 0),
            other => panic!("{other:?}"),
        };
        kinds.push(kind);
        at = previous;
    }
    assert_eq!(kinds, ["settled", "stored", "offered", "accepted"]);
}
