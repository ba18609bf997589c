//! The kinds of faults, which of them this machine allows, and how often each was injected.

use crate::clocks;
use crate::disks;
use anyhow::{Result, ensure};
use clap::ValueEnum;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL, and a start soon after; for a while only the ack API is down, then only the centre.
    Kill,
    /// A full disk of the centre, the ack API or the agent: below the reserve, or to the last byte.
    Disk,
    /// SIGSTOP and, a while later, SIGCONT.
    Pause,
    /// Connections of the agent cut at a byte, or stalled in one direction.
    Proxy,
    /// The wall clock of one process jumps, by seconds or by years, there and back.
    Clock,
    /// The agent's store is lost, or replaced by an older copy of itself.
    Store,
    /// Tokens that live for five seconds.
    Tokens,
    /// Two live connections of one agent.
    Twins,
}

impl Fault {
    /// Those that this machine allows; what it does not allow is said loudly.
    pub(crate) fn available() -> BTreeSet<Fault> {
        let all = Fault::value_variants().iter().copied();
        all.filter(|fault| match fault.unavailable() {
            None => true,
            Some(why) => {
                eprintln!("\n*** NOT TESTED: {fault}: {why} ***\n");
                false
            }
        })
        .collect()
    }

    fn unavailable(self) -> Option<String> {
        match self {
            Fault::Disk => disks::unavailable(),
            Fault::Clock => clocks::unavailable(),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Kill => "kill",
            Fault::Disk => "disk",
            Fault::Pause => "pause",
            Fault::Proxy => "proxy",
            Fault::Clock => "clock",
            Fault::Store => "store",
            Fault::Tokens => "tokens",
            Fault::Twins => "twins",
        })
    }
}

/// How often what was done.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    counts: Mutex<BTreeMap<Fault, BTreeMap<String, u64>>>,
    seen: Mutex<BTreeMap<&'static str, u64>>,
}

impl Injected {
    /// Counts one fault of a kind, under what exactly it was.
    pub(crate) fn count(&self, fault: Fault, what: impl Into<String>) {
        self.add(fault, what, 1);
    }

    pub(crate) fn add(&self, fault: Fault, what: impl Into<String>, times: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.entry(fault).or_default();
        *counts.entry(what.into()).or_default() += times;
    }

    /// Counts what came of faults, and is none itself.
    pub(crate) fn saw(&self, what: &'static str, times: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(what).or_default() += times;
    }

    /// A run that injected nothing of a kind it was to inject proves nothing about it.
    pub(crate) fn each_of(&self, chosen: &BTreeSet<Fault>) -> Result<()> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in chosen {
            ensure!(
                counts.contains_key(fault),
                "no fault of the kind `{fault}` was injected: this run shows less than it says"
            );
        }
        let is_full = |what: &String| what == CENTRE_IS_FULL;
        let filled = counts
            .get(&Fault::Disk)
            .is_some_and(|disks| disks.keys().any(is_full));
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = seen.get(REFUSED_FOR_SPACE).copied().unwrap_or(0);
        ensure!(
            !filled || refused > 0,
            "the centre's disk was full and no send was refused with 507"
        );
        Ok(())
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = counts.iter().map(|(fault, counts)| {
            let sum: u64 = counts.values().sum();
            let each = counts.iter().map(|(what, times)| format!("{what} {times}"));
            format!("{fault} {sum} ({})", each.collect::<Vec<_>>().join(", "))
        });
        f.write_str(&kinds.collect::<Vec<_>>().join("; "))?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .try_for_each(|(what, times)| write!(f, "\nseen: {what} {times}"))
    }
}

/// Under what the centre's disk below its reserve is counted.
const CENTRE_IS_FULL: &str = "Centre BelowReserve";
/// Under what sends are counted that got 507.
pub(crate) const REFUSED_FOR_SPACE: &str = "sends refused with 507";
