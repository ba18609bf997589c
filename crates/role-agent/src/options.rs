//! What an agent is told; every default says why.

use crate::TokenSource;
use countersign_driver::journal;
use countersign_rules::site::Policy;
use std::path::PathBuf;
use std::time::Duration;

/// What an agent is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Address of the hub, such as `http://127.0.0.1:7420/hub`.
    pub hub_url: String,
    /// Address for acknowledgements, such as `http://127.0.0.1:7421/acks/v1/acks`.
    ///
    /// Default: none. Then the address in the envelopes is used, and remembered over restarts. Set
    /// it where the site reaches the ack API by another name than the centre does, or where the
    /// hub shall not decide where the token is sent.
    pub ack_url: Option<String>,
    /// The proxy on the way to the hub. Default: none.
    pub hub_proxy: Option<signalr_client::Proxy>,
    /// Authorities, as PEM text, whose certificates are good at the hub besides those that the machine trusts.
    /// Default: none.
    pub hub_roots: Option<Vec<u8>>,
    /// Directory of the inbox and of what else the agent keeps. One process at a time uses it.
    pub data_dir: PathBuf,
    /// Where the token for hub and ack API comes from. Default: none is sent.
    pub token: TokenSource,
    /// Workers and retries. The defaults are those of the rules: 8 workers, 10 attempts.
    pub policy: Policy,
    /// Unfinished messages above which nothing more is read from the connection. Default: 10,000,
    /// hours of work for a slow back office, yet no more than a minute of a busy hub.
    pub inbox_max: u64,
    /// Ceiling of the first wait before connecting again; it doubles from there. Default: 1 s.
    pub reconnect_first: Duration,
    /// Ceiling of every wait before connecting again. Default: 30 s: a thousand sites that lost
    /// their hub come back at 30 to 60 a second, and none of them waits long for a hub that is back.
    pub reconnect_max: Duration,
    /// Ceiling of the first wait before acknowledgements are posted again. Default: 500 ms.
    pub post_retry_first: Duration,
    /// Ceiling of every wait before acknowledgements are posted again. Default: 30 s.
    pub post_retry_max: Duration,
    /// Longest time one post of acknowledgements may take. Default: 30 s.
    pub post_timeout: Duration,
    /// How long attempts may go on when the agent is stopped. Default: 10 s, within the grace that
    /// service managers give.
    pub stop_grace: Duration,
    /// What the agent calls itself at the hub. Default: `countersign-agent`.
    pub client_name: String,
    /// Its version. Default: that of this crate.
    pub client_version: String,
    /// The inbox on disk. Defaults: those of the journal, but segments of 16 MiB and a reserve of
    /// 64 MiB, because machines at sites are small.
    pub store: journal::Options,
    /// The loop in front of it. Defaults: those of the driver.
    pub driver: countersign_driver::Options,
}

impl Options {
    /// Defaults for everything that has one.
    pub fn new(hub_url: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            hub_url: hub_url.into(),
            ack_url: None,
            hub_proxy: None,
            hub_roots: None,
            data_dir: data_dir.into(),
            token: TokenSource::None,
            policy: Policy::default(),
            inbox_max: 10_000,
            reconnect_first: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(30),
            post_retry_first: Duration::from_millis(500),
            post_retry_max: Duration::from_secs(30),
            post_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            client_name: String::from("countersign-agent"),
            client_version: String::from(env!("CARGO_PKG_VERSION")),
            store: journal::Options {
                segment_bytes: 16 << 20,
                reserve_bytes: 64 << 20,
                ..journal::Options::default()
            },
            driver: countersign_driver::Options::default(),
        }
    }

    /// Refuses what would hand over nothing.
    pub(crate) fn check(&self) -> Result<(), crate::Error> {
        let refused = |option| Err(crate::Error::option(option, "it must be at least 1"));
        match (self.policy.workers, self.policy.retry.attempts_max) {
            (0, _) => refused("workers"),
            (_, 0) => refused("attempts_max"),
            _ => Ok(()),
        }
    }

    /// Changes any of the fields within a chain of calls.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_workers_and_no_attempts_are_refused_by_name() {
        let told = |change: fn(&mut Options)| {
            let options = Options::new("http://127.0.0.1/hub", "inbox").with(change);
            options.check().map_err(|error| error.to_string())
        };
        assert!(told(|_| {}).is_ok());
        let workers = told(|options| options.policy.workers = 0).unwrap_err();
        assert!(workers.starts_with("workers"), "{workers}");
        let attempts = told(|options| options.policy.retry.attempts_max = 0).unwrap_err();
        assert!(attempts.starts_with("attempts_max"), "{attempts}");
    }
}
