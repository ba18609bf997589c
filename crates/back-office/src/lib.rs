//! A demo back office: the system at the end of the way, in which documents are inserted.
//!
//! It is an HTTP service of its own over a SQLite database, stands in for the systems that real sites
//! run, and knows nothing of countersign beyond four headers. It can be told to fail, to be slow, to
//! refuse and to be down, so that retries and dead letters can be watched.
//!
//! Promise: a document and its idempotency key are committed in one transaction before the answer, so
//! a key inserts once, however often it is sent and whenever the process is killed.
//! Left out on purpose: users, tokens, deletion. Bind it to loopback.
//!
//! # Routes
//!
//! | Route | Purpose |
//! |---|---|
//! | `POST /documents` | insert the body; see [`headers`] |
//! | `GET /documents?after=&limit=` | what was inserted, in order of insertion |
//! | `GET /documents/count` | how many documents and calls |
//! | `GET /documents/{message_id}` | the body as it was inserted |
//! | `GET /attempts/{key}` | how often a key was seen, inserted or not |
//! | `GET`, `POST /control` | how it behaves now, and from now on: [`Behaviour`] |

mod behaviour;
pub mod headers;
mod http;
mod insert;
mod store;
mod writer;

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;

pub use behaviour::{Behaviour, Mode};

use behaviour::Control;
use store::Reader;
use writer::Writer;

/// What can be set.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file. It is created when missing; its folder is not.
    pub database: PathBuf,
    /// Largest document in bytes. Default: 16 MiB, the largest message body that countersign carries
    /// inline. A larger one is answered 413.
    pub document_bytes_max: usize,
}

impl Options {
    /// The defaults over `database`.
    pub fn at(database: impl Into<PathBuf>) -> Self {
        Self {
            database: database.into(),
            document_bytes_max: 16 << 20,
        }
    }
}

/// Why the back office does not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database cannot be opened, or is no database of ours. Choose another file.
    #[error("the back office's database {path} cannot be used: {cause}")]
    Database {
        /// The file as given in [`Options::database`].
        path: PathBuf,
        /// What SQLite says.
        cause: rusqlite::Error,
    },
    /// The writer thread could not be started: the machine is out of threads or memory.
    #[error("the back office's writer does not start: {0}")]
    Writer(std::io::Error),
    /// The listener failed.
    #[error("the back office stopped serving: {0}")]
    Serve(std::io::Error),
}

/// An open back office. Clones share one database.
#[derive(Debug, Clone)]
pub struct BackOffice {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    writer: Writer,
    reader: Mutex<Reader>,
    control: Control,
    document_bytes_max: usize,
}

impl BackOffice {
    /// Opens or creates the database.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] and [`Error::Writer`].
    pub fn open(options: &Options) -> Result<Self, Error> {
        let path = options.database.as_path();
        let refused = |cause| Error::Database {
            path: path.to_path_buf(),
            cause,
        };
        let connection = store::open(path).map_err(refused)?;
        let reader = Reader::open(path).map_err(refused)?;
        let writer = Writer::start(connection).map_err(Error::Writer)?;
        let parts = Parts {
            writer,
            reader: Mutex::new(reader),
            control: Control::default(),
            document_bytes_max: options.document_bytes_max,
        };
        Ok(Self {
            parts: Arc::new(parts),
        })
    }

    /// The routes, to be nested or served by the caller.
    pub fn router(&self) -> axum::Router {
        http::router(self.clone())
    }

    /// Behaves as told from now on, like `POST /control`.
    pub fn behave(&self, behaviour: Behaviour) {
        self.parts.control.set(behaviour);
    }
}

/// Serves `back_office` on `listener` until `stop` is done; requests under way are finished.
///
/// # Errors
///
/// [`Error::Serve`] when the listener fails.
pub async fn serve(
    listener: TcpListener,
    back_office: BackOffice,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    axum::serve(listener, back_office.router())
        .with_graceful_shutdown(stop)
        .await
        .map_err(Error::Serve)
}
