//! The `logwood` command.
//!
//! This file only composes: each subcommand has a module of its own, and every way to fail ends in
//! [`failure::exit_code`], so that a script can tell "down" (1) from "lying" (3).

mod anchor;
mod append;
mod bench;
mod child;
mod completions;
mod connect;
mod demo;
mod export;
mod failure;
mod files;
mod fsck;
mod get;
mod head;
mod keys;
mod logs;
mod monitor;
mod output;
mod progress;
mod prove;
mod repair;
mod serve;
mod trust;
mod verified;
mod verify;
mod witness;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// An RPC is dozens of short-lived allocations on several threads: with glibc's allocator, appends take an eighth more
/// processor time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
    Append(append::AppendArgs),
    Get(get::GetArgs),
    Prove(prove::ProveArgs),
    Head(head::HeadArgs),
    Export(export::ExportArgs),
    Logs(logs::LogsArgs),
    Verify(verify::VerifyArgs),
    Fsck(fsck::FsckArgs),
    Repair(repair::RepairArgs),
    Keys(keys::KeysArgs),
    Witness(witness::WitnessArgs),
    Monitor(monitor::MonitorArgs),
    Completions(completions::CompletionsArgs),
    Bench(bench::BenchArgs),
    Demo(demo::DemoArgs),
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
        Command::Serve(args) => serve::run(&args),
        Command::Append(args) => wait(append::run(args)),
        Command::Get(args) => wait(get::run(args)),
        Command::Prove(args) => wait(prove::run(args)),
        Command::Head(args) => wait(head::run(args)),
        Command::Export(args) => wait(export::run(args)),
        Command::Logs(args) => wait(logs::run(args)),
        Command::Verify(args) => verify::run(&args),
        Command::Fsck(args) => fsck::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Bench(args) => wait(bench::run(args)),
        Command::Demo(args) => wait(demo::run(args)),
        Command::Keys(args) => keys::run(args),
        Command::Witness(args) => witness::run(&args),
        Command::Monitor(args) => wait(monitor::run(args)),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Runs what talks to a server.
fn wait(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new().context("cannot start the runtime")?.block_on(command)
}
