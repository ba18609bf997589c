//! How the agent is: connected is not enough, it has to be processing too.

use countersign_driver::Health;
use countersign_rules::Timestamp;
use countersign_rules::site::Counters;
use serde::{Serialize, Serializer};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How the agent is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// In one word what an operator wants to know, derived from the rest.
    pub liveness: Liveness,
    /// The connection to the hub.
    pub connection: Connection,
    /// The hub told at the last connect that messages ended unseen while the site was away: so many.
    pub gap: u64,
    /// When the last push arrived.
    #[serde(serialize_with = "rfc3339")]
    pub last_push_at: Option<Timestamp>,
    /// When the back office last took or refused a document.
    #[serde(serialize_with = "rfc3339")]
    pub last_done_at: Option<Timestamp>,
    /// Why the last attempt failed, unless a later one succeeded.
    pub work_failing: Option<Trouble>,
    /// When the ack API last took acknowledgements.
    #[serde(serialize_with = "rfc3339")]
    pub last_ack_posted_at: Option<Timestamp>,
    /// Why the ack API takes nothing, unless it does.
    pub acks_failing: Option<Trouble>,
    /// Whether reading from the connection is held because the inbox is full.
    pub inbox_full: bool,
    /// Whether reading from the connection is held because the disk is full.
    pub disk_full: bool,
    /// How many messages are where.
    pub counters: Counters,
}

/// Whether documents get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Liveness {
    /// Connected, and nothing stands in the way.
    Processing,
    /// No connection to the hub; what is in the inbox is worked on all the same.
    Offline,
    /// Connected, but documents or their acknowledgements do not get through.
    ConnectedNotProcessing,
    /// The store has stopped: the agent has to be started again.
    Stopped,
}

/// The connection to the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Connection {
    /// No connection yet, or none any more.
    Connecting {
        /// Since when.
        #[serde(serialize_with = "rfc3339_plain")]
        since: Timestamp,
        /// Tries that failed since then.
        failures: u32,
        /// Why the last one failed or ended.
        last_error: Option<String>,
    },
    /// Connected, and welcomed by the hub.
    Connected {
        /// Since when.
        #[serde(serialize_with = "rfc3339_plain")]
        since: Timestamp,
    },
}

/// Something that keeps failing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Trouble {
    /// When it began.
    #[serde(serialize_with = "rfc3339_plain")]
    pub since: Timestamp,
    /// What was said the last time.
    pub detail: String,
}

fn rfc3339_plain<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&rfc3339_text(*at))
}

fn rfc3339<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => rfc3339_plain(at, to),
        None => to.serialize_none(),
    }
}

/// An instant in the form of RFC 3339, with milliseconds.
pub(crate) fn rfc3339_text(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_microsecond(at.0).unwrap_or_default();
    format!("{instant:.3}")
}

/// What the parts of the agent have to say about themselves.
#[derive(Debug)]
pub(crate) struct Board(Mutex<Notes>);

