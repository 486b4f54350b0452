//! Whom a command trusts: keys, a policy, or both.

use std::path::{Path, PathBuf};

use clap::Args;
use logwood_note::policy::POLICY_BYTES_MAX;
use logwood_note::{Policy, VerifierKey, keys_of_one_log};

use crate::failure::Usage;
use crate::files;

/// Keys and policy: at least one of them, from somewhere that is trusted, and never from what is being judged.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct TrustArgs {
    /// The log's verifier key; repeatable if it has several, any one of which suffices then. With a policy, the
    /// only ones of its logs that are trusted.
    #[arg(long, env = "LOGWOOD_VKEY", value_name = "VKEY")]
    vkey: Vec<VerifierKey>,
    /// A policy file (C2SP tlog-policy): the log's signature and the quorum of witnesses must hold.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl TrustArgs {
    /// What a checkpoint needs.
    ///
    /// # Errors
    ///
    /// [`Usage`] for a malformed policy, a key that no log signs with, and a key that is not the policy's.
    pub(crate) fn policy(&self) -> anyhow::Result<Policy> {
        let usage = |problem: String| Usage { problem };
        let Some(policy) = self.policy_file()? else {
            let keys = self.vkey.iter().cloned();
            return Ok(Policy::of_logs(keys).map_err(|error| usage(format!("--vkey: {error}")))?);
        };
        if self.vkey.is_empty() {
            if policy.logs().is_empty() {
                return Err(usage("the policy lists no log: give the log's key with --vkey".into()).into());
            }
            return Ok(policy);
        }
        Ok(policy.for_logs(&self.vkey).map_err(|error| usage(format!("--vkey: {error}")))?)
    }

    /// Everybody who can be accused: the keys given, and those of the policy's logs and witnesses.
    ///
    /// # Errors
    ///
    /// [`Usage`] for a malformed policy.
    pub(crate) fn keys(&self) -> anyhow::Result<Vec<VerifierKey>> {
        let mut keys = self.vkey.clone();
        if let Some(policy) = self.policy_file()? {
            keys.extend(policy.logs().iter().map(|log| log.key.clone()));
            keys.extend(policy.witnesses().iter().map(|witness| witness.key.clone()));
        }
        Ok(keys)
    }

    /// Refuses an origin that keys of several logs would vouch for: one of them could then speak for another.
    ///
    /// * `origin` - where it differs from the name of the log's key.
    ///
    /// # Errors
    ///
    /// [`Usage`] if the keys of `trusted` that sign for logs have several names.
    pub(crate) fn check_origin(origin: Option<&str>, trusted: &[VerifierKey]) -> anyhow::Result<()> {
        if origin.is_some() {
            keys_of_one_log(trusted).map_err(|error| Usage {
                problem: format!("--origin is of one log, and {error}: give the keys of that log alone (--vkey)"),
            })?;
        }
        Ok(())
    }

    /// As [`TrustArgs::policy`], for one log if an origin is given.
    ///
    /// # Errors
    ///
    /// [`Usage`], as [`TrustArgs::policy`] and [`TrustArgs::check_origin`].
    pub(crate) fn policy_for(&self, origin: Option<&str>) -> anyhow::Result<Policy> {
        let policy = self.policy()?;
        let keys: Vec<_> = policy.logs().iter().map(|log| log.key.clone()).collect();
        Self::check_origin(origin, &keys)?;
        Ok(policy)
    }

    /// The keys given one by one.
    pub(crate) fn vkeys(&self) -> &[VerifierKey] {
        &self.vkey
    }

    /// Whether a policy is given.
    pub(crate) fn has_policy(&self) -> bool {
        self.policy.is_some()
    }

    fn policy_file(&self) -> anyhow::Result<Option<Policy>> {
        self.policy.as_deref().map(read_policy).transpose()
    }
}

/// The policy in the file at `path`.
///
/// # Errors
///
/// [`Usage`] with the line if it is malformed.
pub(crate) fn read_policy(path: &Path) -> anyhow::Result<Policy> {
    let policy = Policy::parse(&files::read(path, POLICY_BYTES_MAX)?);
    Ok(policy.map_err(|error| Usage { problem: format!("{}: {error}", path.display()) })?)
}
