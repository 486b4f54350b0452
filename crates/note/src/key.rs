//! Keys: names, key ids, vkeys, and what verifies under them.
//!
//! A key is known by its *name* and its *id*, and the id commits to the name, the signature type
//! and the public key:
//!
//! ```text
//! id   = first 4 bytes of SHA-256(name || 0x0A || type || public key), big-endian
//! vkey = <name> + <id, 8 hex digits> + <base64(type || public key)>
//!
//! type  algorithm   signs                                      whose key
//! 0x01  Ed25519     the note's text                            a log's
//! 0x04  Ed25519     a timestamp and the text of a checkpoint   a witness's
//! 0x06  ML-DSA-44   a timestamp and the head of a checkpoint   a witness's, or a log's second
//! ```
//!
//! Source: C2SP signed-note, "Verifier keys" and "Signatures"; C2SP tlog-cosignature, "Format";
//! RFC 8032 §5.1; FIPS 204.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ml_dsa::MlDsa44;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{cosignature, text};

/// Longest key name, in bytes. The one-byte name lengths of C2SP tlog-cosignature set it.
pub const KEY_NAME_BYTES_MAX: usize = 255;

/// Longest vkey or private key in text form, in bytes: prefix, name, id, and the base64 of a type
/// byte and an ML-DSA-44 public key.
pub const KEY_TEXT_BYTES_MAX: usize = "PRIVATE+KEY+".len() + KEY_NAME_BYTES_MAX + "+01234567+".len() + 1_752;

/// Bytes of an Ed25519 seed or public key (RFC 8032 §5.1.5).
const ED25519_KEY_BYTES: usize = 32;

/// What a signature is over, and with which algorithm: the type byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SignatureType {
    /// Ed25519 over the note's text (C2SP signed-note, "Signature types").
    Ed25519 = 0x01,
    /// Ed25519 over a timestamp and the text of a checkpoint (C2SP tlog-cosignature).
    Ed25519Cosignature = 0x04,
    /// ML-DSA-44 over a timestamp and the head of a checkpoint (C2SP tlog-cosignature).
    MlDsa44Cosignature = 0x06,
}

impl SignatureType {
    /// The type byte.
    #[must_use]
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// Whether a log may sign its own checkpoints so (C2SP tlog-checkpoint, "Signatures").
    #[must_use]
    pub fn is_for_logs(self) -> bool {
        matches!(self, Self::Ed25519 | Self::MlDsa44Cosignature)
    }

    /// Whether a witness may cosign so: every such signature holds a timestamp (C2SP tlog-cosignature).
    #[must_use]
    pub fn is_for_witnesses(self) -> bool {
        matches!(self, Self::Ed25519Cosignature | Self::MlDsa44Cosignature)
    }

    /// Whether extension lines of a checkpoint are signed too (C2SP tlog-cosignature, "ML-DSA-44 signed message").
    #[must_use]
    pub fn covers_extensions(self) -> bool {
        self != Self::MlDsa44Cosignature
    }

    fn from_byte(byte: u8) -> Result<Self, KeyError> {
        match byte {
            0x01 => Ok(Self::Ed25519),
            0x04 => Ok(Self::Ed25519Cosignature),
            0x06 => Ok(Self::MlDsa44Cosignature),
            kind => Err(KeyError::UnsupportedType { kind }),
        }
    }
}

/// Name of a key: not empty, at most [`KEY_NAME_BYTES_MAX`] bytes, and without Unicode space,
/// `+` and control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// Checks `name`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`] if it is empty, too long, or holds a character that no key name may have.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        if is_key_name(name) { Ok(Self(name.to_owned())) } else { Err(KeyError::Name) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `name` may name a key (C2SP signed-note, "Format"; the length limit is ours).
pub(crate) fn is_key_name(name: &str) -> bool {
    let forbidden = |c: char| c == '+' || c.is_whitespace() || c.is_control();
    !name.is_empty() && name.len() <= KEY_NAME_BYTES_MAX && !name.contains(forbidden)
}

