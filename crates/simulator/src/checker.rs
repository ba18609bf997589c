//! Tells the history what happens and stops at the first broken promise.

use crate::event::Event;
use crate::history::History;
use crate::invariants::{EVENT_CHECKS, Invariant, Violation};
use countersign_checker::{Checker as Records, Limits, Party};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The history with its judges.
#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) history: History,
    /// What records alone prove.
    records: Records,
    /// The one promise to look at; all when absent.
    only: Option<Invariant>,
    violation: Option<Violation>,
}

impl Checker {
    pub(crate) fn new(agents: usize, only: Option<Invariant>) -> Self {
        Self {
            history: History::new(agents),
            records: records_of(agents),
            only,
            violation: None,
        }
    }

    /// Judges `event`, then takes it in.
    pub(crate) fn tell(&mut self, at: u64, event: Event) {
        for (invariant, check) in EVENT_CHECKS {
            if self.watches(*invariant)
                && let Err(violation) = check(&self.history, &event)
            {
                self.break_(violation);
            }
        }
        self.history.apply(at, event);
    }

    /// Takes in the verdict of a check that was made elsewhere.
    pub(crate) fn judge(
        &mut self,
        invariant: Invariant,
        verdict: impl FnOnce(&History) -> Result<(), Violation>,
    ) {
        if self.watches(invariant)
            && let Err(violation) = verdict(&self.history)
        {
            self.break_(violation);
        }
    }

    /// Has records judged; the first that breaks a promise that is watched stops the run.
    pub(crate) fn judge_records(&mut self, tell: impl FnOnce(&mut Records)) {
        tell(&mut self.records);
        for found in self.records.take_violations() {
            self.break_if_watched(found);
        }
    }

    /// Has judged what crosses journals, once everything was told.
    pub(crate) fn judge_all_records(&mut self) {
        let records = std::mem::replace(&mut self.records, Records::new(Limits::default()));
        for judged in records.finish().judged {
            judged
                .witnesses
                .into_iter()
                .for_each(|found| self.break_if_watched(found));
        }
    }

    fn break_if_watched(&mut self, found: countersign_checker::Violation) {
        if self.watches(found.invariant) {
            self.break_(Violation {
                invariant: found.invariant,
                says: found.says,
                about: found.about,
            });
        }
    }

    fn break_(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    fn watches(&self, invariant: Invariant) -> bool {
        self.violation.is_none() && self.only.is_none_or(|only| only == invariant)
    }

    /// Digest of every event with its instant.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (at, event) in &self.history.events {
            (at, std::mem::discriminant(event), event.about()).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.violation.is_some()
    }

    /// The broken promise with its witness: the events about its messages, and the faults between.
    pub(crate) fn take_violation(&mut self) -> Option<(Violation, String)> {
        let violation = self.violation.take()?;
        let concerns = |event: &Event| {
            event.is_fault() || event.about().iter().any(|id| violation.about.contains(id))
        };
        let events = &self.history.events;
        let chosen: Vec<_> = match violation.about.is_empty() {
            true => events
                .iter()
                .skip(events.len().saturating_sub(25))
                .collect(),
            false => events.iter().filter(|(_, event)| concerns(event)).collect(),
        };
        let mut witness = String::new();
        for (at, event) in &chosen[chosen.len().saturating_sub(WITNESS_EVENTS_MAX)..] {
            let _ = writeln!(witness, "{:>12.6} s  {}", *at as f64 / 1e6, short(event));
        }
        Some((violation, witness))
    }
}

/// A checker that is told every journal whole.
fn records_of(agents: usize) -> Records {
    let mut records = Records::new(Limits::default());
    records.tell_of(Party::Centre);
    records.tell_of(Party::Acks);
    for number in 0..agents {
        records.tell_of(Party::Site(number));
        records.name_site(number, crate::world::agent_name(number));
    }
    records
}

/// An event on one line, without its bodies.
pub(crate) fn short(event: &Event) -> String {
    match event {
        Event::Arrived {
            agent,
            id,
            generation,
            ..
        } => {
            format!("Arrived {{ agent: {agent}, id: {id}, generation: {generation} }}")
        }
        Event::SendInvoke { request, wish } => {
            let (to, lane, keyed) = (wish.to, wish.lane, wish.key.is_some());
            format!("SendInvoke {{ request: {request}, to: {to}, lane: {lane}, keyed: {keyed} }}")
        }
        Event::AckOk { agent, items } => {
            let said: Vec<_> = items
                .iter()
                .map(|item| (item.message, item.stage))
                .collect();
            format!("AckOk {{ agent: {agent}, items: {said:?} }}")
        }
        Event::AckInvoke {
            agent,
            item,
            forged,
        } => {
            let (id, stage) = (item.message, item.stage);
            format!("AckInvoke {{ agent: {agent}, id: {id}, stage: {stage:?}, forged: {forged} }}")
        }
        Event::AckRecorded {
            position,
            agent,
            ack,
        } => {
            let (id, stage) = (ack.item.message, ack.item.stage);
            format!(
                "AckRecorded {{ position: {position}, agent: {agent}, id: {id}, stage: {stage:?} }}"
            )
        }
        other => format!("{other:?}"),
    }
}

/// Events shown with a violation: enough to follow one message, short enough to read.
const WITNESS_EVENTS_MAX: usize = 60;
