//! What makes a line that is sent again the same entry.
//!
//! Either values in the line itself (`--identity POINTER`), or the run's id and the line's number.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;
use logwood_proto::IDENTITY_BYTES_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
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
    /// The source text of the value that the pointer leads to, if there is one.
    ///
    /// # Errors
    ///
    /// The reason, for people, if it leads to more than one: an object on the way has the key twice.
    fn find<'a>(&self, json: &'a RawValue) -> Result<Option<&'a str>, String> {
        let mut value = json;
        for token in &self.tokens {
            let next = match value.get().as_bytes().first() {
                Some(b'{') => member(token, value).map_err(|error| format!("at {}: {error}", self.text))?,
                Some(b'[') => element(token, value),
                _ => None,
            };
            match next {
                Some(next) => value = next,
                None => return Ok(None),
            }
        }
        Ok(Some(value.get()))
    }
}

/// The element of the array `json` with the index `token` (RFC 6901 §4: no leading zeroes).
fn element<'a>(token: &str, json: &'a RawValue) -> Option<&'a RawValue> {
    let canonical = token == "0" || !token.starts_with(['0', '+']);
    let index: usize = token.parse().ok().filter(|_| canonical)?;
    serde_json::from_str::<Vec<&RawValue>>(json.get()).ok()?.get(index).copied()
}

/// The member of the object `json` with the key `token`.
///
/// Of two with one key, parsers take this or that (RFC 8259 §4): neither may say which event a line is.
fn member<'a>(token: &str, json: &'a RawValue) -> serde_json::Result<Option<&'a RawValue>> {
    Member(token).deserialize(&mut serde_json::Deserializer::from_str(json.get()))
}

struct Member<'t>(&'t str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, object: D) -> Result<Self::Value, D::Error> {
        object.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some((key, value)) = members.next_entry::<String, &RawValue>()? {
            if key == self.0 && found.replace(value).is_some() {
                return Err(M::Error::custom(format!("the key {key:?} occurs twice")));
            }
        }
        Ok(found)
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
    let text = pointer.find(json)?.ok_or_else(|| format!("nothing is at {}, so no identity", pointer.text))?;
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
    fn a_key_that_occurs_twice_on_the_way_names_no_event() {
        let error = identity(&["/a/b"], r#"{"a":{"b":"x","\u0062":"y"}}"#).expect_err("x or y?");
        assert!(error.contains("/a/b") && error.contains("\"b\" occurs twice"), "{error}");
        assert!(identity(&["/a/b"], r#"{"a":{"b":"x"},"a":{"c":"y"}}"#).is_err());
        assert_eq!(identity(&["/a"], r#"{"c":1,"a":"x","c":2}"#), Ok(b"x".to_vec()), "elsewhere it does not matter");
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        assert_eq!(identity(&["/a", "/b"], r#"{"a":"x","b":"yz"}"#), Ok(b"\0\x01x\0\x02yz".to_vec()));
        assert_ne!(identity(&["/a", "/b"], r#"{"a":"x","b":"yz"}"#), identity(&["/a", "/b"], r#"{"a":"xy","b":"z"}"#));
    }

    #[test]
    fn anything_else_refuses_the_line() {
        for line in [
            "no json",
            "{}",
            r#"{"a":1,"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":[1]}"#,
            r#"{"a":true}"#,
            r#"{"a":""}"#,
            "[1]",
        ] {
            assert!(identity(&["/a"], line).is_err(), "{line}");
        }
        assert!(identity(&["/a"], &format!(r#"{{"a":"{}"}}"#, "x".repeat(129))).is_err());
        assert!("eventID".parse::<Pointer>().is_err());
    }
}
