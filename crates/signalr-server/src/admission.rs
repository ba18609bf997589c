//! How many new connections come in, and when those that may not should ask again.
//!
//! Promise: over any time no more than the rate and one second's worth on top are let in, and whoever is
//! refused gets a time of its own to come back at, so that a crowd comes back as a queue and not as a crowd.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Longest time anybody is told to stay away. A crowd that is larger than what comes in until then is
/// spread over this time again and again.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A generic cell rate algorithm: all that is kept are two times.
#[derive(Debug)]
pub(crate) struct Admission {
    per_second: Option<NonZeroU32>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When those let in so far would have come in at the rate itself.
    earned_until: Instant,
    /// When the last of those who were refused was told to come back.
    promised_until: Instant,
}

impl Admission {
    /// Lets `per_second` in, everybody when that is `None`.
    pub(crate) fn new(per_second: Option<NonZeroU32>) -> Self {
        let now = Instant::now();
        let state = State {
            earned_until: now,
            promised_until: now,
        };
        Self {
            per_second,
            state: Mutex::new(state),
        }
    }

    /// Lets one more in, or says how long it should stay away.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let Some(per_second) = self.per_second else {
            return Ok(());
        };
        let interval = Duration::from_secs(1) / per_second.get();
        // What was not used up within the last second may come in at once.
        let ahead_max = Duration::from_secs(1) - interval;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = state.earned_until.max(now);
        if earned - now <= ahead_max {
            state.earned_until = earned + interval;
            return Ok(());
        }
        let free = earned - ahead_max;
        let mut promised = state.promised_until.max(free) + interval;
        if promised - now > WAIT_MAX {
            promised = free + interval;
        }
        state.promised_until = promised;
        Err(promised - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(per_second: u32) -> Admission {
        Admission::new(NonZeroU32::new(per_second))
    }

    #[test]
    fn without_a_rate_everybody_comes_in() {
        let admission = admission(0);
        let now = Instant::now();
        assert!((0..100_000).all(|_| admission.admit(now).is_ok()));
    }

    #[test]
    fn a_second_s_worth_comes_in_at_once_and_then_the_rate() {
        let admission = admission(100);
        let start = Instant::now();
        let at_once = (0..500).filter(|_| admission.admit(start).is_ok()).count();
        assert_eq!(at_once, 100);
        let later = start + Duration::from_millis(250);
        let earned = (0..500).filter(|_| admission.admit(later).is_ok()).count();
        assert_eq!(earned, 25);
    }

    #[test]
    fn a_crowd_that_comes_back_when_told_comes_in_at_the_rate() {
        let admission = admission(200);
        let start = Instant::now();
        let mut away: Vec<Instant> = vec![start; 2000];
        let mut asked = 0;
        let mut last = start;
        while !away.is_empty() {
            away.sort_unstable();
            let now = away.remove(0);
            asked += 1;
            match admission.admit(now) {
                Ok(()) => last = last.max(now),
                // As a header says it: in whole seconds.
                Err(wait) => away.push(now + Duration::from_secs(wait.as_secs() + 1)),
            }
        }
        // 200 at once and 200 a second: nine seconds, and one lost to rounding.
        assert!(
            last - start <= Duration::from_secs(11),
            "{:?}",
            last - start
        );
        assert!(asked < 2 * 2000, "{asked} requests for 2,000 clients");
    }

    #[test]
    fn nobody_is_sent_away_for_longer_than_half_a_minute() {
        let admission = admission(1);
        let now = Instant::now();
        assert!(admission.admit(now).is_ok());
        let waits: Vec<Duration> = (0..100)
            .filter_map(|_| admission.admit(now).err())
            .collect();
        assert_eq!(waits.len(), 100);
        assert!(waits.iter().all(|wait| *wait <= WAIT_MAX));
        assert!(waits.iter().any(|wait| *wait >= Duration::from_secs(29)));
    }
}
