//! The clock by which finished messages age.
//!
//! A wall clock that jumps forward must not make the centre forget its idempotency keys, and one
//! that ran ahead and was set back must not make it remember for ever (I21). So time counts only as
//! far as it was watched: from record to record, each step at most [`step_max`]. A centre that is
//! down, or a clock that jumps, ages nothing; what is promised is a retention that is never shorter.

use crate::time::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// Time as far as it was watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RetentionClock {
    /// How much has passed.
    pub(super) passed: Duration,
    /// The wall clock at the last look.
    looked_at: Timestamp,
}

/// The longest time between two looks that counts as passed. Ten minutes: a record every ten
/// minutes costs an idle centre nothing, and a jump of years counts as ten minutes.
fn step_max(retention: Duration) -> Duration {
    Duration::from_secs(600).min(retention / 16)
}

impl RetentionClock {
    pub(super) fn observe(&mut self, now: Timestamp, retention: Duration) {
        self.passed = self.passed_at(now, retention);
        self.looked_at = now;
    }

    /// The wall clock at the last record.
    pub(super) fn looked_at(&self) -> Timestamp {
        self.looked_at
    }

    /// What has passed at `now`.
    pub(super) fn passed_at(&self, now: Timestamp, retention: Duration) -> Duration {
        self.passed + now.since(self.looked_at).min(step_max(retention))
    }

    /// Whether a look at `now` would be worth a record: as much has passed as counts in one step, or
    /// the wall clock was set back and would count nothing until it is where it was.
    pub(super) fn is_due(&self, now: Timestamp, retention: Duration) -> bool {
        now < self.looked_at || now.since(self.looked_at) >= step_max(retention)
    }

    /// The instant to look at the clock again for something due when `until` has passed.
    pub(super) fn look_at(&self, until: Duration, retention: Duration) -> Timestamp {
        self.looked_at + until.saturating_sub(self.passed).min(step_max(retention))
    }
}
