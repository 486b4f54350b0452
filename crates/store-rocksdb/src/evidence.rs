//! A store as it was found, kept before a repair goes on without what it has lost.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::{OpenError, RocksStore, wal};

/// Where copies are kept, inside the store's directory: `lost/1`, `lost/2` and so on.
const COPIES: &str = "lost";

/// Copies the database in `dir` beside itself. Tables and blobs never change, so they get a second name instead.
///
/// # Errors
///
/// [`OpenError`]: the store is in use, is not there, or cannot be copied.
pub(crate) fn keep(dir: &Path) -> Result<PathBuf, OpenError> {
    let _lock = RocksStore::lock_existing(dir)?;
    copy(dir).map_err(|source| OpenError::Io { dir: dir.to_owned(), source })
}

fn copy(dir: &Path) -> io::Result<PathBuf> {
    let copies = dir.join(COPIES);
    fs::create_dir_all(&copies)?;
    let mut number = 1;
    let target = loop {
        let target = copies.join(number.to_string());
        match fs::create_dir(&target) {
            Ok(()) => break target,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    };
    for file in fs::read_dir(dir)? {
        let file = file?;
        let (name, path) = (file.file_name(), file.path());
        if !file.file_type()?.is_file() || !wal::is_of_the_database(&name.to_string_lossy()) {
            continue;
        }
        let is_immutable = path.extension().is_some_and(|end| end == "sst" || end == "blob");
        if !is_immutable || fs::hard_link(&path, target.join(&name)).is_err() {
            fs::copy(&path, target.join(&name))?;
            File::open(target.join(&name))?.sync_all()?;
        }
    }
    for directory in [&target, &copies, dir] {
        File::open(directory)?.sync_all()?;
    }
    Ok(target)
}
