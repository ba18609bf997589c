//! Bodies as files of one directory.

use crate::layout::{self, HEADER_BYTES};
use crate::reading::Whole;
use crate::writing::Part;
use crate::{Body, BodyStore, Declared, Error, Growing, Listed};
use countersign_journal::{File, Files, RealFiles};
use countersign_rules::BodyId;
use std::fmt;
use std::io;
use std::path::Path;

/// Bodies as files of one directory. Cheap to clone.
#[derive(Clone)]
pub struct FolderStore<F: Files = RealFiles> {
    files: F,
    #[cfg(feature = "planted-bugs")]
    planted: Planted,
}

/// One planted defect; [`Planted::None`] in every real build.
#[cfg(feature = "planted-bugs")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Planted {
    /// No defect.
    #[default]
    None,
    /// A body can be opened before it would survive a power cut.
    VisibleBeforeDurable,
    /// A body is served without a look at its hash.
    ReadUnchecked,
    /// A body is taken as whole without a look at its hash.
    FinishUnchecked,
}

impl FolderStore<RealFiles> {
    /// Uses `directory`, creating it when it is not there.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn open_directory(directory: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::new(RealFiles::new(directory)?))
    }
}

impl<F: Files> FolderStore<F> {
    /// Uses the directory behind `files`, which holds nothing else.
    pub fn new(files: F) -> Self {
        Self {
            files,
            #[cfg(feature = "planted-bugs")]
            planted: Planted::None,
        }
    }

    /// The same with a defect.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn with_planted(mut self, planted: Planted) -> Self {
        self.planted = planted;
        self
    }

    #[cfg(feature = "planted-bugs")]
    pub(crate) fn is_durable_first(&self) -> bool {
        self.planted != Planted::VisibleBeforeDurable
    }

    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) fn is_durable_first(&self) -> bool {
        true
    }

    #[cfg(feature = "planted-bugs")]
    pub(crate) fn is_read_checked(&self) -> bool {
        self.planted != Planted::ReadUnchecked
    }

    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) fn is_read_checked(&self) -> bool {
        true
    }

    #[cfg(feature = "planted-bugs")]
    pub(crate) fn is_finish_checked(&self) -> bool {
        self.planted != Planted::FinishUnchecked
    }

    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) fn is_finish_checked(&self) -> bool {
        true
    }

    pub(crate) fn files(&self) -> &F {
        &self.files
    }

    fn is_there(&self, name: &str) -> Result<bool, Error> {
        match self.files.open(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn declared_in(&self, id: BodyId, name: &str) -> Option<Declared> {
        let file = self.files.open(name).ok()?;
        let mut header = [0; HEADER_BYTES as usize];
        let read = file.read_at(0, &mut header).ok()?;
        layout::read_header(id, &header[..read]).ok()
    }
}

impl<F: Files> fmt::Debug for FolderStore<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FolderStore")
            .field(&self.files.describe())
            .finish()
    }
}

impl<F: Files> BodyStore for FolderStore<F> {
    fn begin(&self, id: BodyId, declared: &Declared) -> Result<(), Error> {
        let name = layout::part_name(id);
        if self.is_there(&layout::whole_name(id))? || self.is_there(&name)? {
            return Err(Error::Exists);
        }
        let file = self.files.create(&name)?;
        let begun = file
            .write_at(0, &layout::header(id, declared))
            .and_then(|()| file.sync_data())
            .and_then(|()| self.files.sync_dir());
        if let Err(error) = begun {
            // Without its header nobody could go on with it, nor begin it anew.
            let _ = self.files.remove(&name);
            return Err(error.into());
        }
        Ok(())
    }

    fn resume(&self, id: BodyId) -> Result<Box<dyn Growing>, Error> {
        if self.is_there(&layout::whole_name(id))? {
            return Err(Error::Exists);
        }
        Ok(Box::new(Part::open(self, id)?))
    }

    fn open(&self, id: BodyId) -> Result<Box<dyn Body>, Error> {
        Ok(Box::new(Whole::open(self, id)?))
    }

    fn remove(&self, id: BodyId) -> Result<(), Error> {
        let mut removed = false;
        for name in [layout::whole_name(id), layout::part_name(id)] {
            match self.files.remove(&name) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        if removed {
            self.files.sync_dir()?;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        let names = self.files.list()?;
        let ours = names.iter().filter_map(|name| {
            let (id, is_whole) = layout::read_name(name)?;
            let declared = self.declared_in(id, name);
            Some(Listed {
                id,
                declared,
                is_whole,
            })
        });
        Ok(ours.collect())
    }

    fn free_bytes(&self) -> u64 {
        self.files.free_bytes().unwrap_or(u64::MAX)
    }
}
