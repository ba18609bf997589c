//! Numbered messages both ways over one connection after the other, and what must hold of them.
//!
//! Up go notes, which the server keeps in a list, and calls that make it push a number back; on its own it pushes ticks.
//! Promise: as long as a connection lives, whatever was cut below it, each row of numbers is without gaps, repeats and
//! swaps. When one ends, everything that waited was told, and what arrived until then is a row without gaps.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use signalr_client::{
    CallError, Connection, Encoding, Error, Incoming, Invocation, Options, Transport,
};
use tokio::time::{sleep, timeout};

use crate::line::Line;
use crate::tally::{Tally, add};

/// One client, its line and its server.
pub(crate) struct Traffic {
    /// The server's root, past the line.
    pub(crate) server: String,
    pub(crate) line: Line,
    pub(crate) encoding: Encoding,
    pub(crate) tally: Arc<Tally>,
    pub(crate) seed: u64,
}

/// What one connection has carried so far.
#[derive(Debug, Default)]
struct Rows {
    /// Notes that were called, and answered without a gap or beyond one.
    noted: Cell<u64>,
    answered: Cell<u64>,
    /// Pushes asked for, and heard.
    asked: Cell<u64>,
    heard: Cell<u64>,
    ticks_asked: Cell<u64>,
    ticks: Cell<u64>,
}

impl Traffic {
    /// Runs until all cuts of the line are made and what was sent has come through.
    pub(crate) async fn run(self) {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut number = 0;
        while self.line.cuts_left() > 0 {
            let Some((connection, incoming)) = self.connect().await else {
                return;
            };
            number += 1;
            let list = format!("cuts-{}-{number}", self.line.address.port());
            let list = format!("{list}-{}", random.random::<u64>());
            if connection.resumptions().is_none() {
                self.tally
                    .fault("the server does not grant stateful reconnect".into());
                return;
            }
            self.one(connection, incoming, &list, &mut random).await;
        }
    }

    async fn connect(&self) -> Option<(Connection, Incoming)> {
        let root = format!("http://{}", self.line.address);
        for _ in 0..CONNECT_ATTEMPTS {
            match Connection::connect(self.options(&root)).await {
                Ok(connected) => return Some(connected),
                // A cut may fall before there is a connection.
                Err(Error::Unreachable { .. }) => sleep(Duration::from_millis(5)).await,
                Err(error) => tracing::debug!(%error, "no connection"),
            }
        }
        self.tally
            .fault(format!("no connection in {CONNECT_ATTEMPTS} attempts"));
        None
    }

    fn options(&self, root: &str) -> Options {
        let options = Options::new(&format!("{root}/conformance")).expect("an address of our own");
        options.with(|options| {
            options.transports = vec![Transport::WebSockets];
            options.encoding = self.encoding;
            options.stateful_reconnect = true;
        })
    }

    async fn one(
        &self,
        connection: Connection,
        mut incoming: Incoming,
        list: &str,
        random: &mut StdRng,
    ) {
        add(&self.tally.connections, 1);
        let rows = Rows::default();
        let pads: Vec<usize> = (0..64).map(|_| random.random_range(0..1500)).collect();
        let sending = async {
            tokio::join!(
                self.note(&connection, list, &rows),
                self.ask(&connection, &pads, &rows),
                self.tick(&connection, &rows),
            );
            connection.why_ended().is_none()
        };
        let through = async {
            let (all_sent, all_heard) =
                tokio::join!(sending, self.hear(&mut incoming, &rows, &connection));
            all_sent && all_heard
        };
        let lives = match timeout(CONNECTION_TIMEOUT, through).await {
            Ok(lives) => lives,
            Err(_) => {
                self.tally
                    .fault(format!("neither through nor told: {rows:?}"));
                false
            }
        };
        if lives {
            connection.close().await;
        } else {
            self.tally.told(&connection.ended().await);
        }
        add(
            &self.tally.resumed,
            connection.resumptions().unwrap_or_default().into(),
        );
        add(&self.tally.up, rows.noted.get() + rows.asked.get());
        add(&self.tally.down, rows.heard.get() + rows.ticks.get());
        self.check_notes(list, &rows, lives).await;
    }

    /// Calls with an answer, several under way.
    async fn note(&self, connection: &Connection, list: &str, rows: &Rows) {
        let mut under_way = FuturesUnordered::new();
        let mut is_open = true;
        while is_open || !under_way.is_empty() {
            is_open = is_open && self.line.cuts_left() > 0;
            if is_open && under_way.len() < NOTES_AT_ONCE {
                let number = rows.noted.get();
                rows.noted.set(number + 1);
                under_way.push(connection.invoke::<()>("Note", (list, number)));
                // The first poll puts it in line, and the order of polls is that of the row.
                let mut pause = std::pin::pin!(sleep(NOTE_PAUSE));
                loop {
                    tokio::select! {
                        () = &mut pause => break,
                        Some(answer) = under_way.next() => is_open &= self.answered(&answer, rows),
                    }
                }
            } else if let Some(answer) = under_way.next().await {
                is_open &= self.answered(&answer, rows);
            }
        }
    }

