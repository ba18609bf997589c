//! What needed the store, by why.

use super::*;

#[test]
fn a_push_made_at_once_needs_no_store_and_every_other_names_its_reason() {
    let mut world = World::new();
    world.send(1..=1);
    let connection = world.online();
    let needed = |world: &World| world.counters().needed_store.clone();
    assert_eq!(needed(&world).waited, 1, "its agent was away");
    world.send(2..=2);
    assert_eq!(needed(&world).waited, 1, "it was pushed at once");
    world.disconnect(connection);
    world.online();
    assert_eq!(needed(&world).disconnected, 2);
    world.restart();
    world.online();
    assert_eq!(needed(&world).restarted, 2);
    world.pass(Duration::from_secs(3600));
    let all = needed(&world);
    assert_eq!(
        all.waited + all.disconnected + all.restarted + all.overdue + 1,
        world.counters().pushes,
        "one push needed no store"
    );
    let measures = world.centre.state().measures();
    assert_eq!((measures.recipients, measures.connected), (1, 1));
    assert_eq!(measures.counters.pending, 2);
}
