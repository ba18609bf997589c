//! A seed expanded into the options of one run, so that a run can be read before it is repeated.

use countersign_journal::sim::Random;
use countersign_journal::{Options, Preallocation};
use countersign_rules::delivery;
use countersign_rules::retry::RetryPolicy;
use countersign_rules::site;
use std::time::Duration;

use crate::senders::KINDS;
use countersign_rules::TypeName;

use crate::planted::{Around, Defect, PlantedBug};

/// Which rules for their lanes messages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Every message blocks.
    Block,
    /// Each has one of its own.
    Any,
    /// Every message parks.
    Park,
}

/// Everything that differs from run to run, beside the order of events.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed that it was made from, and that goes on to decide the rest.
    pub seed: u64,
    /// Whether anything goes wrong: three runs in four.
    pub faults: bool,
    /// Sites.
    pub agents: usize,
    /// Senders, each of which sends one message after the other.
    pub senders: usize,
    /// Messages sent in all.
    pub messages: usize,
    /// Lanes of each agent.
    pub lanes: u8,
    /// Longest pause of a sender, in microseconds.
    pub think_us: u64,
    /// Messages in flight to one agent.
    pub window_messages: u32,
    /// Bytes in flight to one agent.
    pub window_bytes: u64,
    /// Wait for a receipt, in milliseconds.
    pub ack_wait_ms: u64,
    /// Lanes an agent works on side by side.
    pub workers: u32,
    /// Life of a token, in milliseconds.
    pub token_life_ms: u64,
    /// An agent fetches a new token in time and opens its next connection before it leaves the last.
    pub renews: bool,
    /// What a client has left behind may still hand it pushes.
    pub strays: bool,
    /// The back office honours the token it is given.
    pub office_honours_tokens: bool,
    /// Longest way over the network, in microseconds.
    pub delay_us: u64,
    /// Longest step of a disk, in microseconds.
    pub disk_us: u64,
    /// Size of a journal's segments.
    pub segment_bytes: u64,
    /// Reserve segments when they are made.
    pub preallocates: bool,
    /// Flushes between two writes of the witness.
    pub witness_every: u32,
    /// Journal bytes between two snapshots.
    pub snapshot_every_bytes: u64,
    /// Journal bytes beyond which long-lived messages are copied forward.
    pub carry_beyond_bytes: u64,
    /// Messages that have ended and stay in the centre's memory.
    pub remembered_max: u64,
    /// Messages that go to the archive together.
    pub archive_batch: usize,
    /// Half the longest pause between two decisions of the operator, in microseconds.
    pub operator_pause_us: u64,
    /// Mean pause between two faults, in microseconds.
    pub fault_pause_us: u64,
    /// Share of faults that are crashes, in percent.
    pub crash_percent: u64,
    /// Which rules for their lanes messages have.
    pub(crate) rules: Rules,
    /// Attempts at once before the first wait, for one of the two types of messages.
    pub immediate: u32,
    /// Blocks that never landed hold bytes of removed files.
    pub stale_bytes: bool,
}

