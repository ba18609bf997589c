//! The sites' records: what arrived, what was worked on, and in which order.

use crate::lives::{Flags, Key, Life, Map, short};
use crate::verdict::{Invariant, Party};
use crate::{Checker, Coverage};
use countersign_rules::ack::Stage;
use countersign_rules::delivery::End;
use countersign_rules::site::{Record, Worked};
use countersign_rules::{AgentName, LaneName, LaneRule, MessageId, Position};
use std::collections::BTreeSet;

/// What is known of a site.
#[derive(Debug, Default)]
pub(crate) struct Site {
    pub(crate) name: Option<AgentName>,
    pub(crate) coverage: Coverage,
    pub(crate) damaged: Vec<Position>,
    pub(crate) reckoned: BTreeSet<Position>,
    epoch: u64,
    centre_epoch: u64,
    lanes: Map<LaneName, Lane>,
    /// Messages that have not ended here.
    unfinished: Map<Key, Unfinished>,
}

/// The highest numbers of a lane so far.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    inboxed: Option<(u64, MessageId)>,
    started: Option<(u64, MessageId)>,
    /// What has parked it.
    parked: Option<Key>,
}

#[derive(Clone, Debug)]
struct Unfinished {
    seq: u64,
    lane: LaneName,
    attempts_max: Option<u32>,
    attempt: u32,
    /// An attempt began and its end was not written down.
    running: bool,
    /// Its back office said of the attempt that it goes on: what begins next is no other.
    still_working: bool,
    /// Its failure parks its lane.
    parks: bool,
    /// It had parked its lane in an earlier life, and goes before what is held there.
    goes_first: bool,
}

impl Checker {
    /// Names the agent of a site; without it, the site's first message tells.
    pub fn name_site(&mut self, number: usize, name: AgentName) {
        self.site(number).name.get_or_insert(name);
    }

    /// The site's disk was replaced: what it tells from here on is of another store.
    pub fn site_replaced(&mut self, number: usize) {
        let name = self.name_of(Party::Site(number));
        self.leave_out(
            Party::Site(number),
            format!("an earlier store of {name} is lost"),
        );
        let site = self.site(number);
        site.lanes.clear();
        site.unfinished.clear();
        (site.epoch, site.centre_epoch) = (0, 0);
    }

    /// Takes in a record of a site. `body_sha256` is the digest of the body that arrived, when the
    /// record is an arrival and its envelope can be read.
    pub fn site_record(
        &mut self,
        number: usize,
        position: Position,
        record: &Record<'_>,
        body_sha256: Option<&[u8; 32]>,
    ) {
        let at = (Party::Site(number), position);
        match record {
            Record::Started { epoch, .. } => {
                let site = self.site(number);
                let before = std::mem::replace(&mut site.epoch, *epoch);
                if before != 0 && before != *epoch {
                    site.lanes.clear();
                    let name = self.name_of(at.0);
                    let why =
                        format!("{name} was restored, or lost its end, before record {position}");
                    self.leave_out(at.0, why);
                }
            }
            Record::Inboxed {
                id,
                generation,
                seq,
                lane,
                attempts_max,
                ..
            }
            | Record::TakenIn {
                id,
                generation,
                seq,
                lane,
                attempts_max,
                ..
            } => {
                let key = Key {
                    id: *id,
                    generation: *generation,
                };
                let parks = matches!(
                    record,
                    Record::TakenIn {
                        rule: LaneRule::Park,
                        ..
                    }
                );
                let unfinished = Unfinished {
                    seq: *seq,
                    lane: lane.clone(),
                    attempts_max: *attempts_max,
                    attempt: 0,
                    running: false,
                    still_working: false,
                    parks,
                    goes_first: false,
                };
                self.inboxed(at, number, key, unfinished, body_sha256);
            }
            Record::LaneResumed { lane, .. } => self.lane(number, lane).parked = None,
            Record::Repeated { .. } => self.figures.arrived_again += 1,
            Record::WorkStarted {
                id,
                generation,
                attempt,
                ..
            } => {
                let (id, generation) = (*id, *generation);
                self.work_started(at, number, Key { id, generation }, *attempt);
            }
            Record::Worked {
                id,
                generation,
                worked,
                ..
            } => {
                let (id, generation) = (*id, *generation);
                self.worked(at, number, Key { id, generation }, worked);
            }
            Record::Floor { centre_epoch, .. } => {
                let site = self.site(number);
                let before = std::mem::replace(&mut site.centre_epoch, *centre_epoch);
                if before != 0 && before != *centre_epoch {
                    // Numbers of another life of the centre's store say nothing about these.
                    site.lanes.clear();
                }
            }
            Record::Damaged { damaged, .. } => {
                let why = format!(
                    "{} has written down damage at record {position}",
                    self.name_of(at.0)
                );
                self.leave_out(at.0, why);
                let site = self.site(number);
                site.reckoned.extend(damaged);
                site.lanes.clear();
            }
            _ => {}
        }
    }

