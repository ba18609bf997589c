//! A real directory, on a Unix system.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{File, Files};

/// A real directory.
#[derive(Debug, Clone)]
pub struct RealFiles {
    directory: Arc<PathBuf>,
    read_only: bool,
}

impl RealFiles {
    /// Uses `directory`, creating it (readable by its owner only) when it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub fn new(directory: impl AsRef<Path>) -> io::Result<Self> {
        let directory = directory.as_ref();
        if !directory.is_dir() {
            create_private(directory)?;
            if let Some(parent) = directory.parent() {
                let parent = if parent.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    parent
                };
                fs::File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self {
            directory: Arc::new(directory.to_path_buf()),
            read_only: false,
        })
    }

    /// Uses `directory`, which somebody else owns: everything that would change it is refused.
    pub fn read_only(directory: impl AsRef<Path>) -> Self {
        Self {
            directory: Arc::new(directory.as_ref().to_path_buf()),
            read_only: true,
        }
    }

    fn may_change(&self) -> io::Result<()> {
        match self.read_only {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

impl Files for RealFiles {
    type File = fs::File;
    type Lock = fs::File;

    fn open(&self, name: &str) -> io::Result<fs::File> {
        fs::File::options()
            .read(true)
            .write(!self.read_only)
            .open(self.path(name))
    }

    fn create(&self, name: &str) -> io::Result<fs::File> {
        self.may_change()?;
        fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.path(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.directory.as_path())? {
            // A name that is not UTF-8 is not one of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.may_change()?;
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_change()?;
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        fs::File::open(self.directory.as_path())?.sync_all()
    }

    fn lock(&self, name: &str) -> io::Result<Option<fs::File>> {
        self.may_change()?;
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(self.directory.as_path())?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
        }
        Ok(bytes)
    }

    fn describe(&self) -> String {
        self.directory.display().to_string()
    }
}

impl File for fs::File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // A file system that cannot reserve tells a full disk at the write instead.
            Err(rustix::io::Errno::OPNOTSUPP) => fs::File::set_len(self, len),
            Err(error) => Err(error.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }
}
