//! The site's state, and what each record does to it.

use super::record::{Record, Worked};
use super::{Counters, Standing};
use crate::ack::Stage;
use crate::hash::Map;
use crate::machine::Position;
use crate::message::{LaneName, MessageId};
use crate::record::RecordError;
use crate::time::{Duration, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

type Key = (MessageId, u32);

/// Everything a site knows. Derived from records alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    epoch: u64,
    store_epoch: u64,
    centre_epoch: u64,
    floor: u64,
    cursor: u64,
    /// Numbers that arrived above the cursor.
    above_cursor: BTreeSet<u64>,
    messages: Map<Key, Item>,
    /// Ended and told messages by number: what a higher floor lets go.
    told: BTreeMap<u64, Vec<Key>>,
    lanes: BTreeMap<LaneName, VecDeque<Key>>,
    /// Heads of lanes that may run, in order of arrival.
    runnable: BTreeMap<Position, LaneName>,
    /// Heads of lanes that wait for an instant.
    delayed: BTreeSet<(Timestamp, LaneName)>,
    /// What is owed, by the position of the record that made it so: a number that stays the same
    /// when a record before it is damaged.
    owed: BTreeMap<Position, Owed>,
    /// Damaged records that were reckoned with.
    damaged: BTreeSet<Position>,
    counters: Counters,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    inboxed: Position,
    seq: u64,
    /// Number of the push that brought it last.
    push: u32,
    attempt: u32,
    attempts_max: Option<u32>,
    lane: LaneName,
    phase: Phase,
    /// Its entry among the delayed.
    not_before: Option<Timestamp>,
    /// A crash cut an attempt short.
    interrupted: bool,
    /// Acknowledgements of it that are owed.
    owed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Waiting,
    Running,
    /// Ended; its [`Record::Worked`] stands there.
    Ended(Stage, Position),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owed {
    id: MessageId,
    generation: u32,
    stage: OwedStage,
}

/// What an owed acknowledgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OwedStage {
    /// It is on disk here since this instant.
    Stored(Timestamp),
    /// It ended; how, stands in the [`Record::Worked`] at this position.
    Ended(Stage, Position),
}

/// One acknowledgement owed to the centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckOwed {
    /// Its number, for [`super::Input::Posted`].
    pub number: Position,
    /// The message.
    pub id: MessageId,
    /// Which life of it.
    pub generation: u32,
    /// For a receipt, the push that brought it; else the attempt that ended it.
    pub attempt: u32,
    /// What it says.
    pub stage: OwedStage,
}

/// The next message to work on.
#[derive(Clone, Debug)]
pub(super) struct NextWork {
    pub(super) id: MessageId,
    pub(super) generation: u32,
    pub(super) attempt: u32,
    pub(super) attempts_max: Option<u32>,
    pub(super) inboxed: Position,
    pub(super) interrupted: bool,
}

const UNKNOWN: RecordError = RecordError::Inconsistent("it names a message that never arrived");

