//! Large bodies: who may refer to them, and when they go.

use super::*;
use crate::body::{BodyId, BodyRef};
use crate::limits::BODY_UNCLAIMED;

const BODY: BodyRef = BodyRef {
    id: BodyId([9; 16]),
    bytes: 5 << 20,
};

fn referring(number: u8) -> Submission {
    Submission {
        body: Some(BODY),
        body_sha256: [7; 32],
        data: Bytes::new(),
        ..message(number, "lyon")
    }
}

fn few() -> Policy {
    Policy {
        remembered_max: 1,
        archive_batch: 2,
        ..Policy::default()
    }
}

impl World {
    fn keep(&mut self, tenant: TenantName) {
        let keep = Input::KeepBody(NewBody {
            id: BODY.id,
            tenant,
            bytes: BODY.bytes,
            sha256: [7; 32],
        });
        assert_eq!(self.input(keep), Reply::Done);
    }

    fn references(&mut self) -> Option<u64> {
        let look = Input::LookBody {
            tenant: tenant(),
            body: BODY.id,
        };
        match self.input(look) {
            Reply::Body(body) => body.map(|body| body.references),
            other => panic!("{other:?}"),
        }
    }

    fn dropped(&self) -> usize {
        let is_drop = |effect: &&Effect| matches!(effect, Effect::DropBody { .. });
        self.effects.iter().filter(is_drop).count()
    }

    fn pass_watched(&mut self, time: Duration) {
        for _ in 0..time.as_secs() / 600 {
            self.pass(Duration::from_secs(600));
        }
    }
}

#[test]
fn a_message_may_refer_to_a_body_that_is_kept_and_to_no_other() {
    let mut world = World::new();
    let unknown = Err(Refusal::UnknownBody { body: BODY.id });
    assert_eq!(world.submit(referring(1)), unknown);
    world.keep(TenantName::parse("other").unwrap());
    assert_eq!(world.submit(referring(1)), unknown, "another tenant's");
    let mut world = World::new();
    world.keep(tenant());
    for wrong in [
        Submission {
            body_sha256: [8; 32],
            ..referring(1)
        },
        Submission {
            body: Some(BodyRef { bytes: 1, ..BODY }),
            ..referring(1)
        },
    ] {
        assert_eq!(world.submit(wrong), unknown, "it is another one");
    }
    world.submit(referring(1)).unwrap();
    assert_eq!(world.references(), Some(1));
}

#[test]
fn a_send_to_many_refers_to_no_body_and_leaves_no_trace() {
    let mut world = World::new();
    world.register("lyon");
    world.keep(tenant());
    let records = world.records.len();
    let to_all = Input::FanOut(Box::new(FanOut {
        message: referring(1).addressed_to(Audience::All),
        quorum: None,
        deadline: None,
    }));
    let refused = Refusal::BodyToMany { body: BODY.id };
    assert_eq!(world.input(to_all), Reply::FannedOut(Err(refused)));
    assert_eq!(
        (world.records.len(), world.references()),
        (records, Some(0))
    );
    world.submit(referring(1)).unwrap();
    assert_eq!(world.references(), Some(1), "by one message it may be");
}

#[test]
fn what_is_pushed_says_what_it_refers_to() {
    let mut world = World::new();
    world.keep(tenant());
    world.online();
    world.submit(referring(1)).unwrap();
    let push = world.pushes().remove(0);
    let record = &world.records[push.accepted as usize - 1];
    let accepted = decode_accepted(record).unwrap();
    assert_eq!((accepted.body, accepted.bytes()), (Some(BODY), BODY.bytes));
}

#[test]
fn a_body_stays_until_the_last_message_that_refers_to_it_is_forgotten() {
    let mut world = World::new();
    world.keep(tenant());
    world.online();
    world.submit(referring(1)).unwrap();
    world.submit(referring(2)).unwrap();
    world.ack(1, Stage::Acknowledged, 1);
    world.pass_watched(BODY_UNCLAIMED);
    world.ack(2, Stage::Acknowledged, 1);
    world.pass_watched(world.policy.retention - BODY_UNCLAIMED);
    assert_eq!(world.references(), Some(1), "the first is forgotten");
    world.restart();
    assert_eq!(world.references(), Some(1));
    world.pass_watched(BODY_UNCLAIMED);
    assert_eq!((world.references(), world.dropped()), (None, 1));
}

#[test]
fn a_body_stays_while_its_message_is_in_the_archive() {
    let mut world = World::with(few());
    world.keep(tenant());
    world.online();
    world.submit(referring(1)).unwrap();
    world.ack(1, Stage::Dead, 1);
    for number in 2..8 {
        world.send([number]);
        world.ack(number, Stage::Acknowledged, 1);
    }
    assert!(
        world.centre.state().message(id(1)).is_none(),
        "in the archive"
    );
    world.pass_watched(BODY_UNCLAIMED);
    let again = Input::Reprocess {
        may_process_twice: true,
        tenant: tenant(),
        id: id(1),
        by: String::from("ada"),
    };
    assert_eq!(world.input(again), Reply::Operated(Ok(())));
    world.pass_watched(2 * world.policy.retention);
    assert_eq!(world.references(), Some(1), "it lives again");
    world.ack_generation(1, 2);
    world.pass_watched(world.policy.retention + BODY_UNCLAIMED);
    assert_eq!((world.references(), world.dropped()), (None, 1));
}

impl World {
    fn ack_generation(&mut self, number: u8, generation: u32) {
        let mut ack = self.ack_of("lyon", number, Stage::Acknowledged, 1);
        ack.item.generation = generation;
        self.acks(vec![ack]);
    }
}

#[test]
fn a_body_to_which_nobody_ever_refers_goes_after_a_day() {
    let mut world = World::new();
    world.keep(tenant());
    world.pass_watched(BODY_UNCLAIMED - Duration::from_secs(1200));
    assert_eq!(world.references(), Some(0));
    world.pass_watched(Duration::from_secs(1800));
    assert_eq!((world.references(), world.dropped()), (None, 1));
    assert_eq!(world.centre.state().bodies(), []);
}

#[test]
fn a_body_that_is_brought_again_stays_as_it_was() {
    let mut world = World::new();
    world.keep(tenant());
    world.submit(referring(1)).unwrap();
    let records = world.records.len();
    world.keep(tenant());
    assert_eq!(world.records.len(), records);
    assert_eq!(world.references(), Some(1));
}

#[test]
fn a_body_whose_own_record_is_damaged_is_known_by_the_messages_that_refer_to_it() {
    let mut world = World::new();
    world.keep(tenant());
    world.submit(referring(1)).unwrap();
    let damaged = world.position_of(|record| matches!(record, Record::BodyKept { .. }));
    world.restart_with_damage(&[damaged]);
    assert_eq!(world.references(), Some(1));
}
