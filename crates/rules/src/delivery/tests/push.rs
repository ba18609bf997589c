//! Connecting, pushing, offering again.

use super::*;

#[test]
fn nothing_is_pushed_before_the_client_is_ready_and_then_the_lowest_goes_first() {
    let mut world = World::new();
    world.send(1..=3);
    let connection = world.connect("lyon");
    assert_eq!(world.pushed(), []);
    let welcome = world.ready(connection);
    assert_eq!((welcome.waiting, welcome.oldest_replayable), (3, 1));
    assert_eq!(world.pushed(), [(1, 1), (2, 1), (3, 1)]);
    world.send([4]);
    assert_eq!(world.pushed(), [(4, 1)]);
}

#[test]
fn a_push_names_the_place_of_its_body() {
    let mut world = World::new();
    world.online();
    let receipt = world.submit(message(1, "lyon")).unwrap();
    let pushes = world.pushes();
    assert_eq!(
        pushes,
        [Push {
            to: agent("lyon"),
            connection: 1,
            term: 1,
            id: id(1),
            accepted: receipt.position,
            seq: 1,
            attempt: 1,
            generation: 1
        }]
    );
    assert!(receipt.online);
    assert_eq!(world.place(1), Some(Place::Offered));
}

#[test]
fn the_window_holds_so_many_messages_and_a_receipt_makes_room_for_one() {
    let mut world = World::with(Policy {
        window_messages: 2,
        ..Policy::default()
    });
    world.online();
    world.send(1..=5);
    assert_eq!(world.pushed(), [(1, 1), (2, 1)]);
    world.ack(1, Stage::Stored, 1);
    assert_eq!(world.pushed(), [(3, 1)]);
    world.ack(2, Stage::Acknowledged, 1);
    assert_eq!(world.pushed(), [(4, 1)]);
}

#[test]
fn the_window_holds_so_many_bytes_but_one_message_alone_may_be_larger() {
    let mut world = World::with(Policy {
        window_bytes: 25,
        ..Policy::default()
    });
    world.online();
    let huge = Submission {
        data: Bytes::from_static(&[b'9'; 99]),
        ..message(3, "lyon")
    };
    world.send([1, 2]);
    world.submit(huge).unwrap();
    world.send([4]);
    assert_eq!(world.pushed(), [(1, 1), (2, 1)]);
    world.ack(1, Stage::Stored, 1);
    assert_eq!(world.pushed(), [], "10 of 25 bytes and 99 more");
    world.ack(2, Stage::Stored, 1);
    assert_eq!(world.pushed(), [(3, 1)], "alone it may");
    world.ack(3, Stage::Stored, 1);
    assert_eq!(world.pushed(), [(4, 1)]);
    let in_flight: Vec<_> = world
        .centre
        .state()
        .in_flight()
        .map(|(_, n, b)| (n, b))
        .collect();
    assert_eq!(in_flight, [(1, 10)]);
}

#[test]
fn a_newer_connection_closes_the_older_and_takes_what_it_carried() {
    let mut world = World::new();
    world.online();
    world.send(1..=2);
    world.pushed();
    let newer = world.connect("lyon");
    assert_eq!(world.effects, [], "it is not ready");
    world.ready(newer);
    assert!(world.effects.contains(&Effect::Supersede { connection: 1 }));
    let pushes = world.pushes();
    assert!(
        pushes
            .iter()
            .all(|push| push.connection == newer && push.term == 2)
    );
    assert_eq!(pushes.len(), 2);
    assert_eq!(world.causes(1), [Cause::New, Cause::Disconnected]);
}

#[test]
fn a_superseded_connection_is_not_listened_to() {
    let mut world = World::new();
    let older = world.online();
    let newer = world.online();
    assert_eq!(world.ready_saying(older, 7, 0, 1), None);
    world.disconnect(older);
    world.send([1]);
    assert_eq!(
        world
            .pushes()
            .iter()
            .map(|p| p.connection)
            .collect::<Vec<_>>(),
        [newer]
    );
}

#[test]
fn a_connection_that_its_client_has_given_up_takes_nobodys_place() {
    let mut world = World::new();
    let current = world.online();
    let abandoned = world.connect("lyon");
    world.send([1]);
    world.disconnect(abandoned);
    world.send([2]);
    let connections: Vec<_> = world.pushes().iter().map(|p| p.connection).collect();
    assert_eq!(connections, [current, current]);
    assert_eq!(world.ready_saying(abandoned, 7, 0, 1), None);
}

#[test]
fn a_client_that_never_becomes_ready_gets_four_connections_and_no_more() {
    let mut world = World::new();
    for _ in 0..4 {
        world.connect("lyon");
    }
    assert_eq!(world.effects, []);
    world.connect("lyon");
    assert_eq!(world.effects, [Effect::Supersede { connection: 1 }]);
}

