//! Private keys: their text, and the two things that they do, signing and cosigning.
//!
//! ```text
//! PRIVATE+KEY+<name>+<id, 8 hex digits>+<base64(type || 32-byte seed)>
//! ```
//!
//! This is how Go's `golang.org/x/mod/sumdb/note` writes its keys, and how the field extends it to the types 0x04
//! and 0x06. Sources: C2SP signed-note; RFC 8032 §5.1.5; FIPS 204, Algorithm 6.

use std::fmt;

use ed25519_dalek::Signer as _;
use ml_dsa::{Keypair as _, MlDsa44};
use zeroize::Zeroizing;

use crate::cosignature::{self, CosignError, TIMESTAMP_MAX};
use crate::key::{KeyError, Parts, SignatureType, VerifierKey, check_id};
use crate::note::NoteSignature;
use crate::text;

/// Bytes of the seed that a key pair of either algorithm grows from.
pub const SEED_BYTES: usize = 32;

/// What a private key in text form begins with.
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// A private key of any type, at rest: [`SigningKey`] and [`CosigningKey`] use it.
///
/// The seed is overwritten when the key is dropped and appears neither in `Debug` nor in any error;
/// [`PrivateKey::to_private_text`], [`PrivateKey::to_pem`] and [`PrivateKey::create`] are the only ways out.
pub struct PrivateKey {
    verifier: VerifierKey,
    seed: Zeroizing<[u8; SEED_BYTES]>,
}

impl PrivateKey {
    /// Makes a new key called `name` with randomness of the operating system.
    ///
    /// # Errors
    ///
    /// * [`KeyError::Name`] if `name` is no key name.
    /// * [`KeyError::Randomness`] if the operating system has none.
    pub fn generate(name: &str, kind: SignatureType) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        getrandom::fill(seed.as_mut()).map_err(|source| KeyError::Randomness { source })?;
        Self::from_seed(name, kind, &seed)
    }

    /// The key called `name` that `seed` gives (RFC 8032 §5.1.5; FIPS 204, Algorithm 6). The caller overwrites
    /// the seed.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`] if `name` is no key name.
    pub fn from_seed(name: &str, kind: SignatureType, seed: &[u8; SEED_BYTES]) -> Result<Self, KeyError> {
        let verifier = Secret::from_seed(kind, seed).verifier(name, kind)?;
        Ok(Self { verifier, seed: Zeroizing::new(*seed) })
    }

    /// Parses `PRIVATE+KEY+<name>+<id>+<base64(type || seed)>`.
    ///
    /// # Errors
    ///
    /// As for a vkey; [`KeyError::Syntax`] also if the prefix is missing, [`KeyError::PrivateKey`] if the seed has
    /// another length.
    pub fn from_private_text(private_key: &str) -> Result<Self, KeyError> {
        let parts = private_key.strip_prefix(PRIVATE_PREFIX).ok_or(KeyError::Syntax)?;
        let Parts { name, id, kind, key } = Parts::parse(parts)?;
        let seed: &[u8; SEED_BYTES] = key.as_slice().try_into().map_err(|_| KeyError::PrivateKey)?;
        let private = Self::from_seed(name, kind, seed)?;
        check_id(id, private.verifier.id())?;
        Ok(private)
    }

    /// The inverse of [`PrivateKey::from_private_text`]. Overwritten when dropped.
    #[must_use]
    pub fn to_private_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 1 + SEED_BYTES]);
        bytes[0] = self.verifier.kind().byte();
        bytes[1..].copy_from_slice(self.seed.as_ref());

        // One allocation that is never outgrown, so that no copy stays behind.
        let capacity = PRIVATE_PREFIX.len() + self.name().len() + "+01234567+".len() + 44;
        let mut out = Zeroizing::new(String::with_capacity(capacity));
        out.push_str(PRIVATE_PREFIX);
        out.push_str(self.name());
        out.push('+');
        out.push_str(&self.verifier.id().to_string());
        out.push('+');
        text::push_base64(bytes.as_ref(), &mut out);
        out
    }

    /// The same key pair and name for signatures of another type: 0x01 and 0x04 share an algorithm.
    ///
    /// # Errors
    ///
    /// [`KeyError::WrongType`] if the algorithm is another.
    pub fn with_type(&self, kind: SignatureType) -> Result<Self, KeyError> {
        Ok(Self { verifier: self.verifier.with_type(kind)?, seed: self.seed.clone() })
    }

    /// The seed, which is the secret.
    pub(crate) fn seed(&self) -> &[u8; SEED_BYTES] {
        &self.seed
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
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("PrivateKey", &self.verifier, f)
    }
}

/// A private Ed25519 key that signs the text of notes (type 0x01): a log's own.
///
/// The secret is overwritten when the key is dropped, as that of [`PrivateKey`].
pub struct SigningKey {
    key: PrivateKey,
    secret: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// Makes a new key called `name` with randomness of the operating system.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::generate`].
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        PrivateKey::generate(name, SignatureType::Ed25519)?.try_into()
    }

    /// The key called `name` that `seed` gives (RFC 8032 §5.1.5). The caller overwrites the seed.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`] if `name` is no key name.
    pub fn from_seed(name: &str, seed: &[u8; SEED_BYTES]) -> Result<Self, KeyError> {
        PrivateKey::from_seed(name, SignatureType::Ed25519, seed)?.try_into()
    }

    /// Parses `PRIVATE+KEY+<name>+<id>+<base64(0x01 || seed)>`.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::from_private_text`]; [`KeyError::WrongType`] for a cosigner's key.
    pub fn from_private_text(private_key: &str) -> Result<Self, KeyError> {
        PrivateKey::from_private_text(private_key)?.try_into()
    }

    /// The key at rest.
    #[must_use]
    pub fn private(&self) -> &PrivateKey {
        &self.key
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    /// Name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// The Ed25519 signature over `text` (RFC 8032 §5.1.6).
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.secret.sign(text).to_bytes()
    }
}

