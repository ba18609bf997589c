//! What is done to many messages: exactly those, at a rate, once, over restarts.

use super::*;

const BY: &str = "ada";

fn operation(number: u8) -> OperationId {
    OperationId(id(number))
}

/// Dead letters, as a list means them.
fn dead() -> Filter {
    Filter {
        states: dead_letters(),
        ..Filter::default()
    }
}

fn order(number: u8, kind: OperationKind, pairs: &[(u8, u32)]) -> Order {
    let pairs = pairs.iter();
    Order {
        id: operation(number),
        tenant: tenant(),
        kind,
        filter: dead(),
        as_of: 1_000_000,
        pairs: pairs
            .map(|(number, generation)| (id(*number), *generation))
            .collect(),
        rate: 10,
        may_process_twice: false,
        reason: String::from("the back office is up again"),
        by: String::from(BY),
    }
}

impl World {
    fn begin(&mut self, order: Order) -> Result<OperationView, Refusal> {
        match self.input(Input::Begin(Box::new(order))) {
            Reply::Operation(result) => *result,
            other => panic!("{other:?}"),
        }
    }

    fn operation(&mut self, number: u8) -> OperationView {
        let input = Input::LookOperation {
            tenant: tenant(),
            id: operation(number),
            after: 0,
            count: 100,
        };
        match self.input(input) {
            Reply::Operation(result) => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// What became of each of its messages so far.
    fn results(&mut self, number: u8) -> Vec<Did> {
        let results = self.operation(number).results;
        results.iter().filter_map(|item| item.did).collect()
    }

    fn list(&mut self, filter: &Filter, after: Option<Cursor>, count: usize) -> Page {
        let input = Input::List {
            tenant: tenant(),
            filter: filter.clone(),
            after,
            count,
        };
        match self.input(input) {
            Reply::Page(page) => *page,
            other => panic!("{other:?}"),
        }
    }

    /// All that a filter may mean, page by page.
    fn all(&mut self, filter: &Filter, count: usize) -> Vec<Candidate> {
        let (mut found, mut after) = (vec![], None);
        loop {
            let page = self.list(filter, after, count);
            found.extend(page.candidates);
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    }

    fn facts(&self, candidate: &Candidate) -> Facts {
        let read = |position: Position| {
            let record = self.records.get(position as usize - 1);
            record.cloned().ok_or_else(|| String::from("not there"))
        };
        Facts::read(candidate, read).unwrap()
    }

    /// Does something to all dead letters, or takes back all that waits.
    pub(super) fn operate_on_all(&mut self, kind: u8, twice: bool, rate: u32) {
        let kind = match kind {
            0 => OperationKind::Replay,
            1 => OperationKind::Discard,
            2 => OperationKind::Restore,
            _ => OperationKind::Cancel,
        };
        let mut filter = dead();
        if kind == OperationKind::Cancel {
            filter.states = vec![Wanted::Waiting];
        }
        let mut pairs = self.all(&filter, 3);
        pairs.sort_by_key(|one| one.id);
        self.operation_last += 1;
        let mut operation = [0; 16];
        operation[..4].copy_from_slice(&self.operation_last.to_le_bytes());
        let _ = self.begin(Order {
            id: OperationId(MessageId(operation)),
            filter,
            pairs: pairs.iter().map(|one| (one.id, one.generation)).collect(),
            rate,
            may_process_twice: twice,
            ..order(0, kind, &[])
        });
    }

    /// Messages with these numbers, sent to `lyon`, end dead there.
    fn die(&mut self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            self.send([number]);
            self.ack(number, Stage::Dead, 1);
        }
    }
}

#[test]
fn a_replay_takes_exactly_its_messages_at_its_rate_each_in_another_life() {
    let mut world = World::new();
    world.online();
    world.die(1..=5);
    world.pushed();
    let begun = world.now;
    let replay = order(9, OperationKind::Replay, &[(1, 1), (3, 1), (5, 1)]);
    let view = world.begin(replay).unwrap();
    assert_eq!((view.matched, view.is_running()), (3, true));
    assert_eq!(world.pushed(), [(1, 1)], "one a tenth of a second");
    world.pass(Duration::from_millis(99));
    assert_eq!(world.pushed(), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.pushed(), [(3, 1)]);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.results(9), [Did::Done; 3], "one step takes one beat");
    let view = world.operation(9);
    assert_eq!(view.ended_at, Some(world.now));
    assert_eq!(view.begun_at, begun);
    let generations = [1, 2, 3, 4, 5].map(|number| world.view(number).unwrap().generation);
    assert_eq!(generations, [2, 1, 2, 1, 2]);
}

#[test]
fn a_restart_goes_on_behind_what_was_done_and_repeats_nothing() {
    let mut world = World::new();
    world.die(1..=4);
    let pairs = [(1, 1), (2, 1), (3, 1), (4, 1)];
    world
        .begin(order(9, OperationKind::Replay, &pairs))
        .unwrap();
    world.pass(Duration::from_millis(100));
    assert_eq!(world.results(9).len(), 2);
    world.restart();
    for _ in 0..5 {
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.results(9), [Did::Done; 4]);
    assert!(!world.operation(9).is_running());
    let lives = [1, 2, 3, 4].map(|number| world.view(number).unwrap().generation);
    assert_eq!(lives, [2; 4]);
}

#[test]
fn a_clock_that_is_set_back_freezes_no_operation() {
    let mut world = World::new();
    world.die(1..=2);
    world
        .begin(order(9, OperationKind::Replay, &[(1, 1), (2, 1)]))
        .unwrap();
    world.now = Timestamp(world.now.0 - 3_600_000_000);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.results(9), [Did::Done; 2]);
}

