//! When a send to many is done: as many as were asked for have processed it, or the deadline has come
//! and it is written down who has not (N14).
//!
//! A verdict is given once and is durable. What is processed behind it counts on, and changes no
//! verdict. Without a deadline a quorum that cannot be reached any more stays open.

use super::fanout::{FanOut, Kept, NOBODY, child_id, is_set};
use super::messages::Standing;
use super::record::{FanNo, Record};
use super::state::State;
use super::{Audience, Centre, Effect, EndCounts, Place, Refusal};
use crate::limits::PER_DEADLINE_MAX;
use crate::machine::{Out, Position};
use crate::message::{AgentName, MessageId, TenantName};
use crate::planted::Planted;
use crate::time::{Duration, Timestamp};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// How many have to have processed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// So many of a hundred, rounded up.
    Percent(u8),
    /// So many.
    Count(u32),
}

/// What became of a quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It was reached.
    Reached {
        /// When.
        at: Timestamp,
    },
    /// It was not reached by its deadline.
    Missed {
        /// When that was written down.
        at: Timestamp,
        /// A bit for each recipient that had not processed it by then.
        missing: Vec<u8>,
    },
}

/// What the state knows of a send to many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanOutView {
    /// The send.
    pub id: MessageId,
    /// Who was addressed, as it was asked for.
    pub audience: Audience,
    /// The version of the list that was found.
    pub version: u64,
    /// Where its record stands.
    pub position: Position,
    /// How many were addressed.
    pub addressed: u32,
    /// Who, in the order of their rows.
    pub agents: Vec<AgentName>,
    /// Not pushed yet.
    pub waiting: u32,
    /// Pushed, no receipt yet.
    pub pushed: u32,
    /// On their agents' disks.
    pub stored: u32,
    /// How the others ended.
    pub ends: EndCounts,
    /// How many have to be done, if that was said.
    pub needed: Option<u32>,
    /// Until when.
    pub deadline: Option<Timestamp>,
    /// What became of that.
    pub verdict: Option<Verdict>,
    /// How many of the first have not processed it: at the deadline when that was missed, now
    /// otherwise.
    pub missing: u32,
    /// The messages that were asked for.
    pub children: Vec<ChildView>,
}

/// One recipient's message of a send to many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildView {
    /// Its place among them, from 0.
    pub index: u32,
    /// The message.
    pub id: MessageId,
    /// Its recipient.
    pub agent: AgentName,
    /// Where it is; `None` when it is forgotten.
    pub place: Option<Place>,
}

/// Which messages of a send to many are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Children {
    /// The first, by its place.
    pub from: u32,
    /// How many.
    pub at_most: u32,
    /// Only those that count as missing.
    pub missing: bool,
}

/// How many of `count` have to be done.
pub(super) fn needed(fan_out: &FanOut, count: u32, now: Timestamp) -> Result<Option<u32>, Refusal> {
    if fan_out.deadline.is_some_and(|deadline| deadline <= now) {
        return Err(Refusal::DeadlinePassed);
    }
    let quorum = fan_out.quorum;
    // A deadline alone asks for all.
    let all = fan_out.deadline.map(|_| Quorum::Percent(100));
    let needed = quorum.or(all).map(|quorum| match quorum {
        Quorum::Percent(percent) => (count * u32::from(percent)).div_ceil(100).max(1),
        Quorum::Count(wanted) => wanted.max(1),
    });
    match needed {
        Some(wanted) if wanted > count => Err(Refusal::QuorumTooLarge {
            wanted,
            addressed: count,
        }),
        _ => Ok(needed),
    }
}

impl Centre {
    /// Writes down which quorums have been reached by this step, and tells whoever waits.
    pub(super) fn judge_quorums(&mut self, now: Timestamp, out: &mut Out<Self>) {
        for number in core::mem::take(&mut self.state.fan_outs.touched) {
            let Some(kept) = self.state.fan_outs.kept.get(&number) else {
                continue;
            };
            let (id, processed) = (kept.id, kept.ends.processed);
            let early = self.policy.planted.is(Planted::QuorumTooEarly)
                && kept.verdict.is_none()
                && kept.needed.is_some_and(|needed| processed + 1 >= needed);
            if kept.is_reached() || early {
                let at = now;
                let record = Record::QuorumReached {
                    at,
                    number,
                    processed,
                };
                self.write(&record, out);
            }
            out.effect(Effect::Changed { id });
        }
    }

