//! Entries in one file: each with its length, a big-endian `u16`, before it.
//!
//! ```text
//! 00 05 h e l l o   00 00   00 02 h i          entries "hello", "", "hi"
//! ```
//!
//! Source: C2SP tlog-tiles, "Log Entries"; `logwood export` writes the same framing.

use std::io::{self, Read};

use thiserror::Error;

/// Longest entry, in bytes: what a `u16` can say.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// Appends `entry` with its length to `out`.
///
/// # Errors
///
/// [`EntriesError::TooLong`] if the entry has more than [`ENTRY_BYTES_MAX`] bytes; `out` is then
/// as it was.
pub fn push_entry(entry: &[u8], out: &mut Vec<u8>) -> Result<(), EntriesError> {
    let Ok(length) = u16::try_from(entry.len()) else {
        return Err(EntriesError::TooLong { actual: entry.len() });
    };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(entry);
    Ok(())
}

/// Reads entries one by one, in at most [`ENTRY_BYTES_MAX`] bytes of memory each.
///
/// Bring a buffered reader: every entry takes two reads. After an error it yields nothing more.
#[derive(Debug)]
pub struct EntryReader<R> {
    reader: R,
    number: u64,
    failed: bool,
}

impl<R: Read> EntryReader<R> {
    /// Reads entries from where `reader` stands up to its end.
    pub fn new(reader: R) -> Self {
        Self { reader, number: 0, failed: false }
    }

    fn read_entry(&mut self) -> Result<Option<Vec<u8>>, EntriesError> {
        let mut length = [0; 2];
        match self.read(&mut length)? {
            0 => return Ok(None),
            2 => {}
            _ => return Err(EntriesError::Truncated { number: self.number }),
        }
        let mut entry = vec![0; usize::from(u16::from_be_bytes(length))];
        if self.read(&mut entry)? < entry.len() {
            return Err(EntriesError::Truncated { number: self.number });
        }
        self.number += 1;
        Ok(Some(entry))
    }

    /// Fills `buffer` until it is full or the reader ends; how many bytes there were.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, EntriesError> {
        let mut length = 0;
        while length < buffer.len() {
            match self.reader.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(EntriesError::Io { number: self.number, source }),
            }
        }
        Ok(length)
    }
}

impl<R: Read> Iterator for EntryReader<R> {
    type Item = Result<Vec<u8>, EntriesError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.read_entry().transpose();
        self.failed = matches!(entry, Some(Err(_)));
        entry
    }
}

/// Why entries could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EntriesError {
    /// The entry does not fit its length prefix.
    #[error("an entry of {actual} bytes is over the limit of {ENTRY_BYTES_MAX}; log its digest")]
    TooLong {
        /// Bytes in the entry.
        actual: usize,
    },
    /// The file ends inside an entry.
    #[error("malformed entries: the file ends inside entry {number} (from 0); get it anew")]
    Truncated {
        /// Which of the file's entries, from 0.
        number: u64,
    },
    /// The reader failed.
    #[error("cannot read entry {number} (from 0)")]
    Io {
        /// Which of the file's entries, from 0.
        number: u64,
        /// What the reader reported.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, EntriesError> {
        EntryReader::new(bytes).collect()
    }

    #[test]
    fn the_framing_is_a_big_endian_length() {
        let mut out = Vec::new();
        for entry in [&b"hello"[..], b"", b"hi"] {
            push_entry(entry, &mut out).expect("short");
        }
        assert_eq!(out, b"\0\x05hello\0\0\0\x02hi");
    }

    #[test]
    fn an_entry_may_have_65535_bytes_and_no_more() {
        let mut out = vec![1];
        let longest = vec![7; ENTRY_BYTES_MAX];
        push_entry(&longest, &mut out).expect("within the limit");
        assert_eq!(read(&out[1..]).expect("well-formed"), [longest]);

        let before = out.clone();
        let refused = push_entry(&vec![7; ENTRY_BYTES_MAX + 1], &mut out);
        assert!(matches!(refused, Err(EntriesError::TooLong { actual: 65_536 })));
        assert_eq!(out, before);
    }

    #[test]
    fn a_file_cut_anywhere_inside_an_entry_is_refused_once() {
        let bytes = b"\0\x01a\0\x03bcd";
        for cut in [4, 5, 6, 7] {
            let mut entries = EntryReader::new(&bytes[..cut]);
            assert_eq!(entries.next().expect("an item").expect("an entry"), b"a");
            let refused = entries.next().expect("an item");
            assert!(matches!(refused, Err(EntriesError::Truncated { number: 1 })), "cut at {cut}");
            assert!(entries.next().is_none());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut out = Vec::new();
            for entry in &entries {
                push_entry(entry, &mut out).expect("short");
            }
            prop_assert_eq!(read(&out).expect("well-formed"), entries);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
        }
    }
}
