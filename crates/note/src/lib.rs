//! Signed notes, checkpoints, keys and receipts: what a log signs and an auditor keeps.
//!
//! Every parser here is strict: a text that one of them accepts is written back byte for byte,
//! base64 and decimals have one spelling, and every size has a limit that is a constant. What a
//! parser accepts is *well-formed*; what a `verify` or `open` accepts is *true* under a key or a
//! policy that the caller named. The error says which of the two failed.
//!
//! ```text
//! key ──signs or cosigns──> note ──is a──> checkpoint ──is the head of──> receipt, range file
//!                              └──is a──> seal
//!
//! two of these that contradict each other ──are──> evidence
//! ```
//!
//! The only I/O is [`PrivateKey::load`] and [`PrivateKey::create`], because the rules for a file
//! that holds a private key belong beside the key.

pub mod add_checkpoint;
pub mod checkpoint;
pub mod cosignature;
pub mod entries;
pub mod evidence;
pub mod key;
pub mod key_file;
pub mod log_name;
pub mod note;
mod pem;
pub mod policy;
pub mod private_key;
pub mod range_file;
pub mod receipt;
pub mod seal;
#[cfg(test)]
mod testing;
mod text;
pub mod trust;

pub use add_checkpoint::{AddCheckpoint, AddCheckpointError, origin_path, parse_conflict};
pub use checkpoint::{Checkpoint, CheckpointError, sign_checkpoint};
pub use cosignature::CosignError;
pub use entries::{EntriesError, EntryReader, push_entry};
pub use evidence::{Evidence, EvidenceError, NotProved, Proved};
pub use key::{KeyError, KeyId, KeyName, SignatureType, VerifierKey};
pub use key_file::KeyFileError;
pub use log_name::{LogName, LogNameError, Origin, OriginError};
pub use note::{NoteError, NoteSignature, SignedNote, assemble_note, parse_signatures, sign_note};
pub use policy::{Policy, PolicyError, QuorumError};
pub use private_key::{CosigningKey, PrivateKey, SigningKey};
pub use range_file::{RangeFile, RangeFileError};
pub use receipt::{Receipt, ReceiptError};
pub use seal::{Seal, SealError};
pub use text::{MalformedLine, hex};
pub use trust::{SeveralLogs, Trust, TrustedCheckpoint, keys_of_one_log};