    /// Writes down whose deadline has come, and who had not processed it.
    pub(super) fn miss_quorums(&mut self, now: Timestamp, out: &mut Out<Self>) {
        for _ in 0..PER_DEADLINE_MAX {
            let first = self.state.fan_outs.deadlines.first().copied();
            let Some((_, number)) = first.filter(|(deadline, _)| *deadline <= now) else {
                break;
            };
            let kept = self.state.fan_outs.kept.get(&number);
            let kept = kept.expect("a deadline is forgotten with its send");
            let id = kept.id;
            let record = Record::QuorumMissed {
                at: now,
                number,
                processed: kept.ends.processed,
                missing: kept.missing(),
            };
            self.write(&record, out);
            out.effect(Effect::Changed { id });
        }
    }

    /// Forgets sends to many whose retention is over, with their idempotency keys.
    pub(super) fn age_fan_outs(&mut self, now: Timestamp, out: &mut Out<Self>) {
        let retention = self.policy.retention;
        for _ in 0..PER_DEADLINE_MAX {
            let passed = self.state.clock.passed_at(now, retention);
            let first = self.state.fan_outs.over.first().copied();
            let is_old =
                |(at, _): &(Timestamp, FanNo)| at.since(Timestamp(0)) + retention <= passed;
            let Some((_, number)) = first.filter(is_old) else {
                break;
            };
            self.write(&Record::FanOutAged { at: now, number }, out);
        }
    }

    /// What is known of a send to many, and of some of its messages.
    pub(super) fn look_fan_out(
        &self,
        tenant: &TenantName,
        id: MessageId,
        children: Option<Children>,
        out: &mut Out<Self>,
    ) -> Option<FanOutView> {
        let kept = self.state.fan_outs.by_id(id)?;
        if kept.tenant != *tenant {
            return None;
        }
        let mut view = self.state.fan_out_view(kept);
        if let Some(asked) = children {
            let all = kept.recipients.iter().enumerate().skip(asked.from as usize);
            let known = all.filter(|(_, no)| **no != NOBODY);
            let wanted = known.filter(|(index, _)| !asked.missing || kept.is_missing(*index));
            for (index, recipient) in wanted.take(asked.at_most as usize) {
                let id = child_id(kept.id, index as u32);
                view.children.push(ChildView {
                    index: index as u32,
                    id,
                    agent: self.state.queue(*recipient).name.clone(),
                    place: self.known(id, out).as_ref().map(super::questions::place_of),
                });
            }
        }
        Some(view)
    }
}

impl Kept {
    /// Whether this one counts as missing: at the deadline when that was missed, now otherwise.
    fn is_missing(&self, index: usize) -> bool {
        match &self.verdict {
            Some(Verdict::Missed { missing, .. }) => is_set(missing, index),
            _ => !self.is_done(index),
        }
    }
}

impl State {
    fn fan_out_view(&self, kept: &Kept) -> FanOutView {
        let mut view = FanOutView {
            id: kept.id,
            audience: kept.audience.clone(),
            version: kept.version,
            position: kept.position,
            addressed: kept.count,
            agents: self.addressees(kept),
            waiting: 0,
            pushed: 0,
            stored: 0,
            ends: kept.ends,
            needed: kept.needed,
            deadline: kept.deadline,
            verdict: kept.verdict.clone(),
            missing: 0,
            children: Vec::new(),
        };
        let rows = 0..kept.recipients.len();
        view.missing = rows.filter(|index| kept.is_missing(*index)).count() as u32;
        if kept.pending() == 0 {
            return view;
        }
        for index in 0..kept.recipients.len() {
            let child = child_id(kept.id, index as u32);
            // What is unfinished is in memory.
            let standing = self.message(child).map(|message| message.standing);
            match standing {
                None | Some(Standing::Ended(_)) => {}
                Some(Standing::InFlight) => view.pushed += 1,
                Some(Standing::Received) => view.stored += 1,
                Some(_) => view.waiting += 1,
            }
        }
        view
    }

    /// When something is due for a send to many.
    pub(super) fn fan_out_deadline(&self, retention: Duration) -> Option<Timestamp> {
        let deadline = self.fan_outs.deadlines.first().map(|(at, _)| *at);
        let over = self.fan_outs.over.first().map(|(at, _)| *at);
        let aged = over.map(|at| {
            let until = at.since(Timestamp(0)) + retention;
            self.clock.look_at(until, retention)
        });
        [deadline, aged].into_iter().flatten().min()
    }
}
