//! `logwood keys`: makes a key pair, shows the public half of one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use logwood_note::{SigningKey, VerifierKey};
use serde_json::json;

use crate::failure::Usage;
use crate::output;

/// Makes and shows keys.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Makes an Ed25519 key pair, and prints its vkey.
    Generate {
        /// Name of the key: the log's origin, say `log.example.com/logs/audit`.
        #[arg(long)]
        name: String,
        /// The file for the private key. It must not exist; its mode will be 0600.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// One JSON object instead of the vkey alone.
        #[arg(long)]
        json: bool,
    },
    /// Prints the vkey of a private key.
    Show {
        /// The file that holds the private key.
        file: PathBuf,
        /// One JSON object instead of the vkey alone.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
///
/// # Errors
///
/// A bad name is a usage error; a key file that exists already, or cannot be read, is not.
pub(crate) fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        KeysCommand::Generate { name, out, json } => {
            let key = SigningKey::generate(&name).map_err(|error| Usage { problem: format!("--name: {error}") })?;
            key.create(&out).context("no key was made")?;
            print(key.verifier(), json)?;
        }
        KeysCommand::Show { file, json } => print(SigningKey::load(&file)?.verifier(), json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(key: &VerifierKey, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let value = json!({ "name": key.name(), "id": key.id().to_string(), "vkey": key.to_string() });
        output::json(&value)
    } else {
        output::line(&key.to_string())
    }
}
