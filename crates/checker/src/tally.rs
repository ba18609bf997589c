//! What was judged so far, invariant by invariant.

use crate::verdict::{Invariant, Violation};

/// One invariant's count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) held: u64,
    pub(crate) broken: u64,
    /// The first ones, as witnesses.
    pub(crate) witnesses: Vec<Violation>,
    pub(crate) open: u64,
    /// Why the first ones are open, each reason once.
    pub(crate) reasons: Vec<String>,
}

/// All counts.
#[derive(Debug)]
pub(crate) struct Tallies {
    tallies: Vec<Tally>,
    news: Vec<Violation>,
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            tallies: vec![Tally::default(); Invariant::ALL.len()],
            news: Vec::new(),
        }
    }
}

impl Tallies {
    pub(crate) fn of(&self, invariant: Invariant) -> &Tally {
        &self.tallies[invariant as usize]
    }

    pub(crate) fn held(&mut self, invariant: Invariant) {
        self.tallies[invariant as usize].held += 1;
    }

    pub(crate) fn broken(&mut self, violation: Violation) {
        let tally = &mut self.tallies[violation.invariant as usize];
        tally.broken += 1;
        if tally.witnesses.len() < WITNESSES_MAX {
            tally.witnesses.push(violation.clone());
        }
        if self.news.len() < NEWS_MAX {
            self.news.push(violation);
        }
    }

    pub(crate) fn open(&mut self, invariant: Invariant, why: String) {
        let tally = &mut self.tallies[invariant as usize];
        tally.open += 1;
        if tally.reasons.len() < REASONS_MAX && !tally.reasons.contains(&why) {
            tally.reasons.push(why);
        }
    }

    /// Counts a check: fine, or a violation.
    pub(crate) fn judge(&mut self, invariant: Invariant, violation: Option<Violation>) {
        match violation {
            None => self.held(invariant),
            Some(violation) => self.broken(violation),
        }
    }

    pub(crate) fn take_news(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.news)
    }
}

/// Violations of one invariant that are kept: the first shows the rule, a few more the extent.
const WITNESSES_MAX: usize = 5;
/// Violations kept for a caller that looks after each record.
const NEWS_MAX: usize = 64;
/// Reasons kept for one invariant.
const REASONS_MAX: usize = 4;
