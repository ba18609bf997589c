//! What a checker says in the end.

use crate::verdict::{Invariant, Violation};
use countersign_rules::delivery::End;
use std::collections::BTreeMap;

/// What can be said of one invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every case was as promised.
    Held,
    /// At least one was not.
    Violated,
    /// Nothing speaks against it, and some cases, or all, cannot be decided.
    Undecided,
}

/// One invariant with its verdict.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Which.
    pub invariant: Invariant,
    /// What can be said.
    pub verdict: Verdict,
    /// Cases that were as promised.
    pub held: u64,
    /// Cases that were not.
    pub broken: u64,
    /// Cases that cannot be decided.
    pub open: u64,
    /// Why they cannot.
    pub reasons: Vec<String>,
    /// The first broken ones.
    pub witnesses: Vec<Violation>,
}

/// Everything a checker says.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every invariant, in their order.
    pub judged: Vec<Judged>,
    /// The figures.
    pub figures: Figures,
}

impl Report {
    /// Whether any invariant was broken.
    pub fn is_violated(&self) -> bool {
        let broken = |judged: &Judged| judged.verdict == Verdict::Violated;
        self.judged.iter().any(broken)
    }

    /// The judgement of one invariant.
    pub fn of(&self, invariant: Invariant) -> &Judged {
        &self.judged[invariant as usize]
    }
}

/// Confirmed sends that are not there, by where in the list of sends they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Before the first that is there.
    pub prefix: u64,
    /// Between the first and the last that are.
    pub middle: u64,
    /// Behind the last that is there.
    pub postfix: u64,
}

impl Lost {
    /// All of them.
    pub fn total(self) -> u64 {
        self.prefix + self.middle + self.postfix
    }
}

/// What was counted on the way.
#[derive(Clone, Debug, Default)]
#[allow(
    missing_docs,
    reason = "each counts what it is called, unless said otherwise"
)]
pub struct Figures {
    pub accepted: u64,
    /// Ends that stand: one taken back by another life is not counted.
    pub ends: BTreeMap<End, u64>,
    pub reprocessed: u64,
    /// Finished messages forgotten after their retention.
    pub forgotten: u64,
    pub pushes: u64,
    /// Pushes by their cause.
    pub causes: BTreeMap<&'static str, u64>,
    pub received: u64,
    pub acks: u64,
    /// Acknowledgements kept as evidence, by why.
    pub acks_kept: BTreeMap<&'static str, u64>,
    pub centre_starts: u64,
    pub site_stores_lost: u64,
    pub inboxed: u64,
    /// Messages that came into an inbox once more.
    pub arrived_again: u64,
    pub attempts: u64,
    /// Attempts that a site declared as perhaps repeating an effect.
    pub possibly_repeated: u64,
    pub in_flight_max: u64,
    pub in_flight_bytes_max: u64,
    /// Sends that a sender was promised.
    pub promised: u64,
    pub lost: Lost,
    /// At a site or in the back office, and never accepted.
    pub unexpected: u64,
    pub effects: u64,
    /// Effects after the first of one life, declared or not.
    pub effects_repeated: u64,
    /// Those that nothing allows.
    pub duplicated_in_effect: u64,
    pub reordered: u64,
    pub false_success: u64,
    pub stuck: u64,
    /// Damaged records.
    pub corrupt: u64,
}

impl Figures {
    /// How many messages ended so.
    pub fn ended(&self, end: End) -> u64 {
        self.ends.get(&end).copied().unwrap_or(0)
    }

    /// Accepted and not ended.
    pub fn pending(&self) -> u64 {
        self.accepted.saturating_sub(self.ends.values().sum())
    }

    /// Pushes after the first of a life, each with its cause.
    pub fn pushed_again(&self) -> u64 {
        let first = ["new", "reprocessed"];
        let again = self
            .causes
            .iter()
            .filter(|(cause, _)| !first.contains(cause));
        again.map(|(_, count)| count).sum()
    }
}
