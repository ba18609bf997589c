//! All connections of one hub, seen from anywhere in the program.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant};

use crate::registry::Registry;
use crate::targets::{Chosen, Targets, texts};
use crate::{ConnectionHandle, Options};

/// A handle to a hub. Cheap to clone; usable from any thread, before and while the hub serves.
#[derive(Debug, Clone)]
pub struct HubHandle {
    registry: Arc<Registry>,
    /// Longest time a connection takes to end once it was told to.
    ending_max: Duration,
}

impl HubHandle {
    pub(crate) fn new(registry: Arc<Registry>, options: &Options) -> Self {
        Self {
            registry,
            ending_max: options.send_timeout + options.close_timeout,
        }
    }

    /// The connections that have shaken hands, in no order.
    pub fn connections(&self) -> Vec<ConnectionHandle> {
        self.all().connections()
    }

    /// All connections of the hub.
    pub fn all(&self) -> Targets {
        self.targets(Chosen::All)
    }

    /// All but the connections with these ids.
    pub fn all_except<I: Into<Box<str>>>(&self, ids: impl IntoIterator<Item = I>) -> Targets {
        self.all().except(ids)
    }

    /// The connection with this id, if there is one.
    pub fn client(&self, id: impl Into<Box<str>>) -> Targets {
        self.clients([id])
    }

    /// The connections with these ids.
    pub fn clients<I: Into<Box<str>>>(&self, ids: impl IntoIterator<Item = I>) -> Targets {
        self.targets(Chosen::Ids(texts(ids)))
    }

    /// The members of a group.
    pub fn group(&self, name: impl Into<Box<str>>) -> Targets {
        self.groups([name])
    }

    /// The members of a group but the connections with these ids.
    pub fn group_except<I: Into<Box<str>>>(
        &self,
        name: impl Into<Box<str>>,
        ids: impl IntoIterator<Item = I>,
    ) -> Targets {
        self.group(name).except(ids)
    }

    /// The members of these groups. Who is in several is a target once, where the original server
    /// sends once for each group.
    pub fn groups<I: Into<Box<str>>>(&self, names: impl IntoIterator<Item = I>) -> Targets {
        self.targets(Chosen::Groups(texts(names)))
    }

    /// All connections of a user: every device, every page. User ids are compared with case.
    pub fn user(&self, id: impl Into<Box<str>>) -> Targets {
        self.users([id])
    }

    /// All connections of these users.
    pub fn users<I: Into<Box<str>>>(&self, ids: impl IntoIterator<Item = I>) -> Targets {
        self.targets(Chosen::Users(texts(ids)))
    }

    /// Makes a connection a member of a group; see [`ConnectionHandle::join`]. One that is not
    /// there becomes none, and that is all.
    pub fn join(&self, connection_id: &str, group: &str) -> bool {
        self.registry.live_mut().join(connection_id, group)
    }

    /// Takes a connection out of a group. Says whether it was in it.
    pub fn leave(&self, connection_id: &str, group: &str) -> bool {
        self.registry.live_mut().leave_group(connection_id, group)
    }

    /// The names of the groups that have members, in no order.
    pub fn group_names(&self) -> Vec<Arc<str>> {
        self.registry.live().group_names().cloned().collect()
    }

    fn targets(&self, chosen: Chosen) -> Targets {
        Targets::new(Arc::clone(&self.registry), chosen)
    }

    /// The connection with this id, when it has shaken hands and not ended.
    pub fn connection(&self, id: &str) -> Option<ConnectionHandle> {
        self.registry.connection(id)
    }

    /// Ends the connection with this id; see [`ConnectionHandle::close`]. Says whether there was
    /// one.
    pub fn disconnect(&self, id: &str, error: Option<&str>, allow_reconnect: bool) -> bool {
        let connection = self.connection(id);
        connection
            .inspect(|connection| connection.close(error, allow_reconnect))
            .is_some()
    }

    /// Whether the hub takes no new connections. A readiness probe reports it.
    pub fn is_draining(&self) -> bool {
        self.registry.is_draining()
    }

    /// Takes no more connections, asks the present ones to come back elsewhere, one after the
    /// other in the time `over`, and waits until all have ended.
    ///
    /// New negotiations are answered with 503 from now on. Clients with automatic reconnect come
    /// back; what is queued for them is sent before they go.
    pub async fn drain(&self, over: Duration) {
        self.registry.start_draining();
        let connections = self.connections();
        let count = u32::try_from(connections.len()).unwrap_or(u32::MAX);
        let start = Instant::now();
        for (index, connection) in (0..count).zip(&connections) {
            time::sleep_until(start + over.mul_f64(f64::from(index) / f64::from(count))).await;
            connection.drain();
        }
        // Ends after this time even if a connection's own task should be stuck in the hub's code.
        let _ = time::timeout(self.ending_max, self.registry.until_empty()).await;
    }
}
