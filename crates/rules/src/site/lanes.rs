//! The lanes of a site: which message of each may be worked on next, and when.
//!
//! Promise: of one lane one message is worked on at a time; none overtakes another, but for those
//! that wait to be tried again and let others pass; in a parked lane nothing is worked on but the
//! message that had parked it, in a later life.

use super::state::Item;
use crate::hash::Map;
use crate::machine::Position;
use crate::message::{LaneName, MessageId};
use crate::time::{Duration, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use serde::{Deserialize, Serialize};

/// A message in one of its lives.
pub(super) type Key = (MessageId, u32);

/// Every message, for what of it decides when it is worked on.
pub(super) type Items = Map<Key, Item>;

/// All lanes with something unfinished, and the parked ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lanes {
    lanes: BTreeMap<LaneName, Lane>,
    /// What has parked a lane.
    parked: BTreeMap<LaneName, Key>,
    /// Lanes whose first message may run, in order of its arrival.
    runnable: BTreeMap<Position, LaneName>,
    /// Lanes that have a message waiting for an instant, by the first of those instants.
    delayed: BTreeSet<(Timestamp, LaneName)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lane {
    /// In the order in which they are worked on. The one that is running is the first.
    queue: VecDeque<Key>,
    /// Those that wait to be tried again and let the others pass, by their instants.
    aside: BTreeSet<(Timestamp, Key)>,
    /// Those put aside since another message of the lane began: nothing has passed them yet.
    not_passed: BTreeSet<Key>,
    running: Option<Key>,
    /// Its entry among the runnable ones.
    runnable: Option<Position>,
    /// Its entry among the delayed ones.
    delayed: Option<Timestamp>,
}

/// A lane that is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedLane {
    /// Its name.
    pub lane: LaneName,
    /// The message whose end parked it.
    pub by: MessageId,
    /// Which life of it.
    pub generation: u32,
    /// Messages that wait in it.
    pub held: u64,
}

impl Lanes {
    /// Puts a message at the end of its lane; in a lane that an earlier life of it has parked, at
    /// the front.
    pub(super) fn take_in(&mut self, name: &LaneName, key: Key, items: &Items) {
        let goes_first = self.is_another_try(name, &key);
        let lane = self.lanes.entry(name.clone()).or_default();
        match goes_first {
            true => lane.queue.insert(usize::from(lane.running.is_some()), key),
            false => lane.queue.push_back(key),
        }
        self.schedule(name, items);
    }

    fn is_another_try(&self, name: &LaneName, (id, generation): &Key) -> bool {
        let parked = self.parked.get(name);
        parked.is_some_and(|(by, life)| by == id && generation > life)
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, name: &LaneName, key: Key, items: &Items) {
        let lane = self.lanes.entry(name.clone()).or_default();
        // It is the first already, or stands aside; elsewhere in the queue only after damage.
        if !lane.queue.contains(&key) {
            lane.remove(&key);
            lane.queue.push_front(key);
        }
        lane.running = Some(key);
        self.schedule(name, items);
    }

    /// An attempt ended without an end of the message, which stays the first of its lane.
    pub(super) fn wait(&mut self, name: &LaneName, items: &Items) {
        self.stop_running(name);
        self.schedule(name, items);
    }

    /// As [`Lanes::wait`], and the others may pass it.
    pub(super) fn wait_aside(&mut self, name: &LaneName, key: Key, at: Timestamp, items: &Items) {
        self.stop_running(name);
        let lane = self.lanes.entry(name.clone()).or_default();
        lane.remove(&key);
        lane.aside.insert((at, key));
        lane.not_passed.insert(key);
        self.schedule(name, items);
    }

    /// A message has ended.
    pub(super) fn leave(&mut self, name: &LaneName, key: &Key, items: &Items) {
        if let Some(lane) = self.lanes.get_mut(name) {
            if lane.running == Some(*key) {
                lane.running = None;
            }
            lane.remove(key);
        }
        self.schedule(name, items);
    }

