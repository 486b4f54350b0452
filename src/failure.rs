//! From an error to an exit status: 1 failed, 2 usage, 3 verification failed.

use std::process::ExitCode;

use logwood_proto::with_causes;
use thiserror::Error;

use crate::output;

/// Something that should verify does not. Exit status 3.
#[derive(Debug, Error)]
#[error("verification failed: {reason}")]
pub(crate) struct VerificationFailed {
    /// Which check failed.
    pub(crate) reason: String,
}

impl VerificationFailed {
    /// The exit status of a failed verification, and of a fault that is proved.
    pub(crate) const EXIT_CODE: u8 = 3;

    /// The failure that `error` and its causes describe, in one line.
    pub(crate) fn new(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { reason: with_causes(error.to_string(), error) }
    }
}

/// The command was called in a way that makes no sense. Exit status 2.
#[derive(Debug, Error)]
#[error("{problem}")]
pub(crate) struct Usage {
    /// What is wrong, and what would be right.
    pub(crate) problem: String,
}

/// Prints `error` with its causes to standard error; the exit status that belongs to it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("logwood: {}", output::printable(&format!("{error:#}")));
    ExitCode::from(exit_code(error))
}

/// The exit status of `error`, which may be wrapped in context.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<VerificationFailed>().is_some() {
        VerificationFailed::EXIT_CODE
    } else if error.downcast_ref::<Usage>().is_some() {
        2
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_does_not_hide_the_exit_status() {
        let lying = VerificationFailed { reason: "the root differs".into() };
        assert_eq!(exit_code(&anyhow::Error::new(lying).context("entry 7")), 3);
        let usage = Usage { problem: "two files of one name".into() };
        assert_eq!(exit_code(&anyhow::Error::new(usage)), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("no route to host")), 1);
    }
}