/// First four bytes, big-endian, of the hash over a key's name, type and public key.
///
/// It tells keys apart and nothing more: 32 bits are no commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl KeyId {
    /// Id of the key with this `name`, signature `kind` (one byte) and `public_key`.
    #[must_use]
    pub fn derive(name: &str, kind: u8, public_key: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(public_key).finalize();
        let bytes: [u8; 32] = hash.into();
        Self(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A public key to verify notes with: what a vkey says.
///
/// Parsed with [`FromStr`], written with [`fmt::Display`]; the two are inverse. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: KeyId,
    kind: SignatureType,
    key: PublicKey,
}

/// The algorithm's own key. An ML-DSA key is shared, since it is expanded to some 20 kB.
#[derive(Clone, PartialEq)]
enum PublicKey {
    Ed25519(ed25519_dalek::VerifyingKey),
    MlDsa44(Arc<ml_dsa::VerifyingKey<MlDsa44>>),
}

impl Eq for PublicKey {}

impl VerifierKey {
    /// The key called `name` for signatures of type `kind`.
    ///
    /// * `public_key` - 32 bytes for Ed25519 (RFC 8032 §5.1.5), 1,312 for ML-DSA-44 (FIPS 204, Algorithm 22).
    ///
    /// # Errors
    ///
    /// * [`KeyError::Name`] if `name` is no key name.
    /// * [`KeyError::PublicKey`] if the bytes have another length, or for Ed25519 are no point of the curve, or
    ///   one of small order.
    pub fn from_public_key(name: &str, kind: SignatureType, public_key: &[u8]) -> Result<Self, KeyError> {
        let name = KeyName::new(name)?;
        let key = match kind {
            SignatureType::Ed25519 | SignatureType::Ed25519Cosignature => PublicKey::ed25519(public_key),
            SignatureType::MlDsa44Cosignature => PublicKey::ml_dsa_44(public_key),
        };
        let key = key.ok_or(KeyError::PublicKey)?;
        let id = KeyId::derive(name.as_str(), kind.byte(), public_key);
        Ok(Self { name, id, kind, key })
    }

    /// Name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Name of the key, as its type.
    pub(crate) fn key_name(&self) -> &KeyName {
        &self.name
    }

    /// Id of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What this key's signatures are over.
    #[must_use]
    pub fn kind(&self) -> SignatureType {
        self.kind
    }

    /// The public key as its algorithm encodes it: 32 or 1,312 bytes.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        match &self.key {
            PublicKey::Ed25519(key) => key.to_bytes().to_vec(),
            PublicKey::MlDsa44(key) => key.encode().to_vec(),
        }
    }

    /// Whether `signature` is one of this key over the note text `text`.
    ///
    /// * `signature` - what follows the key id in a signature line; a wrong length is false.
    ///
    /// Cosignatures (types 0x04 and 0x06) are over checkpoints only: false for every other text. One of type 0x06
    /// does not cover extension lines. Also false for signatures that only the lenient readings of RFC 8032
    /// §5.1.7 accept.
    #[must_use]
    pub fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        if self.kind == SignatureType::Ed25519 {
            return self.verify_message(text, signature);
        }
        cosignature::split(signature).is_some_and(|(seconds, signature)| {
            let text = std::str::from_utf8(text).ok();
            let message = text.map(|text| cosignature::message(self.kind, self.name(), text, seconds));
            message.is_some_and(|message| message.is_ok_and(|message| self.verify_message(&message, signature)))
        })
    }

    /// The POSIX seconds that a cosignature of this key holds: `None` for type 0x01, which has no timestamp, and
    /// for bytes that are no cosignature. Believe it only if [`VerifierKey::verify`] accepts the signature.
    #[must_use]
    pub fn timestamp(&self, signature: &[u8]) -> Option<u64> {
        if self.kind == SignatureType::Ed25519 {
            return None;
        }
        cosignature::split(signature).map(|(seconds, _)| seconds)
    }

    /// The same public key and name for signatures of another type: 0x01 and 0x04 share an algorithm.
    ///
    /// # Errors
    ///
    /// [`KeyError::WrongType`] if the algorithm is another.
    pub fn with_type(&self, kind: SignatureType) -> Result<Self, KeyError> {
        let is_ml_dsa = |kind| kind == SignatureType::MlDsa44Cosignature;
        if is_ml_dsa(self.kind) != is_ml_dsa(kind) {
            let needed = "only types 0x01 and 0x04, both Ed25519, can stand for one another";
            return Err(KeyError::WrongType { kind: self.kind, needed });
        }
        let id = KeyId::derive(self.name(), kind.byte(), &self.public_key());
        Ok(Self { id, kind, ..self.clone() })
    }

    /// Whether both are the same public key, whatever their names and types (C2SP tlog-policy, "Public key
    /// representation").
    #[must_use]
    pub fn is_duplicate_of(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// The algorithm alone: RFC 8032 §5.1.7, or FIPS 204 Algorithm 3 with an empty context.
    pub(crate) fn verify_message(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            PublicKey::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            PublicKey::MlDsa44(key) => ml_dsa::Signature::<MlDsa44>::try_from(signature)
                .is_ok_and(|signature| key.verify_with_context(message, &[], &signature)),
        }
    }
}

