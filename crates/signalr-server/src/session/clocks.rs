//! The times at which a connection must do something although nothing happened.
//!
//! One timer serves them all, and traffic does not touch it: it goes off at the earliest time
//! that was known when it was set, and is set again if that time has moved.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use signalr_protocol::negotiate::Transport;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Options;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    ClientTimeout,
    SendTimeout,
    TokenExpiry,
}

pub(super) struct Clocks {
    timer: Pin<Box<Sleep>>,
    keep_alive_interval: Duration,
    client_timeout: Duration,
    send_timeout: Duration,
    /// Never over long polling, whose polls show that both ends live.
    next_ping: Option<Instant>,
    /// Whether the client's silence counts. Over long polling it does once it has pinged.
    is_listening: bool,
    last_received: Instant,
    /// Since when one frame has been on its way.
    sending_since: Option<Instant>,
    token_expiry: Option<Instant>,
}

impl Clocks {
    pub(super) fn start(
        options: &Options,
        transport: Transport,
        expires_at: Option<SystemTime>,
    ) -> Self {
        let is_pinging = transport != Transport::LongPolling;
        let now = Instant::now();
        let keep_alive_interval = options.keep_alive_interval.max(Duration::from_millis(1));
        let expires_at = expires_at.filter(|_| options.close_on_token_expiry);
        let mut clocks = Self {
            timer: Box::pin(sleep_until(now)),
            keep_alive_interval,
            client_timeout: options.client_timeout,
            send_timeout: options.send_timeout,
            next_ping: is_pinging.then(|| now + keep_alive_interval),
            is_listening: is_pinging,
            last_received: now,
            sending_since: None,
            token_expiry: expires_at.and_then(|time| from_now(now, time)),
        };
        if let Some((at, _)) = clocks.next() {
            clocks.set(at);
        }
        clocks
    }

    /// A whole message came.
    pub(super) fn received(&mut self) {
        self.last_received = Instant::now();
    }

    /// The client pings, so it will go on to.
    pub(super) fn pinged(&mut self) {
        self.is_listening = true;
    }

    /// A newer token, if there is one that is still good, puts the end off. Says whether it does.
    pub(super) fn put_off_expiry(&mut self, expires_at: Option<SystemTime>) -> bool {
        let now = Instant::now();
        self.token_expiry = expires_at.and_then(|time| from_now(now, time));
        self.token_expiry.is_none_or(|expiry| expiry > now)
    }

    pub(super) fn send_started(&mut self) {
        // Over long polling nothing is under way: it waits for a poll, or for the end of waiting.
        self.sending_since = self.next_ping.map(|_| Instant::now());
    }

    pub(super) fn send_finished(&mut self) {
        self.sending_since = None;
    }

    /// The client's silence does not count while nothing is read from it.
    pub(super) async fn due(&mut self, is_reading: bool) -> Due {
        loop {
            if !is_reading {
                self.received();
            }
            let Some((at, due)) = self.next() else {
                return std::future::pending().await;
            };
            if at <= Instant::now() {
                self.passed(due);
                return due;
            }
            if at < self.timer.deadline() || self.timer.is_elapsed() {
                self.set(at);
            }
            self.timer.as_mut().await;
        }
    }

    /// `None` when nothing will ever be due.
    fn next(&self) -> Option<(Instant, Due)> {
        let silent_until = self.last_received + self.client_timeout;
        let all = [
            (self.next_ping, Due::Ping),
            (
                self.is_listening.then_some(silent_until),
                Due::ClientTimeout,
            ),
            (
                self.sending_since.map(|since| since + self.send_timeout),
                Due::SendTimeout,
            ),
            (self.token_expiry, Due::TokenExpiry),
        ];
        let all = all.into_iter();
        let all = all.filter_map(|(at, due)| Some((at?, due)));
        all.min_by_key(|(at, _)| *at)
    }

    /// Pings keep their rhythm; after a pause in which none could go out they start a new one.
    fn passed(&mut self, due: Due) {
        if let (Due::Ping, Some(ping)) = (due, &mut self.next_ping) {
            let now = Instant::now();
            *ping += self.keep_alive_interval;
            if *ping <= now {
                *ping = now + self.keep_alive_interval;
            }
        }
    }

    fn set(&mut self, at: Instant) {
        self.timer.as_mut().reset(at);
    }
}

/// The instant of a wall-clock time. A time too far away to be an instant never comes.
fn from_now(now: Instant, time: SystemTime) -> Option<Instant> {
    let left = time.duration_since(SystemTime::now()).unwrap_or_default();
    now.checked_add(left)
}
