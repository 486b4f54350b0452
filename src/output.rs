//! Standard output: one JSON object a line with `--json`, sentences without.
//!
//! Sizes and indices are numbers, hashes and entries base64, times RFC 3339.

use std::io::{self, Write as _};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Writes `value` as one line.
pub(crate) fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    line(&value.to_string())
}

/// Writes `text` and a newline.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}").context("cannot write to standard output")
}

/// Writes `bytes` as they are.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Base64 of a hash or an entry.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}
