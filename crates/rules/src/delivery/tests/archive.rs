//! What has ended long ago is kept outside the memory, and known all the same.

use super::*;
use alloc::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// An archive in memory that outlives the centre, and can lose what it holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) batches: BTreeMap<u64, (BatchName, Vec<Remembered>)>,
    pub(super) is_unreadable: bool,
    /// Batches up to here outlive the process.
    pub(super) released: u64,
    /// Batches below this may go, and go with the process.
    forgotten_below: u64,
}

impl Shared {
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    /// The process ends: what was not released is gone.
    pub(super) fn crash(&self) {
        let mut kept = self.kept();
        let stay = kept.forgotten_below..=kept.released;
        kept.batches.retain(|number, _| stay.contains(number));
        kept.released = 0;
    }

    fn newest(
        &self,
        is: impl Fn(&Remembered) -> bool,
    ) -> Result<Option<(u64, Remembered)>, Unreadable> {
        let kept = self.kept();
        if kept.is_unreadable {
            return Err(Unreadable(String::from("planted")));
        }
        let mut batches = kept.batches.iter().rev();
        Ok(batches.find_map(|(number, (_, messages))| {
            let found = messages.iter().find(|message| is(message))?;
            Some((*number, *found))
        }))
    }
}

impl Archive for Shared {
    fn has_room(&self) -> bool {
        true
    }

    fn put(&mut self, name: BatchName, messages: &[Remembered]) {
        let batch = (name, messages.to_vec());
        self.kept().batches.insert(name.number, batch);
    }

    fn release(&mut self, through: u64) {
        let mut kept = self.kept();
        kept.released = kept.released.max(through);
    }

    fn forget(&mut self, below: u64) {
        self.kept().forgotten_below = below;
    }

    fn find(&self, id: MessageId) -> Result<Option<(u64, Remembered)>, Unreadable> {
        self.newest(|message| message.id == id)
    }

    fn find_key(&self, key: &[u8; 16]) -> Result<Option<(u64, Remembered)>, Unreadable> {
        self.newest(|message| message.key == *key)
    }

    fn page(
        &self,
        after: Option<MessageId>,
        failures_alone: bool,
        count: usize,
    ) -> Result<ArchivePage, Unreadable> {
        let kept = self.kept();
        if kept.is_unreadable {
            return Err(Unreadable(String::from("planted")));
        }
        let mut newest = BTreeMap::new();
        for (number, (_, messages)) in &kept.batches {
            newest.extend(
                messages
                    .iter()
                    .map(|message| (message.id, (*number, *message))),
            );
        }
        let behind = newest.into_iter().filter(|(id, _)| Some(*id) > after);
        let fit = behind.filter(|(_, (_, message))| !failures_alone || message.is_failure());
        let rows: Vec<_> = fit.map(|(_, row)| row).take(count).collect();
        let last = rows.last().map(|(_, last)| last.id);
        let through = last.filter(|_| rows.len() == count);
        Ok(ArchivePage { rows, through })
    }

    fn keep_only(&mut self, wanted: &[BatchName]) -> Result<Vec<u64>, Unreadable> {
        let batches = &mut self.kept().batches;
        if !batches.values().all(|(name, _)| wanted.contains(name)) {
            batches.clear();
        }
        let lacks = |name: &&BatchName| !batches.contains_key(&name.number);
        Ok(wanted
            .iter()
            .filter(lacks)
            .map(|name| name.number)
            .collect())
    }
}

/// Keeps one ended message in memory and archives two at a time.
fn small() -> Policy {
    Policy {
        remembered_max: 1,
        archive_batch: 2,
        ..Policy::default()
    }
}

fn keyed(number: u8) -> Submission {
    Submission {
        key: Some([number; 16]),
        ..message(number, "lyon")
    }
}

