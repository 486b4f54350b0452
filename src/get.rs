//! `logwood get`: an entry, shown to be in the log.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use logwood_client::Which;
use logwood_merkle::{Hash, LeafIndex};

use crate::connect::{self, ConnectArgs};
use crate::{files, output};

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  logwood get 0 --receipt 0.tlog-proof > entry && logwood verify --vkey KEY 0.tlog-proof entry
      Entry 0 and its receipt. KEY is the log's verifier key, from somebody whom you trust.
  logwood get --leaf-hash $( (printf '\\0'; cat entry) | sha256sum | cut -c-64)
      The same, asked for by what it is and not by where it is.
";

/// Writes an entry's bytes to standard output, once its inclusion proof has verified.
///
/// Nothing is added, no newline either: what comes out is what went in, byte for byte.
///
/// Exit status 0 if it verifies; 1 if there is no such entry, or no answer; 2 for wrong usage; 3 if the server's answer does
/// not verify.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Also writes the entry's receipt to FILE, for `logwood verify`.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichArgs {
    /// Index of the entry, from 0.
    index: Option<u64>,
    /// Instead of the index: SHA-256 of a zero byte and the entry (RFC 6962 §2.1), in 64 hex digits. If several entries
    /// have it, the first.
    #[arg(long, value_name = "HEX", value_parser = parse_hash)]
    leaf_hash: Option<Hash>,
}

/// Runs the subcommand.
///
/// # Errors
///
/// As [`connect::failed`] sorts them.
pub(crate) async fn run(args: GetArgs) -> anyhow::Result<ExitCode> {
    let which = match (args.which.index, args.which.leaf_hash) {
        (Some(index), _) => Which::Index(LeafIndex(index)),
        (_, Some(leaf)) => Which::Leaf(leaf),
        _ => unreachable!("clap demands one of the two"),
    };
    let client = args.connect.connect().await?;
    let entry = client.entry(which, client.least_level()).await.map_err(connect::failed)?;
    if let Some(path) = &args.receipt {
        files::write(path, &entry.receipt.to_bytes())?;
    }
    if args.connect.json {
        let mut value = connect::head_json(&entry.head)?;
        value["index"] = entry.receipt.index.0.into();
        value["entry"] = output::base64(&entry.bytes).into();
        output::json(&value)?;
    } else {
        output::bytes(&entry.bytes)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// 64 hex digits.
pub(crate) fn parse_hash(text: &str) -> Result<Hash, String> {
    let digits = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> = digits.0.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    let hash = bytes.filter(|_| digits.1.is_empty()).and_then(|bytes| Hash::try_from(&bytes[..]).ok());
    hash.ok_or_else(|| "a leaf hash has 64 hex digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_printed_and_nothing_else_is() {
        let hash = Hash::leaf(b"entry");
        assert_eq!(parse_hash(&hash.to_string()), Ok(hash));
        assert_eq!(parse_hash(&hash.to_string().to_uppercase()), Ok(hash));
        let text = hash.to_string();
        for bad in ["", &text[1..], &format!("{text}0"), &format!("{text}00"), &text.replace(&text[..1], "g"), "é"] {
            assert!(parse_hash(bad).is_err(), "{bad}");
        }
    }
}
