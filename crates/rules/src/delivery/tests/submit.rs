//! Accepting.

use super::*;
use crate::limits;

fn keyed(number: u8, key: u8, fingerprint: u8) -> Submission {
    Submission {
        key: Some([key; 16]),
        fingerprint: [fingerprint; 16],
        ..message(number, "lyon")
    }
}

#[test]
fn a_send_is_numbered_and_recorded() {
    let mut world = World::new();
    let first = world.submit(message(1, "lyon")).unwrap();
    let second = world.submit(message(2, "lyon")).unwrap();
    assert_eq!((first.seq, second.seq), (1, 2));
    assert!(!first.repeated && !first.online && first.epoch == 1);
    let record = &world.records[second.position as usize - 1];
    let accepted = decode_accepted(record).unwrap();
    assert_eq!((accepted.id, accepted.data), (id(2), &[b'2'; 10][..]));
    assert_eq!(world.counters().accepted, 2);
}

#[test]
fn the_same_key_with_the_same_content_gives_the_first_message_and_records_nothing() {
    let mut world = World::new();
    let first = world.submit(keyed(1, 5, 8)).unwrap();
    let records = world.records.len();
    let again = world.submit(keyed(2, 5, 8)).unwrap();
    assert!(again.repeated);
    assert_eq!(
        (again.id, again.position, again.seq),
        (id(1), first.position, first.seq)
    );
    assert_eq!(world.records.len(), records);
}

#[test]
fn the_same_key_with_another_content_is_refused() {
    let mut world = World::new();
    world.submit(keyed(1, 5, 8)).unwrap();
    let refused = world.submit(keyed(2, 5, 9));
    assert_eq!(refused, Err(Refusal::KeyReused { id: id(1) }));
}

#[test]
fn a_key_is_remembered_over_a_restart_and_after_the_message_is_done() {
    let mut world = World::new();
    world.submit(keyed(1, 5, 8)).unwrap();
    world.ack(1, Stage::Acknowledged, 1);
    world.restart();
    assert_eq!(world.submit(keyed(2, 5, 8)).unwrap().id, id(1));
}

#[test]
fn an_id_is_not_given_to_two_messages() {
    let mut world = World::new();
    world.send([1]);
    let refused = world.submit(message(1, "lyon"));
    assert_eq!(refused, Err(Refusal::IdTaken { id: id(1) }));
}

#[test]
fn an_unknown_recipient_is_refused_unless_targets_are_not_strict() {
    let mut world = World::new();
    let refused = world.submit(message(1, "lyno"));
    assert!(matches!(refused, Err(Refusal::UnknownRecipient { .. })));
    let mut lenient = World::with(Policy {
        strict_targets: false,
        ..Policy::default()
    });
    assert_eq!(lenient.submit(message(1, "lyno")).unwrap().seq, 1);
}

#[test]
fn a_recipient_is_known_once_it_has_connected() {
    let mut world = World::new();
    world.connect("nice");
    assert!(world.submit(message(1, "nice")).is_ok());
}

#[test]
fn a_recipient_of_another_tenant_is_unknown() {
    let mut world = World::new();
    let foreign = Submission {
        tenant: TenantName::parse("other").unwrap(),
        ..message(1, "lyon")
    };
    let refused = world.submit(foreign);
    assert!(matches!(refused, Err(Refusal::UnknownRecipient { .. })));
}

#[test]
fn a_body_at_the_limit_is_accepted_and_one_byte_more_is_refused() {
    let mut world = World::new();
    let with_bytes = |number, bytes| Submission {
        data: Bytes::from(vec![b'1'; bytes]),
        ..message(number, "lyon")
    };
    let most = limits::BODY_BYTES_MAX;
    assert!(world.submit(with_bytes(1, most)).is_ok());
    let refused = world.submit(with_bytes(2, most + 1));
    assert_eq!(
        refused,
        Err(Refusal::BodyTooLarge {
            bytes: most + 1,
            bytes_max: most
        })
    );
}

#[test]
fn a_message_whose_life_is_over_is_refused() {
    let mut world = World::new();
    let over = Submission {
        expires_at: Some(world.now),
        ..message(1, "lyon")
    };
    assert_eq!(world.submit(over), Err(Refusal::AlreadyExpired));
}

#[test]
fn a_full_store_refuses_and_drops_nothing() {
    let mut world = World::with(Policy {
        pending_max: 2,
        ..Policy::default()
    });
    world.send([1, 2]);
    assert_eq!(
        world.submit(message(3, "lyon")),
        Err(Refusal::Full { pending: 2 })
    );
    world.ack(1, Stage::Acknowledged, 1);
    assert!(world.submit(message(3, "lyon")).is_ok());
    assert_eq!(world.place(2), Some(Place::Queued));
}

#[test]
fn a_message_is_invisible_to_another_tenant() {
    let mut world = World::new();
    world.send([1]);
    let reply = world.input(Input::Look {
        tenant: TenantName::parse("other").unwrap(),
        id: id(1),
    });
    assert_eq!(reply, Reply::Message(None));
}

#[test]
fn sends_grow_the_store_and_acknowledgements_do_not() {
    assert!(Centre::grows(&Input::Submit(Box::new(message(1, "lyon")))));
    let acks = Input::Acks {
        source: 1,
        through: 1,
        damaged: vec![],
        acks: vec![],
    };
    assert!(!Centre::grows(&acks));
}
