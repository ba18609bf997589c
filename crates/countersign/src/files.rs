//! Files with secrets, and the file that tells other commands of this user about a running `dev`.

use crate::exit::{Exit, Failure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes a file that only its owner may read, replacing one that is there.
pub(crate) fn write_secret(path: &Path, content: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file(path, "write", &error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(content.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// Reads a file that holds a secret, and refuses one that others may read.
pub(crate) fn read_secret(path: &Path) -> Result<String, Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = fs::metadata(path).map_err(|error| Failure::file(path, "read", &error))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(Failure::new(
                Exit::ConfigInvalid,
                "E-KEY-FILE-READABLE",
                format!("{} can be read by other users", path.display()),
                "whoever reads it can sign tokens",
                format!("chmod 600 {}", path.display()),
            ));
        }
    }
    read(path)
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::file(path, "read", &error))
}

/// What other commands need to reach a running `countersign dev`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DevContext {
    pub(crate) url: String,
    pub(crate) ack_url: String,
    pub(crate) token_url: String,
    pub(crate) back_office_url: String,
    pub(crate) token: String,
    pub(crate) agent: String,
    pub(crate) data: PathBuf,
}

impl DevContext {
    /// `COUNTERSIGN_CONTEXT`, else a file in the user's state directory.
    pub(crate) fn path() -> PathBuf {
        if let Some(path) = std::env::var_os("COUNTERSIGN_CONTEXT") {
            return PathBuf::from(path);
        }
        let state = std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| {
                let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"))?;
                Some(PathBuf::from(home).join(".local").join("state"))
            });
        state
            .unwrap_or_else(std::env::temp_dir)
            .join("countersign")
            .join("dev.json")
    }

    pub(crate) fn write(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self).expect("strings and paths are JSON");
        write_secret(&Self::path(), &text)
    }

    pub(crate) fn read() -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(Self::path()).ok()?).ok()
    }

    /// Takes the file away, unless another `dev` has written its own meanwhile.
    pub(crate) fn remove(&self) {
        if Self::read().is_some_and(|found| found.token == self.token) {
            let _ = fs::remove_file(Self::path());
        }
    }
}
