//! Files that hold a private key: only their owner may read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key::KeyError;
use crate::private_key::{CosigningKey, PrivateKey, SigningKey};

/// Largest key file, in bytes: a name of 255 bytes and about 75 bytes around it fit well.
pub const KEY_FILE_BYTES_MAX: usize = 1_024;

impl PrivateKey {
    /// Reads the private key in the file at `path`: one line, the newline may be missing.
    ///
    /// A symbolic link is followed; the rules hold for the file that it leads to.
    ///
    /// # Errors
    ///
    /// * [`KeyFileError::Io`] if the file cannot be read.
    /// * [`KeyFileError::NotRegular`] if it is a directory, pipe, device or socket.
    /// * [`KeyFileError::Mode`] if its mode is neither 0600 nor 0400.
    /// * [`KeyFileError::TooLong`] if it is larger than [`KEY_FILE_BYTES_MAX`].
    /// * [`KeyFileError::Key`] if it does not hold a private key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        read(path.as_ref(), |text| Self::from_private_text(text.strip_suffix('\n').unwrap_or(text)))
    }

    /// As [`PrivateKey::load`], for a PEM file: [`PrivateKey::from_pem`] says what it may hold.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::load`].
    pub fn load_pem(path: impl AsRef<Path>, name: &str) -> Result<Self, KeyFileError> {
        read(path.as_ref(), |text| Self::from_pem(name, text))
    }

    /// Writes the private key to a new file at `path`, mode 0600, and syncs file and directory.
    ///
    /// # Errors
    ///
    /// * [`KeyFileError::Exists`] if something is at `path` already; it is left as it was.
    /// * [`KeyFileError::Io`] if writing or syncing fails; the new file is removed if possible.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        let text = self.to_private_text();
        create(path.as_ref(), &[text.as_bytes(), b"\n"])
    }

    /// As [`PrivateKey::create`], as a PEM file, which does not hold the name.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::create`].
    pub fn create_pem(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        create(path.as_ref(), &[self.to_pem().as_bytes()])
    }
}

/// Reads the file at `path`, if it may hold a private key, and parses it.
fn read(path: &Path, parse: impl Fn(&str) -> Result<PrivateKey, KeyError>) -> Result<PrivateKey, KeyFileError> {
    let io = |source| KeyFileError::Io { action: "read", path: path.to_owned(), source };

    // Without waiting for a writer, should the path be a pipe.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotRegular { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode != 0o600 && mode != 0o400 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode });
    }

    // The buffer never grows, so that no copy of the secret stays behind.
    let mut bytes = Zeroizing::new(vec![0; KEY_FILE_BYTES_MAX + 1]);
    let length = read_up_to(&mut file, &mut bytes).map_err(io)?;
    if length > KEY_FILE_BYTES_MAX {
        return Err(KeyFileError::TooLong { path: path.to_owned() });
    }
    let text = std::str::from_utf8(&bytes[..length]).map_err(|_| KeyError::Syntax);
    text.and_then(parse).map_err(|source| KeyFileError::Key { path: path.to_owned(), source })
}

/// Writes `parts` to a new file at `path`, mode 0600, and syncs file and directory.
fn create(path: &Path, parts: &[&[u8]]) -> Result<(), KeyFileError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = match file {
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Exists { path: path.to_owned() });
        }
        Err(source) => Err(source),
        Ok(file) => write(file, path, parts).inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::remove_file(path);
        }),
    };
    written.map_err(|source| KeyFileError::Io { action: "create", path: path.to_owned(), source })
}

fn write(mut file: File, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl SigningKey {
    /// As [`PrivateKey::load`], for a key of type 0x01.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::load`]; [`KeyFileError::Key`] also for a cosigner's key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        PrivateKey::load(&path)?.try_into().map_err(|source| wrong_type(path.as_ref(), source))
    }

    /// As [`PrivateKey::create`].
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::create`].
    pub fn create(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        self.private().create(path)
    }
}

impl CosigningKey {
    /// As [`PrivateKey::load`], for a key of type 0x04 or 0x06.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::load`]; [`KeyFileError::Key`] also for a key of type 0x01.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        PrivateKey::load(&path)?.try_into().map_err(|source| wrong_type(path.as_ref(), source))
    }

    /// As [`PrivateKey::create`].
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::create`].
    pub fn create(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        self.private().create(path)
    }
}

fn wrong_type(path: &Path, source: KeyError) -> KeyFileError {
    KeyFileError::Key { path: path.to_owned(), source }
}

/// Fills `buffer` until it is full or the file ends; how many bytes were read.
fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Why a key file was not read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The operating system refused.
    #[error("cannot {action} the key file {}", .path.display())]
    Io {
        /// What was tried: `read` or `create`.
        action: &'static str,
        /// The key file.
        path: PathBuf,
        /// What the operating system reported.
        source: io::Error,
    },
    /// Something is there already, and a key is never overwritten.
    #[error("{} exists already; a key is never overwritten, choose another path", .path.display())]
    Exists {
        /// The key file.
        path: PathBuf,
    },
    /// The path leads to something that cannot hold a key.
    #[error("{} is not a regular file; name the file that holds the key", .path.display())]
    NotRegular {
        /// The key file.
        path: PathBuf,
    },
    /// Others than the owner may get at the key.
    #[error(
        "{path} has mode {mode:04o}; a private key must be its owner's alone: run `chmod 600 {path}`, \
         and replace the key if others could have read it",
        path = .path.display()
    )]
    Mode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is too large to be a key.
    #[error("{} is larger than {KEY_FILE_BYTES_MAX} bytes, so it holds no key", .path.display())]
    TooLong {
        /// The key file.
        path: PathBuf,
    },
    /// The file does not hold a private key, or one of another type than is needed.
    #[error("{} does not hold a private key that is of use here", .path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong with its text.
        source: KeyError,
    },
}

#[cfg(test)]
mod tests;