    /// Those were passed.
    pub(super) fn passed(&mut self, name: &LaneName) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.not_passed.clear();
        }
    }

    /// The process that ran attempts has ended.
    pub(super) fn stop_all(&mut self, items: &Items) {
        for lane in self.lanes.values_mut() {
            lane.running = None;
        }
        let names: alloc::vec::Vec<_> = self.lanes.keys().cloned().collect();
        for name in names {
            self.schedule(&name, items);
        }
    }

    /// The end of a message parks its lane.
    pub(super) fn park(&mut self, name: &LaneName, by: Key, items: &Items) {
        self.parked.insert(name.clone(), by);
        self.schedule(name, items);
    }

    /// The lane goes on, if this message, or an earlier life of it, has parked it.
    pub(super) fn resume(&mut self, name: &LaneName, (id, generation): Key, items: &Items) {
        let parked = self.parked.get(name);
        if parked.is_some_and(|(by, life)| *by == id && *life <= generation) {
            self.parked.remove(name);
            self.schedule(name, items);
        }
    }

    /// A copy of a message's record stands elsewhere now.
    pub(super) fn moved(&mut self, name: &LaneName, items: &Items) {
        self.schedule(name, items);
    }

    fn stop_running(&mut self, name: &LaneName) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.running = None;
        }
    }

    /// Puts a lane where it belongs among those that may run.
    fn schedule(&mut self, name: &LaneName, items: &Items) {
        let Some(lane) = self.lanes.get(name) else {
            return;
        };
        let is_free = lane.running.is_none();
        let is_parked = self.parked.contains_key(name);
        let first = lane
            .queue
            .front()
            .filter(|key| is_free && (!is_parked || self.is_another_try(name, key)));
        let first = first.and_then(|key| items.get(key));
        let runnable = first.filter(|item| item.not_before.is_none());
        let runnable = runnable.map(|item| item.inboxed);
        let aside = lane.aside.first().filter(|_| is_free && !is_parked);
        let instants = [
            first.and_then(|item| item.not_before),
            aside.map(|(at, _)| *at),
        ];
        let delayed = instants.into_iter().flatten().min();
        let is_empty = lane.queue.is_empty() && lane.aside.is_empty();
        let lane = self.lanes.get_mut(name).expect("it was found");
        if lane.runnable != runnable {
            if let Some(before) = core::mem::replace(&mut lane.runnable, runnable) {
                self.runnable.remove(&before);
            }
            if let Some(at) = runnable {
                self.runnable.insert(at, name.clone());
            }
        }
        if lane.delayed != delayed {
            if let Some(before) = core::mem::replace(&mut lane.delayed, delayed) {
                self.delayed.remove(&(before, name.clone()));
            }
            if let Some(at) = delayed {
                self.delayed.insert((at, name.clone()));
            }
        }
        if is_empty {
            self.lanes.remove(name);
        }
    }
}

/// Questions.
impl Lanes {
    /// The message to work on at `now`: what waited for an instant first, then by arrival.
    ///
    /// One that would wait longer than `wait_max` got its instant before the clock was set back, and
    /// waits no longer (I21).
    pub(super) fn next(&self, now: Timestamp, wait_max: Duration, items: &Items) -> Option<Key> {
        let due = self.delayed.first().filter(|(at, _)| *at <= now);
        let too_far = || {
            let last = self.delayed.last();
            last.filter(|(at, _)| *at > now + wait_max)
        };
        if let Some((at, name)) = due.or_else(too_far) {
            let lane = self.lanes.get(name)?;
            let is_parked = self.parked.contains_key(name);
            // One whose attempt was cut short goes on before those that let it pass.
            let first = lane.queue.front().and_then(|key| items.get(key));
            let is_cut = first.is_some_and(Item::was_cut_short);
            let aside = lane.aside.first();
            let aside = aside.filter(|(instant, _)| instant == at && !is_parked && !is_cut);
            return aside
                .map(|(_, key)| key)
                .or_else(|| lane.queue.front())
                .copied();
        }
        let (_, name) = self.runnable.first_key_value()?;
        self.lanes.get(name)?.queue.front().copied()
    }

    /// When the next message may be worked on; the beginning of time when one may now.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        match self.runnable.is_empty() {
            false => Some(Timestamp(i64::MIN)),
            true => self.delayed.first().map(|(at, _)| *at),
        }
    }

    /// Those that this message passes for the first time since they failed.
    pub(super) fn passes(&self, name: &LaneName, key: &Key) -> impl Iterator<Item = Key> {
        let lane = self.lanes.get(name);
        let others = lane.into_iter().flat_map(|lane| &lane.not_passed);
        others.filter(move |other| *other != key).copied()
    }

    /// Every message that waits or runs.
    pub(super) fn each(&self) -> impl Iterator<Item = Key> {
        let lanes = self.lanes.values();
        lanes.flat_map(|lane| {
            let aside = lane.aside.iter().map(|(_, key)| *key);
            lane.queue.iter().copied().chain(aside)
        })
    }

    /// The parked lanes, in the order of their names.
    pub(super) fn parked(&self) -> impl Iterator<Item = ParkedLane> {
        self.parked
            .iter()
            .map(|(lane, (by, generation))| ParkedLane {
                lane: lane.clone(),
                by: *by,
                generation: *generation,
                held: self.lanes.get(lane).map_or(0, Lane::len),
            })
    }

    /// The lane that this message has parked, in this life of it or in an earlier one.
    pub(super) fn parked_by(&self, (id, generation): Key) -> Option<&LaneName> {
        let mut parked = self.parked.iter();
        let parked = parked.find(|(_, (by, life))| *by == id && *life <= generation);
        parked.map(|(name, _)| name)
    }
}

impl Lane {
    fn remove(&mut self, key: &Key) {
        // It is the first, except after damage: the search ends at once.
        if let Some(place) = self.queue.iter().position(|other| other == key) {
            self.queue.remove(place);
        } else if let Some(entry) = self.aside.iter().find(|(_, other)| other == key).copied() {
            self.aside.remove(&entry);
        }
        self.not_passed.remove(key);
    }

    fn len(&self) -> u64 {
        (self.queue.len() + self.aside.len()) as u64
    }
}