impl Scenario {
    /// The scenario of `seed`, with `messages` to send if given.
    pub fn of(seed: u64, messages: Option<usize>) -> Self {
        let mut random = Random::new(seed);
        let agents = 1 + random.below(3) as usize;
        let messages = messages.unwrap_or(20 + random.below(60) as usize);
        let mut one_of = |values: &[u64]| values[random.below(values.len() as u64) as usize];
        Self {
            seed,
            faults: !seed.is_multiple_of(4),
            agents,
            senders: one_of(&[1, 2, 3, 5]) as usize,
            messages,
            lanes: one_of(&[1, 2, 3]) as u8,
            think_us: one_of(&[20_000, 200_000, 1_000_000]),
            window_messages: one_of(&[1, 2, 5, 64]) as u32,
            window_bytes: one_of(&[100, 400, 1 << 20]),
            ack_wait_ms: one_of(&[800, 3_000, 15_000]),
            workers: one_of(&[1, 2, 4]) as u32,
            token_life_ms: one_of(&[1_500, 6_000, 30_000, 3_600_000]),
            renews: one_of(&[0, 1]) == 1,
            strays: one_of(&[0, 1]) == 1,
            office_honours_tokens: one_of(&[0, 1, 1]) == 1,
            delay_us: one_of(&[2_000, 30_000, 200_000]),
            disk_us: one_of(&[500, 5_000, 40_000]),
            segment_bytes: one_of(&[4 << 10, 16 << 10, 128 << 10]),
            preallocates: one_of(&[0, 1]) == 1,
            witness_every: one_of(&[1, 4, 256]) as u32,
            snapshot_every_bytes: one_of(&[2 << 10, 8 << 10, 1 << 20]),
            carry_beyond_bytes: one_of(&[8 << 10, 32 << 10]),
            operator_pause_us: one_of(&[300_000, 1_000_000, 100_000_000]),
            fault_pause_us: one_of(&[150_000, 600_000, 2_000_000]),
            crash_percent: one_of(&[10, 40, 80]),
            stale_bytes: one_of(&[0, 1]) == 1,
            rules: [Rules::Block, Rules::Any, Rules::Park][one_of(&[0, 1, 1, 2]) as usize],
            immediate: one_of(&[0, 1, 3]) as u32,
            remembered_max: one_of(&[0, 2, 10, 65_536]),
            archive_batch: one_of(&[1, 3]) as usize,
        }
    }

    pub(crate) fn centre_policy(&self, bug: Option<&PlantedBug>) -> delivery::Policy {
        let no_window = is(bug, Around::NoWindow);
        delivery::Policy {
            window_messages: if no_window {
                u32::MAX
            } else {
                self.window_messages
            },
            window_bytes: if no_window {
                u64::MAX
            } else {
                self.window_bytes
            },
            ack_wait: Duration::from_millis(self.ack_wait_ms),
            ack_wait_max: Duration::from_secs(60),
            token_guard: match is(bug, Around::NoTokenGuard) {
                true => Duration::ZERO,
                false => Duration::from_millis(500),
            },
            remembered_max: self.remembered_max,
            archive_batch: self.archive_batch,
            planted: PlantedBug::in_rules(bug),
            ..delivery::Policy::default()
        }
    }

    pub(crate) fn site_policy(&self, bug: Option<&PlantedBug>) -> site::Policy {
        let kind = TypeName::parse(KINDS[1]).expect("the name is good");
        let own = RetryPolicy {
            attempts_max: ATTEMPTS_MAX[1],
            immediate: self.immediate,
            delay_first: Duration::from_millis(500),
            delay_max: Duration::from_secs(3),
        };
        site::Policy {
            workers: self.workers,
            types: [(kind, own)].into(),
            retry: RetryPolicy {
                attempts_max: ATTEMPTS_MAX[0],
                immediate: 0,
                delay_first: Duration::from_millis(200),
                delay_max: Duration::from_secs(5),
            },
            planted: PlantedBug::in_rules(bug),
        }
    }

    pub(crate) fn journal_options(&self, bug: Option<&PlantedBug>) -> Options {
        Options {
            segment_bytes: self.segment_bytes,
            preallocation: match self.preallocates {
                true => Preallocation::Reserve,
                false => Preallocation::Grow,
            },
            reserve_bytes: 16 << 10,
            witness_every_flushes: self.witness_every,
            planted: PlantedBug::in_journal(bug),
            ..Options::default()
        }
    }
}

/// Attempts at messages of the two types.
pub(crate) const ATTEMPTS_MAX: [u32; 2] = [6, 4];

/// Whether the planted bug is this one around the rules.
pub(crate) fn is(bug: Option<&PlantedBug>, around: Around) -> bool {
    bug.is_some_and(|bug| bug.defect == Defect::Around(around))
}
