//! What was seen, for all connections together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use signalr_client::Closed;

/// Counts and faults.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) up: AtomicU64,
    pub(crate) down: AtomicU64,
    /// Why connections ended that could not be resumed, as they were told.
    told: Mutex<BTreeMap<String, u64>>,
    faults: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn told(&self, why: &Closed) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        *told.entry(why.to_string()).or_default() += 1;
    }

    pub(crate) fn fault(&self, what: String) {
        eprintln!("FAULT {what}");
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.push(what);
    }

    /// How many connections ended because they could not be resumed.
    pub(crate) fn times_told(&self) -> u64 {
        self.reasons().values().sum()
    }

    pub(crate) fn reasons(&self) -> BTreeMap<String, u64> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }

    pub(crate) fn faults(&self) -> usize {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.len()
    }
}

pub(crate) fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

pub(crate) fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
