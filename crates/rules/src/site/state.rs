//! The site's state, and what each record does to it.

use super::lanes::{Items, Key, Lanes, ParkedLane};
use super::record::{Record, Worked};
use super::{Counters, Known, Standing};
use crate::ack::Stage;
use crate::lane::LaneRule;
use crate::limits;
use crate::machine::Position;
use crate::message::{LaneName, MessageId, TypeName};
use crate::record::RecordError;
use crate::time::{Duration, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

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
    messages: Items,
    /// Ended and told messages by number: what a higher floor lets go.
    told: BTreeMap<u64, Vec<Key>>,
    lanes: Lanes,
    /// What is owed, by the position of the record that made it so: a number that stays the same
    /// when a record before it is damaged.
    owed: BTreeMap<Position, Owed>,
    /// Damaged records that were reckoned with.
    damaged: BTreeSet<Position>,
    counters: Counters,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) inboxed: Position,
    seq: u64,
    /// Number of the push that brought it last.
    push: u32,
    attempt: u32,
    attempts_max: Option<u32>,
    lane: LaneName,
    rule: LaneRule,
    kind: Option<TypeName>,
    phase: Phase,
    /// It waits for this instant.
    pub(super) not_before: Option<Timestamp>,
    /// Times in a row that the back office said of this attempt that it goes on.
    still_working: u32,
    /// A crash cut an attempt short.
    interrupted: bool,
    /// Acknowledgements of it that are owed.
    owed: u32,
}

impl Item {
    fn known(&self) -> Known {
        match self.phase {
            Phase::Ended(..) => Known::Ended,
            Phase::Waiting | Phase::Running => Known::Unfinished,
        }
    }

    /// Whether it waits for nothing but a worker, and has been tried.
    pub(super) fn was_cut_short(&self) -> bool {
        self.attempt > 0 && self.not_before.is_none()
    }
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
    /// An attempt came to no end; why, and when the next try is, stands in the [`Record::Worked`] at
    /// this position.
    Again {
        /// [`Stage::Retrying`] or [`Stage::Working`].
        stage: Stage,
        /// The attempt.
        attempt: u32,
        /// The record.
        worked: Position,
    },
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
    /// For a receipt, the push that brought it; else the attempt that is spoken of.
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
    pub(super) kind: Option<TypeName>,
    pub(super) inboxed: Position,
    pub(super) interrupted: bool,
    /// Number of the push that brought it last.
    pub(super) push: u32,
    /// Those of its lane that it passes.
    pub(super) over: Vec<Key>,
}