#[test]
fn what_a_lost_connection_carried_is_offered_again_lowest_first_before_newer_ones() {
    let mut world = World::with(Policy {
        window_messages: 3,
        ..Policy::default()
    });
    let connection = world.online();
    world.send(1..=5);
    assert_eq!(world.pushed(), [(1, 1), (2, 1), (3, 1)]);
    world.ack(2, Stage::Stored, 1);
    assert_eq!(world.pushed(), [(4, 1)]);
    world.disconnect(connection);
    assert_eq!(world.place(1), Some(Place::Queued));
    world.send([6]);
    world.online();
    assert_eq!(world.pushed(), [(1, 2), (3, 2), (4, 2)]);
    assert_eq!(world.place(2), Some(Place::Received));
    world.ack(1, Stage::Stored, 2);
    world.ack(3, Stage::Stored, 2);
    assert_eq!(world.pushed(), [(5, 1), (6, 1)]);
}

#[test]
fn a_restart_offers_again_and_says_so() {
    let mut world = World::new();
    world.online();
    world.send(1..=2);
    world.ack(2, Stage::Stored, 1);
    world.pushed();
    world.restart();
    assert_eq!(world.place(1), Some(Place::Queued));
    world.online();
    assert_eq!(
        world.pushed(),
        [(1, 2)],
        "what is stored is not pushed again"
    );
    assert_eq!(world.causes(1), [Cause::New, Cause::Restarted]);
}

#[test]
fn terms_go_on_over_a_restart() {
    let mut world = World::new();
    world.online();
    world.restart();
    world.send([1]);
    world.online();
    assert_eq!(world.pushes()[0].term, 2);
}

#[test]
fn an_agent_that_lost_its_store_is_offered_what_it_had_stored() {
    let mut world = World::new();
    let connection = world.online();
    world.send(1..=3);
    world.ack(1, Stage::Stored, 1);
    world.ack(2, Stage::Acknowledged, 1);
    world.pushed();
    world.disconnect(connection);
    let connection = world.connect("lyon");
    world.ready_saying(connection, 8, 0, 0);
    assert_eq!(world.pushed(), [(1, 2), (3, 2)]);
    assert_eq!(world.causes(1), [Cause::New, Cause::AgentStoreLost]);
}

#[test]
fn a_receipt_for_a_store_that_was_lost_since_does_not_hold_the_message_back() {
    let mut world = World::new();
    let connection = world.online();
    world.send(1..=2);
    world.disconnect(connection);
    let connection = world.connect("lyon");
    world.ready_saying(connection, 8, 0, 0);
    world.pushed();
    // Given before the loss, read after it.
    world.ack(1, Stage::Stored, 1);
    assert_eq!(world.place(1), Some(Place::Offered));
    assert_eq!(world.kept(), [Why::StoreLost]);
    world.ack(1, Stage::Stored, 2);
    assert_eq!(world.place(1), Some(Place::Received));
}

#[test]
fn a_client_without_a_store_loses_none() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.ack(1, Stage::Stored, 1);
    world.pushed();
    let connection = world.connect("lyon");
    world.ready_saying(connection, 0, 0, 0);
    assert_eq!(world.pushed(), []);
}

#[test]
fn an_expired_token_is_refused() {
    let mut world = World::new();
    let reply = world.input(Input::Connect {
        tenant: tenant(),
        agent: agent("lyon"),
        connection: 1,
        token_expires_at: world.now,
    });
    assert_eq!(reply, Reply::Connected(Err(Refusal::TokenExpired)));
}

#[test]
fn nothing_is_pushed_in_the_last_moments_of_a_token() {
    let mut world = World::new();
    world.online();
    let guard = world.policy.token_guard;
    world.now = world.now + (TOKEN_LIFE - guard - Duration::from_micros(1));
    world.send([1]);
    assert_eq!(world.pushed(), [(1, 1)]);
    world.now = world.now + Duration::from_micros(1);
    world.send([2]);
    assert_eq!(world.pushed(), []);
    world.online();
    assert_eq!(world.pushed(), [(1, 2), (2, 1)]);
}

#[test]
fn a_returning_client_is_told_how_many_ended_before_they_reached_it() {
    let mut world = World::new();
    let life = Duration::from_secs(60);
    for number in 1..=2 {
        let expires_at = Some(world.now + life);
        world
            .submit(Submission {
                expires_at,
                ..message(number, "lyon")
            })
            .unwrap();
    }
    world.send([3]);
    world.pass(life);
    let connection = world.connect("lyon");
    let welcome = world.ready_saying(connection, 7, 0, 1).unwrap();
    assert_eq!(welcome.gap, Some(Gap::Ended { count: 2 }));
    assert_eq!(welcome.oldest_replayable, 3);
    let connection = world.connect("lyon");
    let welcome = world.ready_saying(connection, 7, 2, 1).unwrap();
    assert_eq!(welcome.gap, None, "its cursor is past them");
}

#[test]
fn what_reached_the_site_and_ended_there_is_no_gap() {
    let mut world = World::new();
    world.online();
    world.send(1..=3);
    world.ack(1, Stage::Acknowledged, 1);
    world.ack(2, Stage::Rejected, 1);
    world.ack(3, Stage::Dead, 1);
    let connection = world.connect("lyon");
    assert_eq!(world.ready(connection).gap, None);
}

