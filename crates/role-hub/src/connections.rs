//! The engine's numbers of the hub's connections.

use signalr_server::ConnectionHandle;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Live connections by the number the engine knows them by. Numbers are never used twice.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    last: AtomicU64,
    by_number: RwLock<HashMap<u64, ConnectionHandle>>,
    numbers: RwLock<HashMap<String, u64>>,
}

impl Connections {
    /// Takes a connection in, before the engine hears of it.
    pub(crate) fn add(&self, connection: &ConnectionHandle) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        write(&self.by_number).insert(number, connection.clone());
        write(&self.numbers).insert(connection.id().to_owned(), number);
        number
    }

    /// Takes a connection out; tells its number if it was in.
    pub(crate) fn remove(&self, connection: &ConnectionHandle) -> Option<u64> {
        let number = write(&self.numbers).remove(connection.id())?;
        write(&self.by_number).remove(&number);
        Some(number)
    }

    pub(crate) fn number_of(&self, connection: &ConnectionHandle) -> Option<u64> {
        read(&self.numbers).get(connection.id()).copied()
    }

    pub(crate) fn get(&self, number: u64) -> Option<ConnectionHandle> {
        read(&self.by_number).get(&number).cloned()
    }
}

// Nothing panics while it holds one of these locks, so a poisoned map is whole.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
