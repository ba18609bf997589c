//! How the back office treats the next documents: well, or as badly as it is told.
//!
//! Kept in memory: a restarted back office behaves well again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What happens to a document that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// It is inserted.
    #[default]
    Ok,
    /// It is refused with 500: a fault that a later try may not meet.
    Fail,
    /// It is inserted after [`Behaviour::slow_ms`].
    Slow,
    /// It is answered 503 and the connection is closed, as a proxy before a dead service does.
    Down,
    /// It is refused with 422: the back office will never take it.
    Reject,
}

/// The body of `POST /control`, and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// What happens to documents.
    pub mode: Mode,
    /// Delay before the insertion in milliseconds. Only [`Mode::Slow`] waits.
    /// Default: 1,000, long enough to be seen and short enough for any client's timeout.
    #[serde(default = "slow_ms_default")]
    pub slow_ms: u64,
    /// After so many milliseconds it behaves well again. Default: not before it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

fn slow_ms_default() -> u64 {
    1_000
}

impl Behaviour {
    /// `mode`, until told otherwise.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            slow_ms: slow_ms_default(),
            for_ms: None,
        }
    }
}

/// The behaviour in force.
#[derive(Debug)]
pub(crate) struct Control {
    set: Mutex<(Behaviour, Instant)>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            set: Mutex::new((Behaviour::new(Mode::Ok), Instant::now())),
        }
    }
}

impl Control {
    pub(crate) fn set(&self, behaviour: Behaviour) {
        *self.lock() = (behaviour, Instant::now());
    }

    /// What holds now; what was set for a time ends by itself.
    pub(crate) fn now(&self) -> Behaviour {
        let mut set = self.lock();
        let (behaviour, since) = *set;
        if behaviour
            .for_ms
            .is_some_and(|limit| since.elapsed() >= Duration::from_millis(limit))
        {
            *set = (Behaviour::new(Mode::Ok), Instant::now());
        }
        set.0
    }

    fn lock(&self) -> MutexGuard<'_, (Behaviour, Instant)> {
        // A pair of plain values is whole whoever panicked.
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