#[test]
fn a_client_that_knew_another_life_of_the_store_is_told() {
    let mut world = World::new();
    let connection = world.connect("lyon");
    let welcome = world.ready_saying(connection, 7, 40, 3).unwrap();
    assert_eq!((welcome.gap, welcome.epoch), (Some(Gap::OtherEpoch), 1));
}

#[test]
fn one_slow_recipient_holds_up_no_other() {
    let mut world = World::with(Policy {
        window_messages: 1,
        ..Policy::default()
    });
    world.online();
    let other = world.connect("nice");
    world.ready(other);
    world.send(1..=2);
    world.submit(message(9, "nice")).unwrap();
    assert_eq!(world.pushed(), [(1, 1), (9, 1)]);
}

fn undeliverable(world: &mut World, number: u8) {
    let reply = world.input(Input::Undeliverable {
        id: id(number),
        generation: 1,
        reason: Outcome {
            code: String::from("body-damaged"),
            ..Outcome::default()
        },
    });
    assert_eq!(reply, Reply::Done);
}

#[test]
fn what_can_never_be_pushed_ends_dead_and_makes_room_for_the_next() {
    let mut world = World::with(Policy {
        window_messages: 1,
        ..Policy::default()
    });
    let connection = world.online();
    world.send(1..=2);
    assert_eq!(world.pushed(), [(1, 1)]);
    undeliverable(&mut world, 1);
    assert_eq!(world.place(1), Some(Place::Ended(End::Dead)));
    assert_eq!(world.pushed(), [(2, 1)]);
    world.disconnect(connection);
    let connection = world.connect("lyon");
    let gap = world.ready(connection).gap;
    assert_eq!(gap, Some(Gap::Ended { count: 1 }), "it never arrived");
}

#[test]
fn what_the_site_has_already_is_not_undeliverable() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.ack(1, Stage::Stored, 1);
    undeliverable(&mut world, 1);
    assert_eq!(world.place(1), Some(Place::Received));
}

#[test]
fn an_agent_whose_store_is_an_older_copy_of_itself_is_offered_what_it_had_stored() {
    let mut world = World::new();
    world.online();
    world.send(1..=3);
    for number in 1..=3 {
        world.ack(number, Stage::Stored, 1);
    }
    world.pushed();
    ready_having(&mut world, 1, 3);
    assert_eq!(world.pushed(), [], "it has all three");
    ready_having(&mut world, 1, 1);
    assert_eq!(
        world.pushed(),
        [(1, 2), (2, 2), (3, 2)],
        "it told of three and has one"
    );
}

/// `lyon` comes back and says that the highest number it has is `highest`.
fn ready_having(world: &mut World, cursor: Seq, highest: Seq) {
    let connection = world.connect("lyon");
    world.input(Input::Ready {
        connection,
        agent_epoch: 7,
        floor: 1,
        cursor,
        highest: Some(highest),
        centre_epoch: 1,
        parked: vec![],
    });
}

#[test]
fn what_arrives_over_the_older_connection_meanwhile_does_not_make_a_store_look_set_back() {
    let mut world = World::new();
    world.online();
    let newer = world.connect("lyon");
    // It looked up what it has when it was let in, and got one more over the older connection.
    world.send([1]);
    world.ack(1, Stage::Stored, 1);
    world.pushed();
    world.input(Input::Ready {
        connection: newer,
        agent_epoch: 7,
        floor: 1,
        cursor: 0,
        highest: Some(0),
        centre_epoch: 1,
        parked: vec![],
    });
    assert_eq!(world.pushed(), []);
}

fn ready_with_floor(world: &mut World, floor: Seq, cursor: Seq) -> Welcome {
    let connection = world.connect("lyon");
    let reply = world.input(Input::Ready {
        connection,
        agent_epoch: 7,
        floor,
        cursor,
        highest: Some(cursor),
        centre_epoch: 1,
        parked: vec![],
    });
    match reply {
        Reply::Ready(Some(welcome)) => welcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_that_the_agent_knows_and_the_store_has_lost_are_never_given_again() {
    let mut world = World::new();
    world.send([1]);
    let welcome = ready_with_floor(&mut world, 40, 50);
    assert_eq!(welcome.gap, Some(Gap::OtherEpoch), "it is told");
    assert_eq!(world.submit(message(2, "lyon")).unwrap().seq, 51);
    world.restart();
    assert_eq!(world.submit(message(3, "lyon")).unwrap().seq, 52);
}

#[test]
fn no_client_uses_up_the_numbers_there_are() {
    let mut world = World::new();
    let welcome = ready_with_floor(&mut world, 0, Seq::MAX);
    assert_eq!(welcome.gap, Some(Gap::OtherEpoch));
    assert_eq!(world.submit(message(1, "lyon")).unwrap().seq, 1);
}
