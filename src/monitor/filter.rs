//! Which entries are delivered. All of them are verified.

use std::str::FromStr;

use clap::Args;
use regex::Regex;
use regex::bytes::Regex as BytesRegex;
use serde_json::Value;

/// What an entry must have to be delivered: all that is given.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Filter {
    /// Deliver only JSON entries whose value at this JSON pointer (RFC 6901) matches the regular expression, which
    /// may match anywhere in it: `--match /user=^root$`. A value that is no string is taken as its JSON text. Repeatable:
    /// all must match. What is not delivered is verified all the same.
    #[arg(long = "match", value_name = "POINTER=REGEX")]
    matches: Vec<Match>,
    /// Deliver only entries that contain this text, byte for byte. Repeatable: all must be there.
    #[arg(long, value_name = "TEXT", value_parser = contains)]
    contains: Vec<BytesRegex>,
}

#[derive(Clone, Debug)]
struct Match {
    pointer: String,
    regex: Regex,
}

impl FromStr for Match {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pointer, regex) = text.split_once('=').ok_or("expected POINTER=REGEX, as /user=^root$")?;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err("a JSON pointer begins with `/`, or is empty for the whole entry".into());
        }
        let regex = Regex::new(regex).map_err(|error| error.to_string())?;
        Ok(Self { pointer: pointer.to_owned(), regex })
    }
}

impl Match {
    fn is_met(&self, entry: &Value) -> bool {
        match entry.pointer(&self.pointer) {
            None => false,
            Some(Value::String(text)) => self.regex.is_match(text),
            Some(value) => self.regex.is_match(&value.to_string()),
        }
    }
}

fn contains(text: &str) -> Result<BytesRegex, String> {
    BytesRegex::new(&regex::escape(text)).map_err(|error| error.to_string())
}

impl Filter {
    /// Whether `entry` is to be delivered.
    pub(super) fn passes(&self, entry: &[u8]) -> bool {
        if !self.contains.iter().all(|text| text.is_match(entry)) {
            return false;
        }
        self.matches.is_empty()
            || serde_json::from_slice(entry).is_ok_and(|value| self.matches.iter().all(|one| one.is_met(&value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(matches: &[&str], texts: &[&str]) -> Filter {
        Filter {
            matches: matches.iter().map(|text| text.parse().expect("a match")).collect(),
            contains: texts.iter().map(|text| contains(text).expect("a text")).collect(),
        }
    }

    #[test]
    fn an_entry_must_have_all_that_is_asked_for() {
        let entry = br#"{"user":{"name":"root"},"n":17,"tags":["a","b"]}"#;
        for (matches, texts, expected) in [
            (&[] as &[&str], &[] as &[&str], true),
            (&["/user/name=^root$"], &[], true),
            (&["/user/name=oo"], &[], true),
            (&["/user/name=^oo"], &[], false),
            (&["/n=^17$", "/tags/1=b"], &[], true),
            (&["/n=^17$", "/tags/1=a"], &[], false),
            (&["/nobody=.*"], &[], false),
            (&["=root"], &[], true),
            (&[], &["\"root\""], true),
            (&[], &["r.ot"], false),
            (&["/n=17"], &["root", "nobody"], false),
        ] {
            assert_eq!(filter(matches, texts).passes(entry), expected, "{matches:?} {texts:?}");
        }
    }

    #[test]
    fn what_is_not_json_matches_no_pointer_and_may_contain_a_text() {
        for entry in [b"\xff\xfe root".as_slice(), b"root", b"{\"user\":", &vec![b'['; 60_000]] {
            assert!(!filter(&["=."], &[]).passes(entry));
        }
        assert!(filter(&[], &["root"]).passes(b"\xff\xfe root"));
    }

    #[test]
    fn a_malformed_match_is_refused() {
        for text in ["/user", "user=root", "/user=("] {
            assert!(text.parse::<Match>().is_err(), "{text}");
        }
    }
}