impl World {
    /// Sends these with a key of their own each, and lets them be done.
    fn done(&mut self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            self.submit(keyed(number)).unwrap();
            self.ack(number, Stage::Acknowledged, 1);
        }
    }

    /// Time that is watched, and so makes what has ended age.
    fn pass_hours(&mut self, hours: u32) {
        for _ in 0..6 * hours {
            self.pass(Duration::from_secs(600));
        }
    }

    fn archived(&self) -> usize {
        let kept = self.archive.kept();
        kept.batches.values().map(|(_, batch)| batch.len()).sum()
    }

    fn in_memory(&self, number: u8) -> bool {
        self.centre.state().message(id(number)).is_some()
    }
}

#[test]
fn what_ended_longest_ago_leaves_the_memory_and_is_known() {
    let mut world = World::with(small());
    world.online();
    world.done(1..=7);
    assert_eq!(world.archived(), 6);
    assert!(!world.in_memory(1) && world.in_memory(7));
    for number in 1..=7 {
        assert_eq!(world.place(number), Some(Place::Ended(End::Processed)));
    }
    assert_eq!(world.counters().processed, 7);
}

#[test]
fn a_key_in_the_archive_gives_its_receipt_or_a_refusal() {
    let mut world = World::with(small());
    world.online();
    let first = world.submit(keyed(1)).unwrap();
    world.ack(1, Stage::Acknowledged, 1);
    world.done(2..=5);
    assert!(!world.in_memory(1));

    let again = Submission {
        id: id(99),
        ..keyed(1)
    };
    let repeated = world.submit(again.clone()).unwrap();
    assert_eq!((repeated.id, repeated.repeated), (first.id, true));
    assert_eq!(
        (repeated.seq, repeated.position),
        (first.seq, first.position)
    );

    let other = Submission {
        fingerprint: [77; 16],
        ..again
    };
    assert_eq!(world.submit(other), Err(Refusal::KeyReused { id: id(1) }));
    assert_eq!(
        world.submit(message(1, "lyon")),
        Err(Refusal::IdTaken { id: id(1) })
    );
}

#[test]
fn a_late_word_brings_a_message_back_from_the_archive() {
    let mut world = World::with(small());
    world.online();
    world.done(1..=5);
    let last = world.view(1).unwrap().last;
    world.ack(1, Stage::Rejected, 1);
    assert_eq!(world.kept(), [Why::Conflict]);
    assert!(world.in_memory(1));
    assert!(world.view(1).unwrap().last > last);
    // It goes there again with what is new.
    world.done(6..=9);
    assert!(!world.in_memory(1));
    assert!(world.view(1).unwrap().last > last);
    // The same word again is known and changes nothing.
    world.ack(1, Stage::Acknowledged, 1);
    assert!(!world.in_memory(1));
}

#[test]
fn a_message_in_the_archive_can_be_done_once_more() {
    let mut world = World::with(small());
    world.online();
    world.done(1..=5);
    world.pushed();
    let reply = world.input(Input::Reprocess {
        tenant: tenant(),
        id: id(1),
        may_process_twice: false,
        by: String::from("ops"),
    });
    assert_eq!(reply, Reply::Operated(Ok(())));
    assert_eq!(world.pushed(), [(1, 1)]);
    assert_eq!(world.view(1).unwrap().generation, 2);
    let late = world.input(Input::Cancel {
        tenant: tenant(),
        id: id(2),
        by: String::from("ops"),
    });
    assert!(matches!(
        late,
        Reply::Operated(Err(Refusal::TooLate { .. }))
    ));
    assert!(!world.in_memory(2), "a refusal brings nothing back");
}

#[test]
fn a_lost_archive_is_built_again_from_the_records() {
    let mut world = World::with(small());
    world.online();
    world.done(1..=9);
    let before = world.archive.kept().batches.clone();
    world.archive.kept().batches.clear();
    world.restart();
    assert_eq!(world.archive.kept().batches, before);
    assert_eq!(
        world.archive.kept().released,
        4,
        "their records are durable"
    );
    // One batch alone, and one of another history in its place.
    let mut foreign = before[&1].clone();
    foreign.0.digest += 1;
    foreign.1.clear();
    world.archive.kept().batches.insert(1, foreign);
    let mut image = vec![];
    world.centre.save(&mut image);
    world.centre = Centre::with_archive(small(), world.archive.clone());
    world.centre.load(&image).unwrap();
    world.supply();
    assert_eq!(world.archive.kept().batches, before);
}

