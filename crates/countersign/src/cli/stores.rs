//! What can be typed about stores: backup, restore, check.

use super::Server;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Stores: centre=DIR, acks=DIR, AGENT=DIR, or a data directory that holds them. Default:
    /// those that the configuration names. They may be in use; nothing is locked or changed.
    #[arg(value_name = "STORE")]
    pub(crate) stores: Vec<String>,
    /// Directory to write to: a new or an empty one.
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
    /// The configuration. Default: countersign.toml when no store is named.
    #[arg(long, env = "COUNTERSIGN_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A backup of one store, or a directory that holds several.
    #[arg(value_name = "FROM")]
    pub(crate) from: PathBuf,
    /// Where the store goes, or the data directory that several go to. Nothing that is there is
    /// overwritten.
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Read every byte of stores, backups and archives, and say what is not as it was written.
    Check {
        /// Stores, backups, or directories that hold them.
        #[arg(value_name = "DIR", required = true)]
        directories: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Acks {
    /// List what agents acknowledged and the store does not know: after a restore, what was accepted
    /// behind the backup.
    Orphans {
        #[command(flatten)]
        server: Server,
    },
}
