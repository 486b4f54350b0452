//! Certificates and keys of a connection come in PEM files, which both ends read.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// Largest PEM file, in bytes: as many certificates as a system's own store of roots holds, a few times over.
pub const PEM_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The file at `path`, whatever is in it. Reads no more than a byte past the limit, even of a pipe or device.
///
/// # Errors
///
/// As reading a file; [`ErrorKind::FileTooLarge`] over [`PEM_FILE_BYTES_MAX`].
pub fn read_pem_file(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(PEM_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PEM_FILE_BYTES_MAX {
        let problem = format!("a PEM file has at most {PEM_FILE_BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_not_read_to_its_end() {
        let error = read_pem_file(Path::new("/dev/zero")).expect_err("endless");
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(read_pem_file(Path::new("/dev/null")).expect("empty").is_empty());
    }
}
