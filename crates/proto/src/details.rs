//! Reasons in `google.rpc.ErrorInfo`: what a program can tell errors apart by.

use std::fmt;

/// `domain` of every `ErrorInfo` that Logwood sends.
pub const DOMAIN: &str = "logwood";

/// `reason` of an `ErrorInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// `OUT_OF_RANGE`; metadata `size`.
    BeyondHead,
    /// `ALREADY_EXISTS`; metadata `index`.
    IdentityTaken,
    /// `ALREADY_EXISTS`: a log of that name, or its key file.
    LogExists,
    /// `FAILED_PRECONDITION`: the log is read-only until it is thawed.
    Frozen,
    /// `FAILED_PRECONDITION`: the log is read-only for ever.
    Sealed,
    /// `FAILED_PRECONDITION`: the log has as many entries as an index can count.
    LogFull,
    /// `FAILED_PRECONDITION`: the log has no witnesses.
    NoWitnesses,
    /// `FAILED_PRECONDITION`: the log has no index from leaf hash to entry.
    NoLeafIndex,
    /// `FAILED_PRECONDITION`: signing could fork the log.
    RollbackGuard,
    /// `UNAVAILABLE`: the outcome of a write is unknown, the log reloads.
    Halted,
    /// `UNAVAILABLE`: the server is stopping.
    Stopping,
    /// `UNAVAILABLE`: the level that the log acknowledges at was not reached in time.
    LevelNotReached,
    /// `UNAVAILABLE`: the log asks its witnesses whether it may sign.
    AskingWitnesses,
}

impl Reason {
    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeyondHead => "BEYOND_HEAD",
            Self::IdentityTaken => "IDENTITY_TAKEN",
            Self::LogExists => "LOG_EXISTS",
            Self::Frozen => "FROZEN",
            Self::Sealed => "SEALED",
            Self::LogFull => "LOG_FULL",
            Self::NoWitnesses => "NO_WITNESSES",
            Self::NoLeafIndex => "NO_LEAF_INDEX",
            Self::RollbackGuard => "ROLLBACK_GUARD",
            Self::Halted => "HALTED",
            Self::Stopping => "STOPPING",
            Self::LevelNotReached => "LEVEL_NOT_REACHED",
            Self::AskingWitnesses => "ASKING_WITNESSES",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
