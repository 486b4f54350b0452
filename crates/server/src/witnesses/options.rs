//! Who the witnesses of a log are, and what waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use logwood_note::{Policy, SignatureType};
use logwood_sequencer::witnessing::WitnessSettings;
use reqwest::Url;
use thiserror::Error;

/// Most bytes that the cosignatures of a head take in its note, so that every answer with a head has room for them: nine
/// post-quantum ones, or two hundred others.
const LINES_BYTES_MAX: usize = 32 * 1024;

/// Most keys of witnesses: a stored head has at most 64 signatures, and two are the log's own.
const KEYS_MAX: usize = 62;

/// Longest that the publisher waits for a quorum by default, in milliseconds.
pub(crate) const DEADLINE_MS: u64 = 2_000;

/// The witnesses of every log that has any.
#[derive(Clone, Debug)]
pub struct WitnessOptions {
    /// How long a head waits for its quorum before it is published without, in milliseconds; at least 1.
    pub deadline_ms: u64,
    /// By name of the log.
    pub logs: BTreeMap<String, LogWitnesses>,
    /// By name of the witness in the policy; the others are asked as often as there is a head.
    pub settings: BTreeMap<String, WitnessSettings>,
}

impl Default for WitnessOptions {
    /// No log has witnesses.
    fn default() -> Self {
        Self { deadline_ms: DEADLINE_MS, logs: BTreeMap::new(), settings: BTreeMap::new() }
    }
}

/// What a log's first signature after a start waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartGuard {
    /// A quorum of the witnesses cosigned the last published head again; one of them, if the policy asks for none.
    #[default]
    Quorum,
    /// One of them did.
    Any,
    /// Nothing: an old copy of the data directory signs, until a witness speaks up.
    Off,
}

/// The witnesses of one log.
#[derive(Clone, Debug)]
pub struct LogWitnesses {
    pub(crate) policy: Arc<Policy>,
    start_guard: StartGuard,
}

/// A policy is of no use to a log that asks witnesses.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WitnessesError {
    /// Nobody can be asked.
    #[error("no witness of the policy has a URL: add one to its `witness` line")]
    NoUrl,
    /// A URL is none.
    #[error("the URL of witness `{name}` is none that begins with http:// or https://")]
    Url {
        /// The witness.
        name: String,
    },
    /// There are too many.
    #[error("the cosignatures of {keys} keys would not fit: at most {KEYS_MAX}, and {LINES_BYTES_MAX} bytes in a head")]
    TooMany {
        /// How many.
        keys: usize,
    },
}

impl LogWitnesses {
    /// The witnesses that `policy` lists; its logs are not looked at.
    ///
    /// # Errors
    ///
    /// [`WitnessesError`], which says what to change in the policy.
    pub fn new(policy: Policy, start_guard: StartGuard) -> Result<Self, WitnessesError> {
        let keys = policy.witnesses().len();
        let line_bytes = |kind, name: &str| {
            let signature: usize = if kind == SignatureType::MlDsa44Cosignature { 2_420 } else { 64 };
            "— ".len() + name.len() + (4 + 8 + signature).div_ceil(3) * 4 + 2
        };
        let bytes: usize = policy.witnesses().iter().map(|one| line_bytes(one.key.kind(), one.key.name())).sum();
        if keys > KEYS_MAX || bytes > LINES_BYTES_MAX {
            return Err(WitnessesError::TooMany { keys });
        }
        let mut has_url = false;
        for witness in policy.witnesses() {
            let Some(text) = &witness.url else { continue };
            if endpoint(text, "").is_none() {
                return Err(WitnessesError::Url { name: String::from_utf8_lossy(&witness.name).into_owned() });
            }
            has_url = true;
        }
        if has_url { Ok(Self { policy: Arc::new(policy), start_guard }) } else { Err(WitnessesError::NoUrl) }
    }

    /// What the first signature waits for: where no quorum is asked for, one witness.
    pub(super) fn start_guard(&self) -> StartGuard {
        match self.start_guard {
            StartGuard::Quorum if !self.has_quorum() => StartGuard::Any,
            start_guard => start_guard,
        }
    }

    /// Whether a head can be witnessed: the policy has a quorum.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.policy.needs_witnesses()
    }

    /// The names of the witnesses in the policy.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.policy.witnesses().iter().map(|witness| String::from_utf8_lossy(&witness.name).into_owned())
    }
}

/// A resource below the URL of a policy (C2SP tlog-witness: `<submission prefix>/add-checkpoint`).
pub(super) fn endpoint(prefix: &[u8], path: &str) -> Option<Url> {
    let prefix = std::str::from_utf8(prefix).ok()?;
    let url = Url::parse(&format!("{}/{path}", prefix.trim_end_matches('/'))).ok()?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    is_http.then_some(url)
}

#[cfg(test)]
mod tests {
    use logwood_note::{CosigningKey, PrivateKey};

    use super::*;

    fn policy(count: usize, kind: SignatureType, url: &str) -> Policy {
        let lines: Vec<String> = (0..count)
            .map(|number| {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&number.to_be_bytes());
                let key = PrivateKey::from_seed(&format!("w{number}"), kind, &seed).expect("a name");
                let key = CosigningKey::try_from(key).expect("a type that cosigns");
                format!("witness w{number} {} {url}\n", key.verifier())
            })
            .collect();
        Policy::parse(format!("{}quorum none\n", lines.concat()).as_bytes()).expect("a policy")
    }

    #[test]
    fn cosignatures_that_no_answer_has_room_for_are_refused_at_the_start() {
        let (small, large) = (SignatureType::Ed25519Cosignature, SignatureType::MlDsa44Cosignature);
        let url = "https://witness.example";
        let refused = |policy| LogWitnesses::new(policy, StartGuard::Quorum).err();
        assert_eq!(refused(policy(62, small, url)), None);
        assert_eq!(refused(policy(63, small, url)), Some(WitnessesError::TooMany { keys: 63 }));
        assert_eq!(refused(policy(9, large, url)), None);
        assert_eq!(refused(policy(11, large, url)), Some(WitnessesError::TooMany { keys: 11 }));
    }

    #[test]
    fn a_policy_whose_witnesses_cannot_be_asked_is_refused() {
        let refused =
            |url: &str| LogWitnesses::new(policy(1, SignatureType::Ed25519Cosignature, url), StartGuard::Any).err();
        assert_eq!(refused(""), Some(WitnessesError::NoUrl));
        for url in
            ["ftp://witness.example", "witness.example", "https://", "https://w.example/?a", "https://w.example#a"]
        {
            assert_eq!(refused(url), Some(WitnessesError::Url { name: "w0".into() }), "{url}");
        }
        assert_eq!(refused("http://127.0.0.1:7072/prefix/"), None);
    }

    #[test]
    fn a_prefix_may_end_in_a_slash() {
        for prefix in ["https://w.example/a", "https://w.example/a/"] {
            let url = endpoint(prefix.as_bytes(), "add-checkpoint").expect("a URL");
            assert_eq!(url.as_str(), "https://w.example/a/add-checkpoint");
        }
    }
}
