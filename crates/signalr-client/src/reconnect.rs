//! When to try again.

use std::time::Duration;

/// How a client comes back: with random pauses that grow, for ever unless told otherwise.
///
/// The pause before an attempt is drawn evenly between nothing and a ceiling that doubles with each failure ("full
/// jitter"), so that a thousand clients that lost the same server do not return at the same moment. It covers the first
/// connection too, which official clients do not try twice.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReconnectPolicy {
    /// Ceiling of the pause before the first repetition. Default: 1 s.
    pub ceiling_first: Duration,
    /// Ceiling that is never passed. Default: 30 s, so that a client returns within half a minute of the server.
    pub ceiling_max: Duration,
    /// How long a connection must have lived for its loss to count as the first failure. Default: 10 s, so that a server
    /// that takes connections and drops them at once is not hammered.
    pub stable_after: Duration,
    /// How many attempts in a row may fail before it gives up. Default: none, it never does.
    pub attempts_max: Option<u32>,
    /// Whether it also returns when the server closed the connection without allowing that. Default: false, as official
    /// clients have it. Set it where staying away for ever is worse than being sent away again.
    pub return_when_sent_away: bool,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            ceiling_first: Duration::from_secs(1),
            ceiling_max: Duration::from_secs(30),
            stable_after: Duration::from_secs(10),
            attempts_max: None,
            return_when_sent_away: false,
        }
    }
}

impl ReconnectPolicy {
    /// The pause after this many failures in a row (at least one). `random` lies between 0 and 1.
    ///
    /// A server that asks for a pause gets at least that, and the jitter on top.
    #[must_use]
    pub fn pause(&self, failures: u32, retry_after: Option<Duration>, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let ceiling = self
            .ceiling_first
            .saturating_mul(1 << doublings)
            .min(self.ceiling_max);
        let jitter = ceiling.mul_f64(random.clamp(0.0, 1.0));
        retry_after.unwrap_or_default().saturating_add(jitter)
    }

    pub(crate) fn gives_up_after(&self, failures: u32) -> bool {
        self.attempts_max
            .is_some_and(|attempts_max| failures >= attempts_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_until_its_limit_and_the_pause_lies_anywhere_below() {
        let policy = ReconnectPolicy::default();
        let ceilings = [1, 2, 4, 8, 16, 30, 30];
        for (failures, seconds) in (1..).zip(ceilings) {
            assert_eq!(
                policy.pause(failures, None, 1.0),
                Duration::from_secs(seconds)
            );
            assert_eq!(policy.pause(failures, None, 0.0), Duration::ZERO);
        }
        assert_eq!(policy.pause(u32::MAX, None, 1.0), policy.ceiling_max);
    }

    #[test]
    fn a_server_that_asks_for_a_pause_gets_it_and_the_jitter_too() {
        let pause = ReconnectPolicy::default().pause(1, Some(Duration::from_secs(7)), 0.5);
        assert_eq!(pause, Duration::from_millis(7_500));
    }
}
