//! Where the checkout is and which text files belong to it.
//!
//! Promise: the same files whatever the working directory, and nothing that git ignores.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The root of the checkout this binary was built from.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder inside the checkout")
        .to_path_buf()
}

/// One text file: its path from the root, with forward slashes, and what it says.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every text file that is committed, or would be by `git add --all`.
pub(crate) fn text_files() -> Result<Vec<TextFile>> {
    let root = root();
    let listing = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&root)
        .output()
        .context("git, which lists the files to check, does not start")?;
    ensure!(
        listing.status.success(),
        "git ls-files failed: this is not a git checkout"
    );
    let names = String::from_utf8(listing.stdout).context("a file name is not UTF-8")?;
    let mut files = Vec::new();
    for path in names.split('\0').filter(|name| !name.is_empty()) {
        // A file deleted but not yet committed is still listed; one that is no text has no rules.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.push(TextFile {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(files)
}