impl TryFrom<PrivateKey> for SigningKey {
    type Error = KeyError;

    fn try_from(key: PrivateKey) -> Result<Self, KeyError> {
        if key.verifier.kind() != SignatureType::Ed25519 {
            let needed = "a log signs with an Ed25519 key (type 0x01)";
            return Err(KeyError::WrongType { kind: key.verifier.kind(), needed });
        }
        let secret = ed25519_dalek::SigningKey::from_bytes(&key.seed);
        Ok(Self { key, secret })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("SigningKey", self.verifier(), f)
    }
}

/// A private key that cosigns checkpoints with a timestamp (types 0x04 and 0x06): a witness's, or the second key of
/// a log.
///
/// The secret is overwritten when the key is dropped, as that of [`PrivateKey`].
pub struct CosigningKey {
    key: PrivateKey,
    secret: Secret,
}

impl CosigningKey {
    /// Makes a new key called `name` with randomness of the operating system.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::generate`]; [`KeyError::WrongType`] for type 0x01.
    pub fn generate(name: &str, kind: SignatureType) -> Result<Self, KeyError> {
        PrivateKey::generate(name, kind)?.try_into()
    }

    /// The key at rest.
    #[must_use]
    pub fn private(&self) -> &PrivateKey {
        &self.key
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    /// Name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// The cosignature of the checkpoint with this note `text`, as a signature line.
    ///
    /// * `seconds` - POSIX seconds at which this is said; 0 from a log only, it makes no claim that there is no
    ///   larger tree.
    ///
    /// Whether the checkpoint is consistent with the last one is the caller's to know: this signs whatever it is
    /// given. The same arguments always give the same bytes.
    ///
    /// # Errors
    ///
    /// * [`CosignError::Text`] if `text` is no checkpoint.
    /// * [`CosignError::Timestamp`] if `seconds` is over [`TIMESTAMP_MAX`].
    pub fn cosign(&self, text: &str, seconds: u64) -> Result<NoteSignature, CosignError> {
        if seconds > TIMESTAMP_MAX {
            return Err(CosignError::Timestamp { seconds });
        }
        let key = self.verifier();
        let message = cosignature::message(key.kind(), key.name(), text, seconds)?;
        let mut bytes = seconds.to_be_bytes().to_vec();
        self.secret.push_signature(&message, &mut bytes);
        Ok(NoteSignature { name: key.key_name().clone(), id: key.id(), bytes })
    }
}

impl TryFrom<PrivateKey> for CosigningKey {
    type Error = KeyError;

    fn try_from(key: PrivateKey) -> Result<Self, KeyError> {
        let kind = key.verifier.kind();
        if !kind.is_for_witnesses() {
            let needed = "a cosigner needs type 0x04 (Ed25519) or 0x06 (ML-DSA-44)";
            return Err(KeyError::WrongType { kind, needed });
        }
        let secret = Secret::from_seed(kind, &key.seed);
        Ok(Self { key, secret })
    }
}

impl fmt::Debug for CosigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("CosigningKey", self.verifier(), f)
    }
}

/// The algorithm's own private key. Both overwrite themselves when dropped.
enum Secret {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    MlDsa44(Box<ml_dsa::SigningKey<MlDsa44>>),
}

impl Secret {
    fn from_seed(kind: SignatureType, seed: &[u8; SEED_BYTES]) -> Self {
        match kind {
            SignatureType::Ed25519 | SignatureType::Ed25519Cosignature => {
                Self::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(seed)))
            }
            SignatureType::MlDsa44Cosignature => Self::MlDsa44(Box::new(ml_dsa::SigningKey::from_seed(seed.into()))),
        }
    }

    fn verifier(&self, name: &str, kind: SignatureType) -> Result<VerifierKey, KeyError> {
        match self {
            Self::Ed25519(key) => VerifierKey::from_public_key(name, kind, key.verifying_key().as_bytes()),
            Self::MlDsa44(key) => VerifierKey::from_public_key(name, kind, &key.verifying_key().encode()),
        }
    }

    /// RFC 8032 §5.1.6; or FIPS 204, Algorithm 2, in its deterministic variant (§3.4), with an empty context.
    fn push_signature(&self, message: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Ed25519(key) => out.extend_from_slice(&key.sign(message).to_bytes()),
            Self::MlDsa44(key) => {
                let signature: ml_dsa::Signature<MlDsa44> = key.sign(message);
                out.extend_from_slice(&signature.encode());
            }
        }
    }
}

fn debug(what: &str, verifier: &VerifierKey, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(what).field("verifier", verifier).finish_non_exhaustive()
}

#[cfg(test)]
mod tests;
