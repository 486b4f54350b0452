//! What can go wrong, sorted by what the caller has to do.

use std::error::Error as _;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use logwood_proto::{FieldError, with_causes};
use thiserror::Error;
use tonic_types::StatusExt as _;

/// Why a call gave no verified answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The answer fails a check: keep it as evidence, and do not trust the log until this is explained.
    #[error("verification failed: {what}")]
    Verification {
        /// Which check failed, as a sentence.
        what: String,
    },
    /// The server refused the call.
    #[error("{message} ({code:?})")]
    Rejected {
        /// The gRPC code.
        code: tonic::Code,
        /// `reason` of the `ErrorInfo`, as in [`logwood_proto::Reason`].
        reason: Option<String>,
        /// With [`logwood_proto::Reason::BeyondHead`]: the size of the server's head.
        size: Option<u64>,
        /// When the server says that a retry may succeed (`RetryInfo`).
        retry_after: Option<Duration>,
        /// The server's words.
        message: String,
    },
    /// There is no connection to the server, or it broke: retry, with the same identities if entries were sent.
    #[error("cannot reach {server}: {message}")]
    Unreachable {
        /// The address that was tried.
        server: String,
        /// What the transport says.
        message: String,
    },
    /// The server's head is smaller than one that was verified before. That proves nothing: a replica lags, or an old
    /// copy was restored. Ask again later, and ask the operator.
    #[error(
        "the server's head has size {size}, the last verified one size {known_size}: the server lags, or was rolled \
         back; ask again later, and ask its operator"
    )]
    Behind {
        /// Size of the server's head.
        size: u64,
        /// Size of the largest head verified before.
        known_size: u64,
    },
    /// No published head came in time that covers every receipt. They are kept in the client's state: settle later.
    #[error("not settled: {why}; the receipts are good, and stay in the client's state to be settled later")]
    NotSettled {
        /// What was waited for, or what kept it from coming.
        why: String,
    },
    /// What the client remembers cannot be read or written.
    #[error("client state {}: {message}", path.display())]
    State {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// An option or argument is malformed.
    #[error("{option}: {message}")]
    BadOption {
        /// Its name in [`crate::ClientOptions`], or that of the argument.
        option: &'static str,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl ClientError {
    /// Whether the server's answer failed a check, as opposed to not being there.
    #[must_use]
    pub fn is_tampering(&self) -> bool {
        matches!(self, Self::Verification { .. })
    }

    /// Whether the same call may well succeed in a moment.
    ///
    /// `RESOURCE_EXHAUSTED` without `RetryInfo` is a message that is too large, and stays so.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Rejected { code: tonic::Code::Unavailable, .. } => true,
            Self::Rejected { code, retry_after, .. } => {
                *code == tonic::Code::ResourceExhausted && retry_after.is_some()
            }
            _ => false,
        }
    }

    /// What the server asked to wait before a retry.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The size of the server's head, if the server says that a size or an index is beyond it.
    pub(crate) fn beyond_head(&self) -> Option<u64> {
        let beyond = logwood_proto::Reason::BeyondHead.as_str();
        match self {
            Self::Rejected { reason: Some(reason), size, .. } if reason == beyond => *size,
            _ => None,
        }
    }

    /// A failed check, as a sentence.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Verification { what: what.into() }
    }

    /// A failed check: `what` was checked, `why` it failed, with its causes.
    pub(crate) fn failed_check(what: impl fmt::Display, why: &dyn std::error::Error) -> Self {
        Self::Verification { what: with_causes(format!("{what}: {why}"), why) }
    }

    /// The transport to `server` failed.
    pub(crate) fn unreachable(server: &str, why: &dyn std::error::Error) -> Self {
        Self::Unreachable { server: server.to_owned(), message: with_causes(why.to_string(), why) }
    }

    /// The error that `status`, an answer of `server`, stands for.
    pub(crate) fn from_status(server: &str, status: &tonic::Status) -> Self {
        // Only what the transport makes up itself has a source; a status from the wire has none.
        if status.source().is_some() {
            return Self::Unreachable { server: server.to_owned(), message: status.message().to_owned() };
        }
        let info = status.get_details_error_info();
        Self::Rejected {
            code: status.code(),
            size: info.as_ref().and_then(|info| info.metadata.get("size")?.parse().ok()),
            reason: info.map(|info| info.reason),
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
            message: status.message().to_owned(),
        }
    }
}

impl From<FieldError> for ClientError {
    fn from(error: FieldError) -> Self {
        Self::failed_check("the answer is malformed", &error)
    }
}
