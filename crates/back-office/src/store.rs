//! The database: its schema, what a transaction does for one call, and what can be read back.
//!
//! `documents` holds what was inserted and has no uniqueness of its own beyond the row: a document that
//! came in twice under two keys is there twice, and a checker sees it. `keys` makes each key insert once.
//! `calls` counts how often each key was seen, whatever came of it.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};
use serde::Serialize;

use crate::insert::{Document, Outcome, Receipt};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS documents (
    row          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL,
    message_id   TEXT NOT NULL,
    message_type TEXT NOT NULL,
    content_type TEXT NOT NULL,
    lane         TEXT,
    seq          INTEGER,
    sha256       TEXT NOT NULL,
    body         BLOB NOT NULL,
    received_at  TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS documents_by_message ON documents (message_id);
CREATE TABLE IF NOT EXISTS keys (
    key    TEXT PRIMARY KEY,
    row    INTEGER NOT NULL UNIQUE REFERENCES documents (row)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
    key   TEXT PRIMARY KEY,
    calls INTEGER NOT NULL
) WITHOUT ROWID;
";

/// How long a connection waits for another process that holds the file.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// Opens the database for writing: every commit is on disk before it is reported.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_MAX)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// Counts the call and inserts `document` unless its key has inserted before.
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    document: &Document,
) -> rusqlite::Result<Outcome> {
    count_call(transaction, &document.key)?;
    if let Some(first) = receipt(transaction, &document.key)? {
        let same = first.sha256 == document.sha256;
        return Ok(if same {
            Outcome::Replayed(first)
        } else {
            Outcome::KeyReused
        });
    }
    transaction
        .prepare_cached(
            "INSERT INTO documents (id, message_id, message_type, content_type, lane, seq, sha256, body, received_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            uuid::Uuid::now_v7().to_string(),
            document.message_id,
            document.message_type,
            document.content_type,
            document.lane,
            document.seq,
            document.sha256,
            document.body,
            format!("{:.3}", Timestamp::now()),
        ])?;
    let row = transaction.last_insert_rowid();
    transaction
        .prepare_cached("INSERT INTO keys (key, row) VALUES (?1, ?2)")?
        .execute(params![document.key, row])?;
    let receipt =
        receipt(transaction, &document.key)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok(Outcome::Inserted(receipt))
}

/// Counts a call that came to nothing, so that the number of tries can be read back.
pub(crate) fn count_call(transaction: &Transaction<'_>, key: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO calls (key, calls) VALUES (?1, 1)
             ON CONFLICT (key) DO UPDATE SET calls = calls + 1",
        )?
        .execute([key])?;
    Ok(())
}

fn receipt(transaction: &Transaction<'_>, key: &str) -> rusqlite::Result<Option<Receipt>> {
    transaction
        .prepare_cached(
            "SELECT row, id, message_id, sha256, length(body), received_at
             FROM keys JOIN documents USING (row) WHERE key = ?1",
        )?
        .query_row([key], |row| {
            Ok(Receipt {
                row: row.get(0)?,
                id: row.get(1)?,
                message_id: row.get(2)?,
                sha256: row.get(3)?,
                bytes: row.get(4)?,
                received_at: row.get(5)?,
            })
        })
        .optional()
}

/// One line of the list of documents.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    row: i64,
    id: String,
    idempotency_key: String,
    message_id: String,
    #[serde(rename = "type")]
    message_type: String,
    content_type: String,
    lane: Option<String>,
    seq: Option<i64>,
    sha256: String,
    bytes: i64,
    received_at: String,
    /// Calls seen for the key: 1 when the first went through and nobody asked again.
    attempts: i64,
}

impl Listed {
    pub(crate) fn row(&self) -> i64 {
        self.row
    }
}

/// How much there is.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    documents: i64,
    /// Different keys seen, inserted or not.
    keys: i64,
    calls: i64,
}

/// How often a key was seen.
#[derive(Debug, Serialize)]
pub(crate) struct Attempts {
    idempotency_key: String,
    attempts: i64,
    inserted: bool,
}

/// A connection that cannot write.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_MAX)?;
        Ok(Self { connection })
    }

    /// Up to `count_max` documents behind row `after`, in order of insertion.
    pub(crate) fn list(&self, after: i64, count_max: u32) -> rusqlite::Result<Vec<Listed>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT row, id, key, message_id, message_type, content_type, lane, seq, sha256,
                    length(body), received_at, calls
             FROM documents JOIN keys USING (row) JOIN calls USING (key)
             WHERE row > ?1 ORDER BY row LIMIT ?2",
        )?;
        statement
            .query_map(params![after, count_max], listed)?
            .collect()
    }

    pub(crate) fn counts(&self) -> rusqlite::Result<Counts> {
        self.connection.query_row(
            "SELECT (SELECT count(*) FROM documents), count(*), coalesce(sum(calls), 0) FROM calls",
            [],
            |row| {
                Ok(Counts {
                    documents: row.get(0)?,
                    keys: row.get(1)?,
                    calls: row.get(2)?,
                })
            },
        )
    }

    /// The content type, the checksum and the body of the document that `message_id` carried.
    pub(crate) fn body(
        &self,
        message_id: &str,
    ) -> rusqlite::Result<Option<(String, String, Vec<u8>)>> {
        self.connection
            .query_row(
                "SELECT content_type, sha256, body FROM documents WHERE message_id = ?1 ORDER BY row LIMIT 1",
                [message_id],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
    }

    pub(crate) fn attempts(&self, key: &str) -> rusqlite::Result<Option<Attempts>> {
        self.connection
            .query_row(
                "SELECT key, calls, EXISTS (SELECT 1 FROM keys WHERE keys.key = calls.key)
                 FROM calls WHERE key = ?1",
                [key],
                |row| {
                    Ok(Attempts {
                        idempotency_key: row.get(0)?,
                        attempts: row.get(1)?,
                        inserted: row.get(2)?,
                    })
                },
            )
            .optional()
    }
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    Ok(Listed {
        row: row.get(0)?,
        id: row.get(1)?,
        idempotency_key: row.get(2)?,
        message_id: row.get(3)?,
        message_type: row.get(4)?,
        content_type: row.get(5)?,
        lane: row.get(6)?,
        seq: row.get(7)?,
        sha256: row.get(8)?,
        bytes: row.get(9)?,
        received_at: row.get(10)?,
        attempts: row.get(11)?,
    })
}