/// An attempt that is running.
#[derive(Clone, Debug)]
pub(super) struct RunningAttempt {
    pub(super) attempts_max: Option<u32>,
    pub(super) kind: Option<TypeName>,
    pub(super) still_working: u32,
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
                let item = self.new_item(position, *seq, *attempt, lane, *attempts_max);
                self.take_in(position, (*id, *generation), item, *at);
            }
            Record::TakenIn {
                at,
                id,
                generation,
                seq,
                attempt,
                lane,
                rule,
                kind,
                attempts_max,
                ..
            } => {
                let item = Item {
                    rule: *rule,
                    kind: kind.clone(),
                    ..self.new_item(position, *seq, *attempt, lane, *attempts_max)
                };
                self.take_in(position, (*id, *generation), item, *at);
            }
            Record::Passed { id, generation, .. } => {
                let item = self.messages.get(&(*id, *generation)).ok_or(UNKNOWN)?;
                self.lanes.passed(&item.lane);
            }
            Record::LaneResumed {
                lane,
                id,
                generation,
                ..
            } => self.lanes.resume(lane, (*id, *generation), &self.messages),
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
                let item = self.messages.get_mut(&key).ok_or(UNKNOWN)?;
                if item.phase != Phase::Running {
                    self.counters.running += 1;
                }
                item.phase = Phase::Running;
                if item.attempt != *attempt {
                    item.still_working = 0;
                }
                item.attempt = *attempt;
                item.not_before = None;
                let lane = item.lane.clone();
                self.lanes.begin(&lane, key, &self.messages);
            }
            Record::Worked {
                id,
                generation,
                attempt,
                worked,
                ..
            } => {
                self.work_ended(position, (*id, *generation), *attempt, worked)?;
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
                item.inboxed = position;
                let lane = item.lane.clone();
                self.lanes.moved(&lane, &self.messages);
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
        for item in self.messages.values_mut() {
            if item.phase == Phase::Running {
                item.phase = Phase::Waiting;
                item.interrupted = true;
                item.still_working = 0;
            }
        }
        self.lanes.stop_all(&self.messages);
    }

    fn new_item(
        &self,
        inboxed: Position,
        seq: u64,
        push: u32,
        lane: &LaneName,
        attempts_max: Option<u32>,
    ) -> Item {
        Item {
            inboxed,
            seq,
            push,
            attempt: 0,
            attempts_max,
            lane: lane.clone(),
            rule: LaneRule::Block,
            kind: None,
            phase: Phase::Waiting,
            not_before: None,
            still_working: 0,
            // The record of an earlier arrival, and of work on it, may be a damaged one.
            interrupted: push > 1 && !self.damaged.is_empty(),
            owed: 0,
        }
    }

    fn take_in(&mut self, position: Position, key: Key, item: Item, at: Timestamp) {
        self.advance_cursor(item.seq);
        let lane = item.lane.clone();
        self.messages.insert(key, item);
        self.lanes.take_in(&lane, key, &self.messages);
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

    fn work_ended(
        &mut self,
        position: Position,
        key: Key,
        attempt: u32,
        worked: &Worked,
    ) -> Result<(), RecordError> {
        let item = self.messages.get_mut(&key).ok_or(UNKNOWN)?;
        match item.phase {
            Phase::Running => self.counters.running -= 1,
            // After damage only: the record that it was running is lost, or it was pushed again.
            Phase::Waiting => {}
            Phase::Ended(..) => return Ok(()),
        }
        match worked {
            Worked::Again { not_before, .. } => {
                item.still_working = 0;
                self.wait(position, key, attempt, *not_before, Stage::Retrying);
            }
            Worked::StillWorking { not_before, .. } => {
                item.still_working += 1;
                self.wait(position, key, attempt, *not_before, Stage::Working);
            }
            Worked::Done(_) => self.end(position, key, attempt, Stage::Acknowledged),
            Worked::Rejected(_) => self.end(position, key, attempt, Stage::Rejected),
            Worked::Dead(_) => self.end(position, key, attempt, Stage::Dead),
        }
        Ok(())
    }

    /// The message waits to be tried again.
    fn wait(
        &mut self,
        position: Position,
        key: Key,
        attempt: u32,
        not_before: Timestamp,
        stage: Stage,
    ) {
        let Some(item) = self.messages.get_mut(&key) else {
            return;
        };
        item.phase = Phase::Waiting;
        item.not_before = Some(not_before);
        let (lane, rule) = (item.lane.clone(), item.rule);
        match rule {
            LaneRule::Skip => self
                .lanes
                .wait_aside(&lane, key, not_before, &self.messages),
            LaneRule::Block | LaneRule::Park => self.lanes.wait(&lane, &self.messages),
        }
        let stage = OwedStage::Again {
            stage,
            attempt,
            worked: position,
        };
        self.owe(position, key, stage);
    }

    fn end(&mut self, position: Position, key: Key, attempt: u32, stage: Stage) {
        let Some(item) = self.messages.get_mut(&key) else {
            return;
        };
        item.phase = Phase::Ended(stage, position);
        item.not_before = None;
        let (lane, rule) = (item.lane.clone(), item.rule);
        self.lanes.leave(&lane, &key, &self.messages);
        self.counters.waiting -= 1;
        match stage {
            Stage::Rejected => self.counters.rejected += 1,
            Stage::Dead => self.counters.dead += 1,
            _ => self.counters.done += 1,
        }
        match stage {
            // One that nobody tried has strayed here: it says nothing about its lane.
            Stage::Rejected | Stage::Dead if rule == LaneRule::Park && attempt > 0 => {
                self.lanes.park(&lane, key, &self.messages);
            }
            Stage::Rejected | Stage::Dead => {}
            // Done once more with success, the message that had parked the lane lets it go on.
            _ => self.lanes.resume(&lane, key, &self.messages),
        }
        self.owe(position, key, OwedStage::Ended(stage, position));
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

    /// What is known of a life of a message.
    pub(super) fn known(&self, id: MessageId, generation: u32) -> Known {
        let item = self.messages.get(&(id, generation));
        item.map_or(Known::No, Item::known)
    }

    /// What is known of all lives of a message that are remembered. Looks at every message.
    pub(super) fn lives(&self, id: MessageId) -> Known {
        let lives = self.messages.iter().filter(|((of, _), _)| *of == id);
        lives.fold(Known::No, |known, (_, item)| match known {
            Known::Unfinished => known,
            _ => item.known(),
        })
    }

    /// How many messages are where.
    pub fn counters(&self) -> Counters {
        let (mut lanes_parked, mut held) = (0, 0);
        for lane in self.lanes.parked() {
            lanes_parked += 1;
            held += lane.held;
        }
        Counters {
            owed: self.owed.len() as u64,
            lanes_parked,
            held,
            ..self.counters
        }
    }

    /// The parked lanes, in the order of their names.
    pub fn parked(&self) -> impl Iterator<Item = ParkedLane> {
        self.lanes.parked()
    }

    /// The lane that this life of a message, or an earlier one, has parked.
    pub(super) fn parked_by(&self, id: MessageId, generation: u32) -> Option<&LaneName> {
        self.lanes.parked_by((id, generation))
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
    ) -> Option<RunningAttempt> {
        let item = self.messages.get(&(id, generation))?;
        let is_it = item.phase == Phase::Running && item.attempt == attempt;
        is_it.then(|| RunningAttempt {
            attempts_max: item.attempts_max,
            kind: item.kind.clone(),
            still_working: item.still_working,
        })
    }

    /// The message to work on at `now`; see [`Lanes::next`].
    pub(super) fn next_work(&self, now: Timestamp, wait_max: Duration) -> Option<NextWork> {
        let key = self.lanes.next(now, wait_max, &self.messages)?;
        let item = self.messages.get(&key)?;
        // An attempt that the back office has not answered goes on.
        let begins = u32::from(item.still_working == 0);
        Some(NextWork {
            id: key.0,
            generation: key.1,
            attempt: item.attempt + begins,
            attempts_max: item.attempts_max,
            kind: item.kind.clone(),
            inboxed: item.inboxed,
            interrupted: item.interrupted,
            push: item.push,
            over: self.lanes.passes(&item.lane, &key).collect(),
        })
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.lanes.next_due()
    }

    pub(super) fn owed(&self, at_most: usize) -> Vec<AckOwed> {
        let owed = self.owed.iter().take(at_most);
        owed.map(|(&number, owed)| {
            let item = self.messages.get(&(owed.id, owed.generation));
            let attempt = match owed.stage {
                OwedStage::Stored(_) => item.map_or(1, |item| item.push),
                OwedStage::Ended(..) => item.map_or(1, |item| item.attempt),
                OwedStage::Again { attempt, .. } => attempt,
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
            parked: self
                .lanes
                .parked()
                .take(limits::PARKED_LANES_TOLD_MAX)
                .collect(),
        }
    }

    pub(super) fn would_forget(&self, centre_epoch: u64, oldest_replayable: u64) -> bool {
        self.centre_epoch != centre_epoch || self.floor < oldest_replayable
    }

    pub(super) fn inboxed_before(&self, before: Position) -> Vec<(MessageId, u32, Position)> {
        let waiting = self.lanes.each();
        let items = waiting.filter_map(|key| self.messages.get(&key).map(|item| (key, item)));
        items
            .filter(|(_, item)| item.inboxed < before)
            .map(|(key, item)| (key.0, key.1, item.inboxed))
            .collect()
    }

    pub(super) fn oldest_needed(&self) -> Position {
        let waiting = self.lanes.each();
        let waiting = waiting.filter_map(|key| self.messages.get(&key));
        let inboxed = waiting.map(|item| item.inboxed).min();
        let owed = self.owed.values().filter_map(|owed| match owed.stage {
            OwedStage::Ended(_, worked) | OwedStage::Again { worked, .. } => Some(worked),
            OwedStage::Stored(_) => None,
        });
        [inboxed, owed.min()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Position::MAX)
    }
}
