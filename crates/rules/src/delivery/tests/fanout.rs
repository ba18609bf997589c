//! Scenarios of sends to many: who is addressed, what each of them gets, when the whole is done.

use super::*;
use crate::message::{LabelName, LabelValue};

const NAMES: [&str; 3] = ["lyon", "metz", "nice"];

fn north() -> GroupName {
    GroupName::parse("north").unwrap()
}

/// A send to group north with this number for its id, its key and its content.
fn to_north(number: u8) -> FanOut {
    to(number, Audience::Group(north()))
}

fn to(number: u8, audience: Audience) -> FanOut {
    let message = message(number, "nobody").addressed_to(audience);
    FanOut {
        message: Submission {
            key: Some([number; 16]),
            ..message
        },
        quorum: None,
        deadline: None,
    }
}

fn label(name: &str) -> LabelName {
    LabelName::parse(name).unwrap()
}

fn value(text: &str) -> LabelValue {
    LabelValue::parse(text).unwrap()
}

fn wanting(pairs: &[(&str, &str)]) -> Audience {
    let pairs = pairs.iter();
    Audience::Labels(pairs.map(|(n, v)| (label(n), value(v))).collect())
}

impl World {
    /// Lyon, Metz and Nice, all members of group north.
    fn with_north() -> Self {
        Self::with_north_and(Policy::default())
    }

    fn with_north_and(policy: Policy) -> Self {
        let mut world = Self::with(policy);
        for name in NAMES {
            world.register(name);
            world.member(name, true).unwrap();
        }
        world
    }

