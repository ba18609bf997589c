//! Where the engine's pushes become invocations.

use crate::connections::Connections;
use crate::envelope;
use countersign_driver::Bodies;
use countersign_rules::delivery::{Push, decode_accepted};
use signalr_server::{ConnectionHandle, PushError};
use std::sync::Arc;

/// What a client is told that reads more slowly than is sent to it.
const TAKES_NO_MORE: &str =
    "This connection takes no more: what it did not get is pushed again over the next one.";

/// What a client is told that has been replaced. Two that take turns would deliver nothing, so it is
/// not to come back by itself.
const SUPERSEDED: &str = "Superseded: a newer connection of the same agent took over. If both are \
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

    /// Puts a message into its connection's queue.
    ///
    /// A connection that is gone needs nothing: its end is on its way to the engine. One that
    /// cannot take the message is closed, which leads to the same.
    pub fn push(&mut self, push: &Push, bodies: &Bodies) {
        let Some(connection) = self.connection(push.connection) else {
            return;
        };
        let record = match bodies.read(push.accepted) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(id = %push.id, %error, "a message cannot be read back for its push");
                return;
            }
        };
        let accepted = match decode_accepted(&record) {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(id = %push.id, %error, "a message is not understood when it is pushed");
                return;
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
            Err(error) => {
                tracing::warn!(connection = push.connection, %error, "a connection is closed because it takes no push");
                connection.close(Some(TAKES_NO_MORE), true);
            }
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