impl State {
    pub(super) fn apply(
        &mut self,
        position: Position,
        record: &Record<'_>,
    ) -> Result<(), RecordError> {
        match record {
            Record::Started { epoch, .. } => self.start(*epoch),
            Record::Inboxed {
                at,
                id,
                generation,
                seq,
                attempt,
                lane,
                attempts_max,
                ..
            } => {
                let item = Item {
                    inboxed: position,
                    seq: *seq,
                    push: *attempt,
                    attempt: 0,
                    attempts_max: *attempts_max,
                    lane: lane.clone(),
                    phase: Phase::Waiting,
                    not_before: None,
                    // The record of an earlier arrival, and of work on it, may be a damaged one.
                    interrupted: *attempt > 1 && !self.damaged.is_empty(),
                    owed: 0,
                };
                self.take_in(position, (*id, *generation), item, *at);
            }
            Record::Repeated {
                at,
                id,
                generation,
                attempt,
            } => {
                let item = self.messages.get_mut(&(*id, *generation)).ok_or(UNKNOWN)?;
                item.push = *attempt;
                let stage = match item.phase {
                    Phase::Ended(stage, worked) => OwedStage::Ended(stage, worked),
                    Phase::Waiting | Phase::Running => OwedStage::Stored(*at),
                };
                self.counters.repeated += 1;
                self.owe(position, (*id, *generation), stage);
            }
            Record::WorkStarted {
                id,
                generation,
                attempt,
                ..
            } => {
                let key = (*id, *generation);
                self.unschedule(&key);
                let item = self.messages.get_mut(&key).ok_or(UNKNOWN)?;
                if item.phase != Phase::Running {
                    self.counters.running += 1;
                }
                item.phase = Phase::Running;
                item.attempt = *attempt;
            }
            Record::Worked {
                id,
                generation,
                worked,
                ..
            } => {
                self.work_ended(position, (*id, *generation), worked)?;
            }
            Record::Posted { numbers, .. } => numbers.iter().for_each(|number| self.told(*number)),
            Record::Floor {
                centre_epoch,
                oldest_replayable,
                ..
            } => {
                self.raise_floor(*centre_epoch, *oldest_replayable);
            }
            Record::Marked { .. } => {}
            Record::Damaged { damaged, .. } => {
                self.damaged.extend(damaged);
                self.epoch += 1;
            }
            Record::Carried { id, generation, .. } => {
                let item = self.messages.get_mut(&(*id, *generation)).ok_or(UNKNOWN)?;
                let before = core::mem::replace(&mut item.inboxed, position);
                let lane = item.lane.clone();
                if let Some(lane) = self.runnable.remove(&before) {
                    self.runnable.insert(position, lane);
                }
                debug_assert!(
                    self.lanes.contains_key(&lane),
                    "a waiting message stands in its lane"
                );
            }
        }
        Ok(())
    }

    /// What was running was cut short: it waits again, with the attempt counted.
    fn start(&mut self, epoch: u64) {
        if self.store_epoch != epoch {
            // After damage the site is in a later life than its store.
            self.epoch = epoch.max(self.epoch + 1);
            self.store_epoch = epoch;
        }
        self.counters.running = 0;
        let heads: Vec<Key> = self
            .lanes
            .values()
            .filter_map(|lane| lane.front().copied())
            .collect();
        for item in heads.iter().chain(self.lanes.values().flatten()) {
            let Some(item) = self.messages.get_mut(item) else {
                continue;
            };
            if item.phase == Phase::Running {
                item.phase = Phase::Waiting;
                item.interrupted = true;
            }
        }
        for key in heads {
            self.schedule(&key);
        }
    }

    fn take_in(&mut self, position: Position, key: Key, item: Item, at: Timestamp) {
        self.advance_cursor(item.seq);
        let lane = self.lanes.entry(item.lane.clone()).or_default();
        lane.push_back(key);
        if lane.len() == 1 {
            self.runnable.insert(item.inboxed, item.lane.clone());
        }
        self.messages.insert(key, item);
        self.counters.arrived += 1;
        self.counters.waiting += 1;
        self.owe(position, key, OwedStage::Stored(at));
    }

    fn advance_cursor(&mut self, seq: u64) {
        if seq <= self.cursor {
            return;
        }
        self.above_cursor.insert(seq);
        while self.above_cursor.first() == Some(&(self.cursor + 1)) {
            self.above_cursor.pop_first();
            self.cursor += 1;
        }
    }

    fn owe(&mut self, position: Position, key: Key, stage: OwedStage) {
        let (id, generation) = key;
        let owed = Owed {
            id,
            generation,
            stage,
        };
        self.owed.insert(position, owed);
        if let Some(item) = self.messages.get_mut(&key) {
            item.owed += 1;
        }
    }

    /// The head of a lane waits for a worker, or for its instant.
    fn schedule(&mut self, key: &Key) {
        let Some(item) = self.messages.get(key) else {
            return;
        };
        if item.phase != Phase::Waiting {
            return;
        }
        match item.not_before {
            Some(at) => {
                self.delayed.insert((at, item.lane.clone()));
            }
            None => {
                self.runnable.insert(item.inboxed, item.lane.clone());
            }
        }
    }

    /// The message waits no longer.
    fn unschedule(&mut self, key: &Key) {
        let Some(item) = self.messages.get_mut(key) else {
            return;
        };
        self.runnable.remove(&item.inboxed);
        if let Some(at) = item.not_before.take() {
            self.delayed.remove(&(at, item.lane.clone()));
        }
    }