#[test]
fn what_has_changed_since_or_is_not_there_is_left_alone_with_a_reason() {
    let mut world = World::new();
    world.online();
    world.die([1, 2]);
    world.send([3]);
    let mut replay = order(
        9,
        OperationKind::Replay,
        &[(1, 1), (1, 1), (2, 2), (3, 1), (77, 0)],
    );
    replay.rate = 1000;
    let view = world.begin(replay).unwrap();
    assert_eq!(view.matched, 4, "one that is named twice is taken once");
    let results = [Did::Done, Did::Changed, Did::NotEnded, Did::Unknown];
    assert_eq!(world.results(9), results);
    assert_eq!(world.operation(9).count(Did::is_failure), 1);
}

#[test]
fn what_its_agent_no_longer_remembers_is_done_once_more_only_when_that_may_be() {
    let mut world = World::new();
    let connection = world.online();
    world.die([1, 2]);
    world.disconnect(connection);
    let connection = world.connect("lyon");
    let floor = 3;
    world.input(Input::Ready {
        connection,
        agent_epoch: 7,
        floor,
        cursor: 2,
        highest: None,
        centre_epoch: 1,
        parked: vec![],
    });
    let page = world.list(&dead(), None, 10);
    assert!(page.candidates.iter().all(|one| one.is_below_floor));
    let replay = order(8, OperationKind::Replay, &[(1, 1)]);
    world.begin(replay.clone()).unwrap();
    assert_eq!(world.results(8), [Did::BelowFloor]);
    assert_eq!(world.place(1), Some(Place::Ended(End::Dead)));
    let single = world.input(Input::Reprocess {
        tenant: tenant(),
        id: id(1),
        may_process_twice: false,
        by: String::from(BY),
    });
    let refused = Refusal::BelowFloor { id: id(1) };
    assert_eq!(single, Reply::Operated(Err(refused)));
    let allowed = Order {
        id: operation(9),
        may_process_twice: true,
        ..replay
    };
    world.begin(allowed).unwrap();
    assert_eq!(world.results(9), [Did::Done]);
    assert_eq!(world.view(1).unwrap().generation, 2);
}

#[test]
fn an_agent_that_lost_its_store_remembers_nothing_of_what_it_was_given_before() {
    let mut world = World::new();
    let connection = world.online();
    world.die([1]);
    world.disconnect(connection);
    assert!(!world.list(&dead(), None, 10).candidates[0].is_below_floor);
    let connection = world.connect("lyon");
    world.ready_saying(connection, 8, 0, 1);
    assert!(world.list(&dead(), None, 10).candidates[0].is_below_floor);
}

