//! From errors to `tonic::Status`, each with its typed detail. No text of the store or the OS passes here.

use std::collections::HashMap;
use std::time::Duration;

use logwood_merkle::{ProofError, TreeHead, TreeSize};
use logwood_proto::{DOMAIN, FieldError, Reason};
use logwood_store::ReadError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::nodes::NodeError;
use crate::writer::WriteError;

/// When a caller that was pushed back may try again, in milliseconds.
const RETRY_AFTER_MS: u64 = 100;

/// A field of the request is wrong.
pub(crate) fn invalid(field: &str, problem: impl Into<String>) -> Status {
    let problem = problem.into();
    let details = ErrorDetails::with_bad_request_violation(field, problem.clone());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {problem}"), details)
}

pub(crate) fn field(error: FieldError) -> Status {
    invalid(error.field, error.problem)
}

/// An index or size past the log's head.
///
/// * `field` - the one of the request that is out of range.
/// * `size` - that of the head.
pub(crate) fn beyond_head(field: &str, asked: u64, size: u64) -> Status {
    out_of_range(format!("{field} {asked} is beyond the head, which has size {size}"), size)
}

/// An index past the tree that the request asks about, which may be one of the log's past.
///
/// * `tree` - the size of that tree.
/// * `size` - that of the head.
pub(crate) fn beyond_tree(field: &str, asked: u64, tree: TreeSize, size: TreeSize) -> Status {
    if tree == size {
        return beyond_head(field, asked, size.0);
    }
    out_of_range(format!("{field} {asked} is beyond the tree of size {tree} that the request names"), size.0)
}

/// The detail holds the head's size, so that a caller can tell a log that is behind from a wrong request.
fn out_of_range(message: String, size: u64) -> Status {
    let metadata = HashMap::from([("size".to_owned(), size.to_string())]);
    let details = ErrorDetails::with_error_info(Reason::BeyondHead.as_str(), DOMAIN, metadata);
    Status::with_error_details(Code::OutOfRange, message, details)
}

/// The identity is taken by other bytes.
pub(crate) fn identity_taken(index: u64) -> Status {
    let metadata = HashMap::from([("index".to_owned(), index.to_string())]);
    let details = ErrorDetails::with_error_info(Reason::IdentityTaken.as_str(), DOMAIN, metadata);
    Status::with_error_details(
        Code::AlreadyExists,
        format!("the identity was used for other bytes, at index {index}"),
        details,
    )
}

/// Something about the log's state forbids it.
pub(crate) fn precondition(reason: Reason, message: impl Into<String>) -> Status {
    with_reason(Code::FailedPrecondition, reason, message)
}

/// Signing could fork the log: it does not extend what it signed.
pub(crate) fn rollback_guard(problem: String, own: TreeHead, signed: TreeHead) -> Status {
    let metadata = HashMap::from([
        ("size".to_owned(), own.size.to_string()),
        ("root".to_owned(), own.root.to_string()),
        ("signed_size".to_owned(), signed.size.to_string()),
        ("signed_root".to_owned(), signed.root.to_string()),
    ]);
    let details = ErrorDetails::with_error_info(Reason::RollbackGuard.as_str(), DOMAIN, metadata);
    Status::with_error_details(Code::FailedPrecondition, problem, details)
}

pub(crate) fn with_reason(code: Code, reason: Reason, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// A limit is reached for now.
pub(crate) fn exhausted(limit: &str, message: impl Into<String>) -> Status {
    let message = message.into();
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(RETRY_AFTER_MS)));
    details.set_quota_failure(vec![tonic_types::QuotaViolation::new(limit, message.clone())]);
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// The log reloads, or the server starts or stops.
pub(crate) fn unavailable(reason: Reason, message: impl Into<String>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, HashMap::new());
    details.set_retry_info(Some(Duration::from_millis(RETRY_AFTER_MS)));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// The log lets no head out yet that the request needs.
pub(crate) fn level_not_reached() -> Status {
    let message = "no head of the level that the log acknowledges at was reached in time; retry with the same identity";
    unavailable(Reason::LevelNotReached, message)
}

/// The log may not sign yet.
pub(crate) fn asking_witnesses(missing: &str) -> Status {
    let message = format!("the log asks its witnesses whether it may sign ({missing}); retry with the same identity");
    unavailable(Reason::AskingWitnesses, message)
}

/// The level cannot be reached at all.
pub(crate) fn no_witnesses() -> Status {
    precondition(Reason::NoWitnesses, "the log has no witnesses")
}

pub(crate) fn halted() -> Status {
    unavailable(Reason::Halted, "the log reloads from storage; retry with the same identity")
}

pub(crate) fn write(error: WriteError) -> Status {
    match error {
        WriteError::Halted => halted(),
        WriteError::Damaged => Status::data_loss(
            "the look-up index or an entry is damaged; nothing was logged; the operator must run `logwood fsck`, and \
             `logwood repair --rebuild-index` if it is the index",
        ),
        WriteError::NotAnchored => {
            exhausted("disk", "the anchor cannot be written; the entry may be logged, retry with the same identity")
        }
        WriteError::NotSigned => precondition(
            Reason::RollbackGuard,
            "the entry is logged, and the log must not sign a head over it; the operator must look at the server's log",
        ),
        WriteError::Refused => exhausted("storage", "the store is behind; nothing was written, retry later"),
    }
}

pub(crate) fn read(error: ReadError) -> Status {
    match error {
        ReadError::Corrupt { what } => {
            tracing::error!(what, "stored data is damaged");
            Status::data_loss("stored bytes fail their hash; the operator must run `logwood fsck`")
        }
        ReadError::Unavailable { source } => {
            tracing::error!(%source, "the store cannot be read");
            halted()
        }
    }
}

pub(crate) fn proof(error: ProofError) -> Status {
    invalid("proof", error.to_string())
}

pub(crate) fn node(error: NodeError) -> Status {
    match error {
        NodeError::Proof(error) => proof(error),
        NodeError::Read(error) => read(error),
    }
}

/// Whether this is what the decoder says of bytes that are no message of the contract.
pub(crate) fn is_misread(status: &Status) -> bool {
    status.code() == Code::Internal && status.message().starts_with("failed to decode Protobuf message")
}

/// A request that is no message of the contract.
pub(crate) fn malformed() -> Status {
    invalid("message", "is not what the method takes: not Protocol Buffers, or a string that is not UTF-8")
}

/// A message is larger than its method takes. No retry helps, so none is suggested.
pub(crate) fn message_too_large(bytes: usize, bytes_max: usize) -> Status {
    let message = format!("a message of {bytes} bytes is over this method's limit of {bytes_max} bytes");
    let details = ErrorDetails::with_quota_failure_violation("message", message.clone());
    Status::with_error_details(Code::ResourceExhausted, message, details)
}
