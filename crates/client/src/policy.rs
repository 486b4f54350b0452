//! What a policy asks of a client: with which key it follows the log, and which heads are good enough.
//!
//! Heads that no witness can have seen yet are followed under the log's own key. A head is witnessed if its cosignatures
//! satisfy the caller's policy; what the server says of it is no reason. So without a policy no head is, and to ask for
//! one makes no sense.

use logwood_note::{Policy, SignatureType, Trust as _, VerifierKey};
use logwood_proto::v1;

use crate::client::Rpc;
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

/// The key to follow the log with, and the policy for that log alone. Without `policy`, the key that the caller named.
///
/// The server says which of a policy's logs it is asked for. It cannot say so wrongly without failing every check.
///
/// # Errors
///
/// * [`ClientError::BadOption`] if the key is of no use to follow a log or not the policy's, and if the policy lists no
///   such key of this log.
/// * As a call of [`Client::describe_unverified`] if the policy has several logs.
pub(crate) async fn choose(
    policy: Option<Policy>,
    vkey: Option<VerifierKey>,
    (server, log, rpc): (&str, &str, &Rpc),
) -> Result<(Option<Policy>, Option<VerifierKey>), ClientError> {
    if vkey.as_ref().is_some_and(|key| key.kind() != SignatureType::Ed25519) {
        let message = "a log is followed with its Ed25519 key (type 0x01), which signs every head; name that one";
        return Err(ClientError::BadOption { option: "vkey", message: message.to_owned() });
    }
    let Some(policy) = policy else { return Ok((None, vkey)) };
    if let Some(key) = vkey {
        let narrowed = policy.for_logs(std::slice::from_ref(&key));
        let narrowed =
            narrowed.map_err(|error| ClientError::BadOption { option: "vkey", message: error.to_string() })?;
        return Ok((Some(narrowed), Some(key)));
    }
    let mut names: Vec<_> = policy.logs().iter().map(|log| log.key.name().to_owned()).collect();
    names.dedup();
    let origin =
        if let [name] = &mut names[..] { std::mem::take(name) } else { origin(server, log, rpc.clone()).await? };
    let keys: Vec<_> = policy.logs().iter().map(|log| log.key.clone()).filter(|key| key.name() == origin).collect();
    let Some(key) = keys.iter().find(|key| key.kind() == SignatureType::Ed25519).cloned() else {
        let message = format!("it lists no Ed25519 key (type 0x01) of the log {origin}, which is needed to follow it");
        return Err(ClientError::BadOption { option: "policy", message });
    };
    let narrowed = policy.for_logs(&keys).expect("keys that the policy lists");
    Ok((Some(narrowed), Some(key)))
}

/// The log's origin, as the server says.
async fn origin(server: &str, log: &str, mut rpc: Rpc) -> Result<String, ClientError> {
    let request = v1::DescribeLogRequest { log: log.to_owned(), known_size: 0 };
    let answer = rpc.describe_log(request).await.map_err(|status| ClientError::from_status(server, &status))?;
    Ok(answer.into_inner().info.unwrap_or_default().origin)
}

#[cfg(test)]
mod tests;
