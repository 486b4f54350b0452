//! Signed notes: a text and the signatures over it.
//!
//! ```text
//! example.com/log            \
//! 42                          | text: every byte of it is signed, its final newline included
//! <base64>                   /
//!                            <- the last empty line of the file ends the text
//! — example.com/log <base64(4-byte key id || signature)>
//! — witness.example <base64(4-byte key id || signature)>
//! ```
//!
//! Signatures of keys that the reader does not know are kept and ignored, whatever their
//! algorithm; a signature that claims a known key must be that key's.
//!
//! Source: C2SP signed-note, "Format" and "Verifying".

use std::fmt;

use thiserror::Error;

use crate::key::{KeyId, KeyName, VerifierKey};
use crate::private_key::SigningKey;
use crate::text;

/// Largest note, in bytes. [`SIGNATURES_MAX`] post-quantum signatures of 5 kB, in base64, and
/// their text fit.
pub const NOTE_BYTES_MAX: usize = 1_000_000;

/// Most signature lines. The specification asks for 16 or more; 100 leaves room for witnesses.
pub const SIGNATURES_MAX: usize = 100;

/// What a signature line begins with: an em dash (U+2014) and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Bytes of the key id in front of a signature.
const KEY_ID_BYTES: usize = 4;

/// One signature line, whoever signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key that is said to have signed.
    pub name: KeyName,
    /// Id of that key.
    pub id: KeyId,
    /// The signature after the key id; at least one byte, its meaning is the algorithm's.
    pub bytes: Vec<u8>,
}

impl NoteSignature {
    /// Whether the line claims to be by `key`: it has its name and its id.
    #[must_use]
    pub fn claims(&self, key: &VerifierKey) -> bool {
        key.id() == self.id && key.name() == self.name.as_str()
    }
}

/// The signature line, without its newline.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.0.to_be_bytes(), &self.bytes[..]].concat();
        write!(f, "{SIGNATURE_PREFIX}{} {}", self.name, text::to_base64(bytes))
    }
}

/// A well-formed note. Whether its signatures are good is for [`SignedNote::verify`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    verbatim: String,
    text_bytes: usize,
    signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// Parses `note`, at most [`NOTE_BYTES_MAX`] bytes, and keeps it verbatim.
    ///
    /// # Errors
    ///
    /// * [`NoteError::TooLong`] and [`NoteError::TooManySignatures`] beyond the limits.
    /// * [`NoteError::NotText`] if it is not UTF-8, or has a control character other than newline.
    /// * [`NoteError::NoSignatures`] if no signature line follows an empty line.
    /// * [`NoteError::SignatureLine`] if a line after the text is not a signature line.
    pub fn parse(note: &[u8]) -> Result<Self, NoteError> {
        let note = check_text(note)?;
        let text_bytes = note.rfind("\n\n").ok_or(NoteError::NoSignatures)? + 1;
        let signatures = parse_lines(&note[text_bytes + 1..])?;
        Ok(Self { verbatim: note.to_owned(), text_bytes, signatures })
    }

    /// The text that is signed, its final newline included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.verbatim[..self.text_bytes]
    }

    /// Every signature line, in order, known key or not; at least one.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// The note exactly as it was parsed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.verbatim.as_bytes()
    }

    /// Verifies every signature that claims one of `keys`, and returns those lines in order; at
    /// least one.
    ///
    /// # Errors
    ///
    /// * [`NoteError::BadSignature`] if a line has the name and id of one of `keys` and is not
    ///   its signature, whatever the other lines say.
    /// * [`NoteError::NoKnownKey`] if no line has the name and id of one of `keys`.
    /// * [`NoteError::AmbiguousKeys`] if two different `keys` share a name and an id.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Vec<&NoteSignature>, NoteError> {
        check_unambiguous(keys)?;
        let mut verified = Vec::new();
        for signature in &self.signatures {
            let Some(key) = keys.iter().find(|key| signature.claims(key)) else { continue };
            if !key.verify(self.text().as_bytes(), &signature.bytes) {
                return Err(NoteError::BadSignature { name: signature.name.clone(), id: signature.id });
            }
            verified.push(signature);
        }
        if verified.is_empty() { Err(NoteError::NoKnownKey) } else { Ok(verified) }
    }
}

/// Signs `text` with each of `keys`, in their order.
///
/// * `text` - UTF-8 that ends in a newline, without control characters but newlines.
/// * `keys` - 1 to [`SIGNATURES_MAX`].
///
/// # Errors
///
/// The variant that [`SignedNote::parse`] gives for the note if it is not well-formed:
/// [`NoteError::NoSignatures`] without `keys`, or if `text` does not end in a newline;
/// [`NoteError::NotText`]; [`NoteError::TooLong`]; [`NoteError::TooManySignatures`].
pub fn sign_note(text: &str, keys: &[&SigningKey]) -> Result<Vec<u8>, NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::NoSignatures);
    }
    let mut note = String::with_capacity(text.len() + 1 + 512 * keys.len());
    note.push_str(text);
    note.push('\n');
    for key in keys {
        push_signature(key, text, &mut note);
    }
    SignedNote::parse(note.as_bytes())?;
    Ok(note.into_bytes())
}

