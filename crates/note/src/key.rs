//! Keys: names, key ids, vkeys and Ed25519 signing keys.
//!
//! A key is known by its *name* and its *id*, and the id commits to the name, the algorithm and
//! the public key:
//!
//! ```text
//! id   = first 4 bytes of SHA-256(name || 0x0A || type || public key), big-endian
//! vkey = <name> + <id, 8 hex digits> + <base64(type || public key)>
//! skey = PRIVATE+KEY + <name> + <id, 8 hex digits> + <base64(type || seed)>
//! ```
//!
//! Source: C2SP signed-note, "Verifier keys" and "Signatures"; RFC 8032 §5.1.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::text;

/// Longest key name, in bytes. The one-byte name lengths of C2SP tlog-cosignature set it.
pub const KEY_NAME_BYTES_MAX: usize = 255;

/// Signature type of an Ed25519 signature over the note's text (C2SP signed-note, "Signature types").
pub const TYPE_ED25519: u8 = 0x01;

/// Bytes of an Ed25519 seed or public key (RFC 8032 §5.1.5).
const ED25519_KEY_BYTES: usize = 32;

/// What a private key in text form begins with.
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

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

/// A public key to verify notes with: what a vkey says. Only Ed25519 (type 0x01) for now.
///
/// Parsed with [`FromStr`], written with [`fmt::Display`]; the two are inverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: KeyId,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// An Ed25519 key from its 32 bytes (RFC 8032 §5.1.5).
    ///
    /// # Errors
    ///
    /// * [`KeyError::Name`] if `name` is no key name.
    /// * [`KeyError::PublicKey`] if the bytes are no point of the curve, or one of small order.
    pub fn from_public_key(name: &str, public_key: &[u8; 32]) -> Result<Self, KeyError> {
        let name = KeyName::new(name)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(public_key).map_err(|_| KeyError::PublicKey)?;
        if key.is_weak() {
            return Err(KeyError::PublicKey);
        }
        let id = KeyId::derive(name.as_str(), TYPE_ED25519, public_key);
        Ok(Self { name, id, key })
    }

    /// Name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Id of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The 32 bytes of the Ed25519 public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Whether `signature` (64 bytes, anything else is false) is one of this key over `message`.
    ///
    /// Also false for signatures that only the lenient readings of RFC 8032 §5.1.7 accept.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
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
    /// * [`KeyError::UnsupportedType`] for a key of an algorithm other than Ed25519.
    /// * [`KeyError::IdMismatch`] if the id is another key's.
    fn from_str(vkey: &str) -> Result<Self, KeyError> {
        let Parts { name, id, key } = Parts::parse(vkey)?;
        let verifier = Self::from_public_key(name, &key)?;
        check_id(id, verifier.id)?;
        Ok(verifier)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![TYPE_ED25519];
        bytes.extend(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, self.id, text::to_base64(bytes))
    }
}

/// A private Ed25519 key with its name.
///
/// The secret is overwritten when the key is dropped and appears neither in `Debug` nor in any
/// error; [`SigningKey::to_private_text`] and [`SigningKey::create`] are the only ways out.
pub struct SigningKey {
    verifier: VerifierKey,
    secret: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// Makes a new key called `name` with randomness of the operating system.
    ///
    /// # Errors
    ///
    /// * [`KeyError::Name`] if `name` is no key name.
    /// * [`KeyError::Randomness`] if the operating system has none.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; ED25519_KEY_BYTES]);
        getrandom::fill(seed.as_mut()).map_err(|source| KeyError::Randomness { source })?;
        Self::from_seed(name, &seed)
    }

    /// The key called `name` that `seed` gives (RFC 8032 §5.1.5). The caller overwrites the seed.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`] if `name` is no key name.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let verifier = VerifierKey::from_public_key(name, secret.verifying_key().as_bytes())?;
        Ok(Self { verifier, secret })
    }

    /// Parses `PRIVATE+KEY+<name>+<id>+<base64(0x01 || seed)>`.
    ///
    /// # Errors
    ///
    /// As for a vkey; [`KeyError::Syntax`] also if the prefix is missing.
    pub fn from_private_text(private_key: &str) -> Result<Self, KeyError> {
        let parts = private_key.strip_prefix(PRIVATE_PREFIX).ok_or(KeyError::Syntax)?;
        let Parts { name, id, key } = Parts::parse(parts)?;
        let signing = Self::from_seed(name, &key)?;
        check_id(id, signing.verifier.id)?;
        Ok(signing)
    }

    /// The inverse of [`SigningKey::from_private_text`]. Overwritten when dropped.
    #[must_use]
    pub fn to_private_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 1 + ED25519_KEY_BYTES]);
        bytes[0] = TYPE_ED25519;
        bytes[1..].copy_from_slice(self.secret.as_bytes());

        // One allocation that is never outgrown, so that no copy stays behind.
        let capacity = PRIVATE_PREFIX.len() + self.name().len() + "+01234567+".len() + 44;
        let mut out = Zeroizing::new(String::with_capacity(capacity));
        out.push_str(PRIVATE_PREFIX);
        out.push_str(self.name());
        out.push('+');
        out.push_str(&self.verifier.id.to_string());
        out.push('+');
        text::push_base64(bytes.as_ref(), &mut out);
        out
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.verifier.name()
    }

    /// The Ed25519 signature over `text` (RFC 8032 §5.1.6).
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.secret.sign(text).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("verifier", &self.verifier).finish_non_exhaustive()
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
    /// The key's algorithm is not one that this version verifies.
    #[error("keys of type {kind:#04x} are not supported; use an Ed25519 key (type 0x01)")]
    UnsupportedType {
        /// The type byte.
        kind: u8,
    },
    /// The bytes are no usable public key.
    #[error("not an Ed25519 public key; ask the key's owner for the right one")]
    PublicKey,
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
struct Parts<'a> {
    name: &'a str,
    id: KeyId,
    key: Zeroizing<[u8; ED25519_KEY_BYTES]>,
}

impl<'a> Parts<'a> {
    fn parse(text: &'a str) -> Result<Self, KeyError> {
        let (name, rest) = text.split_once('+').ok_or(KeyError::Syntax)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Syntax)?;
        let id = parse_id(id).ok_or(KeyError::Syntax)?;
        let bytes = Zeroizing::new(text::from_base64(key).ok_or(KeyError::Syntax)?);
        let (&kind, key) = bytes.split_first().ok_or(KeyError::Syntax)?;
        if kind != TYPE_ED25519 {
            return Err(KeyError::UnsupportedType { kind });
        }
        let key = key.try_into().map_err(|_| KeyError::PublicKey)?;
        Ok(Self { name, id, key: Zeroizing::new(key) })
    }
}

/// Exactly eight lower-case hexadecimal digits.
fn parse_id(text: &str) -> Option<KeyId> {
    let canonical = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u32::from_str_radix(text, 16).ok().map(KeyId) } else { None }
}

fn check_id(actual: KeyId, expected: KeyId) -> Result<(), KeyError> {
    if actual == expected { Ok(()) } else { Err(KeyError::IdMismatch { expected, actual }) }
}

#[cfg(test)]
mod tests;