    fn work_ended(
        &mut self,
        position: Position,
        key: Key,
        worked: &Worked,
    ) -> Result<(), RecordError> {
        self.unschedule(&key);
        let item = self.messages.get_mut(&key).ok_or(UNKNOWN)?;
        match item.phase {
            Phase::Running => self.counters.running -= 1,
            // After damage only: the record that it was running is lost, or it was pushed again.
            Phase::Waiting => {}
            Phase::Ended(..) => return Ok(()),
        }
        let lane = item.lane.clone();
        let Some(stage) = worked.stage() else {
            item.phase = Phase::Waiting;
            if let Worked::Again { not_before, .. } = worked {
                item.not_before = Some(*not_before);
            }
            if self.is_head(&lane, &key) {
                self.schedule(&key);
            }
            return Ok(());
        };
        item.phase = Phase::Ended(stage, position);
        self.leave_lane(&lane, &key);
        self.counters.waiting -= 1;
        match stage {
            Stage::Acknowledged | Stage::Stored => self.counters.done += 1,
            Stage::Rejected => self.counters.rejected += 1,
            Stage::Dead => self.counters.dead += 1,
        }
        self.owe(position, key, OwedStage::Ended(stage, position));
        Ok(())
    }

    fn is_head(&self, lane: &LaneName, key: &Key) -> bool {
        let queue = self.lanes.get(lane);
        queue.and_then(|queue| queue.front()) == Some(key)
    }

    /// Takes a message out of its lane; when it was the head, the next one waits for a worker.
    fn leave_lane(&mut self, lane: &LaneName, key: &Key) {
        let was_head = self.is_head(lane, key);
        let Some(queue) = self.lanes.get_mut(lane) else {
            return;
        };
        // It is the head, except after damage: the search ends at once.
        if let Some(place) = queue.iter().position(|other| other == key) {
            queue.remove(place);
        }
        match queue.front().copied() {
            None => {
                self.lanes.remove(lane);
            }
            Some(head) if was_head => self.schedule(&head),
            Some(_) => {}
        }
    }

    fn told(&mut self, number: Position) {
        let Some(owed) = self.owed.remove(&number) else {
            return;
        };
        let key = (owed.id, owed.generation);
        let Some(item) = self.messages.get_mut(&key) else {
            return;
        };
        item.owed -= 1;
        if item.owed == 0 && matches!(item.phase, Phase::Ended(..)) {
            self.told.entry(item.seq).or_default().push(key);
        }
    }

    fn raise_floor(&mut self, centre_epoch: u64, oldest_replayable: u64) {
        let earlier = core::mem::replace(&mut self.centre_epoch, centre_epoch);
        if earlier != 0 && earlier != centre_epoch {
            // Numbers of the old store say nothing about the new one. What was seen stays seen:
            // it is told apart by id (I29).
            self.floor = 0;
            self.cursor = 0;
            self.above_cursor.clear();
            self.told.clear();
        }
        let kept = self.told.split_off(&oldest_replayable);
        for key in core::mem::replace(&mut self.told, kept)
            .into_values()
            .flatten()
        {
            // One that was pushed again meanwhile is owed again, and stays until that is told.
            if self.messages.get(&key).is_some_and(|item| item.owed == 0) {
                self.messages.remove(&key);
            }
        }
        self.floor = self.floor.max(oldest_replayable);
        // Whatever stands below will never come: the cursor need not wait for it.
        if self.cursor + 1 < oldest_replayable {
            self.cursor = oldest_replayable - 1;
            self.above_cursor = self.above_cursor.split_off(&oldest_replayable);
            while self.above_cursor.first() == Some(&(self.cursor + 1)) {
                self.above_cursor.pop_first();
                self.cursor += 1;
            }
        }
    }
}

/// Questions the rules ask.
impl State {
    /// Whether a push of this number can only have strayed: the centre said that it would never
    /// push it again, and what was known of it may be forgotten. Zero is no number: it is what a
    /// push without one is read as.
    pub(super) fn is_below_floor(&self, seq: u64) -> bool {
        0 < seq && seq < self.floor
    }

    /// Whether the message was seen and not forgotten since.
    pub fn knows(&self, id: MessageId, generation: u32) -> bool {
        self.messages.contains_key(&(id, generation))
    }

    /// How many messages are where.
    pub fn counters(&self) -> Counters {
        Counters {
            owed: self.owed.len() as u64,
            ..self.counters
        }
    }

