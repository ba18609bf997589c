//! Histories in, verdicts out: what the records of every party prove about the invariants.
//!
//! A [`Checker`] is told the records of the centre, the ack store and the sites, each journal in its
//! own order, and, where somebody has them, what senders were promised and what the back office
//! holds. It says of each invariant whether it held, was broken (with the messages that show it), or
//! cannot be decided, and why. The simulator, the torture run and `countersign verify` all ask it.
//!
//! Promises: no clock and no disk are asked, and the order between two journals does not matter, so
//! clocks that disagree change no verdict (I21). What is missing (a journal, its beginning, a damaged
//! record) never counts as broken: it leaves open what depends on it.
//!
//! Left out on purpose: reading journals, hashing bodies, and what no record tells, such as answers
//! that were given too early: the simulator alone sees those.

mod acks;
mod centre;
mod close;
mod fanout;
mod finish;
mod forgotten;
mod limits;
mod lives;
mod operations;
mod outside;
mod report;
mod restored;
mod sites;
mod tally;
mod verdict;
mod words;

pub use limits::Limits;
pub use lives::Key;
pub use report::{Figures, Judged, Lost, Report, Verdict};
pub use verdict::{Invariant, Party, Violation};
pub use words::{ack_in_words, centre_in_words, site_in_words};

use acks::Acks;
use centre::Centre;
use countersign_rules::Position;
use fanout::FanOuts;
use lives::Lives;
use operations::Operations;
use outside::Outside;
use sites::Site;
use tally::Tallies;

/// Takes in records and judges them.
#[derive(Debug)]
pub struct Checker {
    limits: Limits,
    lives: Lives,
    fan_outs: FanOuts,
    centre: Centre,
    acks: Acks,
    sites: Vec<Site>,
    outside: Outside,
    tallies: Tallies,
    figures: Figures,
    operations: Operations,
}

impl Checker {
    /// A checker that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lives: Lives::default(),
            fan_outs: FanOuts::default(),
            centre: Centre::default(),
            acks: Acks::default(),
            sites: Vec::new(),
            outside: Outside::default(),
            tallies: Tallies::default(),
            figures: Figures::default(),
            operations: Operations::default(),
        }
    }

    /// Announces a journal that will be told from its first record on.
    pub fn tell_of(&mut self, party: Party) {
        *self.coverage(party) = Coverage::Whole;
    }

    /// Says that something of a journal will not be told: its beginning, or a damaged record.
    pub fn leave_out(&mut self, party: Party, why: impl Into<String>) {
        let coverage = self.coverage(party);
        if !matches!(coverage, Coverage::Partial(_)) {
            *coverage = Coverage::Partial(why.into());
        }
    }

    /// A record is damaged. A centre or a site that has written so down has reckoned with it (I20).
    pub fn damaged(&mut self, party: Party, position: Position) {
        self.figures.corrupt += 1;
        let name = self.name_of(party);
        self.leave_out(party, format!("record {position} of {name} is damaged"));
        match party {
            Party::Centre => self.centre.damaged.push(position),
            Party::Site(number) => self.site(number).damaged.push(position),
            Party::Acks => self.acks.damaged.push(position),
        }
    }

    /// Takes what has been found broken since the last call, in the order it was found.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        self.tallies.take_news()
    }

    /// The name of a party in words.
    pub fn name_of(&self, party: Party) -> String {
        match party {
            Party::Centre => String::from("the centre"),
            Party::Acks => String::from("the ack store"),
            Party::Site(number) => match self.sites.get(number).and_then(|site| site.name.as_ref())
            {
                Some(name) => format!("agent {name}"),
                None => format!("agent number {}", number + 1),
            },
        }
    }

    fn coverage(&mut self, party: Party) -> &mut Coverage {
        match party {
            Party::Centre => &mut self.centre.coverage,
            Party::Acks => &mut self.acks.coverage,
            Party::Site(number) => &mut self.site(number).coverage,
        }
    }

    fn site(&mut self, number: usize) -> &mut Site {
        if self.sites.len() <= number {
            self.sites.resize_with(number + 1, Site::default);
        }
        &mut self.sites[number]
    }
}

/// How much of a journal is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Coverage {
    /// Nothing.
    #[default]
    Absent,
    /// Every record it ever held.
    Whole,
    /// Some are left out, for this reason.
    Partial(String),
}

impl Coverage {
    /// Why something that was not found may still have been there; `None` when it was not there.
    fn doubt(&self, name: &str) -> Option<String> {
        match self {
            Coverage::Whole => None,
            Coverage::Absent => Some(format!("the journal of {name} is not given")),
            Coverage::Partial(why) => Some(why.clone()),
        }
    }
}
