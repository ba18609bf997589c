//! Where the engine's pushes become invocations.

use crate::connections::Connections;
use crate::envelope;
use bytes::Bytes;
use countersign_driver::journal::ReadError;
use countersign_rules::Position;
use countersign_rules::ack::Outcome;
use countersign_rules::delivery::{Input, Push, decode_accepted};
use countersign_rules::site::Resumed;
use serde::Serialize;
use signalr_server::{ConnectionHandle, PushError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a client is told that reads more slowly than is sent to it.
const TAKES_NO_MORE: &str =
    "This connection takes no more: what it did not get is pushed again over the next one.";

/// What a client is told when a message for it cannot be read at the moment.
const DISK_SILENT: &str =
    "A message could not be read: it is pushed again over the next connection, in its turn.";

/// The invocation that names lanes which go on. No message type has such a name, so it is nobody's
/// message; a client without a handler for it ignores it.
pub const LANES_RESUMED: &str = "lanes:resumed";

/// What is told of lanes that go on.
#[derive(Debug, Serialize)]
pub(crate) struct ResumedLanes {
    lanes: Vec<ResumedLane>,
}

/// A lane that goes on, by the message whose end had parked it.
#[derive(Debug, Serialize)]
pub(crate) struct ResumedLane {
    id: String,
    generation: u32,
}

impl ResumedLanes {
    fn new(lanes: &[Resumed]) -> Self {
        let lanes = lanes.iter().map(ResumedLane::from).collect();
        Self { lanes }
    }
}

impl From<&Resumed> for ResumedLane {
    fn from(lane: &Resumed) -> Self {
        Self {
            id: lane.id.to_string(),
            generation: lane.generation,
        }
    }
}

/// Pause before anybody new is let in after the disk did not answer, so that nobody spins.
const DISK_REST: Duration = Duration::from_secs(1);

/// What a client is told that has been replaced. Two that take turns would deliver nothing, so it is
/// not to come back by itself.
pub(crate) const SUPERSEDED: &str = "Superseded: a newer connection of the same agent took over. If both are \
    meant to run, give each a name and a token of its own.";

/// Carries out pushes and fencing. One value belongs to the engine's loop.
#[derive(Debug)]
pub struct HubOutlet {
    connections: Arc<Connections>,
    ack_url: String,
    /// Envelopes are written here one after the other, so that a push allocates nothing.
    scratch: Vec<u8>,
    /// The connection pushed to last: a batch often holds many for one.
    last: Option<(u64, ConnectionHandle)>,
}

impl HubOutlet {
    pub(crate) fn new(connections: Arc<Connections>, ack_url: &str) -> Self {
        let ack_url = ack_url.to_owned();
        Self {
            connections,
            ack_url,
            scratch: Vec::new(),
            last: None,
        }
    }

    /// Puts a message, read back by `read`, into its connection's queue. What it answers is for the
    /// engine: a message that can never be pushed.
    ///
    /// A connection that is gone needs nothing: its end is on its way to the engine. One that
    /// cannot take the message, or whose message the disk does not give now, is closed, which leads
    /// to the same: nothing behind that message overtakes it (I6).
    pub fn push(
        &mut self,
        push: &Push,
        read: impl FnOnce(Position) -> Result<Bytes, ReadError>,
    ) -> Option<Input> {
        let connection = self.connection(push.connection)?;
        if !connection.is_open() {
            return None;
        }
        let record = match read(push.accepted) {
            Ok(record) => record,
            Err(error @ (ReadError::Damaged(_) | ReadError::Trimmed(_))) => {
                return Some(undeliverable(push, "body-damaged", &error.to_string()));
            }
            Err(error) => {
                tracing::error!(id = %push.id, %error, "a connection is closed because its next message cannot be read now");
                self.connections.rest(Instant::now() + DISK_REST);
                connection.close(Some(DISK_SILENT), true);
                return None;
            }
        };
        let accepted = match decode_accepted(&record) {
            Ok(accepted) => accepted,
            Err(error) => {
                return Some(undeliverable(push, "body-unreadable", &error.to_string()));
            }
        };
        self.scratch.clear();
        envelope::write(&mut self.scratch, &accepted, push, &self.ack_url);
        match connection.push_raw(accepted.kind, &self.scratch) {
            Ok(()) => {}
            // Its end is on its way to the engine, and there will be more of these until it is there.
            Err(PushError::Closed) => {
                tracing::debug!(connection = push.connection, id = %push.id, "pushed to a closed connection");
            }
            Err(error @ PushError::TooLarge { .. }) => {
                return Some(undeliverable(push, "too-large", &error.to_string()));
            }
            Err(error) => {
                tracing::warn!(connection = push.connection, %error, "a connection is closed because it takes no push");
                connection.close(Some(TAKES_NO_MORE), true);
            }
        }
        None
    }

    /// Tells a client that lanes go on which it has parked. One that does not hear it is told at its
    /// next `ready`.
    pub fn resume(&mut self, connection: u64, lanes: &[Resumed]) {
        let Some(connection) = self.connection(connection) else {
            return;
        };
        if let Err(error) = connection.push(LANES_RESUMED, &ResumedLanes::new(lanes)) {
            tracing::debug!(%error, "a client is told of its lanes when it comes back");
        }
    }

    /// Ends a connection that a newer one of the same agent has replaced. Its client is told to
    /// stay away: two that take turns would deliver nothing.
    pub fn supersede(&mut self, connection: u64) {
        if let Some(connection) = self.connection(connection) {
            connection.close(Some(SUPERSEDED), false);
        }
    }

    fn connection(&mut self, number: u64) -> Option<ConnectionHandle> {
        if let Some((last, connection)) = &self.last
            && *last == number
            && connection.is_open()
        {
            return Some(connection.clone());
        }
        let connection = self.connections.get(number)?;
        self.last = Some((number, connection.clone()));
        Some(connection)
    }
}

/// Ends the message: it would be the same at the next push, and at every one after.
fn undeliverable(push: &Push, code: &str, detail: &str) -> Input {
    tracing::error!(id = %push.id, code, detail, "a message can never be pushed; it ends dead");
    Input::Undeliverable {
        id: push.id,
        generation: push.generation,
        reason: Outcome {
            code: code.to_owned(),
            detail: detail.to_owned(),
            data: Vec::new(),
        },
    }
}
