//! Operators: one decision at a time, each awaited before the next.

use crate::event::{Event, Host};
use crate::node::Ticket;
use crate::world::{Happening, MS, World, agent_name, agent_number, group_name, lane_name, tenant};
use countersign_rules::MessageId;
use countersign_rules::delivery::{Centre, Input, Refusal};

/// What an operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Cancel(MessageId),
    Reprocess(MessageId),
    Pause(usize, bool),
    ResumeLane(usize, u8),
    Member(usize, bool),
}

/// The operator, and the decision that it awaits.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    awaited: Option<(u64, Act)>,
    /// Agents that it has held something back from, perhaps.
    paused: Vec<usize>,
}

impl World {
    /// Decides something, or sees that nothing of an earlier decision is left once all is healed.
    pub(crate) fn operator_acts(&mut self) {
        let pause = 100 * MS + self.random.below(2 * self.scenario.operator_pause_us);
        self.later(pause, Happening::OperatorActs);
        if let Some(act) = self.next_act() {
            let number = self.number();
            self.operator.awaited = Some((number, act));
            let by = String::from("operator");
            let input = match act {
                Act::Cancel(id) => Input::Cancel {
                    tenant: tenant(),
                    id,
                    by,
                },
                Act::Reprocess(id) => Input::Reprocess {
                    tenant: tenant(),
                    id,
                    may_process_twice: number.is_multiple_of(2),
                    by,
                },
                Act::ResumeLane(agent, lane) => Input::ResumeLane {
                    tenant: tenant(),
                    agent: agent_name(agent),
                    lane: lane_name(lane),
                    reason: String::new(),
                    by,
                },
                Act::Member(agent, member) => Input::ChangeMember {
                    tenant: tenant(),
                    group: group_name(),
                    agent: agent_name(agent),
                    member,
                    by,
                },
                Act::Pause(agent, paused) => Input::Pause {
                    tenant: tenant(),
                    agent: agent_name(agent),
                    paused,
                    reason: String::new(),
                    by,
                },
            };
            if let Act::Pause(agent, true) = act {
                self.operator.paused.push(agent);
            }
            self.give::<Centre>(Host::Centre, input, Ticket::Operate { number });
        }
    }

    fn next_act(&mut self) -> Option<Act> {
        if self.healed {
            let paused = self.operator.paused.last();
            let paused = paused.map(|agent| Act::Pause(*agent, false));
            return paused.or_else(|| self.some_parked_lane());
        }
        let agent = self.random.below(self.agents.len() as u64) as usize;
        match self.random.below(15) {
            0..4 => Some(Act::Cancel(self.some_message(false)?)),
            4..7 => Some(Act::Reprocess(self.some_message(true)?)),
            7 => Some(Act::Pause(agent, true)),
            8 => self.some_parked_lane(),
            9 => Some(Act::Reprocess(self.what_parked_a_lane()?)),
            10 | 11 => Some(Act::Member(agent, true)),
            12 => Some(Act::Member(agent, false)),
            _ => self
                .operator
                .paused
                .first()
                .map(|agent| Act::Pause(*agent, false)),
        }
    }

    /// Parked lanes as an operator sees them: the agent, the lane, what parked it.
    pub(crate) fn parked_lanes(&self) -> Vec<(usize, u8, MessageId)> {
        let Some(centre) = &self.centre.running else {
            return Vec::new();
        };
        let history = &self.checker.history;
        let state = centre.engine.machine().state();
        let parked = state.parked_lanes().filter_map(|(agent, by)| {
            let request = history.submitted.get(&by)?;
            let lane = history.requests[*request].wish.lane;
            Some((agent_number(agent), lane, by))
        });
        parked.collect()
    }

    fn some_parked_lane(&mut self) -> Option<Act> {
        let (agent, lane, _) = self.one_parked()?;
        Some(Act::ResumeLane(agent, lane))
    }

    fn what_parked_a_lane(&mut self) -> Option<MessageId> {
        self.one_parked().map(|(.., by)| by)
    }

    fn one_parked(&mut self) -> Option<(usize, u8, MessageId)> {
        let parked = self.parked_lanes();
        let count = parked.len() as u64;
        (count > 0).then(|| parked[self.random.below(count) as usize])
    }

    /// One that the history knows, mostly one that has ended, or has not.
    fn some_message(&mut self, ended: bool) -> Option<MessageId> {
        let any = self.chance(10);
        let messages = self.checker.history.messages.iter();
        let fits = messages.filter(|(_, message)| any || message.end.is_some() == ended);
        let fits: Vec<_> = fits.map(|(id, _)| *id).collect();
        let last = fits.len().checked_sub(1)? as u64;
        // The newest ones are those that still wait.
        let back = self.random.below(1 + last.min(5));
        Some(fits[(last - back) as usize])
    }

    pub(crate) fn operated(&mut self, number: u64, result: Result<(), Refusal>) {
        let Some((_, act)) = self
            .operator
            .awaited
            .filter(|(awaited, _)| *awaited == number)
        else {
            return;
        };
        self.operator.awaited = None;
        self.stats.operated += u64::from(result.is_ok());
        match (act, result) {
            (Act::Cancel(id), Ok(())) => self.tell(Event::Cancelled { id }),
            (Act::Pause(agent, false), Ok(())) => {
                self.operator.paused.retain(|paused| *paused != agent);
            }
            _ => {}
        }
    }

    /// Whether nothing is held back any more.
    pub(crate) fn operator_is_done(&self) -> bool {
        self.operator.paused.is_empty() && self.parked_lanes().is_empty()
    }
}