    fn answered(&self, answer: &Result<(), CallError>, rows: &Rows) -> bool {
        match answer {
            Ok(()) => rows.answered.set(rows.answered.get() + 1),
            Err(CallError::Closed(_)) => {}
            Err(error) => self.tally.fault(format!("a note failed: {error}")),
        }
        answer.is_ok()
    }

    /// Calls without an answer, which make the server push numbers.
    async fn ask(&self, connection: &Connection, pads: &[usize], rows: &Rows) {
        let pad = "x".repeat(1500);
        for (number, length) in (0..).zip(pads.iter().cycle()) {
            while number >= rows.heard.get() + ASKED_AHEAD && connection.why_ended().is_none() {
                sleep(ASK_PAUSE).await;
            }
            if self.line.cuts_left() == 0 {
                return;
            }
            let arguments = ("hear", (number, &pad[..*length]));
            if connection.send("CallMe", arguments).await.is_err() {
                return;
            }
            rows.asked.set(number + 1);
            sleep(ASK_PAUSE).await;
        }
    }

    /// Lets the server push on its own.
    async fn tick(&self, connection: &Connection, rows: &Rows) {
        while self.line.cuts_left() > 0 {
            let arguments = ("tick", TICKS, TICK_PAUSE_MS);
            if connection.send("CallMany", arguments).await.is_err() {
                return;
            }
            rows.ticks_asked.set(rows.ticks_asked.get() + TICKS);
            while rows.ticks.get() < rows.ticks_asked.get() && self.line.cuts_left() > 0 {
                if connection.why_ended().is_some() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Until everything asked for is here, or the connection ends: false.
    async fn hear(&self, incoming: &mut Incoming, rows: &Rows, connection: &Connection) -> bool {
        loop {
            let is_through = self.line.cuts_left() == 0
                && rows.heard.get() == rows.asked.get()
                && rows.ticks.get() == rows.ticks_asked.get()
                && rows.answered.get() == rows.noted.get();
            if is_through {
                return connection.why_ended().is_none();
            }
            // What is missing may also come true without a push.
            let Ok(next) = timeout(Duration::from_millis(100), incoming.next()).await else {
                continue;
            };
            let Some(invocation) = next else {
                return false;
            };
            self.count(&invocation, rows);
        }
    }

    fn count(&self, invocation: &Invocation, rows: &Rows) {
        let (row, number) = match invocation.target() {
            "hear" => (
                &rows.heard,
                invocation.bind().map(|(number, _): (u64, String)| number),
            ),
            "tick" => (
                &rows.ticks,
                invocation
                    .bind::<u64>()
                    .map(|tick| tick + rows.ticks.get() / TICKS * TICKS),
            ),
            // A broadcast of somebody else on the same server.
            _ => return,
        };
        let expected = row.get();
        match number {
            Ok(number) if number == expected => row.set(expected + 1),
            Ok(number) => {
                let target = invocation.target();
                self.tally
                    .fault(format!("{target}: {number} where {expected} was due"));
                row.set(number + 1);
            }
            Err(error) => {
                self.tally.fault(format!("a push cannot be read: {error}"));
                row.set(expected + 1);
            }
        }
    }

    /// The server's list against what was sent: all of it, or where the connection ended a beginning of it that holds
    /// at least what was answered.
    async fn check_notes(&self, list: &str, rows: &Rows, is_complete: bool) {
        let notes = async {
            let (connection, _incoming) = Connection::connect(self.options(&self.server)).await?;
            let notes: Vec<u64> =
                connection
                    .invoke("Notes", (list,))
                    .await
                    .map_err(|error| match error {
                        CallError::Closed(closed) => Error::from(closed),
                        error => Error::Protocol {
                            detail: error.to_string(),
                        },
                    })?;
            connection.close().await;
            Ok::<_, Error>(notes)
        };
        let notes = match notes.await {
            Ok(notes) => notes,
            Err(error) => {
                return self
                    .tally
                    .fault(format!("the notes cannot be read: {error}"));
            }
        };
        let (sent, answered) = (rows.noted.get(), rows.answered.get());
        let row: Vec<u64> = (0..notes.len() as u64).collect();
        if notes != row {
            let at = notes.iter().zip(&row).position(|(noted, due)| noted != due);
            self.tally
                .fault(format!("notes are not in a row from {at:?} on"));
        }
        let least = if is_complete { sent } else { answered };
        let count = notes.len() as u64;
        if count < least || count > sent {
            self.tally.fault(format!(
                "{count} notes, {sent} sent, {answered} answered, all through: {is_complete}"
            ));
        }
    }
}

const CONNECT_ATTEMPTS: u32 = 200;
const NOTES_AT_ONCE: usize = 16;
const NOTE_PAUSE: Duration = Duration::from_millis(4);
const ASK_PAUSE: Duration = Duration::from_millis(15);
const ASKED_AHEAD: u64 = 64;
const TICKS: u64 = 2000;
const TICK_PAUSE_MS: u64 = 2;
/// What is not over by then hangs.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(900);
