//! Published heads and the signed notes that they are: the only place where one becomes the other.

use bytes::Bytes;
use logwood_merkle::TreeHead;
use logwood_note::{Checkpoint, KeyError, KeyId, KeyName, NoteError, NoteSignature, SignedNote, assemble_note};
use logwood_store::{HeadSignature, PublishedHead};
use thiserror::Error;

/// Most signatures of a head: what the store takes.
const SIGNATURES_MAX: usize = 64;

/// A timestamp and a signature of ML-DSA-44 (C2SP tlog-cosignature, "Format"; FIPS 204 §4).
const COSIGNATURE_BYTES: usize = 8 + 2_420;

/// A stored head is no note that a log can have published.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoredNoteError {
    /// The name of a signature's key.
    #[error("a stored signature has a name that no key has")]
    Name(#[from] KeyError),
    /// What the lines give together.
    #[error("the stored signatures make no note")]
    Note(#[from] NoteError),
}

/// The checkpoint of `head` as a signed note, its signature lines in the order in which they are stored.
///
/// # Errors
///
/// [`StoredNoteError`] if the head was not stored by [`signatures`] and its like: the store is damaged.
pub fn published_note(origin: &str, head: &PublishedHead) -> Result<Vec<u8>, StoredNoteError> {
    let text = checkpoint_text(origin, head.head);
    let lines = head.signatures.iter().map(|line| {
        let (name, bytes) = (KeyName::new(&line.name)?, line.signature.to_vec());
        Ok(NoteSignature { name, id: KeyId(line.key_id), bytes })
    });
    Ok(assemble_note(&text, &lines.collect::<Result<Vec<_>, KeyError>>()?)?)
}

/// The text that signatures of `head` are over.
#[must_use]
pub fn checkpoint_text(origin: &str, head: TreeHead) -> String {
    Checkpoint { origin: origin.to_owned(), head, extensions: Vec::new() }.to_text()
}

/// Whether the log's own cosignature (type 0x06) says the time of `head` too, in whole seconds. Whether it is good is
/// not looked at.
#[must_use]
pub fn time_is_cosigned(origin: &str, head: &PublishedHead) -> bool {
    head.signatures.iter().any(|line| {
        let is_own = line.name == origin && is_ml_dsa_cosignature(line);
        is_own && seconds(line) == Some(head.time_ms / 1_000)
    })
}

/// Whether a line is an ML-DSA-44 cosignature (type 0x06), by its length: none of the other types is as long.
#[must_use]
pub fn is_ml_dsa_cosignature(line: &HeadSignature) -> bool {
    line.signature.len() == COSIGNATURE_BYTES
}

/// The signatures of `note` as they are stored.
///
/// # Errors
///
/// [`NoteError`] if it is no well-formed note.
pub fn signatures(note: &[u8]) -> Result<Vec<HeadSignature>, NoteError> {
    Ok(SignedNote::parse(note)?.signatures().iter().map(stored).collect())
}

/// Adds cosignatures to those of a head. One of a key that is there already replaces it if it is not older: a
/// cosignature begins with its time (C2SP tlog-cosignature, "Format"). What is beyond 64 signatures is left out.
pub fn merge(signatures: &mut Vec<HeadSignature>, added: Vec<HeadSignature>) {
    for line in added {
        let place = signatures.iter().position(|other| other.name == line.name && other.key_id == line.key_id);
        match place {
            Some(place) if seconds(&signatures[place]) <= seconds(&line) => signatures[place] = line,
            None if signatures.len() < SIGNATURES_MAX => signatures.push(line),
            Some(_) | None => {}
        }
    }
}

fn seconds(line: &HeadSignature) -> Option<u64> {
    line.signature.first_chunk().map(|seconds| u64::from_be_bytes(*seconds))
}

/// A signature line as it is stored.
#[must_use]
pub fn stored(line: &NoteSignature) -> HeadSignature {
    let signature = Bytes::copy_from_slice(&line.bytes);
    HeadSignature { name: line.name.as_str().to_owned(), key_id: line.id.0, signature }
}

#[cfg(test)]
mod tests {
    use logwood_merkle::{Hash, TreeSize};
    use logwood_note::{CosigningKey, SignatureType, SigningKey, sign_checkpoint};

    use super::*;

    #[test]
    fn what_is_stored_of_a_note_gives_it_back_byte_for_byte() {
        let key = SigningKey::from_seed("example.org/log", &[7; 32]).expect("a key");
        let head = TreeHead { size: TreeSize(42), root: Hash::leaf(b"root") };
        let note = sign_checkpoint(&key, "example.org/log", &head);
        let published = PublishedHead { head, time_ms: 1, signatures: signatures(&note).expect("a note") };
        assert_eq!(published_note("example.org/log", &published).expect("a note"), note);
    }

    #[test]
    fn only_a_cosignature_of_the_same_second_covers_the_time() {
        let name = "example.org/log";
        let head = TreeHead { size: TreeSize(42), root: Hash::leaf(b"root") };
        let key = CosigningKey::generate(name, SignatureType::MlDsa44Cosignature).expect("a key");
        let line = |seconds| stored(&key.cosign(&checkpoint_text(name, head), seconds).expect("cosigned"));
        let covered = |origin: &str, signatures: Vec<HeadSignature>| {
            time_is_cosigned(origin, &PublishedHead { head, time_ms: 5_999, signatures })
        };
        assert!(covered(name, vec![line(5)]));
        assert!(!covered(name, vec![line(6)]), "another second");
        assert!(!covered("example.org/other", vec![line(5)]), "somebody else's");
        let signing = SigningKey::from_seed(name, &[7; 32]).expect("a key");
        assert!(!covered(name, signatures(&sign_checkpoint(&signing, name, &head)).expect("a note")), "says no time");
    }

    #[test]
    fn a_later_cosignature_replaces_its_keys_and_an_older_one_does_not() {
        let line = |name: &str, seconds: u64| {
            let signature = Bytes::from([&seconds.to_be_bytes()[..], b"signature"].concat());
            HeadSignature { name: name.into(), key_id: 1, signature }
        };
        let mut signatures = vec![line("log", 5), line("a", 5)];
        merge(&mut signatures, vec![line("a", 4), line("b", 3)]);
        assert_eq!(signatures, [line("log", 5), line("a", 5), line("b", 3)]);
        merge(&mut signatures, vec![line("b", 9), line("a", 6)]);
        assert_eq!(signatures, [line("log", 5), line("a", 6), line("b", 9)], "each in its place");
        merge(&mut signatures, (0..100).map(|number| line(&format!("w{number}"), 1)).collect());
        assert_eq!(signatures.len(), SIGNATURES_MAX, "no more than the store takes");
    }

    #[test]
    fn stored_lines_that_no_note_has_are_an_error() {
        let head = TreeHead { size: TreeSize(1), root: Hash::leaf(b"root") };
        let line = |name: &str, signature: &'static [u8]| {
            let signatures =
                vec![HeadSignature { name: name.into(), key_id: 1, signature: Bytes::from_static(signature) }];
            published_note("example.org/log", &PublishedHead { head, time_ms: 1, signatures })
        };
        assert!(line("a key", b"x").is_err());
        assert!(line("key", b"").is_err());
        assert!(line("key", b"x").is_ok());
    }
}
