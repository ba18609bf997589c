//! The file: three tables of SQLite.
//!
//! A message and a key stand under the batch that brought them last, so that forgetting an older
//! batch leaves them alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_rules::delivery::{BatchName, Remembered};
use countersign_rules::message::MessageId;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, params};

use crate::check::{self, BatchFound};
use crate::error::{OpenError, ReadError, is_damage};
use crate::row;

/// The format of the tables.
const VERSION: i64 = 2;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS messages (id BLOB PRIMARY KEY, batch INTEGER NOT NULL, failure INTEGER NOT NULL, row BLOB NOT NULL) WITHOUT ROWID, STRICT;
    CREATE INDEX IF NOT EXISTS failures ON messages (id) WHERE failure = 1;
    CREATE TABLE IF NOT EXISTS keys (key BLOB PRIMARY KEY, batch INTEGER NOT NULL, row BLOB NOT NULL) WITHOUT ROWID, STRICT;
    CREATE TABLE IF NOT EXISTS batches (number INTEGER PRIMARY KEY, digest INTEGER NOT NULL, row BLOB NOT NULL) STRICT;
";

const DROPPED: &str = "
    DROP TABLE IF EXISTS messages;
    DROP TABLE IF EXISTS keys;
    DROP TABLE IF EXISTS batches;
";

/// How long one connection waits for the other to end its transaction.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// One connection to the file.
#[derive(Debug)]
pub(crate) struct File {
    connection: Connection,
}

impl File {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let refused = |error: rusqlite::Error| match is_damage(&error) {
            true => OpenError::Damaged(error.to_string()),
            false => OpenError::Sqlite {
                path: path.to_owned(),
                error,
            },
        };
        let connection = Connection::open(path).map_err(refused)?;
        let prepare = || {
            connection.busy_timeout(BUSY_WAIT)?;
            // A crash may take the last batches, never tear one: they are put again.
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "normal")?;
            connection.pragma_query_value(None, "user_version", |row| row.get(0))
        };
        let found: i64 = prepare().map_err(refused)?;
        if found > VERSION {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found,
                known: VERSION,
            });
        }
        let make = || {
            // What an older format holds is built again from the journal.
            connection.execute_batch(DROPPED)?;
            connection.execute_batch(TABLES)?;
            connection.pragma_update(None, "user_version", VERSION)
        };
        if found < VERSION {
            make().map_err(refused)?;
        }
        Ok(Self { connection })
    }

    /// Opens a file that another process may own, for reading only.
    pub(crate) fn look(path: &Path) -> Result<Self, OpenError> {
        let refused = |error: rusqlite::Error| match is_damage(&error) {
            true => OpenError::Damaged(error.to_string()),
            false => OpenError::Sqlite {
                path: path.to_owned(),
                error,
            },
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(refused)?;
        connection.busy_timeout(BUSY_WAIT).map_err(refused)?;
        Ok(Self { connection })
    }

    /// What the first batch with a higher number than `behind` holds; `None` when there is none.
    pub(crate) fn check_behind(&self, behind: u64) -> Result<Option<BatchFound>, ReadError> {
        // One view of the file for the batch and its members.
        let _view = self.connection.unchecked_transaction()?;
        let sql =
            "SELECT number, digest, row FROM batches WHERE number > ?1 ORDER BY number LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row([behind as i64], |row| Ok((name(row)?, row.get(2)?)));
        let found: Option<(BatchName, Vec<u8>)> = found.optional()?;
        let Some((name, row)) = found else {
            return Ok(None);
        };
        match row::batch(name.number, name.digest, &row) {
            Ok(members) => check::members(name, &members, self).map(Some),
            Err(error) => Ok(Some(BatchFound {
                name,
                messages: 0,
                damaged: Vec::new(),
                unreadable: Some(error.to_string()),
            })),
        }
    }

    /// The highest id of a message.
    pub(crate) fn id_max(&self) -> Result<Option<MessageId>, OpenError> {
        let sql = "SELECT id FROM messages ORDER BY id DESC LIMIT 1";
        let found = self.connection.query_row(sql, [], |row| row.get(0));
        let found: Option<[u8; 16]> = found.optional().map_err(|error| {
            OpenError::Damaged(format!("its highest id cannot be read: {error}"))
        })?;
        Ok(found.map(MessageId))
    }

    pub(crate) fn find(&self, id: MessageId) -> Result<Option<(u64, Remembered)>, ReadError> {
        let sql = "SELECT batch, row FROM messages WHERE id = ?1";
        let Some((batch, row)) = self.row(sql, &id.0)? else {
            return Ok(None);
        };
        Ok(Some((batch, row::message(id, batch, &row)?)))
    }

    pub(crate) fn find_key(&self, key: &[u8; 16]) -> Result<Option<(u64, MessageId)>, ReadError> {
        let sql = "SELECT batch, row FROM keys WHERE key = ?1";
        let Some((batch, row)) = self.row(sql, key)? else {
            return Ok(None);
        };
        Ok(Some((batch, row::key(key, batch, &row)?)))
    }

    fn row(&self, sql: &str, key: &[u8; 16]) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row([key], |row| {
            let batch: i64 = row.get(0)?;
            Ok((batch as u64, row.get(1)?))
        });
        Ok(found.optional()?)
    }

    /// Messages by id, behind `after`; see [`Archive::page`](countersign_rules::delivery::Archive::page).
    pub(crate) fn page(
        &self,
        after: Option<MessageId>,
        failures_alone: bool,
        count: usize,
    ) -> Result<Vec<(u64, Remembered)>, ReadError> {
        // A blob is behind every empty one, so that no `after` fits all.
        let after = after.map_or(Vec::new(), |after| after.0.to_vec());
        let sql = match failures_alone {
            true => {
                "SELECT id, batch, row FROM messages WHERE failure = 1 AND id > ?1 ORDER BY id LIMIT ?2"
            }
            false => "SELECT id, batch, row FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2",
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![after, count])?;
        let mut page = Vec::new();
        while let Some(found) = rows.next()? {
            let (id, batch): ([u8; 16], i64) = (found.get(0)?, found.get(1)?);
            let row = found
                .get_ref(2)?
                .as_blob()
                .map_err(|_| ReadError::Checksum)?;
            page.push((
                batch as u64,
                row::message(MessageId(id), batch as u64, row)?,
            ));
        }
        Ok(page)
    }

    /// The batches in the file.
    pub(crate) fn batches(&self) -> Result<Vec<BatchName>, ReadError> {
        let sql = "SELECT number, digest FROM batches ORDER BY number";
        let mut statement = self.connection.prepare_cached(sql)?;
        let names = statement.query_map([], name)?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Does all that `change` does, or nothing.
    pub(crate) fn change(
        &mut self,
        change: impl FnOnce(&Change<'_>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let transaction = self.connection.transaction()?;
        let changing = Change { transaction };
        change(&changing)?;
        Ok(changing.transaction.commit()?)
    }
}

/// What is being changed.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    transaction: Transaction<'a>,
}

