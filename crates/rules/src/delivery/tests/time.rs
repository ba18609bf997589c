//! What time does.

use super::*;

const ACK_WAIT: Duration = Duration::from_secs(30);

fn expiring(number: u8, at: Timestamp) -> Submission {
    Submission {
        expires_at: Some(at),
        ..message(number, "lyon")
    }
}

#[test]
fn a_message_expires_at_its_instant_wherever_it_is_and_is_not_pushed_any_more() {
    let mut world = World::new();
    let connection = world.online();
    let at = world.now + Duration::from_secs(10);
    for number in 1..=2 {
        world.submit(expiring(number, at)).unwrap();
    }
    world.ack(2, Stage::Stored, 1);
    world.pushed();
    world.disconnect(connection);
    assert_eq!(world.centre.next_deadline(), Some(at));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.place(1), Some(Place::Ended(End::Expired)));
    assert_eq!(world.place(2), Some(Place::Ended(End::Expired)));
    world.online();
    assert_eq!(world.pushed(), []);
}

#[test]
fn a_message_that_expires_in_flight_makes_room_for_the_next() {
    let mut world = World::with(Policy {
        window_messages: 1,
        ..Policy::default()
    });
    world.online();
    let at = world.now + Duration::from_secs(10);
    world.submit(expiring(1, at)).unwrap();
    world.send([2]);
    assert_eq!(world.pushed(), [(1, 1)]);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.pushed(), [(2, 1)]);
}

#[test]
fn an_overdue_receipt_leads_to_another_push_and_each_wait_is_twice_the_last() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.pushed();
    for attempt in 2..=4 {
        let wait = ACK_WAIT * (1 << (attempt - 2));
        world.pass(wait - Duration::from_micros(1));
        assert_eq!(world.pushed(), []);
        world.pass(Duration::from_micros(1));
        assert_eq!(world.pushed(), [(1, attempt)]);
    }
    assert_eq!(world.causes(1)[1..], [Cause::Overdue; 3]);
    assert_eq!(world.counters().pushes_again, 3);
}

#[test]
fn a_stored_message_is_not_overdue() {
    let mut world = World::new();
    world.online();
    world.send([1]);
    world.ack(1, Stage::Stored, 1);
    world.pushed();
    world.pass(ACK_WAIT * 100);
    assert_eq!(world.pushed(), []);
    assert_eq!(world.place(1), Some(Place::Received));
}

#[test]
fn a_clock_that_was_ahead_and_is_set_back_does_not_freeze_repeats() {
    let mut world = World::new();
    let noon = world.now;
    world.online();
    world.now = noon + Duration::from_secs(3000);
    world.send([1]);
    assert_eq!(world.pushed(), [(1, 1)]);
    world.now = noon;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.pushed(), [(1, 2)]);
}

#[test]
fn a_finished_message_and_its_key_are_forgotten_after_their_retention() {
    let mut world = World::new();
    let keyed = |number| Submission {
        key: Some([5; 16]),
        ..message(number, "lyon")
    };
    world.submit(keyed(1)).unwrap();
    world.ack(1, Stage::Acknowledged, 1);
    let retention = world.policy.retention;
    pass_watched(&mut world, retention - Duration::from_micros(1));
    assert!(world.place(1).is_some());
    world.pass(Duration::from_micros(1));
    assert_eq!(world.place(1), None);
    assert_eq!(world.counters().aged_out, 1);
    assert!(!world.submit(keyed(2)).unwrap().repeated);
    world.ack(1, Stage::Acknowledged, 1);
    assert_eq!(world.kept(), [Why::Orphan]);
}

/// Time passes while the centre runs: it looks whenever it asked to.
fn pass_watched(world: &mut World, by: Duration) {
    let until = world.now + by;
    while let Some(next) = world.centre.next_deadline().filter(|next| *next <= until) {
        world.pass(next.since(world.now));
    }
    world.pass(until.since(world.now));
}

#[test]
fn a_clock_that_jumps_forward_makes_the_centre_forget_nothing() {
    let mut world = World::new();
    world.send([1]);
    world.ack(1, Stage::Acknowledged, 1);
    let (noon, retention) = (world.now, world.policy.retention);
    world.pass(retention * 100);
    assert!(world.place(1).is_some(), "nobody watched that time pass");
    world.now = noon;
    world.pass(Duration::ZERO);
    pass_watched(&mut world, retention);
    assert_eq!(world.place(1), None, "nor does it remember for ever");
}

#[test]
fn what_ended_while_the_clock_was_ahead_ages_like_the_rest() {
    let mut world = World::new();
    let noon = world.now;
    world.now = noon + world.policy.retention * 1000;
    world.send([1]);
    world.ack(1, Stage::Acknowledged, 1);
    world.now = noon;
    world.send([2]);
    world.ack(2, Stage::Acknowledged, 1);
    let retention = world.policy.retention;
    pass_watched(&mut world, retention);
    assert_eq!((world.place(1), world.place(2)), (None, None));
}

#[test]
fn a_token_that_only_seemed_to_be_over_holds_nothing_up_once_the_clock_is_right() {
    let mut world = World::new();
    let noon = world.now;
    world.online();
    world.now = noon + TOKEN_LIFE * 2;
    world.send([1]);
    assert_eq!(world.pushed(), []);
    world.now = noon;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.pushed(), [(1, 1)]);
}

#[test]
fn an_unfinished_message_outlives_any_retention() {
    let mut world = World::new();
    world.send([1]);
    world.pass(world.policy.retention * 10);
    assert_eq!(world.place(1), Some(Place::Queued));
}