#[test]
fn an_operation_that_is_stopped_does_no_more_and_keeps_what_it_did() {
    let mut world = World::new();
    world.die(1..=3);
    world
        .begin(order(9, OperationKind::Replay, &[(1, 1), (2, 1), (3, 1)]))
        .unwrap();
    let stop = |tenant: TenantName| Input::StopOperation {
        tenant,
        id: operation(9),
        by: String::from("bob"),
    };
    let foreign = world.input(stop(TenantName::parse("other").unwrap()));
    let unknown = Refusal::UnknownOperation { id: operation(9) };
    assert_eq!(foreign, Reply::Operation(Box::new(Err(unknown))));
    world.input(stop(tenant()));
    world.pass(Duration::from_secs(10));
    let view = world.operation(9);
    assert_eq!(view.stopped_by.as_deref(), Some("bob"));
    assert_eq!(world.results(9), [Did::Done]);
    assert_eq!(world.place(2), Some(Place::Ended(End::Dead)));
}

#[test]
fn an_operation_asked_for_twice_is_begun_once_and_an_id_stands_for_one() {
    let mut world = World::new();
    world.die([1]);
    let replay = order(9, OperationKind::Replay, &[(1, 1)]);
    assert!(!world.begin(replay.clone()).unwrap().repeated);
    assert!(world.begin(replay.clone()).unwrap().repeated);
    let other = Order {
        kind: OperationKind::Discard,
        ..replay
    };
    let taken = Refusal::OperationIdTaken { id: operation(9) };
    assert_eq!(world.begin(other), Err(taken));
    assert_eq!(world.view(1).unwrap().generation, 2);
}

#[test]
fn a_dead_letter_is_put_away_and_taken_back_and_is_dead_all_the_while() {
    let mut world = World::new();
    world.die([1, 2]);
    world.send([3]);
    world
        .begin(order(7, OperationKind::Discard, &[(1, 1), (3, 1)]))
        .unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.results(7), [Did::Done, Did::NotDead]);
    assert_eq!(world.place(1), Some(Place::Ended(End::Dead)));
    assert!(world.view(1).unwrap().is_discarded);
    let visible = Filter {
        discarded: Some(false),
        ..dead()
    };
    let listed = world.all(&visible, 10);
    assert_eq!(listed.iter().map(|one| one.id).collect::<Vec<_>>(), [id(2)]);
    world
        .begin(order(8, OperationKind::Restore, &[(1, 1), (2, 1)]))
        .unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.results(8), [Did::Done, Did::Already]);
    assert_eq!(world.all(&visible, 10).len(), 2);
}

#[test]
fn what_waits_is_taken_back_and_what_is_on_its_way_is_not() {
    let mut world = World::new();
    world.send([1, 2]);
    let waiting = Filter {
        states: vec![Wanted::Waiting],
        ..Filter::default()
    };
    let pairs = world.all(&waiting, 10);
    assert_eq!(pairs.len(), 2);
    let mut cancel = order(9, OperationKind::Cancel, &[(1, 1), (2, 1)]);
    cancel.filter = waiting;
    world.begin(cancel).unwrap();
    world.online();
    assert_eq!(world.pushed(), [(2, 1)]);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.results(9), [Did::Done, Did::TooLate]);
}

#[test]
fn dead_letters_are_listed_whole_wherever_they_are_kept() {
    let mut world = World::with(Policy {
        remembered_max: 4,
        archive_batch: 3,
        ..Policy::default()
    });
    world.die(1..=20);
    world.send([21]);
    world.ack(21, Stage::Acknowledged, 1);
    assert!(!world.archive.kept().batches.is_empty());
    for count in [1, 2, 3, 7, 100] {
        let listed = world.all(&dead(), count);
        let numbers: Vec<_> = listed.iter().map(|one| one.id.0[0]).collect();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>(), "{count} to a page");
    }
    let done = Filter {
        states: vec![Wanted::Ended(End::Processed)],
        ..Filter::default()
    };
    assert_eq!(world.all(&done, 2).len(), 1);
    // One goes to the archive discarded and comes back so.
    world
        .begin(order(9, OperationKind::Discard, &[(1, 1)]))
        .unwrap();
    world.die(22..=40);
    assert!(
        world.centre.state().message(id(1)).is_none(),
        "it is archived"
    );
    let put_away = Filter {
        discarded: Some(true),
        ..dead()
    };
    assert_eq!(world.all(&put_away, 2).len(), 1);
    let replay = order(10, OperationKind::Replay, &[(1, 1), (2, 1)]);
    world.begin(replay).unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.results(10), [Did::Done; 2]);
    assert_eq!(world.place(1), Some(Place::Queued));
}