    fn inboxed(
        &mut self,
        at: (Party, Position),
        number: usize,
        key: Key,
        mut unfinished: Unfinished,
        body_sha256: Option<&[u8; 32]>,
    ) {
        let parked = self.lane(number, &unfinished.lane).parked;
        let is_another_try = |by: Key| by.id == key.id && by.generation < key.generation;
        unfinished.goes_first = parked.is_some_and(is_another_try);
        self.figures.inboxed += 1;
        let life = self.lives.entry(key);
        let first = !life.flags.has(Flags::INBOXED);
        let before = Life {
            site: number as u16 + 1,
            body: body_sha256.map_or(0, |digest| short(digest)),
            flags: {
                let mut flags = Flags::default();
                flags.set(Flags::INBOXED);
                if body_sha256.is_some() {
                    flags.set(Flags::BODY);
                }
                flags
            },
            ..Life::default()
        };
        let known = life.flags.has(Flags::KNOWN);
        life.site = before.site;
        life.flags.set(Flags::INBOXED);
        if !known {
            if body_sha256.is_some() {
                life.flags.set(Flags::BODY);
            }
            life.body = before.body;
        } else {
            self.arrival_fits(key, before);
        }
        if first {
            self.i6_into_the_inbox(at, number, key, &unfinished);
        }
        self.site(number).unfinished.insert(key, unfinished);
    }

    /// I2: what arrived was sent to this recipient, with this body.
    pub(crate) fn arrival_fits(&mut self, key: Key, arrived: Life) {
        let Some(life) = self.lives.get(key).copied() else {
            return;
        };
        let id = key.id;
        let number = usize::from(arrived.site.max(1) - 1);
        let party = Party::Site(number);
        let here = self.name_of(party);
        let named = self.site(number).name.is_some();
        let meant = self.centre.name_of(life.recipient);
        let at_home = !named || here == meant;
        let same = !arrived.flags.has(Flags::BODY) || arrived.body == life.body;
        self.judge(Invariant::I2, (party, 0), at_home && same, || {
            let says = match at_home {
                false => format!("{id} for {meant} arrived at {here}"),
                true => format!("{id} arrived at {here} with another body"),
            };
            (says, vec![id])
        });
    }

    /// I6: the messages of one lane come into the inbox in the order of their numbers.
    fn i6_into_the_inbox(
        &mut self,
        at: (Party, Position),
        number: usize,
        key: Key,
        unfinished: &Unfinished,
    ) {
        let lane = self.lane(number, &unfinished.lane);
        let (highest, seq) = (lane.inboxed, unfinished.seq);
        if lane.inboxed.is_none_or(|(highest, _)| highest < seq) {
            lane.inboxed = Some((seq, key.id));
        }
        self.i6_in_order(at, key, unfinished, highest, "into the inbox");
    }

    fn i6_in_order(
        &mut self,
        at: (Party, Position),
        key: Key,
        unfinished: &Unfinished,
        highest: Option<(u64, MessageId)>,
        what: &str,
    ) {
        let seq = unfinished.seq;
        if seq == 0 {
            return;
        }
        // What the centre has ended keeps nobody waiting; a push of it may still stray in.
        let life = self.lives.get(key);
        let is_over =
            life.is_some_and(|life| matches!(life.end, Some(End::Expired | End::Cancelled)));
        let later = highest.filter(|(highest, _)| *highest > seq && !is_over);
        if later.is_some() {
            self.figures.reordered += 1;
        }
        self.judge(Invariant::I6, at, later.is_none(), || {
            let (high, other) = later.unwrap_or((seq, key.id));
            let (id, lane) = (key.id, &unfinished.lane);
            let says = format!(
                "{other} (number {high}) came {what} before {id} (number {seq}) of the same lane {lane}"
            );
            (says, vec![id, other])
        });
    }

    fn lane(&mut self, number: usize, lane: &LaneName) -> &mut Lane {
        self.site(number).lanes.entry(lane.clone()).or_default()
    }