#[test]
fn a_long_waiting_message_is_copied_forward_and_pushed_from_its_copy() {
    let mut world = World::new();
    let receipt = world.submit(message(1, "lyon")).unwrap();
    assert!(world.centre.oldest_needed() <= receipt.position);
    // So much that the copy stands far behind.
    for _ in 0..100 {
        world.centre.mark(world.now, &mut world.out);
    }
    world.settle();
    for _ in 0..2 {
        let before = world.records.len() as Position + 1;
        world.effects.clear();
        world.centre.release(before, 1 << 20, &mut world.out);
        world.settle();
        let effects = core::mem::take(&mut world.effects);
        let [Effect::CopyForward { id: of, accepted }] = effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(of, id(1));
        let record = Bytes::from(world.records[accepted as usize - 1].clone());
        world.input(Input::Carry {
            id: of,
            accepted: record,
        });
    }
    let copy = world.records.len() as Position;
    let needed = world.centre.oldest_needed();
    assert!((receipt.position + 1..=copy).contains(&needed), "{needed}");
    world.online();
    assert_eq!(world.pushes()[0].accepted, copy);
    let record = world.records[copy as usize - 1].clone();
    assert_eq!(decode_accepted(&record).unwrap().data, [b'1'; 10]);
}

#[test]
fn nothing_is_copied_when_it_would_cost_too_much_or_free_nothing() {
    let mut world = World::new();
    world.send([1]);
    world.centre.release(100, 100, &mut world.out);
    world.settle();
    assert_eq!(world.effects, [], "too dear");
    world.send([2]);
    world.ack(2, Stage::Acknowledged, 1);
    world.centre.release(100, 1 << 20, &mut world.out);
    world.settle();
    let copies = world
        .effects
        .iter()
        .filter(|effect| matches!(effect, Effect::CopyForward { .. }));
    assert_eq!(copies.count(), 0, "a finished one keeps the segment");
}

/// A centre in which the second of two messages, 2 and 3, has the place before that of the first:
/// where what has ended goes to the archive at once, the place of message 1 is given again.
fn second_in_a_lower_place(remembered_max: u64, change: fn(&mut Submission)) -> World {
    let mut world = World::with(Policy {
        remembered_max,
        archive_batch: 1,
        ..Policy::default()
    });
    let send = |world: &mut World, number| {
        let mut message = message(number, "lyon");
        change(&mut message);
        world.submit(message).unwrap();
    };
    send(&mut world, 1);
    send(&mut world, 2);
    world.input(Input::Cancel {
        tenant: tenant(),
        id: id(1),
        by: String::from("ada"),
    });
    send(&mut world, 3);
    let place = |number| world.centre.state.messages.find(id(number)).unwrap();
    assert_eq!(place(3) < place(2), remembered_max == 0);
    world
}

/// The messages of all records of a kind, in order.
fn order_of(world: &World, of: fn(Record<'_>) -> Option<MessageId>) -> Vec<u8> {
    let records = world.records.iter();
    let ids = records.filter_map(|record| of(decode_record(record).unwrap()));
    ids.map(|id| id.0[0]).collect()
}

fn due_together(message: &mut Submission) {
    message.not_before = Some(NOON + Duration::from_secs(60));
}

#[test]
fn messages_due_at_one_instant_keep_the_order_in_which_they_were_accepted() {
    for remembered_max in [0, 100] {
        let mut world = second_in_a_lower_place(remembered_max, due_together);
        world.online();
        world.pass(Duration::from_secs(60));
        assert_eq!(world.pushed(), [(2, 1), (3, 1)]);
    }
}

#[test]
fn messages_due_at_one_instant_keep_their_order_over_restarts_images_and_copies() {
    for remembered_max in [0, 100] {
        let mut world = second_in_a_lower_place(remembered_max, due_together);
        let accepted = Bytes::from(world.records[world.position_of(|record| {
            matches!(record, Record::Scheduled { accepted, .. } if accepted.id == id(2))
        }) as usize - 1].clone());
        world.input(Input::Carry {
            id: id(2),
            accepted,
        });
        world.restart();
        let mut image = vec![];
        world.centre.save(&mut image);
        world.centre.load(&image).unwrap();
        world.online();
        world.pass(Duration::from_secs(60));
        assert_eq!(world.pushed(), [(2, 1), (3, 1)]);
    }
}

#[test]
fn one_that_is_taken_back_leaves_the_others_of_its_instant_in_order() {
    let mut world = second_in_a_lower_place(0, due_together);
    for number in [4, 5] {
        let mut message = message(number, "lyon");
        due_together(&mut message);
        world.submit(message).unwrap();
    }
    world.input(Input::Cancel {
        tenant: tenant(),
        id: id(3),
        by: String::from("ada"),
    });
    world.online();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.pushed(), [(2, 1), (4, 1), (5, 1)]);
    assert_eq!(world.centre.state.held.len(), 0);
}

#[test]
fn messages_that_expire_at_one_instant_end_in_the_order_in_which_they_were_accepted() {
    for remembered_max in [0, 100] {
        let expiring = |message: &mut Submission| {
            message.expires_at = Some(NOON + Duration::from_secs(60));
        };
        let mut world = second_in_a_lower_place(remembered_max, expiring);
        world.pass(Duration::from_secs(60));
        let expired = order_of(&world, |record| match record {
            Record::Settled {
                id,
                end: End::Expired,
                ..
            } => Some(id),
            _ => None,
        });
        assert_eq!(expired, [2, 3]);
    }
}

#[test]
fn receipts_overdue_at_one_instant_are_found_in_the_order_of_numbers() {
    for remembered_max in [0, 100] {
        let mut world = second_in_a_lower_place(remembered_max, |_| ());
        world.online();
        world.pass(ACK_WAIT);
        let overdue = order_of(&world, |record| match record {
            Record::Overdue { id, .. } => Some(id),
            _ => None,
        });
        assert_eq!(overdue, [2, 3]);
    }
}
