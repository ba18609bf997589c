//! How long to wait before trying again, and what a server asked for.
//!
//! Full jitter: any time between nothing and a ceiling that doubles, so that a thousand sites that
//! lost their hub in the same second do not come back in the same second.

use rand::Rng;
use std::time::{Duration, SystemTime};

/// Longest wait a server may ask for: a wrong header must not silence a site for a day.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(15 * 60);

/// Waits between tries that fail in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            failures: 0,
        }
    }

    /// A try succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Tries that failed since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// A try failed: the wait before the next one, not shorter than what the server `asked` for.
    pub(crate) fn after_failure(&mut self, asked: Option<Duration>) -> Duration {
        let ceiling = self
            .first
            .saturating_mul(1 << self.failures.min(20))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        let jitter = ceiling.mul_f64(rand::rng().random_range(0.0..=1.0));
        // What was asked for is a floor, and jitter still spreads those who were told the same.
        asked.map_or(jitter, |asked| {
            asked.min(RETRY_AFTER_MAX) + jitter.min(self.first)
        })
    }
}

/// Reads a `Retry-After` header (RFC 9110, section 10.2.3): seconds or a date.
pub(crate) fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let text = headers
        .get(reqwest::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    parse_retry_after(text, SystemTime::now())
}

fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(SystemTime::from(at).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_under_a_ceiling_that_doubles_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for failure in 0..40 {
            let ceiling = Duration::from_secs(1u64 << failure.min(6)).min(Duration::from_secs(60));
            assert!(backoff.after_failure(None) <= ceiling);
        }
        backoff.reset();
        assert!(backoff.after_failure(None) <= Duration::from_secs(1));
    }

    #[test]
    fn a_wait_is_never_shorter_than_the_server_asked_and_never_longer_than_a_quarter_of_an_hour() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let wait = backoff.after_failure(Some(Duration::from_secs(40)));
        assert!(
            wait >= Duration::from_secs(40) && wait <= Duration::from_secs(41),
            "{wait:?}"
        );
        let wait = backoff.after_failure(Some(Duration::from_secs(86_400)));
        assert!(wait <= RETRY_AFTER_MAX + Duration::from_secs(1), "{wait:?}");
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_767);
        assert_eq!(
            parse_retry_after("120", now),
            Some(Duration::from_secs(120))
        );
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(parse_retry_after(date, now), Some(Duration::from_secs(10)));
        assert_eq!(parse_retry_after("soon", now), None);
    }
}
