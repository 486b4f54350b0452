//! Lines, decimals and base64 with exactly one spelling each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logwood_merkle::Hash;
use thiserror::Error;

/// A line that the format does not allow where it stands.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed: line {line} is not {expected}")]
pub struct MalformedLine {
    /// Number of the line in the file, from 1.
    pub line: usize,
    /// What the format requires there.
    pub expected: &'static str,
}

/// Reads a text from the top, one line at a time.
#[derive(Clone, Debug)]
pub(crate) struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text, line: 0 }
    }

    /// The next line without its newline, which must be there.
    pub(crate) fn next(&mut self, expected: &'static str) -> Result<&'a str, MalformedLine> {
        self.line += 1;
        let (line, rest) = self.rest.split_once('\n').ok_or(self.malformed(expected))?;
        self.rest = rest;
        Ok(line)
    }

    /// The next line, which must be exactly `line`.
    pub(crate) fn literal(&mut self, line: &'static str) -> Result<(), MalformedLine> {
        if self.next(line)? == line { Ok(()) } else { Err(self.malformed(line)) }
    }

    /// The next line, a decimal after `prefix`.
    pub(crate) fn decimal(&mut self, prefix: &str, expected: &'static str) -> Result<u64, MalformedLine> {
        let line = self.next(expected)?;
        line.strip_prefix(prefix).and_then(decimal).ok_or(self.malformed(expected))
    }

    /// The next line, the base64 of a hash.
    pub(crate) fn hash(&mut self, expected: &'static str) -> Result<Hash, MalformedLine> {
        let line = self.next(expected)?;
        hash(line).ok_or(self.malformed(expected))
    }

    /// Whether the next line begins with `prefix`.
    pub(crate) fn at(&self, prefix: &str) -> bool {
        self.rest.starts_with(prefix)
    }

    /// Everything that has not been read.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }

    /// The error for the line that was read last.
    pub(crate) fn malformed(&self, expected: &'static str) -> MalformedLine {
        MalformedLine { line: self.line, expected }
    }
}

/// Parses ASCII digits without sign or leading zeroes, up to `u64::MAX`.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    if digits && canonical { text.parse().ok() } else { None }
}

/// Decodes base64 (RFC 4648 §4), refusing missing padding and stray bits in the last character.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Encodes as base64 (RFC 4648 §4), with padding.
pub(crate) fn to_base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Appends the base64 of `bytes` to `out`, without an intermediate string.
pub(crate) fn push_base64(bytes: &[u8], out: &mut String) {
    STANDARD.encode_string(bytes, out);
}

/// Decodes the base64 of exactly 32 bytes.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    let mut bytes = [0; Hash::LEN];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    (length == Hash::LEN).then(|| Hash::from_bytes(bytes))
}

/// Appends `hash` as a line of its own.
pub(crate) fn push_hash_line(hash: &Hash, out: &mut String) {
    push_base64(hash.as_bytes(), out);
    out.push('\n');
}

/// `bytes` in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a String cannot fail");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_has_one_spelling() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("10"), Some(10));
        assert_eq!(decimal("18446744073709551615"), Some(u64::MAX));
        for refused in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "0x1", "١", "1e3", "18446744073709551616"] {
            assert_eq!(decimal(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn base64_has_one_spelling() {
        assert_eq!(from_base64("AA=="), Some(vec![0]));
        assert_eq!(from_base64(""), Some(vec![]));
        for refused in ["AB==", "AA=", "AA", "AA==\n", " AA==", "A-_=", "AA==AA==", "AAB=", "="] {
            assert_eq!(from_base64(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn a_hash_is_exactly_32_bytes() {
        assert_eq!(hash(&to_base64([7; 32])), Some(Hash::from_bytes([7; 32])));
        for length in [0, 1, 31, 33, 34, 64] {
            assert_eq!(hash(&to_base64(vec![7; length])), None, "{length} bytes");
        }
    }

    #[test]
    fn a_line_needs_its_newline() {
        let mut lines = Lines::new("a\nb");
        assert_eq!(lines.next("a line"), Ok("a"));
        assert_eq!(lines.next("a line"), Err(MalformedLine { line: 2, expected: "a line" }));
    }
}
