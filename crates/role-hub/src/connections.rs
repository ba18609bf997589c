//! The engine's numbers of the hub's connections.

use countersign_rules::{AgentName, TenantName};
use signalr_server::ConnectionHandle;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use tokio::time::{Instant, sleep_until};

/// Whom a connection speaks for.
pub(crate) type Who = (TenantName, AgentName);

/// Live connections by the number the engine knows them by. Numbers are never used twice.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    maps: RwLock<Maps>,
    /// Until when nobody new is let in.
    rest_until: RwLock<Option<Instant>>,
    /// Held while a connection is put in and the engine is told, so that both see the same order.
    pub(crate) entering: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Maps {
    last: u64,
    by_number: HashMap<u64, ConnectionHandle>,
    numbers: HashMap<String, u64>,
    /// The connection of each agent that was opened last, and when in the order of openings.
    newest: HashMap<Who, Opened>,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    order: u64,
    number: u64,
}

/// A connection of the same agent that was opened later is here already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late;

impl Connections {
    /// Takes a connection in, before the engine hears of it. `order` is its place in the order in
    /// which connections were opened.
    ///
    /// That order decides, not the one in which handshakes arrive: the handshake of a socket that its
    /// client gave up may come after the client is back on another one, and must not displace that.
    pub(crate) fn add(
        &self,
        connection: &ConnectionHandle,
        who: Who,
        order: u64,
    ) -> Result<u64, Late> {
        let mut maps = write(&self.maps);
        if maps.newest.get(&who).is_some_and(|at| at.order > order) {
            return Err(Late);
        }
        maps.last += 1;
        let number = maps.last;
        maps.newest.insert(who, Opened { order, number });
        maps.by_number.insert(number, connection.clone());
        maps.numbers.insert(connection.id().to_owned(), number);
        Ok(number)
    }

    /// Takes a connection out; tells its number if it was in.
    pub(crate) fn remove(&self, connection: &ConnectionHandle, who: &Who) -> Option<u64> {
        let mut maps = write(&self.maps);
        let number = maps.numbers.remove(connection.id())?;
        maps.by_number.remove(&number);
        if maps.newest.get(who).is_some_and(|at| at.number == number) {
            maps.newest.remove(who);
        }
        Some(number)
    }

    pub(crate) fn number_of(&self, connection: &ConnectionHandle) -> Option<u64> {
        read(&self.maps).numbers.get(connection.id()).copied()
    }

    pub(crate) fn get(&self, number: u64) -> Option<ConnectionHandle> {
        read(&self.maps).by_number.get(&number).cloned()
    }

    /// Lets nobody new in before `until`.
    pub(crate) fn rest(&self, until: Instant) {
        *write(&self.rest_until) = Some(until);
    }

    /// Waits as long as nobody new is let in.
    pub(crate) async fn rested(&self) {
        let until = *read(&self.rest_until);
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }
}

// Nothing panics while it holds one of these locks, so what they guard is whole.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