#[test]
fn a_filter_compares_what_stands_in_the_journal() {
    let mut world = World::new();
    world.die([1]);
    world.pass(Duration::from_secs(60));
    let before = world.now;
    world.die([2]);
    world.send([3]);
    let mut refused = world.ack_of("lyon", 3, Stage::Rejected, 2);
    refused.item.outcome.code = String::from("no-such-customer");
    world.acks(vec![refused]);
    // A word that came too late stands behind the end.
    world.ack(1, Stage::Acknowledged, 2);
    let all = world.all(&dead(), 10);
    let facts: Vec<_> = all.iter().map(|one| world.facts(one)).collect();
    assert_eq!(facts[0].attempts, 1);
    let fit = |filter: Filter| {
        let fit = facts.iter().filter(|facts| filter.fits(facts));
        fit.map(|facts| facts.candidate.id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(fit(dead()), [1, 2, 3]);
    let since = Some(before);
    assert_eq!(fit(Filter { since, ..dead() }), [2, 3]);
    let until = Some(before);
    assert_eq!(fit(Filter { until, ..dead() }), [1]);
    let code = Some(String::from("no-such-customer"));
    assert_eq!(fit(Filter { code, ..dead() }), [3]);
    let kind = TypeName::parse("document.insert").ok();
    assert_eq!(fit(Filter { kind, ..dead() }), [1, 2, 3]);
    let kind = TypeName::parse("document.remove").ok();
    assert_eq!(fit(Filter { kind, ..dead() }), []);
    let agent = Some(agent("oslo"));
    assert_eq!(fit(Filter { agent, ..dead() }), []);
    let states = vec![Wanted::Ended(End::Rejected)];
    assert_eq!(fit(Filter { states, ..dead() }), [3]);
}

#[test]
fn one_tenant_sees_and_touches_nothing_of_another() {
    let mut world = World::new();
    world.die([1]);
    let other = TenantName::parse("other").unwrap();
    let input = Input::List {
        tenant: other.clone(),
        filter: dead(),
        after: None,
        count: 10,
    };
    let Reply::Page(page) = world.input(input) else {
        panic!("a list is answered by a page");
    };
    assert_eq!(page.candidates, []);
    let foreign = Order {
        tenant: other.clone(),
        ..order(9, OperationKind::Replay, &[(1, 1)])
    };
    let view = world.begin(foreign).unwrap();
    assert_eq!(view.counts, [(Did::Unknown, 1)]);
    let theirs = world.input(Input::ListOperations { tenant: tenant() });
    assert_eq!(theirs, Reply::Operations(vec![]));
}

#[test]
fn more_operations_than_may_go_on_are_refused_and_old_results_make_room() {
    let mut world = World::new();
    world.die([1, 2]);
    for number in 0..limits::OPERATIONS_RUNNING_MAX as u8 {
        let mut slow = order(100 + number, OperationKind::Replay, &[(1, 1), (2, 1)]);
        slow.rate = 1;
        world.begin(slow).unwrap();
    }
    let refused = world.begin(order(9, OperationKind::Replay, &[(1, 1)]));
    let running = limits::OPERATIONS_RUNNING_MAX;
    assert_eq!(refused, Err(Refusal::TooManyOperations { running }));
    let mut many = order(9, OperationKind::Replay, &[]);
    let pairs = 0..=limits::OPERATION_PAIRS_MAX as u128;
    many.pairs = pairs.map(|id| (MessageId(id.to_le_bytes()), 1)).collect();
    let count = many.pairs.len();
    let too_large = Err(Refusal::OperationTooLarge { count });
    assert_eq!(world.begin(many), too_large);
}

#[test]
fn a_damaged_record_of_an_operation_ends_it_and_says_what_is_lost() {
    let mut world = World::new();
    world.die([1, 2]);
    world
        .begin(order(9, OperationKind::Replay, &[(1, 1), (2, 1)]))
        .unwrap();
    let selected = world.position_of(|record| matches!(record, Record::OperationSelected { .. }));
    world.sound = false;
    world.restart_with_damage(&[selected]);
    world.pass(Duration::from_secs(1));
    let view = world.operation(9);
    assert_eq!((view.lost, view.is_running()), (2, false));
}
