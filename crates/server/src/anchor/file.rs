//! What the anchor needs of a file system, so that tests can let each part of it fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::lines::TOKEN_LINE_BYTES;

/// Longest anchor that is read, in bytes: 1,000,000 logs take less when compacted, and the file is compacted before it
/// is five times as long.
const ANCHOR_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// One file.
pub(crate) trait Disk: Send + Sync {
    /// All of it. `None` if there is none.
    fn read(&self) -> io::Result<Option<Vec<u8>>>;

    /// The first line of the file that has this name now, if it is that of a token.
    fn first_line(&self) -> io::Result<String>;

    /// Adds to its end, and syncs it. After an error anything may be there.
    fn append(&self, text: &str) -> io::Result<()>;

    /// Replaces it, atomically and durably. After an error the file is the old one or the new one.
    fn replace(&self, text: &str) -> io::Result<()>;
}

/// The real file.
pub(crate) struct AnchorFile {
    path: PathBuf,
    /// Open for appending since the last replacement.
    open: Mutex<Option<File>>,
}

impl AnchorFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: Mutex::new(None) }
    }

    /// The directory that the file is in; a bare file name is in the current one.
    fn directory(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

impl Disk for AnchorFile {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() > ANCHOR_BYTES_MAX {
            let problem = format!("the anchor has more than {ANCHOR_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let mut bytes = Vec::new();
        file.take(ANCHOR_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn first_line(&self) -> io::Result<String> {
        let mut line = Vec::with_capacity(TOKEN_LINE_BYTES);
        File::open(&self.path)?.take(TOKEN_LINE_BYTES as u64).read_to_end(&mut line)?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn append(&self, text: &str) -> io::Result<()> {
        let mut open = self.open.lock();
        let file = match &mut *open {
            Some(file) => file,
            none => none.insert(OpenOptions::new().append(true).open(&self.path)?),
        };
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let mut open = self.open.lock();
        *open = None;
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        File::open(self.directory())?.sync_all()?;
        // The file keeps its handle through the rename; its position is at its end.
        *open = Some(file);
        Ok(())
    }
}
