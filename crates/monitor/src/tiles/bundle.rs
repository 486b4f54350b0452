//! Entry bundles as their bytes arrive: against the leaf hashes that a tile promises, with at most one entry held; or
//! kept, for somebody else to judge.
//!
//! Source: C2SP tlog-tiles, "Log Entries".

use bytes::Bytes;
use logwood_merkle::Hash;
use thiserror::Error;

/// Bytes of the length before an entry.
const LENGTH_BYTES: usize = 2;

/// A bundle of which some bytes have arrived.
#[derive(Debug)]
pub(super) struct BundleCheck<'a> {
    expected: &'a [Hash],
    /// Entries that were as expected.
    seen: usize,
    /// Bytes of the entry that is not complete yet.
    pending: Vec<u8>,
    /// Whether entries after the expected ones are some other tree's business.
    is_prefix: bool,
}

impl<'a> BundleCheck<'a> {
    /// * `expected` - the leaf hashes of the entries.
    /// * `is_prefix` - a wider bundle is served instead, of which these entries are the first.
    pub(super) fn new(expected: &'a [Hash], is_prefix: bool) -> Self {
        Self { expected, seen: 0, pending: Vec::new(), is_prefix }
    }

    /// Takes the next bytes. True if no more are needed.
    ///
    /// # Errors
    ///
    /// [`BundleError`] for the first entry that differs, and for bytes after the last.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<bool, BundleError> {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        while let (Some(expected), Some((entry, after))) = (self.expected.get(self.seen), split_entry(rest)) {
            if Hash::leaf(entry) != *expected {
                return Err(BundleError::WrongEntry { number: self.seen });
            }
            self.seen += 1;
            rest = after;
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
        if self.seen == self.expected.len() {
            return if self.pending.is_empty() || self.is_prefix {
                Ok(self.is_prefix)
            } else {
                Err(BundleError::TooLong)
            };
        }
        Ok(false)
    }

    /// Takes the end of the bundle.
    ///
    /// # Errors
    ///
    /// [`BundleError::TooShort`] if entries are missing.
    pub(super) fn finish(&self) -> Result<(), BundleError> {
        if self.seen == self.expected.len() { Ok(()) } else { Err(BundleError::TooShort { number: self.seen }) }
    }
}

/// The first entries of a bundle, kept. Not judged.
#[derive(Debug)]
pub(super) struct BundleEntries {
    entries: Vec<Bytes>,
    wanted: usize,
    /// Bytes of the entry that is not complete yet.
    pending: Vec<u8>,
}

impl BundleEntries {
    /// * `wanted` - how many, 1..=256.
    pub(super) fn new(wanted: u16) -> Self {
        Self { entries: Vec::new(), wanted: wanted.into(), pending: Vec::new() }
    }

    /// Takes the next bytes. True if no more are needed: what comes after the wanted entries is not looked at.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        while let (true, Some((entry, after))) = (self.entries.len() < self.wanted, split_entry(rest)) {
            self.entries.push(Bytes::copy_from_slice(entry));
            rest = after;
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
        self.entries.len() == self.wanted
    }

    /// Takes the end of the bundle.
    ///
    /// # Errors
    ///
    /// [`BundleError::TooShort`] if entries are missing.
    pub(super) fn finish(&self) -> Result<(), BundleError> {
        let number = self.entries.len();
        if number == self.wanted { Ok(()) } else { Err(BundleError::TooShort { number }) }
    }

    /// The entries.
    pub(super) fn take(self) -> Vec<Bytes> {
        self.entries
    }
}

/// The first entry of `bytes`, and what comes after it.
fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Why a bundle is not what its tile promises. Entries are numbered from 0, within the bundle.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum BundleError {
    /// An entry has another leaf hash.
    #[error("entry {number} of the bundle does not have the leaf hash that its tile has")]
    WrongEntry {
        /// Which entry.
        number: usize,
    },
    /// It ends too early.
    #[error("the bundle ends before its entry {number} does")]
    TooShort {
        /// The first entry that is not there.
        number: usize,
    },
    /// Something comes after the last entry.
    #[error("the bundle goes on after its last entry")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use logwood_note::push_entry;

    use super::*;

    fn bundle(entries: &[&[u8]]) -> (Vec<u8>, Vec<Hash>) {
        let mut bytes = Vec::new();
        for entry in entries {
            push_entry(entry, &mut bytes).expect("short");
        }
        (bytes, entries.iter().map(|entry| Hash::leaf(entry)).collect())
    }

    /// The verdict on `bytes` that arrive `step` at a time.
    fn check(bytes: &[u8], leaves: &[Hash], is_prefix: bool, step: usize) -> Result<(), BundleError> {
        let mut check = BundleCheck::new(leaves, is_prefix);
        for chunk in bytes.chunks(step) {
            if check.push(chunk)? {
                break;
            }
        }
        check.push(&[])?;
        check.finish()
    }

    #[test]
    fn the_verdict_does_not_depend_on_how_the_bytes_arrive() {
        let (bytes, leaves) = bundle(&[b"one", b"", b"three", b""]);
        for step in 1..=bytes.len() {
            assert_eq!(check(&bytes, &leaves, false, step), Ok(()));
            assert_eq!(check(&bytes, &leaves[..2], true, step), Ok(()));
            assert_eq!(check(&bytes, &leaves[..3], false, step), Err(BundleError::TooLong));
            let end = &bytes[..bytes.len() - 1];
            assert_eq!(check(end, &leaves, false, step), Err(BundleError::TooShort { number: 3 }));
            let mut spoilt = bytes.clone();
            spoilt[8] ^= 1;
            assert_eq!(check(&spoilt, &leaves, false, step), Err(BundleError::WrongEntry { number: 2 }));
        }
    }

    #[test]
    fn the_first_entries_are_kept_however_the_bytes_arrive() {
        let (bytes, _) = bundle(&[b"one", b"", b"three", b""]);
        for step in 1..=bytes.len() {
            for wanted in 1..=5_u16 {
                let mut kept = BundleEntries::new(wanted);
                let is_full = bytes.chunks(step).any(|chunk| kept.push(chunk));
                assert_eq!(is_full, wanted < 5);
                assert_eq!(kept.finish(), if wanted < 5 { Ok(()) } else { Err(BundleError::TooShort { number: 4 }) });
                let expected: &[&[u8]] = &[b"one", b"", b"three", b""];
                assert_eq!(kept.take(), expected[..usize::from(wanted).min(4)]);
            }
        }
    }

    #[test]
    fn no_more_than_an_entry_is_held() {
        let (bytes, leaves) = bundle(&[&vec![7; 65_535], &vec![8; 65_535], &vec![9; 65_535]]);
        let mut check = BundleCheck::new(&leaves, false);
        for chunk in bytes.chunks(1_000) {
            check.push(chunk).expect("as it should be");
            assert!(check.pending.len() <= LENGTH_BYTES + 65_535);
        }
        assert_eq!(check.finish(), Ok(()));
    }
}