    /// Whether all that was said about the message has been told, so that telling it again is news.
    pub(super) fn has_told(&self, id: MessageId, generation: u32) -> bool {
        self.messages
            .get(&(id, generation))
            .is_some_and(|item| item.owed == 0)
    }

    pub(super) fn is_waiting(&self, id: MessageId, generation: u32) -> bool {
        let item = self.messages.get(&(id, generation));
        item.is_some_and(|item| !matches!(item.phase, Phase::Ended(..)))
    }

    pub(super) fn running(&self) -> u32 {
        self.counters.running as u32
    }

    pub(super) fn running_attempt(
        &self,
        id: MessageId,
        generation: u32,
        attempt: u32,
    ) -> Option<Option<u32>> {
        let item = self.messages.get(&(id, generation))?;
        (item.phase == Phase::Running && item.attempt == attempt).then_some(item.attempts_max)
    }

    /// The head of a lane that may run at `now`: what waited for an instant first, then by arrival.
    ///
    /// One that would wait longer than `wait_max` got its instant before the clock was set back, and
    /// waits no longer (I21).
    pub(super) fn next_work(&self, now: Timestamp, wait_max: Duration) -> Option<NextWork> {
        let due = self.delayed.first().filter(|(at, _)| *at <= now);
        let too_far = || {
            let last = self.delayed.last();
            last.filter(|(at, _)| *at > now + wait_max)
        };
        let due = due.or_else(too_far).map(|(_, lane)| lane);
        let lane = due.or_else(|| self.runnable.first_key_value().map(|(_, lane)| lane))?;
        let &(id, generation) = self.lanes.get(lane)?.front()?;
        let item = self.messages.get(&(id, generation))?;
        Some(NextWork {
            id,
            generation,
            attempt: item.attempt + 1,
            attempts_max: item.attempts_max,
            inboxed: item.inboxed,
            interrupted: item.interrupted,
        })
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        match self.runnable.is_empty() {
            false => Some(Timestamp(i64::MIN)),
            true => self.delayed.first().map(|(at, _)| *at),
        }
    }

    pub(super) fn owed(&self, at_most: usize) -> Vec<AckOwed> {
        let owed = self.owed.iter().take(at_most);
        owed.map(|(&number, owed)| {
            let item = self.messages.get(&(owed.id, owed.generation));
            let attempt = match owed.stage {
                OwedStage::Stored(_) => item.map_or(1, |item| item.push),
                OwedStage::Ended(..) => item.map_or(1, |item| item.attempt),
            };
            let Owed {
                id,
                generation,
                stage,
            } = *owed;
            AckOwed {
                number,
                id,
                generation,
                attempt,
                stage,
            }
        })
        .collect()
    }

    /// Those of the damaged records that were not reckoned with before.
    pub(super) fn unknown_damage(&self, damaged: &[Position]) -> Vec<Position> {
        let unknown = |position: &&Position| !self.damaged.contains(position);
        damaged.iter().filter(unknown).copied().collect()
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            epoch: self.epoch,
            centre_epoch: self.centre_epoch,
            floor: self.floor,
            cursor: self.cursor,
            highest: self.above_cursor.last().copied().unwrap_or(self.cursor),
        }
    }

    pub(super) fn would_forget(&self, centre_epoch: u64, oldest_replayable: u64) -> bool {
        self.centre_epoch != centre_epoch || self.floor < oldest_replayable
    }

    pub(super) fn inboxed_before(&self, before: Position) -> Vec<(MessageId, u32, Position)> {
        let waiting = self.lanes.values().flatten();
        let items = waiting.filter_map(|key| self.messages.get(key).map(|item| (key, item)));
        items
            .filter(|(_, item)| item.inboxed < before)
            .map(|(key, item)| (key.0, key.1, item.inboxed))
            .collect()
    }

    pub(super) fn oldest_needed(&self) -> Position {
        let waiting = self
            .lanes
            .values()
            .flatten()
            .filter_map(|key| self.messages.get(key));
        let inboxed = waiting.map(|item| item.inboxed).min();
        let owed = self.owed.values().filter_map(|owed| match owed.stage {
            OwedStage::Ended(_, worked) => Some(worked),
            OwedStage::Stored(_) => None,
        });
        [inboxed, owed.min()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Position::MAX)
    }
}
