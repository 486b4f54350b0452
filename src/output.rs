//! Standard output: one JSON object a line with `--json`, sentences without.
//!
//! Sizes and indices are numbers, hashes and entries base64, times RFC 3339.

use std::borrow::Cow;
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
    writeln!(io::stdout().lock(), "{}", printable(text)).context("cannot write to standard output")
}

/// `text` without what commands a terminal: names and messages come from servers.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}").into() } else { text.into() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_does_not_command_the_terminal() {
        assert_eq!(printable("log \x1b[2Jname\r\n\u{9b}31m"), "log \u{fffd}[2Jname\u{fffd}\u{fffd}\u{fffd}31m");
        assert_eq!(printable("größe 3"), "größe 3");
    }
}