#[derive(Clone, Debug)]
struct Notes {
    connection: Connection,
    gap: u64,
    last_push_at: Option<Timestamp>,
    last_done_at: Option<Timestamp>,
    work_failing: Option<Trouble>,
    last_ack_posted_at: Option<Timestamp>,
    acks_failing: Option<Trouble>,
    inbox_full: bool,
    disk_full: bool,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Notes {
            connection: Connection::Connecting {
                since: now(),
                failures: 0,
                last_error: None,
            },
            gap: 0,
            last_push_at: None,
            last_done_at: None,
            work_failing: None,
            last_ack_posted_at: None,
            acks_failing: None,
            inbox_full: false,
            disk_full: false,
        }))
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn connected(&self, gap: u64) {
        self.note(|notes| {
            notes.connection = Connection::Connected { since: now() };
            notes.gap = gap;
        });
    }

    pub(crate) fn not_connected(&self, error: String) {
        self.note(|notes| {
            notes.connection = match &notes.connection {
                Connection::Connected { .. } => Connection::Connecting {
                    since: now(),
                    failures: 0,
                    last_error: Some(error),
                },
                Connection::Connecting {
                    since, failures, ..
                } => Connection::Connecting {
                    since: *since,
                    failures: failures.saturating_add(1),
                    last_error: Some(error),
                },
            };
        });
    }

    pub(crate) fn pushed(&self) {
        self.note(|notes| notes.last_push_at = Some(now()));
    }

    pub(crate) fn work_ended(&self) {
        self.note(|notes| {
            notes.last_done_at = Some(now());
            notes.work_failing = None;
        });
    }

    pub(crate) fn work_failed(&self, detail: &str) {
        self.note(|notes| trouble(&mut notes.work_failing, detail));
    }

    pub(crate) fn acks_posted(&self) {
        self.note(|notes| {
            notes.last_ack_posted_at = Some(now());
            notes.acks_failing = None;
        });
    }

    pub(crate) fn acks_failed(&self, detail: &str) {
        self.note(|notes| trouble(&mut notes.acks_failing, detail));
    }

    pub(crate) fn inbox_full(&self, is_full: bool) {
        self.note(|notes| notes.inbox_full = is_full);
    }

    pub(crate) fn disk_full(&self, is_full: bool) {
        self.note(|notes| notes.disk_full = is_full);
    }

    pub(crate) fn status(&self, counters: Counters, health: &Health) -> Status {
        let notes = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Status {
            liveness: notes.liveness(health),
            connection: notes.connection,
            gap: notes.gap,
            last_push_at: notes.last_push_at,
            last_done_at: notes.last_done_at,
            work_failing: notes.work_failing,
            last_ack_posted_at: notes.last_ack_posted_at,
            acks_failing: notes.acks_failing,
            inbox_full: notes.inbox_full,
            disk_full: notes.disk_full || *health == Health::NoSpace,
            counters,
        }
    }
}

impl Notes {
    fn liveness(&self, health: &Health) -> Liveness {
        let is_held = self.inbox_full || self.disk_full || *health == Health::NoSpace;
        let is_failing = self.work_failing.is_some() || self.acks_failing.is_some();
        match (&self.connection, health) {
            (_, Health::Stopped) => Liveness::Stopped,
            (Connection::Connecting { .. }, _) => Liveness::Offline,
            _ if is_held || is_failing => Liveness::ConnectedNotProcessing,
            _ => Liveness::Processing,
        }
    }
}

fn trouble(trouble: &mut Option<Trouble>, detail: &str) {
    let since = trouble.as_ref().map_or_else(now, |trouble| trouble.since);
    *trouble = Some(Trouble {
        since,
        detail: detail.to_owned(),
    });
}

pub(crate) fn now() -> Timestamp {
    let since: Duration = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn liveness(board: &Board) -> Liveness {
        board
            .status(Counters::default(), &Health::Writable)
            .liveness
    }

    #[test]
    fn connected_alone_does_not_count_as_processing() {
        let board = Board::new();
        assert_eq!(liveness(&board), Liveness::Offline);
        board.connected(0);
        assert_eq!(liveness(&board), Liveness::Processing);
        board.work_failed("http-503");
        assert_eq!(liveness(&board), Liveness::ConnectedNotProcessing);
        board.work_ended();
        board.acks_failed("connection refused");
        assert_eq!(liveness(&board), Liveness::ConnectedNotProcessing);
        board.acks_posted();
        board.inbox_full(true);
        assert_eq!(liveness(&board), Liveness::ConnectedNotProcessing);
        board.inbox_full(false);
        assert_eq!(liveness(&board), Liveness::Processing);
    }

    #[test]
    fn trouble_keeps_the_time_it_began_and_the_latest_words() {
        let board = Board::new();
        board.acks_failed("refused");
        let first = board
            .status(Counters::default(), &Health::Writable)
            .acks_failing
            .unwrap();
        board.acks_failed("timeout");
        let later = board
            .status(Counters::default(), &Health::Writable)
            .acks_failing
            .unwrap();
        assert_eq!(
            (later.since, later.detail.as_str()),
            (first.since, "timeout")
        );
    }

    #[test]
    fn a_status_is_readable_json_with_times_in_rfc_3339() {
        let board = Board::new();
        board.connected(3);
        let status = board.status(Counters::default(), &Health::Writable);
        let json = serde_json::to_value(status).unwrap();
        assert_eq!(json["connection"]["state"], "connected");
        assert!(json["connection"]["since"].as_str().unwrap().ends_with('Z'));
        assert_eq!(
            (&json["gap"], &json["liveness"]),
            (&3.into(), &"processing".into())
        );
        assert!(json["last_push_at"].is_null());
    }
}
