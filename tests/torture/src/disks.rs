//! A small disk of its own for each store, filled and freed by us.

use crate::process::Kind;
use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::{File, remove_file};
use std::path::{Path, PathBuf};

/// The processes with a store.
pub(crate) const STORES: [Kind; 3] = [Kind::Centre, Kind::Acks, Kind::Agent];

/// How full a disk is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Less is left than the reserve: what is new is refused, and what was taken on goes on.
    BelowReserve,
    /// Nothing is left.
    Brim,
}

/// Where the stores of a run are: each on a tmpfs of its own, or all in one directory.
#[derive(Debug)]
pub(crate) struct Disks {
    home: PathBuf,
    mounted: Vec<PathBuf>,
    /// They stay mounted for whoever wants to look at what is on them.
    keep: bool,
}

impl Disks {
    pub(crate) fn plain(home: &Path) -> Result<Self> {
        let disks = Self {
            home: home.to_owned(),
            mounted: Vec::new(),
            keep: false,
        };
        for kind in STORES {
            std::fs::create_dir_all(disks.of(kind))?;
        }
        Ok(disks)
    }

    /// Disks of `bytes` each, which take memory only for what is on them.
    pub(crate) fn mount(home: &Path, bytes: u64, keep: bool) -> Result<Self> {
        let mut disks = Self::plain(home)?;
        for kind in STORES {
            let place = disks.of(kind);
            mount_one(&place, bytes).with_context(|| format!("{kind:?} gets no disk"))?;
            disks.mounted.push(place);
        }
        disks.keep = keep;
        Ok(disks)
    }

    /// The disk of a process.
    pub(crate) fn of(&self, kind: Kind) -> PathBuf {
        self.home
            .join("disks")
            .join(format!("{kind:?}").to_lowercase())
    }

    /// Takes all space but what is to be left.
    pub(crate) fn fill(&self, kind: Kind, fill: Fill) -> Result<()> {
        let place = self.of(kind);
        let filler = File::create(place.join(FILLER))?;
        let left = match fill {
            Fill::BelowReserve => LEFT_BYTES,
            Fill::Brim => 0,
        };
        let mut filled = 0;
        // The process writes meanwhile, so what was free a moment before need not be free now.
        for _ in 0..FILL_TRIES {
            let space = statvfs(&place)?;
            let free = space.f_bavail * space.f_frsize;
            let more = free.saturating_sub(left);
            if more > 0 && fallocate(&filler, FallocateFlags::empty(), filled, more).is_ok() {
                filled += more;
            }
        }
        Ok(())
    }

    pub(crate) fn free(&self, kind: Kind) -> Result<()> {
        let filler = self.of(kind).join(FILLER);
        if filler.exists() {
            remove_file(filler)?;
        }
        Ok(())
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for place in self.mounted.drain(..) {
            if self.keep {
                println!("stays mounted: {}", place.display());
                continue;
            }
            if let Err(error) = unmount(&place, UnmountFlags::DETACH) {
                eprintln!("{} stays mounted: {error}", place.display());
            }
        }
    }
}

/// Why no disk can be mounted here, if so.
pub(crate) fn unavailable() -> Option<String> {
    let place = match tempfile::tempdir() {
        Ok(place) => place,
        Err(error) => return Some(error.to_string()),
    };
    match mount_one(place.path(), 1 << 20) {
        Ok(()) => unmount(place.path(), UnmountFlags::DETACH)
            .err()
            .map(|error| error.to_string()),
        Err(error) => Some(format!("{error:#}; mounting takes root")),
    }
}

fn mount_one(place: &Path, bytes: u64) -> Result<()> {
    let options = CString::new(format!("size={bytes},mode=0700"))?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount(
        "countersign-torture",
        place,
        "tmpfs",
        flags,
        options.as_c_str(),
    )
    .with_context(|| format!("no tmpfs can be mounted on {}", place.display()))
}

const FILLER: &str = "filler";
/// What is left below the reserve of 16 MiB.
const LEFT_BYTES: u64 = 8 << 20;
const FILL_TRIES: u32 = 8;
