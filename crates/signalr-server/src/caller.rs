//! The connection that calls a hub method, together with the hub it calls.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::{ConnectionHandle, Hub, HubHandle, Targets};

/// Who called a method of hub `H`. Everything a [`ConnectionHandle`] can, it can.
pub struct Caller<H: Hub> {
    hub: Arc<H>,
    connection: ConnectionHandle,
    hub_handle: HubHandle,
}

impl<H: Hub> Caller<H> {
    pub(crate) fn new(hub: Arc<H>, connection: ConnectionHandle, hub_handle: HubHandle) -> Self {
        Self {
            hub,
            connection,
            hub_handle,
        }
    }

    /// The hub that was called.
    pub fn hub(&self) -> &Arc<H> {
        &self.hub
    }

    /// The connection, to keep or to give away.
    pub fn connection(&self) -> &ConnectionHandle {
        &self.connection
    }

    /// All connections of the hub, its groups and its users.
    pub fn hub_handle(&self) -> &HubHandle {
        &self.hub_handle
    }

    /// All connections of the hub but this one.
    pub fn others(&self) -> Targets {
        self.hub_handle.all_except([self.id()])
    }

    /// The members of a group but this connection, whether it is one or not.
    pub fn others_in(&self, group: impl Into<Box<str>>) -> Targets {
        self.hub_handle.group_except(group, [self.id()])
    }
}

impl<H: Hub> Deref for Caller<H> {
    type Target = ConnectionHandle;

    fn deref(&self) -> &ConnectionHandle {
        &self.connection
    }
}

impl<H: Hub> Clone for Caller<H> {
    fn clone(&self) -> Self {
        Self {
            hub: Arc::clone(&self.hub),
            connection: self.connection.clone(),
            hub_handle: self.hub_handle.clone(),
        }
    }
}

impl<H: Hub> fmt::Debug for Caller<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