impl Change<'_> {
    /// Writes a batch, in place of any other of that number.
    pub(crate) fn put(&self, name: BatchName, messages: &[Remembered]) -> Result<(), ReadError> {
        let sql = "SELECT digest FROM batches WHERE number = ?1";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let earlier = statement.query_row([name.number as i64], |row| row.get(0));
        if let Some(digest) = earlier.optional()? {
            let digest: i64 = digest;
            if digest as u64 == name.digest {
                return Ok(());
            }
            self.discard(BatchName {
                digest: digest as u64,
                ..name
            })?;
        }
        let number = name.number as i64;
        let row = row::of_batch(name.number, name.digest, messages);
        self.execute(
            "INSERT INTO batches VALUES (?1, ?2, ?3)",
            params![number, name.digest as i64, row],
        )?;
        for message in messages {
            let row = row::of_message(name.number, message);
            self.execute(
                "INSERT OR REPLACE INTO messages VALUES (?1, ?2, ?3, ?4)",
                params![message.id.0, number, message.is_failure(), row],
            )?;
            if message.key != [0; 16] {
                let row = row::of_key(name.number, message);
                self.execute(
                    "INSERT OR REPLACE INTO keys VALUES (?1, ?2, ?3)",
                    params![message.key, number, row],
                )?;
            }
        }
        Ok(())
    }

    /// Removes everything.
    pub(crate) fn clear(&self) -> Result<(), ReadError> {
        for table in ["messages", "keys", "batches"] {
            self.execute(&format!("DELETE FROM {table}"), [])?;
        }
        Ok(())
    }

    /// Removes this batch, if it is there, and what it alone brought.
    fn discard(&self, name: BatchName) -> Result<(), ReadError> {
        let sql = "SELECT row FROM batches WHERE number = ?1 AND digest = ?2";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let (number, digest) = (name.number as i64, name.digest as i64);
        let found = statement.query_row([number, digest], |row| row.get(0));
        let found: Option<Vec<u8>> = found.optional()?;
        let Some(row) = found else {
            return Ok(());
        };
        for (id, key) in row::batch(name.number, name.digest, &row)? {
            self.execute(
                "DELETE FROM messages WHERE id = ?1 AND batch = ?2",
                params![id, number],
            )?;
            self.execute(
                "DELETE FROM keys WHERE key = ?1 AND batch = ?2",
                params![key, number],
            )?;
        }
        self.execute("DELETE FROM batches WHERE number = ?1", [number])
    }

    /// Removes the batches with lower numbers.
    pub(crate) fn forget(&self, below: u64) -> Result<(), ReadError> {
        let sql = "SELECT number, digest FROM batches WHERE number < ?1 ORDER BY number";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let names = statement.query_map([below as i64], name)?;
        let names: Vec<_> = names.collect::<Result<_, _>>()?;
        names.into_iter().try_for_each(|name| self.discard(name))
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), ReadError> {
        self.transaction.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

fn name(row: &rusqlite::Row<'_>) -> rusqlite::Result<BatchName> {
    let (number, digest): (i64, i64) = (row.get(0)?, row.get(1)?);
    Ok(BatchName {
        number: number as u64,
        digest: digest as u64,
    })
}

/// Removes the file and what SQLite keeps beside it.
pub(crate) fn remove(path: &Path) -> Result<(), OpenError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::Io { path, error });
            }
            _ => {}
        }
    }
    Ok(())
}
