//! The `logwood` command.
//!
//! This file only composes: each subcommand has a module of its own, and every way to fail ends in
//! [`failure::exit_code`], so that a script can tell "down" (1) from "lying" (3).

mod failure;
mod files;
mod keys;
mod output;
mod serve;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A transparency log for audit trails: append events, and prove later that none was changed.
///
/// Exit status: 0 good, 1 failed, 2 usage, 3 verification failed (tampering or a bad signature).
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Verify(verify::VerifyArgs),
    Keys(keys::KeysArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Verify(args) => verify::run(&args),
        Command::Keys(args) => keys::run(args),
    }
}