impl PublicKey {
    fn ed25519(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ED25519_KEY_BYTES] = bytes.try_into().ok()?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).ok()?;
        (!key.is_weak()).then_some(Self::Ed25519(key))
    }

    fn ml_dsa_44(bytes: &[u8]) -> Option<Self> {
        let bytes = ml_dsa::EncodedVerifyingKey::<MlDsa44>::try_from(bytes).ok()?;
        Some(Self::MlDsa44(Arc::new(ml_dsa::VerifyingKey::decode(&bytes))))
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    /// Parses a vkey.
    ///
    /// # Errors
    ///
    /// * [`KeyError::Syntax`] if it is not of the form `<name>+<id>+<base64>`.
    /// * [`KeyError::Name`], [`KeyError::PublicKey`] as in [`VerifierKey::from_public_key`].
    /// * [`KeyError::UnsupportedType`] for a key of another type than [`SignatureType`] has.
    /// * [`KeyError::IdMismatch`] if the id is another key's.
    fn from_str(vkey: &str) -> Result<Self, KeyError> {
        let Parts { name, id, kind, key } = Parts::parse(vkey)?;
        let verifier = Self::from_public_key(name, kind, &key)?;
        check_id(id, verifier.id)?;
        Ok(verifier)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[self.kind.byte()], &self.public_key()[..]].concat();
        write!(f, "{}+{}+{}", self.name, self.id, text::to_base64(bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// Why a key was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The text does not have the parts of a key.
    #[error("not a key: expected <name>+<8 lower-case hex digits>+<base64>; copy the whole line")]
    Syntax,
    /// The name is not one that a key may have.
    #[error("not a key name: it must have 1 to {KEY_NAME_BYTES_MAX} bytes, and no space, `+` or control character")]
    Name,
    /// The key's type is not one that this version knows.
    #[error("keys of type {kind:#04x} are not supported; use type 0x01 (Ed25519), 0x04 or 0x06 (cosignatures)")]
    UnsupportedType {
        /// The type byte.
        kind: u8,
    },
    /// The bytes are no usable public key.
    #[error("not a public key of its type; ask the key's owner for the right one")]
    PublicKey,
    /// The key is good, and of a type that is of no use here.
    #[error("a key of type {:#04x} cannot do this; {needed}", .kind.byte())]
    WrongType {
        /// The key's type.
        kind: SignatureType,
        /// Which types would do.
        needed: &'static str,
    },
    /// The key is not among those that were to be trusted.
    #[error("the policy does not list this key as a log's; use one of its own")]
    NotInPolicy,
    /// The text is no private key in PEM.
    #[error("not a PEM private key of Ed25519 or of ML-DSA-44 as a seed alone, which is what can be read")]
    Pem,
    /// The bytes are no seed of a private key.
    #[error("not a private key: its seed must have 32 bytes; copy the whole line")]
    PrivateKey,
    /// The id is not that of the name and key beside it.
    #[error("key id {actual} does not belong to this name and key, whose id is {expected}; copy the whole line")]
    IdMismatch {
        /// Id that name and key give.
        expected: KeyId,
        /// Id in the text.
        actual: KeyId,
    },
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Randomness {
        /// What it reported.
        source: getrandom::Error,
    },
}

/// The parts of a vkey, or of a private key after its prefix. The key may be a secret.
pub(crate) struct Parts<'a> {
    pub(crate) name: &'a str,
    pub(crate) id: KeyId,
    pub(crate) kind: SignatureType,
    pub(crate) key: Zeroizing<Vec<u8>>,
}

impl<'a> Parts<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, KeyError> {
        if text.len() > KEY_TEXT_BYTES_MAX {
            return Err(KeyError::Syntax);
        }
        let (name, rest) = text.split_once('+').ok_or(KeyError::Syntax)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Syntax)?;
        let id = parse_id(id).ok_or(KeyError::Syntax)?;
        let bytes = Zeroizing::new(text::from_base64(key).ok_or(KeyError::Syntax)?);
        let (&kind, key) = bytes.split_first().ok_or(KeyError::Syntax)?;
        let kind = SignatureType::from_byte(kind)?;
        Ok(Self { name, id, kind, key: Zeroizing::new(key.to_vec()) })
    }
}

/// Exactly eight lower-case hexadecimal digits.
fn parse_id(text: &str) -> Option<KeyId> {
    let canonical = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u32::from_str_radix(text, 16).ok().map(KeyId) } else { None }
}

pub(crate) fn check_id(actual: KeyId, expected: KeyId) -> Result<(), KeyError> {
    if actual == expected { Ok(()) } else { Err(KeyError::IdMismatch { expected, actual }) }
}

#[cfg(test)]
pub(crate) mod tests;
