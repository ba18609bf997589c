//! Where the original is: ASP.NET Core SignalR and its official .NET client, packed to run without .NET.
//!
//! Promise: found without a path of any machine: the folder that `COUNTERSIGN_DOTNET_PEERS` names, or else an archive of
//! the known name in a folder near the checkout, which is unpacked once below cargo's target directory.
//! Left out on purpose: fetching it; it is no part of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::checkout;
use crate::steps::{install_package, must_run, succeeds, target_directory};

const ARCHIVE: &str = "dotnet-peers-linux-x64.tar.xz";

/// The folder that the archive holds.
const FOLDER: &str = "dotnet-peers";

/// How many folders may lie between one that the checkout lies in and the archive.
const DEPTH_MAX: usize = 2;

/// What to say where [`find`] finds nothing.
pub(crate) const MISSING: &str = "COUNTERSIGN_DOTNET_PEERS names no folder with it, and no \
     dotnet-peers-linux-x64.tar.xz lies near the checkout.";

/// The programs of the archive.
#[derive(Debug, Clone)]
pub(crate) struct DotnetPeers(PathBuf);

impl DotnetPeers {
    /// The conformance hub on ASP.NET Core.
    pub(crate) fn server(&self) -> PathBuf {
        self.0.join("server")
    }

    /// The cases of the official .NET client.
    pub(crate) fn client(&self) -> PathBuf {
        self.0.join("client")
    }

    /// The folder with all of them.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    fn at(folder: PathBuf) -> Option<Self> {
        let peers = Self(folder);
        (peers.server().is_file() && peers.client().is_file()).then_some(peers)
    }
}

/// Finds the original, unpacking it where only its archive is there; `None` where neither is, or where it cannot run.
///
/// # Errors
///
/// When the variable names a folder without it, or the archive cannot be unpacked.
pub(crate) fn find() -> Result<Option<DotnetPeers>> {
    if let Some(folder) = std::env::var_os("COUNTERSIGN_DOTNET_PEERS") {
        let peers = DotnetPeers::at(PathBuf::from(&folder));
        let peers = peers.with_context(|| {
            format!(
                "COUNTERSIGN_DOTNET_PEERS is {}, without `server` and `client`",
                folder.display()
            )
        })?;
        return Ok(Some(peers));
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(None);
    }
    let unpacked = target_directory().join(FOLDER);
    if let Some(peers) = DotnetPeers::at(unpacked.clone()) {
        return Ok(Some(peers));
    }
    match archive_near(&checkout::root()) {
        Some(archive) => unpack(&archive, unpacked).map(Some),
        None => Ok(None),
    }
}

/// The nearest archive: in a folder that the checkout lies in, or a little below one.
fn archive_near(checkout: &Path) -> Option<PathBuf> {
    checkout
        .ancestors()
        // The root of the file system is near nothing.
        .filter(|folder| folder.parent().is_some())
        .find_map(|folder| archive_below(folder, DEPTH_MAX))
}

fn archive_below(folder: &Path, depth_max: usize) -> Option<PathBuf> {
    let here = folder.join(ARCHIVE);
    if here.is_file() {
        return Some(here);
    }
    if depth_max == 0 {
        return None;
    }
    // A folder that cannot be read holds nothing for us.
    let entries = std::fs::read_dir(folder).ok()?;
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders
        .iter()
        .find_map(|folder| archive_below(folder, depth_max - 1))
}

/// Unpacks beside the place and moves it there whole, so that a run that is cut short leaves no half of it.
fn unpack(archive: &Path, unpacked: PathBuf) -> Result<DotnetPeers> {
    if !succeeds(Command::new("xz").arg("--version")) {
        install_package("xz-utils")?;
    }
    let beside = target_directory().join(format!("{FOLDER}-{}", std::process::id()));
    std::fs::create_dir_all(&beside)?;
    must_run(
        Command::new("tar")
            .arg("-xJf")
            .arg(archive)
            .arg("-C")
            .arg(&beside),
    )?;
    if unpacked.exists() {
        std::fs::remove_dir_all(&unpacked)?;
    }
    std::fs::rename(beside.join(FOLDER), &unpacked)?;
    std::fs::remove_dir_all(&beside)?;
    let peers = DotnetPeers::at(unpacked);
    ensure!(peers.is_some(), "{ARCHIVE} holds no `server` and `client`");
    peers.context("just seen")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test run alone, gone with its holder.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let folder = format!("xtask-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
            Self(folder)
        }

        fn file(&self, path: &str) -> PathBuf {
            let path = self.0.join(path);
            let folder = path.parent().expect("it lies in the scratch folder");
            std::fs::create_dir_all(folder).expect("folders can be made");
            std::fs::write(&path, "").expect("files can be written");
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            // A folder left behind in the temporary ones harms nobody.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_archive_two_folders_below_a_parent_of_the_checkout_is_found() {
        let scratch = Scratch::new("found");
        let archive = scratch.file(&format!("near/by/{ARCHIVE}"));
        let manifest = scratch.file("here/clone/Cargo.toml");
        let checkout = manifest.parent().expect("it lies in a folder");
        assert_eq!(archive_near(checkout), Some(archive));
    }

    #[test]
    fn an_archive_deeper_than_that_is_not_looked_for() {
        let scratch = Scratch::new("deep");
        scratch.file(&format!("a/b/c/{ARCHIVE}"));
        assert_eq!(archive_below(&scratch.0, DEPTH_MAX), None);
    }
}
