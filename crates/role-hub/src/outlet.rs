//! Where the engine's pushes become invocations.

use crate::connections::Connections;
use crate::envelope;
use countersign_driver::Bodies;
use countersign_rules::delivery::{Push, decode_accepted};
use signalr_server::ConnectionHandle;
use std::sync::Arc;

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
        if let Err(error) = connection.push_raw(accepted.kind, &self.scratch) {
            tracing::warn!(connection = push.connection, %error, "a connection is closed because it takes no push");
            connection.close(None, true);
        }
    }

    /// Ends a connection that a newer one of the same agent has replaced. Its client is told to
    /// stay away: two that take turns would deliver nothing.
    pub fn supersede(&mut self, connection: u64) {
        if let Some(connection) = self.connection(connection) {
            connection.close(
                Some("Superseded: a newer connection of the same agent took over."),
                false,
            );
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
