//! The back office: it inserts documents, refuses some, fails now and then, and counts what it did.

use crate::event::Event;
use crate::planted::Around;
use crate::world::{Happening, MS, SECOND, World};
use countersign_rules::MessageId;
use countersign_rules::ack::Outcome;
use countersign_rules::site::WorkResult;
use std::collections::BTreeSet;
use std::time::Duration;

/// One attempt of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) agent: usize,
    pub(crate) life: u64,
    pub(crate) id: MessageId,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
}

/// What the back office says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Inserted,
    Refused,
    Failed { retry_after: Option<Duration> },
    StillWorking,
    Unusable,
}

/// How it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Well,
    Failing,
    Slow,
    Down,
}

/// The back office.
#[derive(Debug, Default)]
pub(crate) struct Office {
    pub(crate) mood: Mood,
    /// Tokens of what it has inserted: message, generation, and attempt where a defect adds it.
    tokens: BTreeSet<(MessageId, u32, u32)>,
}

impl World {
    pub(crate) fn call_arrives(&mut self, call: Call) {
        let said = self.judge_call(&call);
        let slow = self.office.mood == Mood::Slow;
        let delay = self.delay()
            + if slow {
                self.random.below(4 * SECOND)
            } else {
                0
            };
        if !self.mishap(3) {
            self.later(delay, Happening::CallAnswered { call, said });
        }
    }

    fn judge_call(&mut self, call: &Call) -> Said {
        let failed = Said::Failed { retry_after: None };
        let mood = self.office.mood;
        if mood == Mood::Down || (mood == Mood::Failing && self.chance(60)) || self.mishap(3) {
            return failed;
        }
        if self.mishap(1) {
            return Said::Failed {
                retry_after: Some(Duration::from_secs(2)),
            };
        }
        let attempt = if self.has(Around::TokenPerAttempt) {
            call.attempt
        } else {
            0
        };
        let token = (call.id, call.generation, attempt);
        let Call {
            agent,
            id,
            generation,
            attempt,
            ..
        } = *call;
        if self.scenario.office_honours_tokens && self.office.tokens.contains(&token) {
            return Said::Inserted;
        }
        // Some documents are refused for good, and some can never be inserted.
        match id.0[0] {
            0..15 => return Said::Refused,
            15..24 => return failed,
            24..28 => return Said::Unusable,
            28..31 if self.mishap(80) => return Said::StillWorking,
            _ => {}
        }
        self.office.tokens.insert(token);
        let honours = self.scenario.office_honours_tokens;
        self.tell(Event::Effect {
            honours,
            agent,
            id,
            generation,
            attempt,
        });
        self.stats.effects += 1;
        Said::Inserted
    }

    pub(crate) fn call_times_out(&mut self, call: &Call) {
        self.call_ends(call, Said::Failed { retry_after: None });
    }

    /// Puts a call on its way.
    pub(crate) fn call_office(&mut self, call: Call) {
        let (delay, lost) = (self.delay(), self.mishap(2));
        if !lost {
            self.later(delay, Happening::CallArrives { call });
        }
        self.later(3 * SECOND + 10 * MS, Happening::CallTimesOut { call });
    }
}

impl Said {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Said::Inserted => "done",
            Said::Refused => "rejected",
            Said::Failed { .. } => "failed",
            Said::StillWorking => "working",
            Said::Unusable => "unusable",
        }
    }

    pub(crate) fn result(self) -> WorkResult {
        let outcome = |code: &str| Outcome {
            code: code.into(),
            ..Outcome::default()
        };
        match self {
            Said::Inserted => WorkResult::Done(outcome("inserted")),
            Said::Refused => WorkResult::Rejected(outcome("http-422")),
            Said::StillWorking => WorkResult::StillWorking {
                outcome: outcome("http-202"),
                ask_after: Some(Duration::from_secs(1)),
            },
            Said::Unusable => WorkResult::Unusable(outcome("envelope-malformed")),
            Said::Failed { retry_after } => WorkResult::Failed {
                outcome: outcome("http-503"),
                retry_after,
            },
        }
    }
}
