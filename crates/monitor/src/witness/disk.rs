//! What the witness needs of a disk, so that tests can let each part of it fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use super::record::RECORD_BYTES_MAX;

/// A directory of small files.
///
/// The calls for one name come one after the other; those for different names may overlap.
pub trait Disk: Send + Sync {
    /// All of a file. `None` if there is none.
    ///
    /// # Errors
    ///
    /// Whatever the operating system reports.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes `name` a file of these bytes, and syncs those. After an error or a crash anything may be there.
    ///
    /// # Errors
    ///
    /// Whatever the operating system reports.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Gives `from` the name `to`, in place of what had it. A crash leaves one or the other, until
    /// [`Disk::sync_names`].
    ///
    /// # Errors
    ///
    /// Whatever the operating system reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes renames durable.
    ///
    /// # Errors
    ///
    /// Whatever the operating system reports; then it is not known which renames are durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// Replaces a file, atomically and durably. After an error the file is the old one or the new one, and it is not known
/// which of them a power loss leaves.
pub(super) fn replace(disk: &impl Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.new");
    disk.write(&temporary, bytes)?;
    disk.rename(&temporary, name)?;
    disk.sync_names()
}

/// A real directory, which no other process uses at the same time.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Holds the lock, and syncs the names.
    directory: File,
}

/// Another process has the directory, or it cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryInUse {
    /// The directory is locked.
    #[error("{} is in use by another witness; one state directory belongs to one process", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot use the state directory {}", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What it reported.
        source: io::Error,
    },
}

impl StateDirectory {
    /// Opens the directory at `path`, which is made if it is not there, and locks it for this process; its parent must be there.
    ///
    /// # Errors
    ///
    /// * [`DirectoryInUse::Locked`] if another process has it: two witnesses could cosign a fork between them.
    /// * [`DirectoryInUse::Io`] if it cannot be made or opened.
    pub fn open(path: &Path) -> Result<Self, DirectoryInUse> {
        let io = |source| DirectoryInUse::Io { path: path.to_owned(), source };
        make_durable_directory(path).map_err(io)?;
        let directory = File::open(path).map_err(io)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), directory }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryInUse::Locked { path: path.to_owned() }),
            Err(error) => Err(io(error.into())),
        }
    }
}

/// Makes the directory, so that a power loss does not take it away again with all that is in it.
fn make_durable_directory(path: &Path) -> io::Result<()> {
    if let Err(error) = std::fs::create_dir(path)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl Disk for StateDirectory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        // One byte more than a record has tells that it is none.
        file.take(RECORD_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).open(self.path.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}
