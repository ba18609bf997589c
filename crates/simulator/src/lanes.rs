//! The lanes of the sites, as far as their durable records tell: what waits in which order, what is
//! parked, and which attempts were made.

use crate::event::Event;
use crate::history::History;
use countersign_rules::ack::Stage;
use countersign_rules::{LaneRule, MessageId};
use std::collections::{BTreeMap, BTreeSet};

/// A message in one of its lives.
pub(crate) type Life = (MessageId, u32);

/// What is known of all lanes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    /// What has arrived and not ended, in the order of its lane.
    pub(crate) order: BTreeMap<(usize, u8), Vec<Life>>,
    /// What has parked a lane.
    pub(crate) parked: BTreeMap<(usize, u8), Life>,
    /// Messages that were passed while they wait.
    pub(crate) passed: BTreeSet<(usize, Life)>,
    /// The last attempt of each message, and whether its back office was still working on it.
    pub(crate) attempts: BTreeMap<(usize, Life), (u32, bool)>,
}

impl History {
    /// What an event says of the lanes of a site.
    pub(crate) fn look_at_lanes(&mut self, event: &Event) {
        match *event {
            Event::InboxCommit {
                agent,
                id,
                generation,
            } => self.arrived(agent, (id, generation)),
            Event::WorkBegun {
                agent,
                id,
                generation,
                attempt,
            } => {
                let key = (agent, (id, generation));
                self.lanes.attempts.insert(key, (attempt, false));
                self.lanes.passed.remove(&key);
            }
            Event::ToBeTriedAgain {
                agent,
                id,
                generation,
                still_working,
            } => {
                if let Some(last) = self.lanes.attempts.get_mut(&(agent, (id, generation))) {
                    last.1 = still_working;
                }
            }
            Event::Passed { agent, ref over } => {
                let passed = over.iter().map(|life| (agent, *life));
                self.lanes.passed.extend(passed);
            }
            Event::EndedAtSite {
                agent,
                id,
                generation,
                attempt,
                stage,
            } => self.ended((id, generation), agent, attempt, stage),
            Event::LaneGoesOn { id, .. } => {
                if let Some(place) = self.lane_of(id) {
                    self.lanes.parked.remove(&place);
                }
            }
            Event::StoreLost { agent } => {
                self.lanes.order.retain(|place, _| place.0 != agent);
                self.lanes.parked.retain(|place, _| place.0 != agent);
                self.lanes.passed.retain(|(of, _)| *of != agent);
                self.lanes.attempts.retain(|(of, _), _| *of != agent);
            }
            _ => {}
        }
    }

    fn arrived(&mut self, agent: usize, life: Life) {
        let Some((_, lane)) = self.lane_of(life.0) else {
            return;
        };
        let place = (agent, lane);
        let parked = self.lanes.parked.get(&place);
        let goes_first = parked.is_some_and(|by| by.0 == life.0 && life.1 > by.1);
        let passed = &self.lanes.passed;
        let order = self.lanes.order.entry(place).or_default();
        // Those that let it pass before stand before it, and are tried again in their time.
        let skipped = order
            .iter()
            .take_while(|life| passed.contains(&(agent, **life)));
        let skipped = skipped.count();
        match goes_first {
            true => order.insert(skipped, life),
            false => order.push(life),
        }
    }

    fn ended(&mut self, life: Life, agent: usize, attempt: u32, stage: Stage) {
        let Some((_, lane)) = self.lane_of(life.0) else {
            return;
        };
        let place = (agent, lane);
        if let Some(order) = self.lanes.order.get_mut(&place) {
            order.retain(|other| *other != life);
        }
        let parks = self.messages[&life.0].rule == LaneRule::Park;
        match stage {
            // One that nobody could tell anything of any more may end while another is worked on.
            Stage::Rejected | Stage::Dead if parks && attempt > 0 => {
                self.lanes.parked.insert(place, life);
            }
            Stage::Acknowledged => {
                let parked = self.lanes.parked.get(&place);
                if parked.is_some_and(|by| by.0 == life.0) {
                    self.lanes.parked.remove(&place);
                }
            }
            _ => {}
        }
    }
}
