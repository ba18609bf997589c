//! A centre that goes on from an older copy of its store, in another life.

use super::*;

impl World {
    /// The store is replaced by what it was up to `position`, in another life.
    fn restore(&mut self, position: Position) {
        self.records.truncate(position as usize);
        self.out = Out::<Centre>::new(position + 1);
        self.epoch += 10;
        self.restart();
        self.effects.clear();
    }

    fn orphans(&mut self, after: Option<MessageId>, limit: usize) -> OrphanPage {
        let tenant = tenant();
        let input = Input::LookOrphans {
            tenant,
            after,
            limit,
        };
        match self.input(input) {
            Reply::Orphans(page) => page,
            other => panic!("another reply: {other:?}"),
        }
    }
}

fn ids(page: &OrphanPage) -> Vec<MessageId> {
    page.orphans.iter().map(|orphan| orphan.id).collect()
}

#[test]
fn acks_of_what_was_accepted_behind_the_backup_are_kept_and_listed_with_their_last_word() {
    let mut world = World::new();
    world.online();
    world.send(1..=1);
    let backup = world.records.len() as Position;
    world.pass(Duration::from_secs(60));
    world.send(2..=3);
    let lost_at = world.now;
    world.restore(backup);
    world.ack_position = 0;
    world.ack(2, Stage::Stored, 1);
    world.ack(2, Stage::Acknowledged, 1);
    world.ack(2, Stage::Stored, 1);
    world.ack(3, Stage::Stored, 1);
    let page = world.orphans(None, 10);
    assert_eq!(ids(&page), [id(2), id(3)]);
    let stages: Vec<_> = page.orphans.iter().map(|orphan| orphan.stage).collect();
    assert_eq!(stages, [Stage::Acknowledged, Stage::Stored]);
    let (last, first) = page.restored.expect("it was restored");
    assert!(last < lost_at && first >= lost_at);
    assert_eq!(
        world.kept(),
        [Why::Orphan; 4],
        "every word stands in the journal"
    );
    // The sender sends again what it has no proof of any more.
    world.send(2..=2);
    assert_eq!(ids(&world.orphans(None, 10)), [id(3)]);
    world.restart();
    assert_eq!(ids(&world.orphans(None, 10)), [id(3)]);
}

#[test]
fn orphans_are_listed_page_by_page_and_to_their_own_tenant_alone() {
    let mut world = World::new();
    for number in 1..=5 {
        world.ack(number, Stage::Stored, 1);
    }
    let first = world.orphans(None, 2);
    assert_eq!((ids(&first), first.more), (vec![id(1), id(2)], true));
    let rest = world.orphans(Some(id(2)), 3);
    assert_eq!((ids(&rest), rest.more), (vec![id(3), id(4), id(5)], false));
    let other = Input::LookOrphans {
        tenant: TenantName::parse("other").unwrap(),
        after: None,
        limit: 10,
    };
    let Reply::Orphans(page) = world.input(other) else {
        panic!("another reply");
    };
    assert_eq!(page, OrphanPage::default());
}

#[test]
fn the_list_of_orphans_is_bounded_and_loses_the_oldest_messages_first() {
    let mut world = World::new();
    let most = limits::ORPHANS_MAX as u32;
    for number in 0..most + 10 {
        let mut ack = world.ack_of("lyon", 1, Stage::Stored, 1);
        ack.item.message = MessageId((u128::from(number) + 1).to_be_bytes());
        world.acks(vec![ack]);
    }
    let page = world.orphans(None, usize::MAX - 1);
    assert_eq!(page.orphans.len(), limits::ORPHANS_MAX);
    assert_eq!(page.orphans[0].id, MessageId(11_u128.to_be_bytes()));
}

/// What ended behind the backup, and whose acknowledgements the ack store no longer has, would wait
/// for ever: its site believes to have told all of it.
#[test]
fn what_sites_have_is_asked_for_again_in_another_life() {
    let mut world = World::new();
    world.online();
    world.send(1..=2);
    world.ack(1, Stage::Stored, 1);
    let backup = world.records.len() as Position;
    world.ack(1, Stage::Acknowledged, 1);
    world.restore(backup);
    let connection = world.connect("lyon");
    let welcome = world
        .ready_saying(connection, 7, 0, 1)
        .expect("it is current");
    assert_eq!(welcome.gap, Some(Gap::OtherEpoch));
    assert_eq!(world.pushed(), [(1, 2), (2, 2)]);
    assert_eq!(
        world.causes(1).last(),
        Some(&Cause::ReceiptDoubted),
        "{:?}",
        world.causes(1)
    );
}

#[test]
fn a_start_of_the_same_life_asks_for_nothing_again() {
    let mut world = World::new();
    world.online();
    world.send(1..=1);
    world.ack(1, Stage::Stored, 1);
    world.restart();
    world.effects.clear();
    world.online();
    assert_eq!(world.pushed(), []);
}

#[test]
fn what_sites_have_is_asked_for_again_when_the_ack_store_is_another() {
    let mut world = World::new();
    world.online();
    world.send(1..=2);
    world.ack(1, Stage::Stored, 1);
    world.pushed();
    let other = |through| Input::Acks {
        source: 77,
        through,
        acks: vec![],
        damaged: vec![],
    };
    world.input(other(5));
    assert_eq!(world.pushed(), [(1, 2)]);
    world.ack(1, Stage::Stored, 2);
    world.input(other(6));
    assert_eq!(world.pushed(), [], "it is asked once");
}
