//! What can go wrong, sorted by what the caller has to do.

use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::path::PathBuf;

use logwood_proto::FieldError;
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
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Rejected { code, .. } => {
                matches!(code, tonic::Code::Unavailable | tonic::Code::ResourceExhausted)
            }
            Self::Verification { .. } | Self::State { .. } | Self::BadOption { .. } => false,
        }
    }

    /// Whether the server says that a size or an index is beyond its head.
    pub(crate) fn is_beyond_head(&self) -> bool {
        let beyond = logwood_proto::Reason::BeyondHead.as_str();
        matches!(self, Self::Rejected { reason: Some(reason), .. } if reason == beyond)
    }

    /// A failed check: `what` was checked, `why` it failed, with its causes.
    pub(crate) fn failed_check(what: impl fmt::Display, why: &dyn std::error::Error) -> Self {
        let mut sentence = format!("{what}: {why}");
        let mut source = why.source();
        while let Some(cause) = source {
            write!(sentence, ": {cause}").expect("writing to a String cannot fail");
            source = cause.source();
        }
        Self::Verification { what: sentence }
    }

    /// The error that `status`, an answer of `server`, stands for.
    pub(crate) fn from_status(server: &str, status: &tonic::Status) -> Self {
        // Only what the transport makes up itself has a source; a status from the wire has none.
        if status.source().is_some() {
            return Self::Unreachable { server: server.to_owned(), message: status.message().to_owned() };
        }
        Self::Rejected {
            code: status.code(),
            reason: status.get_details_error_info().map(|info| info.reason),
            message: status.message().to_owned(),
        }
    }
}

impl From<FieldError> for ClientError {
    fn from(error: FieldError) -> Self {
        Self::failed_check("the answer is malformed", &error)
    }
}
