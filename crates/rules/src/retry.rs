//! How long to wait before trying again.
//!
//! First at once, for what passes by itself; then after waits that double to a ceiling. Jitter comes
//! from the message's id and the attempt, not from a random source: rules have none, and spreading
//! sites apart is all that jitter is for.

use crate::hash::digest;
use crate::message::MessageId;
use crate::time::Duration;

/// How a site retries a message that its back office did not take.
///
/// What counts is real attempts: one that the site began. One that a crash cut short counts;
/// connections that end, pushes that repeat and waits do not (I23).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts before the message is dead. An attempt that a crash cut short counts.
    ///
    /// Default: 10, which with the other defaults spans about 25 minutes: longer than the restart
    /// of a back office, shorter than an operator's patience with a poisoned document.
    pub attempts_max: u32,
    /// Attempts that follow the first one at once, before the first wait.
    ///
    /// Default: 0, because most back offices that fail are down or busy, and asking again at once
    /// helps neither. Where failures are deadlocks of a database, 2 or 3 save the wait.
    pub immediate: u32,
    /// The first wait; it doubles from there. Default: 1 s.
    pub delay_first: Duration,
    /// Longest wait between attempts. Default: 5 min.
    pub delay_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 10,
            immediate: 0,
            delay_first: Duration::from_secs(1),
            delay_max: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// The wait after `attempt` (from 1) failed: none at first, as often as [`RetryPolicy::immediate`]
    /// says; then doubled each time, and between 75 % and 100 % of that.
    pub fn delay_after(&self, id: MessageId, attempt: u32) -> Duration {
        let delayed = attempt.saturating_sub(self.immediate);
        if delayed == 0 {
            return Duration::ZERO;
        }
        let full = doubled(self.delay_first, delayed, self.delay_max);
        let eighth_bits = digest(&[&id.0, &attempt.to_le_bytes()]) % 1024;
        full - full.mul_f64(0.25 * eighth_bits as f64 / 1024.0)
    }

    /// A wait that the back office asked for, within what this policy allows.
    pub fn asked(&self, wait: Duration) -> Duration {
        wait.min(self.delay_max)
    }
}

/// How long the centre waits for a receipt before it pushes again, after push number `attempt`.
pub fn ack_wait(first: Duration, max: Duration, attempt: u32) -> Duration {
    doubled(first, attempt, max)
}

fn doubled(first: Duration, attempt: u32, max: Duration) -> Duration {
    let factor = 1u32 << attempt.saturating_sub(1).min(20);
    first.saturating_mul(factor).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_lose_at_most_a_quarter_to_jitter() {
        let policy = RetryPolicy::default();
        for attempt in 1..64 {
            let full = doubled(policy.delay_first, attempt, policy.delay_max);
            let wait = policy.delay_after(MessageId([7; 16]), attempt);
            assert!(
                wait <= full && wait >= full.mul_f64(0.75),
                "attempt {attempt}: {wait:?} of {full:?}"
            );
        }
        assert_eq!(
            doubled(policy.delay_first, 3, policy.delay_max),
            Duration::from_secs(4)
        );
        assert_eq!(
            doubled(policy.delay_first, 63, policy.delay_max),
            policy.delay_max
        );
    }

    #[test]
    fn immediate_attempts_wait_for_nothing_and_the_waits_begin_behind_them() {
        let policy = RetryPolicy {
            immediate: 2,
            ..RetryPolicy::default()
        };
        let id = MessageId([7; 16]);
        assert_eq!(policy.delay_after(id, 1), Duration::ZERO);
        assert_eq!(policy.delay_after(id, 2), Duration::ZERO);
        let first = policy.delay_after(id, 3);
        assert!(first <= policy.delay_first && first >= policy.delay_first.mul_f64(0.75));
    }

    #[test]
    fn jitter_is_the_same_for_the_same_attempt_and_spreads_others() {
        let policy = RetryPolicy::default();
        let wait = |id: u8| policy.delay_after(MessageId([id; 16]), 5);
        assert_eq!(wait(1), wait(1));
        let different = (0..=20)
            .map(wait)
            .collect::<alloc::collections::BTreeSet<_>>();
        assert!(different.len() > 15, "{different:?}");
    }
}