    fn work_started(&mut self, at: (Party, Position), number: usize, key: Key, attempt: u32) {
        self.figures.attempts += 1;
        let Some(unfinished) = self.site(number).unfinished.get_mut(&key) else {
            return self.never_arrived(at, key);
        };
        let again = unfinished.running;
        let before = std::mem::replace(&mut unfinished.attempt, attempt);
        let goes_on = std::mem::replace(&mut unfinished.still_working, false);
        let before = before - u32::from(goes_on && before > 0);
        unfinished.running = true;
        let unfinished = unfinished.clone();
        let life = self.lives.entry(key);
        let first = !life.flags.has(Flags::STARTED);
        life.flags.set(Flags::STARTED);
        if again {
            life.flags.set(Flags::REPEATED);
            self.figures.possibly_repeated += 1;
        }
        self.i23_attempts_are_bounded(at, key, &unfinished, before);
        self.i6_nothing_runs_in_a_parked_lane(at, number, key, &unfinished);
        if first && !unfinished.goes_first {
            let lane = self.lane(number, &unfinished.lane);
            let highest = lane.started;
            if highest.is_none_or(|(highest, _)| highest < unfinished.seq) {
                lane.started = Some((unfinished.seq, key.id));
            }
            self.i6_in_order(at, key, &unfinished, highest, "to work");
        }
    }

    /// I6: in a parked lane nothing is worked on but what parked it, in a later life.
    fn i6_nothing_runs_in_a_parked_lane(
        &mut self,
        at: (Party, Position),
        number: usize,
        key: Key,
        unfinished: &Unfinished,
    ) {
        let Some(by) = self.lane(number, &unfinished.lane).parked else {
            return;
        };
        let is_another_try = by.id == key.id && by.generation < key.generation;
        self.judge(Invariant::I6, at, is_another_try, || {
            let (id, other, lane) = (key.id, by.id, &unfinished.lane);
            let says = format!("{id} is worked on in lane {lane}, which {other} has parked");
            (says, vec![other, id])
        });
    }

    /// I23: attempts are counted one by one, and there are no more than the sender allowed.
    fn i23_attempts_are_bounded(
        &mut self,
        at: (Party, Position),
        key: Key,
        unfinished: &Unfinished,
        before: u32,
    ) {
        let (id, attempt) = (key.id, unfinished.attempt);
        let allowed = unfinished.attempts_max.unwrap_or(u32::MAX);
        let partial = self
            .site_number(at.0)
            .is_some_and(|number| self.sites[number].coverage != Coverage::Whole);
        let holds = attempt <= allowed && (attempt == before + 1 || partial);
        self.judge(Invariant::I23, at, holds, || {
            let says = format!("attempt {attempt} of {id} follows {before}, allowed are {allowed}");
            (says, vec![id])
        });
    }

    fn site_number(&self, party: Party) -> Option<usize> {
        match party {
            Party::Site(number) => Some(number),
            _ => None,
        }
    }

    /// I28: a record of a site speaks of what its records brought.
    fn never_arrived(&mut self, at: (Party, Position), key: Key) {
        let name = self.name_of(at.0);
        let number = self.site_number(at.0).unwrap_or_default();
        match self.sites[number].coverage.doubt(&name) {
            Some(why) => self.tallies.open(Invariant::I28, why),
            None => self.judge(Invariant::I28, at, false, || {
                let says = format!("{} is worked on at {name} and never arrived there", key.id);
                (says, vec![key.id])
            }),
        }
    }

    fn worked(&mut self, at: (Party, Position), number: usize, key: Key, worked: &Worked) {
        let Some(stage) = worked.stage() else {
            if let Some(unfinished) = self.site(number).unfinished.get_mut(&key) {
                unfinished.running = false;
                unfinished.still_working = matches!(worked, Worked::StillWorking { .. });
            }
            // It failed, and perhaps only its answer did.
            self.lives.entry(key).flags.set(Flags::REPEATED);
            return;
        };
        let Some(unfinished) = self.site(number).unfinished.remove(&key) else {
            return self.never_arrived(at, key);
        };
        // One that ended without an attempt may do so beside one that is worked on.
        let parks = unfinished.parks && unfinished.attempt > 0;
        let lane = self.lane(number, &unfinished.lane);
        match stage {
            Stage::Acknowledged if lane.parked.is_some_and(|by| by.id == key.id) => {
                lane.parked = None;
            }
            Stage::Rejected | Stage::Dead if parks => lane.parked = Some(key),
            _ => {}
        }
        self.judge(Invariant::I28, at, true, Default::default);
        self.lives.entry(key).flags.set(match stage {
            Stage::Acknowledged => Flags::DONE,
            _ => Flags::FAILED,
        });
    }
}
