//! The known defects that the simulator can switch on, and the promise that has to catch each.

use crate::invariants::Invariant;
use countersign_journal::Planted as InJournal;
use countersign_rules::planted::Planted as InRules;

/// Where a defect sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// In the rules.
    Rules(InRules),
    /// In the journal of every host.
    Journal(InJournal),
    /// In what runs the rules; see [`Around`].
    Around(Around),
}

/// A defect of whatever stands around rules and journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    /// The centre lets answers and pushes out before the flush.
    EagerCentre,
    /// The ack store answers before the flush.
    EagerAcks,
    /// The agent lets acknowledgements and work out before the flush.
    EagerAgent,
    /// The back office is given another token with each attempt.
    TokenPerAttempt,
    /// The ack store turns posts away while the centre is down.
    AcksNeedCentre,
    /// The hub looks at no token after the connect.
    NoTokenGuard,
    /// The window is as large as it likes.
    NoWindow,
    /// The poster gives up after one try.
    PostOnce,
}

/// A known defect with the promise that it breaks.
#[derive(Clone, Copy, Debug)]
pub struct PlantedBug {
    /// Its name on the command line.
    pub name: &'static str,
    /// The promise meant for it.
    pub breaks: Invariant,
    /// Where it sits.
    pub defect: Defect,
}

/// Every known defect.
pub const PLANTED: &[PlantedBug] = &[
    rules(
        "accept-without-record",
        Invariant::I1,
        InRules::AcceptWithoutRecord,
    ),
    around("eager-centre", Invariant::I1, Around::EagerCentre),
    journal(
        "answer-before-flush",
        Invariant::I1,
        InJournal::AnswerBeforeFlush,
    ),
    rules("push-foreign-body", Invariant::I2, InRules::PushForeignBody),
    rules("forget-keys", Invariant::I3, InRules::ForgetKeys),
    rules(
        "forget-archived-keys",
        Invariant::I3,
        InRules::ForgetArchivedKeys,
    ),
    rules(
        "drop-on-disconnect",
        Invariant::I4,
        InRules::DropOnDisconnect,
    ),
    around("post-once", Invariant::I5, Around::PostOnce),
    rules("requeue-at-end", Invariant::I6, InRules::RequeueAtEnd),
    rules("pass-unrecorded", Invariant::I6, InRules::PassUnrecorded),
    rules("resume-unasked", Invariant::I6, InRules::ResumeUnasked),
    rules("push-parked", Invariant::I6, InRules::PushParked),
    rules("last-due-first", Invariant::I6, InRules::LastDueFirst),
    rules(
        "count-disconnects",
        Invariant::I23,
        InRules::CountDisconnects,
    ),
    rules("poison-forever", Invariant::I23, InRules::PoisonForever),
    rules("push-twice", Invariant::I7, InRules::PushTwice),
    around("eager-agent", Invariant::I8, Around::EagerAgent),
    rules(
        "acknowledge-failure",
        Invariant::I9,
        InRules::AcknowledgeFailure,
    ),
    around("token-per-attempt", Invariant::I10, Around::TokenPerAttempt),
    rules("last-ack-wins", Invariant::I11, InRules::LastAckWins),
    around("eager-acks", Invariant::I11, Around::EagerAcks),
    around("acks-need-centre", Invariant::I12, Around::AcksNeedCentre),
    rules("no-reoffer", Invariant::I13, InRules::NoReoffer),
    rules("no-supersede", Invariant::I14, InRules::NoSupersede),
    around("no-token-guard", Invariant::I15, Around::NoTokenGuard),
    around("no-window", Invariant::I16, Around::NoWindow),
    rules("push-paused", Invariant::I16, InRules::PushPaused),
    rules("same-generation", Invariant::I24, InRules::SameGeneration),
    rules(
        "cancel-without-record",
        Invariant::I25,
        InRules::CancelWithoutRecord,
    ),
    rules("push-before-due", Invariant::I25, InRules::PushBeforeDue),
    rules("skip-member", Invariant::I26, InRules::SkipMember),
    rules("keep-member", Invariant::I26, InRules::KeepMember),
    rules("quorum-too-early", Invariant::I26, InRules::QuorumTooEarly),
    rules(
        "cursor-before-acks",
        Invariant::I18,
        InRules::CursorBeforeAcks,
    ),
    journal(
        "retry-failed-flush",
        Invariant::I19,
        InJournal::RetryFailedFlush,
    ),
    journal("skip-checksums", Invariant::I20, InJournal::SkipChecksums),
    journal("cut-at-damage", Invariant::I20, InJournal::CutAtDamage),
];

const fn rules(name: &'static str, breaks: Invariant, bug: InRules) -> PlantedBug {
    PlantedBug {
        name,
        breaks,
        defect: Defect::Rules(bug),
    }
}

const fn journal(name: &'static str, breaks: Invariant, bug: InJournal) -> PlantedBug {
    PlantedBug {
        name,
        breaks,
        defect: Defect::Journal(bug),
    }
}

const fn around(name: &'static str, breaks: Invariant, bug: Around) -> PlantedBug {
    PlantedBug {
        name,
        breaks,
        defect: Defect::Around(bug),
    }
}

impl PlantedBug {
    /// The defect of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PLANTED.iter().find(|bug| bug.name == name)
    }

    /// The defect of the rules, if it is one.
    pub(crate) fn in_rules(bug: Option<&Self>) -> InRules {
        match bug.map(|bug| bug.defect) {
            Some(Defect::Rules(bug)) => bug,
            _ => InRules::None,
        }
    }

    /// The defect of the journal, if it is one.
    pub(crate) fn in_journal(bug: Option<&Self>) -> Option<InJournal> {
        match bug.map(|bug| bug.defect) {
            Some(Defect::Journal(bug)) => Some(bug),
            _ => None,
        }
    }
}
