//! Lines in, bytes out: split at LF only, and nothing but that LF is dropped.

use std::io::{self, BufRead, BufReader, Read};

use logwood_merkle::Hash;
use logwood_note::entries::ENTRY_BYTES_MAX;
use sha2::{Digest as _, Sha256};

/// Longest line or file that is read into memory, so that a digest can be made of it: 64 MiB.
pub(super) const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The lines of a reader, numbered from 1.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    number: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: BufReader<R>) -> Self {
        Self { reader, number: 0 }
    }

    /// The next line without its LF, and its number. A last line without LF is a line, too.
    ///
    /// # Errors
    ///
    /// What the reader reports, or a line longer than [`READ_BYTES_MAX`]: what follows has no number then.
    pub(super) fn next_line(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(READ_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if read > READ_BYTES_MAX {
            let problem = format!("line {} is longer than {READ_BYTES_MAX} bytes", self.number);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(Some((self.number, line)))
    }

    /// Whether the next line has to be waited for.
    pub(super) fn is_drained(&self) -> bool {
        self.reader.buffer().is_empty()
    }
}

/// The entry that `bytes` are logged as.
///
/// * `digest` - log the digest of what is longer than an entry may be.
///
/// # Errors
///
/// The reason, for people, if they cannot be an entry.
pub(super) fn entry_of(bytes: Vec<u8>, digest: bool) -> Result<Vec<u8>, String> {
    match bytes.len() {
        0 => Err("empty, and an entry has at least one byte; --skip-empty passes over empty lines".into()),
        1..=ENTRY_BYTES_MAX => Ok(bytes),
        length if length > READ_BYTES_MAX => Err(format!("longer than {READ_BYTES_MAX} bytes")),
        length if digest => Ok(digest_of(&bytes, length).into_bytes()),
        length => {
            Err(format!("{length} bytes are over the limit of {ENTRY_BYTES_MAX}; --digest logs a digest instead"))
        }
    }
}

/// `sha256:<hex> <length>`.
fn digest_of(bytes: &[u8], length: usize) -> String {
    let hash = Hash::from_bytes(Sha256::digest(bytes).into());
    format!("sha256:{hash} {length}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Lines::new(BufReader::with_capacity(3, text));
        std::iter::from_fn(|| lines.next_line().expect("a slice can be read")).collect()
    }

    #[test]
    fn only_the_lf_is_dropped() {
        let expected: [(u64, &[u8]); 4] = [(1, b"a\r"), (2, b""), (3, b"\xff\0b"), (4, b"last")];
        let actual = split(b"a\r\n\n\xff\0b\nlast");
        assert_eq!(actual, expected.map(|(number, line)| (number, line.to_vec())));
        assert_eq!(split(b"one\n").len(), 1, "nothing follows the last LF");
        assert!(split(b"").is_empty());
    }

    #[test]
    fn an_entry_has_from_one_to_65535_bytes() {
        assert!(entry_of(Vec::new(), true).is_err());
        assert_eq!(entry_of(vec![7; 65_535], false).map(|entry| entry.len()), Ok(65_535));
        assert!(entry_of(vec![7; 65_536], false).is_err_and(|problem| problem.contains("65535")));
    }

    #[test]
    fn the_digest_names_hash_and_length() {
        let digest = entry_of(vec![0; 65_536], true).expect("a digest is short");
        // `head -c 65536 /dev/zero | sha256sum`
        let hex = "de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31";
        assert_eq!(digest, format!("sha256:{hex} 65536").into_bytes());
    }
}
