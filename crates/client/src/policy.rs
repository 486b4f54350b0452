//! What a policy asks of a client: with which key it follows the log, and which heads are good enough.
//!
//! Heads that no witness can have seen yet are followed under the log's own key. A head is witnessed if its cosignatures
//! satisfy the caller's policy; what the server says of it is no reason. So without a policy no head is, and to ask for
//! one makes no sense.

use logwood_note::{Policy, SignatureType, Trust as _, VerifierKey};
use logwood_proto::v1;

use crate::state::KeySource;
use crate::verify::signed_head;
use crate::{Client, ClientError, VerifiedHead};

impl Client {
    /// The least level that a head must have to be what this client's policy asks for: witnessed if it has a quorum, any
    /// level otherwise.
    #[must_use]
    pub fn least_level(&self) -> v1::HeadLevel {
        let needs_witnesses = self.policy().is_some_and(Policy::needs_witnesses);
        if needs_witnesses { v1::HeadLevel::Witnessed } else { v1::HeadLevel::Unspecified }
    }

    /// Refuses to ask for a witnessed head if nothing says which witnesses count.
    pub(crate) fn check_request(&self, level: v1::HeadLevel) -> Result<(), ClientError> {
        if level < v1::HeadLevel::Witnessed || self.least_level() == v1::HeadLevel::Witnessed {
            return Ok(());
        }
        let message = "a head is witnessed if it satisfies a policy of yours: give one with a quorum (--policy FILE)";
        Err(ClientError::BadOption { option: "policy", message: message.to_owned() })
    }

    /// [`signed_head`] under this client's key, and witnessed if the policy says so.
    pub(crate) fn signed_head(
        &self,
        message: Option<v1::SignedTreeHead>,
        known: Option<&VerifiedHead>,
        latest: Option<&VerifiedHead>,
    ) -> Result<VerifiedHead, ClientError> {
        let head = signed_head(message, self.key(), known, latest)?;
        // Round heads have no cosignatures, and need not be searched for any.
        let quorum = self.policy().filter(|policy| policy.needs_witnesses() && head.level == v1::HeadLevel::Published);
        let is_witnessed = quorum.is_some_and(|policy| satisfies(policy, &head).is_ok());
        Ok(VerifiedHead { level: if is_witnessed { v1::HeadLevel::Witnessed } else { head.level }, ..head })
    }

    /// Checks that `head`, of [`Client::signed_head`], has reached `level`.
    pub(crate) fn require_level(&self, head: &VerifiedHead, level: v1::HeadLevel) -> Result<(), ClientError> {
        if head.level >= level {
            return Ok(());
        }
        if let (v1::HeadLevel::Published, Some(policy)) = (head.level, self.policy()) {
            satisfies(policy, head)?;
        }
        let (asked, answered) = (level.as_str_name(), head.level.as_str_name());
        let what = format!("a head of level {asked} was asked for, the answer's has {answered}");
        Err(ClientError::failed(what))
    }
}

fn satisfies(policy: &Policy, head: &VerifiedHead) -> Result<(), ClientError> {
    let judged = policy.open(&head.note, None);
    judged.map(drop).map_err(|error| ClientError::failed_check("the head does not satisfy the policy", &error))
}

/// A key to follow a log with, and why it is that one.
pub(crate) type FollowedKey = (VerifierKey, KeySource);

/// The key to follow the log with and why, and the policy for that log alone. No key if one has to be pinned.
///
/// Without a named key it is the pinned one. Which of a policy's logs is meant is not for the server to say: it could
/// serve one of them in another's place.
///
/// * `pinned` - the key that is remembered for this log.
///
/// # Errors
///
/// [`ClientError::BadOption`] if the key is of no use to follow a log or not the policy's, if the policy lists no such
/// key of this log, and if it does not say which log that is.
pub(crate) fn choose(
    policy: Option<Policy>,
    vkey: Option<VerifierKey>,
    pinned: Option<VerifierKey>,
) -> Result<(Option<Policy>, Option<FollowedKey>), ClientError> {
    let bad = |option, message| ClientError::BadOption { option, message };
    if vkey.as_ref().is_some_and(|key| key.kind() != SignatureType::Ed25519) {
        let message = "a log is followed with its Ed25519 key (type 0x01), which signs every head; name that one";
        return Err(bad("vkey", message.to_owned()));
    }
    let named = vkey.map(|key| (key, KeySource::Named));
    let pinned = pinned.map(|key| (key, KeySource::Remembered));
    let Some(policy) = policy else { return Ok((None, named.or(pinned))) };
    if let Some((key, source)) = named {
        let narrowed = policy.for_logs(std::slice::from_ref(&key)).map_err(|error| bad("vkey", error.to_string()))?;
        return Ok((Some(narrowed), Some((key, source))));
    }
    if let Some((key, source)) = pinned {
        let mut keys = keys_of(&policy, key.name());
        if !policy.logs().is_empty() && !keys.contains(&key) {
            let message =
                format!("it does not list the key that is remembered for this log, {key}: name one with --vkey");
            return Err(bad("policy", message));
        }
        if keys.is_empty() {
            keys.push(key.clone());
        }
        let narrowed = policy.for_logs(&keys).map_err(|error| bad("policy", error.to_string()))?;
        return Ok((Some(narrowed), Some((key, source))));
    }
    let mut listed = policy.logs().iter().map(|log| log.key.name());
    let name =
        listed.next().ok_or_else(|| bad("policy", "it lists no log: name the log's key with --vkey".to_owned()))?;
    if listed.any(|other| other != name) {
        let message = "the policy lists several logs: name the key of the one that is meant (--vkey)";
        return Err(bad("vkey", message.to_owned()));
    }
    let keys = keys_of(&policy, name);
    let Some(key) = keys.iter().find(|key| key.kind() == SignatureType::Ed25519).cloned() else {
        let message = format!("it lists no Ed25519 key (type 0x01) of the log {name}, which is needed to follow it");
        return Err(bad("policy", message));
    };
    let narrowed = policy.for_logs(&keys).map_err(|error| bad("policy", error.to_string()))?;
    Ok((Some(narrowed), Some((key, KeySource::Listed))))
}

/// The keys of the log `name` that the policy lists.
fn keys_of(policy: &Policy, name: &str) -> Vec<VerifierKey> {
    policy.logs().iter().map(|log| &log.key).filter(|key| key.name() == name).cloned().collect()
}

#[cfg(test)]
mod tests;
