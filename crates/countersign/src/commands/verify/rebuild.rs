//! The state rebuilt from records against the state that was kept (I28).
//!
//! The machine itself is run over the records, from the older snapshot or from the first record, and
//! compared with the newest snapshot when it gets there.

use super::journals::Journal;
use crate::exit::Failure;
use countersign_checker::Checker;
use countersign_rules::Machine;
use countersign_rules::ack::AckStore;
use countersign_rules::delivery::{Centre, Policy};
use countersign_rules::record::RecordError;
use countersign_rules::site::{Policy as SitePolicy, Site};

/// A machine that follows a journal.
pub(super) struct Rebuild {
    following: Option<Following>,
}

struct Following {
    machine: Followed,
    /// Records up to here are in the machine.
    from: u64,
    /// Where to compare.
    newest: u64,
    /// Whether the policy is the one that the store was run with.
    policy_known: bool,
}

enum Followed {
    Centre(Box<Centre>, Box<Policy>),
    Acks(Box<AckStore>),
    Site(Box<Site>),
}

impl Rebuild {
    pub(super) fn none() -> Self {
        Self { following: None }
    }

    pub(super) fn of_centre(
        wanted: bool,
        journal: &Journal,
        policy: Option<Policy>,
    ) -> Result<Self, Failure> {
        let known = policy.is_some();
        let policy = policy.unwrap_or_default();
        let machine = Followed::Centre(Box::new(Centre::new(policy.clone())), Box::new(policy));
        Self::begin(wanted, journal, machine, known)
    }

    pub(super) fn of_acks(wanted: bool, journal: &Journal) -> Result<Self, Failure> {
        Self::begin(wanted, journal, Followed::Acks(Box::default()), true)
    }

    pub(super) fn of_site(wanted: bool, journal: &Journal) -> Result<Self, Failure> {
        let machine = Followed::Site(Box::new(Site::new(SitePolicy::default())));
        Self::begin(wanted, journal, machine, true)
    }

    fn begin(
        wanted: bool,
        journal: &Journal,
        mut machine: Followed,
        policy_known: bool,
    ) -> Result<Self, Failure> {
        let snapshots = journal.snapshots();
        let Some(&newest) = snapshots.first().filter(|_| wanted) else {
            return Ok(Self::none());
        };
        let mut from = 0;
        if journal.first() > 1 {
            let Some(&older) = snapshots.get(1) else {
                return Ok(Self::none());
            };
            let Some(image) = journal.snapshot(older)? else {
                return Ok(Self::none());
            };
            if machine.load(&image).is_err() {
                return Ok(Self::none());
            }
            from = older;
        }
        let following = Following {
            machine,
            from,
            newest,
            policy_known,
        };
        Ok(Self {
            following: Some(following),
        })
    }

    /// Follows one record.
    pub(super) fn take(
        &mut self,
        position: u64,
        payload: &[u8],
        checker: &mut Checker,
        journal: &Journal,
    ) -> Result<(), Failure> {
        let Some(following) = &mut self.following else {
            return Ok(());
        };
        if position <= following.from {
            return Ok(());
        }
        let name = journal.named();
        if position != following.from + 1 {
            checker.state_unseen(format!(
                "records of {name} are damaged before its newest snapshot"
            ));
            self.following = None;
            return Ok(());
        }
        following.from = position;
        if let Err(error) = following.machine.restore(position, payload) {
            checker.state_differs(format!("record {position} of {name}: {error}"));
            self.following = None;
            return Ok(());
        }
        if position == following.newest {
            let kept = journal.snapshot(position)?;
            following.compare(kept, checker, &name);
            self.following = None;
        }
        Ok(())
    }
}

impl Following {
    fn compare(&self, kept: Option<Vec<u8>>, checker: &mut Checker, name: &str) {
        let position = self.newest;
        let Some(kept) = kept else {
            return checker.state_unseen(format!("the snapshot of {name} was replaced meanwhile"));
        };
        let equal = match self.machine.equals(&kept) {
            Ok(equal) => equal,
            Err(error) => {
                let says = format!("the snapshot of {name} after record {position}: {error}");
                return checker.state_differs(says);
            }
        };
        if let Followed::Centre(centre, _) = &self.machine {
            checker.counters(centre.state().counters());
        }
        match (equal, self.policy_known) {
            (true, _) => checker.state_agrees(1),
            (false, true) => checker.state_differs(format!(
                "the state of {name} rebuilt from records is not its snapshot after record {position}"
            )),
            (false, false) => checker.state_unseen(format!(
                "the state of {name} depends on its configuration: name it with --config"
            )),
        }
    }
}

impl Followed {
    fn load(&mut self, image: &[u8]) -> Result<(), RecordError> {
        match self {
            Followed::Centre(machine, _) => machine.load(image),
            Followed::Acks(machine) => machine.load(image),
            Followed::Site(machine) => machine.load(image),
        }
    }

    fn restore(&mut self, position: u64, record: &[u8]) -> Result<(), RecordError> {
        match self {
            Followed::Centre(machine, _) => machine.restore(position, record),
            Followed::Acks(machine) => machine.restore(position, record),
            Followed::Site(machine) => machine.restore(position, record),
        }
    }

    fn equals(&self, image: &[u8]) -> Result<bool, RecordError> {
        match self {
            Followed::Centre(machine, policy) => {
                let mut kept = Centre::new((**policy).clone());
                kept.load(image)?;
                Ok(kept.state() == machine.state())
            }
            Followed::Acks(machine) => Ok(machine.image() == image),
            Followed::Site(machine) => {
                let mut kept = Site::new(SitePolicy::default());
                kept.load(image)?;
                Ok(kept.state() == machine.state())
            }
        }
    }
}