/// The note of `text` and `signatures`, in their order. Whether they are good is not looked at.
///
/// * `text` - UTF-8 that ends in a newline, without control characters but newlines.
/// * `signatures` - 1 to [`SIGNATURES_MAX`], of at least one byte each.
///
/// # Errors
///
/// The variant that [`SignedNote::parse`] gives for the note if it is not well-formed.
pub fn assemble_note(text: &str, signatures: &[NoteSignature]) -> Result<Vec<u8>, NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::NoSignatures);
    }
    let mut note = format!("{text}\n");
    for signature in signatures {
        note.push_str(&signature.to_string());
        note.push('\n');
    }
    SignedNote::parse(note.as_bytes())?;
    Ok(note.into_bytes())
}

/// Parses signature lines without a note around them, as a witness answers with.
///
/// * `lines` - 1 to [`SIGNATURES_MAX`] lines, each with its newline; at most [`NOTE_BYTES_MAX`] bytes.
///
/// # Errors
///
/// As [`SignedNote::parse`].
pub fn parse_signatures(lines: &[u8]) -> Result<Vec<NoteSignature>, NoteError> {
    parse_lines(check_text(lines)?)
}

/// Appends the signature line of `key` over `text` to `note`.
pub(crate) fn push_signature(key: &SigningKey, text: &str, note: &mut String) {
    let mut signature = [0; KEY_ID_BYTES + 64];
    signature[..KEY_ID_BYTES].copy_from_slice(&key.verifier().id().0.to_be_bytes());
    signature[KEY_ID_BYTES..].copy_from_slice(&key.sign(text.as_bytes()));
    note.push_str(SIGNATURE_PREFIX);
    note.push_str(key.name());
    note.push(' ');
    text::push_base64(&signature, note);
    note.push('\n');
}

/// Checks length and characters of a note, or of a part of one.
fn check_text(bytes: &[u8]) -> Result<&str, NoteError> {
    if bytes.len() > NOTE_BYTES_MAX {
        return Err(NoteError::TooLong { actual: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
    let is_control = |byte| byte < b' ' && byte != b'\n';
    if text.bytes().any(is_control) { Err(NoteError::NotText) } else { Ok(text) }
}

fn parse_lines(lines: &str) -> Result<Vec<NoteSignature>, NoteError> {
    let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?.split('\n');
    if lines.clone().nth(SIGNATURES_MAX).is_some() {
        return Err(NoteError::TooManySignatures);
    }
    let parse = |(i, line)| parse_line(line).ok_or(NoteError::SignatureLine { number: i + 1 });
    lines.enumerate().map(parse).collect()
}

/// Parses `— <name> <base64>`; the newline is not part of `line`.
fn parse_line(line: &str) -> Option<NoteSignature> {
    let (name, signature) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let name = KeyName::new(name).ok()?;
    let bytes = text::from_base64(signature)?;
    let (id, bytes) = bytes.split_first_chunk::<KEY_ID_BYTES>()?;
    let id = KeyId(u32::from_be_bytes(*id));
    (!bytes.is_empty()).then(|| NoteSignature { name, id, bytes: bytes.to_vec() })
}

/// 32 bits of key id collide if somebody wants them to, and then a line claims two keys.
fn check_unambiguous(keys: &[VerifierKey]) -> Result<(), NoteError> {
    for (i, key) in keys.iter().enumerate() {
        let clash = |other: &VerifierKey| other != key && other.id() == key.id() && other.name() == key.name();
        if keys[..i].iter().any(clash) {
            return Err(NoteError::AmbiguousKeys { id: key.id() });
        }
    }
    Ok(())
}

/// Why a note was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoteError {
    /// The note is longer than any that is accepted.
    #[error("malformed note: {actual} bytes are more than {NOTE_BYTES_MAX}")]
    TooLong {
        /// Bytes in the note.
        actual: usize,
    },
    /// The note holds bytes that no text may hold.
    #[error("malformed note: not UTF-8 text, or it has control characters")]
    NotText,
    /// Nothing follows the text, or the last line is cut off.
    #[error("malformed note: text, an empty line and complete signature lines are required")]
    NoSignatures,
    /// A line after the text is something else than a signature.
    #[error("malformed note: signature line {number} is not `\u{2014} <name> <base64>`")]
    SignatureLine {
        /// Which of the lines after the text, from 1.
        number: usize,
    },
    /// The note has more signatures than any reader should have to check.
    #[error("malformed note: more than {SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// A line claims a known key and is not its signature.
    #[error("the signature of key {name} ({id}) does not verify: do not trust this note")]
    BadSignature {
        /// Name of the key.
        name: KeyName,
        /// Id of the key.
        id: KeyId,
    },
    /// No line claims a known key.
    #[error("no signature is by a known key; check that the key given is this log's")]
    NoKnownKey,
    /// Two of the caller's keys cannot be told apart.
    #[error("two different keys share a name and the id {id}; trust only one of them")]
    AmbiguousKeys {
        /// The id of both.
        id: KeyId,
    },
}

#[cfg(test)]
mod tests;