#[test]
fn an_archive_ahead_of_its_records_is_set_back() {
    let mut world = World::with(small());
    world.online();
    world.done(1..=3);
    let ahead = vec![Remembered {
        id: id(99),
        key: [99; 16],
        ..world.archive.kept().batches[&1].1[0]
    }];
    let name = batch_name(2, &ahead);
    world.archive.kept().batches.insert(2, (name, ahead));
    world.restart();
    // What that other history knew is not known: its sender would wait for ever.
    assert!(!world.submit(keyed(99)).unwrap().repeated);
}

#[test]
fn retention_ends_in_the_archive_too() {
    let mut world = World::with(small());
    world.online();
    world.done(1..=5);
    assert_eq!(world.archived(), 4);
    world.pass_hours(7 * 24 + 1);
    assert_eq!(world.counters().aged_out, 5);
    assert_eq!(world.archived(), 4, "the archive takes its time");
    assert_eq!(world.view(1), None);
    assert!(!world.submit(keyed(1)).unwrap().repeated);
    world.restart();
    assert_eq!(world.archived(), 0);
}

#[test]
fn what_a_lazy_archive_still_holds_of_aged_batches_is_not_known() {
    let mut world = World::with(small());
    world.online();
    world.done(1..=3);
    world.pass_hours(24);
    world.done(4..=5);
    world.pass_hours(6 * 24 + 12);
    assert_eq!((world.archived(), world.counters().aged_out), (4, 2));
    assert_eq!(world.view(1), None);
    assert!(world.view(4).is_some());
    assert!(!world.submit(keyed(2)).unwrap().repeated);
}

#[test]
fn what_was_recalled_ages_once() {
    let mut world = World::with(small());
    world.online();
    world.done(1..=3);
    world.ack(1, Stage::Rejected, 1);
    world.pass_hours(7 * 24 + 1);
    assert_eq!(world.counters().aged_out, 3);
    assert_eq!(world.centre.state().remembered, 0);
}

#[test]
fn what_was_recalled_does_not_age_before_its_batch() {
    let mut world = World::with(Policy {
        remembered_max: 0,
        ..small()
    });
    world.online();
    world.done([1]);
    world.pass_hours(24);
    world.done([2]);
    world.ack(1, Stage::Rejected, 1);
    let last = world.view(1).unwrap().last;
    world.pass_hours(6 * 24 + 12);
    // Its own time is over, and that of its batch is not: what is known is the newer of the two.
    assert_eq!(world.view(1).unwrap().last, last);
    world.pass_hours(24);
    assert_eq!(world.view(1), None);
    assert_eq!(world.counters().aged_out, 2);
}

#[test]
fn records_of_archived_messages_are_kept_for_their_timelines() {
    let mut world = World::with(small());
    world.online();
    // Needed positions are known to within 32, so there are more records between.
    let others = |world: &mut World, from: u32| {
        (from..from + 100).for_each(|number| world.register(&alloc::format!("site-{number}")));
    };
    others(&mut world, 0);
    world.done([1]);
    others(&mut world, 100);
    world.done([2, 3]);
    assert_eq!(world.archived(), 2);
    let first = world
        .position_of(|record| matches!(record, Record::Accepted(accepted) if accepted.id == id(1)));
    let needed = world.centre.oldest_needed();
    assert!(
        needed <= first && first - needed < 32,
        "{needed} for {first}"
    );
}

#[test]
fn an_unreadable_archive_stops_the_centre_rather_than_forget() {
    let mut world = World::with(small());
    world.online();
    world.done(1..=5);
    world.archive.kept().is_unreadable = true;
    let step = |world: &mut World, message| {
        let input = Input::Submit(Box::new(message));
        world.centre.step(input, world.now, &mut world.out);
    };
    step(&mut world, keyed(6));
    assert!(world.out.failure().is_some());
    world.sound = false;
}
