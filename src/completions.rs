//! `logwood completions`: what a shell needs to complete our commands.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::{Cli, output};

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  logwood completions bash > /etc/bash_completion.d/logwood
  logwood completions zsh > \"${fpath[1]}/_logwood\"
  logwood completions fish > ~/.config/fish/completions/logwood.fish
";

/// Writes a script to standard output that lets a shell complete the commands and flags of `logwood`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell that will read it.
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    // Made in memory, since `generate` panics when it cannot write.
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "logwood", &mut script);
    output::bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_every_command() {
        let command = Cli::command();
        let names: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        for shell in clap::ValueEnum::value_variants() {
            let mut script = Vec::new();
            generate::<Shell, _>(*shell, &mut Cli::command(), "logwood", &mut script);
            let script = String::from_utf8(script).expect("text");
            for name in &names {
                assert!(script.contains(name.as_str()), "{shell} does not know {name}");
            }
        }
    }

    #[test]
    fn the_commands_and_flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
