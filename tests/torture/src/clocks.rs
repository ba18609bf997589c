//! Wall clocks that jump: libfaketime, told by a file for each process. Monotonic clocks stay as they
//! are, as they do when the clock of a machine is set.

use crate::process::Kind;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clock of each process, as a file that libfaketime reads.
#[derive(Debug)]
pub(crate) struct Clocks {
    home: PathBuf,
    library: PathBuf,
}

impl Clocks {
    pub(crate) fn new(home: &Path) -> Result<Self> {
        let library = library().context("libfaketime is not installed")?;
        let clocks = Self {
            home: home.to_owned(),
            library,
        };
        for kind in Kind::ALL {
            clocks.set(kind, 0)?;
        }
        Ok(clocks)
    }

    /// What a process is started with, so that its clock can be set.
    pub(crate) fn variables(&self, kind: Kind) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file(kind))),
            // Looked at once a second.
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// Sets the clock of a process to so many seconds before or behind ours.
    pub(crate) fn set(&self, kind: Kind, seconds: i64) -> Result<()> {
        let (file, new) = (self.file(kind), self.home.join("clock.new"));
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(new, file)?)
    }

    fn file(&self, kind: Kind) -> PathBuf {
        self.home.join(format!("{kind:?}.clock"))
    }
}

/// Why no clock can be set here, if so.
pub(crate) fn unavailable() -> Option<String> {
    if library().is_some() {
        return None;
    }
    // The package of Debian and its relatives.
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends", "faketime"]);
    let installed = install.output();
    match (installed, library()) {
        (_, Some(_)) => None,
        (Err(error), None) => Some(format!("install libfaketime by hand: apt-get: {error}")),
        (Ok(output), None) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Some(format!("install libfaketime by hand: apt-get: {why}"))
        }
    }
}

fn library() -> Option<PathBuf> {
    let folders = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ];
    let places = folders
        .iter()
        .map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"));
    places.into_iter().find(|place| place.is_file())
}
