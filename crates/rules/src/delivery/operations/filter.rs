//! Which messages are meant: a filter, and what it compares.

use super::{Candidate, is_dead_letter};
use crate::delivery::record::{End, Record, decode_accepted, decode_record};
use crate::machine::Position;
use crate::message::{AgentName, TypeName};
use crate::time::Timestamp;
use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Which messages are meant. What is absent fits all; what is given must all fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Their recipient.
    pub agent: Option<AgentName>,
    /// Their type.
    pub kind: Option<TypeName>,
    /// The code of the reason they ended for.
    pub code: Option<String>,
    /// Their states.
    pub states: Vec<Wanted>,
    /// They ended then or later; those that have not ended were accepted then.
    pub since: Option<Timestamp>,
    /// They ended before this; those that have not ended were accepted before.
    pub until: Option<Timestamp>,
    /// Whether they were put away.
    pub discarded: Option<bool>,
    /// They were named one by one: what else stands here did not choose them.
    pub by_ids: bool,
}

/// A state that a filter asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wanted {
    /// Not pushed over a living connection.
    Waiting,
    /// Ended so.
    Ended(End),
}

/// What is called dead letters.
pub fn dead_letters() -> Vec<Wanted> {
    [End::Dead, End::Rejected].map(Wanted::Ended).to_vec()
}

/// What a filter compares, and what a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The message and where it stands.
    pub candidate: Candidate,
    /// Its type.
    pub kind: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The record that says so, or else the one that accepted it.
    pub decided: Position,
    /// Why it ended.
    pub code: String,
    /// The same in words.
    pub detail: String,
    /// Attempts that were made at its site.
    pub attempts: u32,
}

/// A record that is needed to tell whether a message is meant cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Where it stands.
    pub position: Position,
    /// Why not.
    pub why: String,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} cannot be read: {}", self.position, self.why)
    }
}

impl Facts {
    /// Reads what stands about a candidate in the journal.
    ///
    /// # Errors
    /// A record that is needed cannot be read.
    pub fn read<B: AsRef<[u8]>>(
        candidate: &Candidate,
        read: impl Fn(Position) -> Result<B, String>,
    ) -> Result<Self, Unread> {
        let unread = |position: Position, why: String| Unread { position, why };
        let position = candidate.accepted;
        let bytes = read(position).map_err(|why| unread(position, why))?;
        let accepted =
            decode_accepted(bytes.as_ref()).map_err(|why| unread(position, why.to_string()))?;
        let mut facts = Self {
            candidate: candidate.clone(),
            kind: accepted.kind.to_owned(),
            accepted_at: accepted.at,
            ended_at: None,
            decided: position,
            code: String::new(),
            detail: String::new(),
            attempts: 0,
        };
        if candidate.end.is_none() {
            return Ok(facts);
        }
        let mut at = candidate.last;
        for _ in 0..RECORDS_AFTER_THE_END_MAX {
            let bytes = read(at).map_err(|why| unread(at, why))?;
            let record = decode_record(bytes.as_ref());
            match record.map_err(|why| unread(at, why.to_string()))? {
                Record::Settled {
                    at: ended,
                    outcome,
                    attempt,
                    ..
                } => {
                    (facts.ended_at, facts.decided) = (Some(ended), at);
                    (facts.code, facts.detail) = (outcome.code, outcome.detail);
                    facts.attempts = attempt;
                    return Ok(facts);
                }
                Record::Kept { previous, .. }
                | Record::Discarded { previous, .. }
                | Record::Restored { previous, .. } => at = previous,
                _ => return Err(unread(at, String::from("it is not about an end"))),
            }
        }
        let why = format!("its end stands more than {RECORDS_AFTER_THE_END_MAX} records before");
        Err(unread(at, why))
    }
}

/// Records about one message that are read to find its end: late words, and being put away and back.
const RECORDS_AFTER_THE_END_MAX: usize = 10_000;

impl Filter {
    /// Whether a message of that state can fit, before anything of it is read.
    pub fn wants(&self, end: Option<End>, is_discarded: bool) -> bool {
        let state = end.map_or(Wanted::Waiting, Wanted::Ended);
        self.states.contains(&state) && self.discarded.is_none_or(|wanted| wanted == is_discarded)
    }

    /// Whether only dead letters can fit, which are found without looking at all that has ended.
    pub(super) fn wants_failures_alone(&self) -> bool {
        let is_failure =
            |state: &Wanted| matches!(state, Wanted::Ended(end) if *end != End::Processed);
        self.states.iter().all(is_failure)
    }

    /// Whether a message is meant.
    pub fn fits(&self, facts: &Facts) -> bool {
        let candidate = &facts.candidate;
        let at = facts.ended_at.unwrap_or(facts.accepted_at);
        self.wants(candidate.end, candidate.is_discarded)
            && self
                .agent
                .as_ref()
                .is_none_or(|agent| *agent == candidate.agent)
            && self
                .kind
                .as_ref()
                .is_none_or(|kind| kind.as_str() == facts.kind)
            && self.code.as_ref().is_none_or(|code| *code == facts.code)
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
    }
}

impl Wanted {
    /// Whether one in this state is a dead letter.
    pub fn is_dead_letter(self) -> bool {
        matches!(self, Self::Ended(end) if is_dead_letter(end))
    }
}
