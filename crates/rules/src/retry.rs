//! How long to wait before trying again.
//!
//! Back-off doubles to a ceiling. Jitter comes from the message's id and the attempt, not from a
//! random source: rules have none, and spreading sites apart is all that jitter is for.

use crate::hash::digest;
use crate::message::MessageId;
use crate::time::Duration;

/// How a site retries a message that its back office did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts before the message is dead. An attempt that a crash cut short counts.
    ///
    /// Default: 10, which with the other defaults spans about 25 minutes: longer than the restart
    /// of a back office, shorter than an operator's patience with a poisoned document.
    pub attempts_max: u32,
    /// Wait before the second attempt. Default: 1 s.
    pub delay_first: Duration,
    /// Longest wait between attempts. Default: 5 min.
    pub delay_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 10,
            delay_first: Duration::from_secs(1),
            delay_max: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// The wait after `attempt` (from 1) failed: doubled each time, then between 75 % and 100 % of it.
    pub fn delay_after(&self, id: MessageId, attempt: u32) -> Duration {
        let full = doubled(self.delay_first, attempt, self.delay_max);
        let eighth_bits = digest(&[&id.0, &attempt.to_le_bytes()]) % 1024;
        full - full.mul_f64(0.25 * eighth_bits as f64 / 1024.0)
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
}