    fn member(&mut self, name: &str, member: bool) -> Result<u64, Refusal> {
        match self.input(Input::ChangeMember {
            tenant: tenant(),
            group: north(),
            agent: agent(name),
            member,
            by: String::from("ops"),
        }) {
            Reply::GroupVersion(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn label(&mut self, name: &str, pairs: &[(&str, Option<&str>)]) -> Result<(), Refusal> {
        let changes = pairs.iter().map(|(n, v)| (label(n), v.map(value)));
        match self.input(Input::Label {
            tenant: tenant(),
            agent: agent(name),
            changes: changes.collect(),
            by: String::from("ops"),
        }) {
            Reply::Operated(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn fan_out(&mut self, fan_out: FanOut) -> Result<FanOutReceipt, Refusal> {
        match self.input(Input::FanOut(Box::new(fan_out))) {
            Reply::FannedOut(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn whole(&mut self, number: u8) -> Option<Box<FanOutView>> {
        self.some_of(number, 0, 1000, false)
    }

    fn some_of(
        &mut self,
        number: u8,
        from: u32,
        at_most: u32,
        missing: bool,
    ) -> Option<Box<FanOutView>> {
        let children = Children {
            from,
            at_most,
            missing,
        };
        match self.input(Input::LookFanOut {
            tenant: tenant(),
            id: id(number),
            children: Some(children),
        }) {
            Reply::FanOut(view) => view,
            other => panic!("{other:?}"),
        }
    }

    /// What `name` says of its message of a send.
    fn child_ack(&mut self, number: u8, name: &str, stage: Stage) {
        let view = self.whole(number).unwrap();
        let is_its = |child: &&ChildView| child.agent == agent(name);
        let child = view.children.iter().find(is_its).unwrap().id;
        let mut ack = self.ack_of(name, number, stage, 1);
        ack.item.message = child;
        self.acks(vec![ack]);
    }

    fn group(&mut self) -> Option<GroupView> {
        match self.input(Input::LookGroup {
            tenant: tenant(),
            group: north(),
        }) {
            Reply::Group(view) => view,
            other => panic!("{other:?}"),
        }
    }
}

fn names(agents: &[AgentName]) -> Vec<&str> {
    agents.iter().map(AgentName::as_str).collect()
}

#[test]
fn every_change_of_a_group_raises_its_version_and_what_changes_nothing_does_not() {
    let mut world = World::with_north();
    assert_eq!(world.member("metz", true), Ok(3));
    assert_eq!(world.member("metz", false), Ok(4));
    assert_eq!(world.member("metz", false), Ok(4));
    let view = world.group().unwrap();
    assert_eq!(
        (view.version, names(&view.members)),
        (4, vec!["lyon", "nice"])
    );
    for name in NAMES {
        world.member(name, false).unwrap();
    }
    world.restart();
    let view = world.group().unwrap();
    assert_eq!((view.version, view.members.len()), (6, 0), "it stays known");
    assert_eq!(world.member("lyon", true), Ok(7));
    let unknown = world.member("paris", true);
    assert!(matches!(unknown, Err(Refusal::UnknownRecipient { .. })));
}

#[test]
fn a_send_to_a_group_gives_each_member_a_message_of_its_own_in_one_batch() {
    let mut world = World::with_north();
    let connection = world.connect("metz");
    world.ready(connection);
    world.pushes();
    let records = world.records.len();
    let receipt = world.fan_out(to_north(9)).unwrap();
    assert_eq!(
        (receipt.version, names(&receipt.agents)),
        (3, NAMES.to_vec())
    );
    assert_eq!(receipt.position as usize, records + 1);
    let [push] = &world.pushes()[..] else {
        panic!("only Metz is there");
    };
    assert_eq!(
        (&push.to, push.accepted),
        (&agent("metz"), receipt.position)
    );
    let body = decode_accepted(&world.records[records]).unwrap();
    assert_eq!(body.data, b"9999999999", "the body stands once");
    let bytes: usize = world.records[records + 1..].iter().map(Vec::len).sum();
    assert!(bytes < 4 * 110, "{bytes} bytes for three rows and a push");
    let view = world.whole(9).unwrap();
    assert_eq!((view.addressed, view.waiting, view.pushed), (3, 2, 1));
    let ids: BTreeSet<_> = view.children.iter().map(|child| child.id).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.contains(&push.id) && !ids.contains(&id(9)));
    assert_eq!(world.counters().accepted, 3);
    assert!(world.view(9).is_none(), "the whole is no message");
}

#[test]
fn a_member_that_comes_later_gets_nothing_and_one_that_leaves_keeps_what_it_has() {
    let mut world = World::with_north();
    world.member("nice", false).unwrap();
    world.fan_out(to_north(1)).unwrap();
    world.member("nice", true).unwrap();
    world.member("lyon", false).unwrap();
    let connection = world.connect("nice");
    assert_eq!(world.ready(connection).waiting, 0);
    assert_eq!(world.online(), 2);
    assert_eq!(world.pushes().len(), 1);
    assert_eq!(world.whole(1).unwrap().addressed, 2);
}

#[test]
fn labels_and_everyone_are_addressed_as_they_are_when_it_is_accepted() {
    let mut world = World::with_north();
    world
        .label("lyon", &[("tier", Some("gold")), ("zone", Some("1"))])
        .unwrap();
    world.label("metz", &[("tier", Some("gold"))]).unwrap();
    world
        .label("metz", &[("zone", Some("1")), ("tier", None)])
        .unwrap();
    let receipt = world.fan_out(to(1, wanting(&[("zone", "1")]))).unwrap();
    assert_eq!(names(&receipt.agents), ["lyon", "metz"]);
    let both = to(2, wanting(&[("zone", "1"), ("tier", "gold")]));
    assert_eq!(names(&world.fan_out(both).unwrap().agents), ["lyon"]);
    let none = world.fan_out(to(3, wanting(&[("tier", "iron")])));
    assert_eq!(none, Err(Refusal::NobodyAddressed));
    let before = world.fan_out(to(4, Audience::All)).unwrap();
    assert_eq!(names(&before.agents), NAMES);
    world.register("oslo");
    let after = world.fan_out(to(5, Audience::All)).unwrap();
    assert_eq!((after.agents.len(), after.version), (4, before.version + 1));
    let many: Vec<_> = (0..17).map(|n| alloc::format!("l{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), Some("x"))).collect();
    let refused = world.label("oslo", &many);
    assert_eq!(refused, Err(Refusal::TooManyLabels { labels: 17 }));
}

#[test]
fn an_empty_or_unknown_group_is_refused_and_nothing_is_written() {
    let mut world = World::new();
    let unknown = world.fan_out(to_north(1));
    assert!(matches!(unknown, Err(Refusal::UnknownGroup { .. })));
    world.member("lyon", true).unwrap();
    world.member("lyon", false).unwrap();
    let records = world.records.len();
    assert_eq!(world.fan_out(to_north(1)), Err(Refusal::NobodyAddressed));
    assert_eq!(world.records.len(), records);
}

#[test]
fn a_key_covers_the_whole_and_is_remembered_over_a_restart() {
    let mut world = World::with_north();
    let first = world.fan_out(to_north(1)).unwrap();
    world.member("nice", false).unwrap();
    world.restart();
    let mut again = to_north(1);
    again.message.id = id(2);
    let repeated = world.fan_out(again.clone()).unwrap();
    assert!(repeated.repeated);
    assert_eq!((repeated.id, &repeated.agents), (first.id, &first.agents));
    again.message.fingerprint = [7; 16];
    assert_eq!(world.fan_out(again), Err(Refusal::KeyReused { id: id(1) }));
    let one = Submission {
        key: Some([1; 16]),
        ..message(3, "lyon")
    };
    assert_eq!(world.submit(one), Err(Refusal::KeyReused { id: id(1) }));
    let keyed = Submission {
        key: Some([4; 16]),
        ..message(4, "lyon")
    };
    world.submit(keyed).unwrap();
    let mut other = to_north(5);
    other.message.key = Some([4; 16]);
    assert_eq!(world.fan_out(other), Err(Refusal::KeyReused { id: id(4) }));
    let taken = world.submit(message(1, "lyon"));
    assert_eq!(taken, Err(Refusal::IdTaken { id: id(1) }));
}

#[test]
fn all_of_it_is_accepted_or_nothing() {
    let mut world = World::with_north_and(Policy {
        pending_max: 2,
        ..Policy::default()
    });
    assert_eq!(
        world.fan_out(to_north(1)),
        Err(Refusal::Full { pending: 0 })
    );
    assert_eq!(world.counters().accepted, 0);
    world.send([2, 3]);
}

#[test]
fn a_quorum_is_reached_once_and_stays_reached() {
    let mut world = World::with_north();
    world
        .fan_out(FanOut {
            quorum: Some(Quorum::Percent(60)),
            deadline: Some(NOON + Duration::from_secs(60)),
            ..to_north(1)
        })
        .unwrap();
    world.child_ack(1, "metz", Stage::Acknowledged);
    assert_eq!(
        world.whole(1).unwrap().verdict,
        None,
        "1 of 2 that are needed"
    );
    world.effects.clear();
    world.child_ack(1, "lyon", Stage::Acknowledged);
    let changed = |effect: &Effect| *effect == Effect::Changed { id: id(1) };
    assert!(world.effects.iter().any(changed), "whoever waits is told");
    let at = world.now;
    world.pass(Duration::from_secs(90));
    world.restart();
    let view = world.whole(1).unwrap();
    assert_eq!(view.verdict, Some(Verdict::Reached { at }));
    assert_eq!(
        (view.ends.processed, view.needed, view.missing),
        (2, Some(2), 1)
    );
}

#[test]
fn a_deadline_names_who_has_not_and_what_comes_later_changes_no_verdict() {
    let mut world = World::with_north();
    let deadline = NOON + Duration::from_secs(60);
    world
        .fan_out(FanOut {
            deadline: Some(deadline),
            ..to_north(1)
        })
        .unwrap();
    world.child_ack(1, "metz", Stage::Acknowledged);
    world.child_ack(1, "nice", Stage::Rejected);
    world.restart();
    assert_eq!(world.centre.next_deadline(), Some(deadline));
    world.pass(Duration::from_secs(60));
    world.child_ack(1, "lyon", Stage::Acknowledged);
    world.restart();
    let view = world.some_of(1, 0, 10, true).unwrap();
    assert!(matches!(view.verdict, Some(Verdict::Missed { .. })));
    let missing: Vec<_> = view
        .children
        .iter()
        .map(|child| child.agent.as_str())
        .collect();
    assert_eq!((missing, view.missing), (vec!["lyon", "nice"], 2));
    assert_eq!((view.ends.processed, view.ends.rejected), (2, 1));
}

#[test]
fn a_quorum_that_cannot_be_and_a_deadline_in_the_past_are_refused() {
    let mut world = World::with_north();
    let too_many = FanOut {
        quorum: Some(Quorum::Count(4)),
        ..to_north(1)
    };
    let refused = Refusal::QuorumTooLarge {
        wanted: 4,
        addressed: 3,
    };
    assert_eq!(world.fan_out(too_many), Err(refused));
    let too_late = FanOut {
        deadline: Some(NOON),
        ..to_north(1)
    };
    assert_eq!(world.fan_out(too_late), Err(Refusal::DeadlinePassed));
}

#[test]
fn another_life_of_one_counts_again_and_a_page_begins_where_it_is_asked_to() {
    let mut world = World::with_north();
    world.fan_out(to_north(1)).unwrap();
    world.child_ack(1, "metz", Stage::Rejected);
    let child = world.whole(1).unwrap().children[1].id;
    let again = world.input(Input::Reprocess {
        tenant: tenant(),
        id: child,
        may_process_twice: false,
        by: String::from("ops"),
    });
    assert_eq!(again, Reply::Operated(Ok(())));
    let view = world.some_of(1, 1, 1, false).unwrap();
    assert_eq!((view.ends.rejected, view.waiting), (0, 3));
    let shown: Vec<_> = view
        .children
        .iter()
        .map(|c| (c.index, c.agent.as_str()))
        .collect();
    assert_eq!(shown, [(1, "metz")]);
    let whole = world.input(Input::Cancel {
        tenant: tenant(),
        id: id(1),
        by: String::from("ops"),
    });
    assert_eq!(whole, Reply::Operated(Err(Refusal::IsFanOut { id: id(1) })));
}

#[test]
fn it_is_forgotten_with_its_key_when_its_retention_is_over_and_not_before_all_have_ended() {
    let retention = Duration::from_secs(600);
    let mut world = World::with_north_and(Policy {
        retention,
        ..Policy::default()
    });
    world.fan_out(to_north(1)).unwrap();
    for name in ["metz", "lyon"] {
        world.child_ack(1, name, Stage::Acknowledged);
    }
    let until_over = |world: &mut World| (0..40).for_each(|_| world.pass(retention / 32));
    until_over(&mut world);
    assert!(world.whole(1).is_some(), "one has not ended");
    world.child_ack(1, "nice", Stage::Acknowledged);
    until_over(&mut world);
    assert!(world.whole(1).is_none());
    let again = world.fan_out(to_north(1)).unwrap();
    assert!(!again.repeated);
}

#[test]
fn what_went_to_the_archive_counts_on_and_is_shown() {
    let mut world = World::with_north_and(Policy {
        remembered_max: 0,
        archive_batch: 1,
        ..Policy::default()
    });
    world
        .fan_out(FanOut {
            quorum: Some(Quorum::Percent(100)),
            ..to_north(1)
        })
        .unwrap();
    for name in NAMES {
        world.child_ack(1, name, Stage::Acknowledged);
    }
    world.restart();
    let view = world.whole(1).unwrap();
    assert!(matches!(view.verdict, Some(Verdict::Reached { .. })));
    let done = Some(Place::Ended(End::Processed));
    assert!(
        view.children.iter().all(|child| child.place == done),
        "{view:?}"
    );
}

#[test]
fn rows_survive_the_record_of_their_send_and_end_dead_when_its_body_is_gone() {
    let mut world = World::with_north();
    let receipt = world.fan_out(to_north(1)).unwrap();
    world.restart_with_damage(&[receipt.position]);
    assert!(world.whole(1).is_none());
    assert_eq!(world.counters().pending, 3, "they are not lost in silence");
    let later = world.fan_out(to_north(2)).unwrap();
    assert_eq!(later.agents.len(), 3);
    assert_eq!(
        world.whole(2).unwrap().waiting,
        3,
        "it has a number of its own"
    );
}

#[test]
fn one_for_later_is_pushed_when_it_is_due_and_one_that_is_copied_forward_takes_its_body_along() {
    let mut world = World::with_north();
    world.online();
    let mut later = to_north(1);
    later.message.not_before = Some(NOON + Duration::from_secs(5));
    let receipt = world.fan_out(later).unwrap();
    assert_eq!(world.pushes(), []);
    let child = world.whole(1).unwrap().children[0].id;
    let record = world.records[receipt.position as usize - 1].clone();
    world.input(Input::Carry {
        id: child,
        accepted: Bytes::from(record),
    });
    let copied = world.records.len() as Position;
    world.pass(Duration::from_secs(5));
    let [push] = &world.pushes()[..] else {
        panic!("Lyon is there");
    };
    assert_eq!((push.id, push.accepted), (child, copied));
    let accepted = decode_accepted(&world.records[copied as usize - 1]).unwrap();
    assert_eq!(accepted.data, b"1111111111");
}

#[test]
fn as_many_as_may_be_addressed_share_one_body_and_one_more_is_refused() {
    let many = limits::RECIPIENTS_PER_SEND_MAX;
    let mut world = World::new();
    for number in 1..many {
        world.register(&alloc::format!("site-{number}"));
    }
    let image_bytes = |world: &World| {
        let mut image = vec![];
        world.centre.save(&mut image);
        image.len()
    };
    let (records, before) = (world.records.len(), image_bytes(&world));
    let mut fan_out = to(1, Audience::All);
    fan_out.message.data = Bytes::from(vec![b'1'; 100_000]);
    assert_eq!(world.fan_out(fan_out).unwrap().agents.len(), many);
    let written: usize = world.records[records..].iter().map(Vec::len).sum();
    assert!(written < 100_500 + many * 100, "{written} bytes of records");
    let grown = image_bytes(&world) - before;
    assert!(grown < many * 128, "the image grew by {grown} bytes");
    world.register("one-more");
    let refused = world.fan_out(to(2, Audience::All));
    assert_eq!(refused, Err(Refusal::TooManyAddressed));
}
