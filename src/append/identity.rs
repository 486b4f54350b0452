//! What makes a line that is sent again the same entry.
//!
//! Either values in the line itself (`--identity POINTER`), or the run's id and the line's number.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;
use logwood_proto::IDENTITY_BYTES_MAX;
use serde_json::value::RawValue;

/// A JSON pointer (RFC 6901): its reference tokens, unescaped.
#[derive(Clone, Debug)]
pub(super) struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a JSON pointer begins with `/`, as in `/eventID`".into());
        };
        // RFC 6901 §4: `~1` first, so that `~01` gives `~1`.
        let tokens = rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Self { text: text.to_owned(), tokens })
    }
}

impl Pointer {
    /// The source text of the value that the pointer leads to.
    fn find<'a>(&self, json: &'a RawValue) -> Option<&'a str> {
        let mut value = json;
        for token in &self.tokens {
            value = match value.get().as_bytes().first()? {
                b'{' => serde_json::from_str::<BTreeMap<String, &RawValue>>(value.get()).ok()?.remove(token)?,
                b'[' => {
                    let canonical = token == "0" || !token.starts_with(['0', '+']);
                    let index: usize = token.parse().ok().filter(|_| canonical)?;
                    *serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.get(index)?
                }
                _ => return None,
            };
        }
        Some(value.get())
    }
}

/// The identity of `line`: the value at the pointer, or, if there are several, each with its length before it
/// (big-endian uint16). A string gives its UTF-8, a number its source text.
///
/// # Errors
///
/// The reason, for people, if the line has no identity.
pub(super) fn from_json(pointers: &[Pointer], line: &[u8]) -> Result<Vec<u8>, String> {
    let json: &RawValue = serde_json::from_slice(line).map_err(|error| format!("no JSON, so no identity: {error}"))?;
    let mut identity = Vec::new();
    for pointer in pointers {
        let part = part(pointer, json)?;
        if pointers.len() > 1 {
            let length = u16::try_from(part.len()).map_err(|_| too_long(part.len()))?;
            identity.extend_from_slice(&length.to_be_bytes());
        }
        identity.extend_from_slice(part.as_bytes());
    }
    match identity.len() {
        0 => Err("the identity is empty".into()),
        1..=IDENTITY_BYTES_MAX => Ok(identity),
        length => Err(too_long(length)),
    }
}

fn part(pointer: &Pointer, json: &RawValue) -> Result<String, String> {
    let text = pointer.find(json).ok_or_else(|| format!("nothing is at {}, so no identity", pointer.text))?;
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map_err(|error| format!("the string at {}: {error}", pointer.text)),
        Some(b'-' | b'0'..=b'9') => Ok(text.to_owned()),
        _ => Err(format!("neither a string nor a number is at {}, so no identity", pointer.text)),
    }
}

fn too_long(length: usize) -> String {
    format!("an identity of {length} bytes is over the limit of {IDENTITY_BYTES_MAX}")
}

/// Names one run of `logwood append`: 32 lower-case hex digits.
#[derive(Clone, Debug)]
pub(super) struct RunId(String);

impl RunId {
    /// A new one.
    pub(super) fn random() -> anyhow::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).context("no randomness from the operating system")?;
        Ok(Self(format!("{:032x}", u128::from_be_bytes(bytes))))
    }

    /// The identity of the entry with this number.
    pub(super) fn identity(&self, number: u64) -> Vec<u8> {
        format!("{self}/{number}").into_bytes()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 32 && is_hex {
            Ok(Self(text.to_owned()))
        } else {
            Err("a run id is the 32 hex digits that `logwood append` printed".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(pointers: &[&str], line: &str) -> Result<Vec<u8>, String> {
        let pointers: Vec<Pointer> = pointers.iter().map(|pointer| pointer.parse().expect("valid")).collect();
        from_json(&pointers, line.as_bytes())
    }

    #[test]
    fn a_number_is_its_source_text() {
        assert_eq!(identity(&["/n"], r#"{"n": 1.50}"#), Ok(b"1.50".to_vec()));
        assert_eq!(identity(&["/n"], r#"{"n":123456789012345678901234567890}"#).map(|id| id.len()), Ok(30));
    }

    #[test]
    fn a_string_is_its_utf8() {
        assert_eq!(identity(&["/a/b~1c/1"], r#"{"a":{"b/c":["x","caf\u00e9"]}}"#), Ok("café".as_bytes().to_vec()));
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        assert_eq!(identity(&["/a", "/b"], r#"{"a":"x","b":"yz"}"#), Ok(b"\0\x01x\0\x02yz".to_vec()));
        assert_ne!(identity(&["/a", "/b"], r#"{"a":"x","b":"yz"}"#), identity(&["/a", "/b"], r#"{"a":"xy","b":"z"}"#));
    }

    #[test]
    fn anything_else_refuses_the_line() {
        for line in ["no json", "{}", r#"{"a":null}"#, r#"{"a":[1]}"#, r#"{"a":true}"#, r#"{"a":""}"#, "[1]"] {
            assert!(identity(&["/a"], line).is_err(), "{line}");
        }
        assert!(identity(&["/a"], &format!(r#"{{"a":"{}"}}"#, "x".repeat(129))).is_err());
        assert!("eventID".parse::<Pointer>().is_err());
    }
}
