//! Policies: which logs are trusted, which witnesses, and how many of those must have cosigned.
//!
//! ```text
//! log <vkey> [<url>]                      any one of the listed logs may have signed
//!
//! witness X1 <vkey> [<url>]
//! witness X2 <vkey>
//! witness X3 <vkey>
//! group X-witnesses 2 X1 X2 X3            two of three
//! witness Y1 <vkey>
//! group X-and-Y all X-witnesses Y1        groups of groups, each declared further up
//! quorum X-and-Y                          or `quorum none`
//! ```
//!
//! Source: C2SP tlog-policy. [`crate::trust`] judges checkpoints by a policy.

mod parse;

use std::fmt;

use thiserror::Error;

use crate::key::{KeyError, VerifierKey};

/// Largest policy file, in bytes: [`LOGS_MAX`] and [`WITNESSES_MAX`] ML-DSA-44 keys, of 2 kB each, with their URLs.
pub const POLICY_BYTES_MAX: usize = 2_000_000;

/// Most logs. The specification asks for 32 or more.
pub const LOGS_MAX: usize = 256;

/// Most witnesses. The specification asks for 32 or more.
pub const WITNESSES_MAX: usize = 256;

/// Most groups, and so the deepest nesting. The specification asks for 32 or more.
pub const GROUPS_MAX: usize = 256;

/// Most names of witnesses that an error lists.
const NAMES_LISTED_MAX: usize = 8;

/// A `log` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// The log's key, of type 0x01 or 0x06. Its name is the log's origin.
    pub key: VerifierKey,
    /// Opaque to the policy. Whoever connects decides whether it is a URL.
    pub url: Option<Vec<u8>>,
}

/// A `witness` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// The name of this line, which groups and the quorum use. Opaque bytes.
    pub name: Vec<u8>,
    /// The witness's key, of type 0x04 or 0x06.
    pub key: VerifierKey,
    /// Opaque to the policy. Whoever connects decides whether it is a URL.
    pub url: Option<Vec<u8>>,
}

/// What makes a checkpoint valid: the signature of a log, and cosignatures up to a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    /// Witnesses and groups in the order of their lines, so that members stand before their group.
    components: Vec<Component>,
    quorum: Quorum,
}

/// What the quorum line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quorum {
    None,
    /// Index of a component.
    Component(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Component {
    /// Index of a witness.
    Witness(usize),
    Group(Group),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: Vec<u8>,
    threshold: usize,
    /// Indices of earlier components; no component is in two groups.
    members: Vec<usize>,
}

impl Policy {
    /// The policy that trusts any of `keys`, each for the log of its name, and asks for no witness.
    ///
    /// # Errors
    ///
    /// [`KeyError::WrongType`] if one is not of a type that a log signs with.
    pub fn of_logs(keys: impl IntoIterator<Item = VerifierKey>) -> Result<Self, KeyError> {
        let log = |key| parse::check_log_type(&key).map(|()| PolicyLog { key, url: None });
        let logs = keys.into_iter().map(log).collect::<Result<_, _>>()?;
        Ok(Self { logs, witnesses: Vec::new(), components: Vec::new(), quorum: Quorum::None })
    }

    /// The logs, in the order of their lines.
    #[must_use]
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses, in the order of their lines, whether the quorum needs them or not.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether a checkpoint needs any cosignature.
    #[must_use]
    pub fn needs_witnesses(&self) -> bool {
        self.quorum != Quorum::None
    }

    /// The same quorum for `keys` alone as keys of logs.
    ///
    /// # Errors
    ///
    /// * [`KeyError::WrongType`] if one is not of a type that a log signs with.
    /// * [`KeyError::NotInPolicy`] if the policy lists logs, and not this key among them.
    pub fn for_logs(mut self, keys: &[VerifierKey]) -> Result<Self, KeyError> {
        let narrowed = Self::of_logs(keys.iter().cloned())?;
        if self.logs.is_empty() {
            self.logs = narrowed.logs;
            return Ok(self);
        }
        if keys.iter().any(|key| self.logs.iter().all(|log| log.key != *key)) {
            return Err(KeyError::NotInPolicy);
        }
        self.logs.retain(|log| keys.contains(&log.key));
        Ok(self)
    }

    /// The same logs, and no witnesses: for heads that cannot be cosigned yet.
    #[must_use]
    pub fn without_witnesses(&self) -> Self {
        Self { logs: self.logs.clone(), witnesses: Vec::new(), components: Vec::new(), quorum: Quorum::None }
    }

    /// Whether the witnesses that cosigned reach the quorum.
    ///
    /// * `cosigned` - whether the witness at an index of [`Policy::witnesses`] has cosigned.
    ///
    /// # Errors
    ///
    /// [`QuorumError`] says who is missing.
    pub fn check_quorum(&self, cosigned: impl Fn(usize) -> bool) -> Result<(), QuorumError> {
        let Quorum::Component(quorum) = self.quorum else { return Ok(()) };
        // Members stand before their group, so one pass is enough however deep the groups nest.
        let mut reached = Vec::with_capacity(self.components.len());
        for component in &self.components {
            reached.push(match component {
                Component::Witness(witness) => cosigned(*witness),
                Component::Group(group) => group.count(&reached) >= group.threshold,
            });
        }
        if reached[quorum] { Ok(()) } else { Err(self.missing(quorum, &reached)) }
    }

    /// Describes the quorum that is not reached.
    fn missing(&self, quorum: usize, reached: &[bool]) -> QuorumError {
        let (name, needed, found) = match &self.components[quorum] {
            Component::Witness(witness) => (&self.witnesses[*witness].name, 1, 0),
            Component::Group(group) => (&group.name, group.threshold, group.count(reached)),
        };
        // From the quorum down; again one pass, backwards.
        let mut counts = vec![false; self.components.len()];
        counts[quorum] = true;
        let mut absent = Vec::new();
        for (index, component) in self.components.iter().enumerate().rev().filter(|(index, _)| !reached[*index]) {
            match component {
                _ if !counts[index] => {}
                Component::Witness(witness) => absent.push(self.witnesses[*witness].name.clone()),
                Component::Group(group) => group.members.iter().for_each(|&member| counts[member] = true),
            }
        }
        absent.reverse();
        QuorumError { name: name.clone(), needed, found, absent }
    }
}

impl Group {
    fn count(&self, reached: &[bool]) -> usize {
        self.members.iter().filter(|&&member| reached[member]).count()
    }
}

/// The quorum of a policy is not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumError {
    /// The witness or group that the quorum names.
    pub name: Vec<u8>,
    /// How many of its members are needed; 1 for a witness.
    pub needed: usize,
    /// How many of them are there.
    pub found: usize,
    /// The witnesses whose cosignatures would help, in the order of their lines.
    pub absent: Vec<Vec<u8>>,
}

impl std::error::Error for QuorumError {}

impl fmt::Display for QuorumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, needed, found, absent } = self;
        write!(f, "the quorum {} needs {needed} and has {found}; not cosigned by ", Shown(name))?;
        for (index, name) in absent.iter().take(NAMES_LISTED_MAX).enumerate() {
            write!(f, "{}{}", if index > 0 { ", " } else { "" }, Shown(name))?;
        }
        match absent.len().saturating_sub(NAMES_LISTED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Why a policy was refused, and at which line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("policy line {line}: {problem}")]
pub struct PolicyError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: PolicyProblem,
}

/// What can be wrong with a line of a policy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyProblem {
    /// The file is longer than any that is accepted.
    #[error("more than {POLICY_BYTES_MAX} bytes")]
    TooLong,
    /// A byte that no policy holds.
    #[error("the byte {byte:#04x} is not allowed: use spaces and tabs, and lines that end in a newline alone")]
    Byte {
        /// The byte.
        byte: u8,
    },
    /// The last line has no newline, so the file may have lost its end.
    #[error("the line has no newline at its end; get the whole file, or add the newline")]
    CutOff,
    /// The line begins with no known word, or has too many or too few items.
    #[error("expected {expected}")]
    Syntax {
        /// What would be right.
        expected: &'static str,
    },
    /// The vkey is malformed, or of a type that is of no use in such a line.
    #[error("{0}")]
    Key(KeyError),
    /// Another line of the same kind has the same public key, perhaps under another name.
    #[error("line {first} has the same public key; name each key once")]
    DuplicateKey {
        /// The other line.
        first: usize,
    },
    /// Another witness or group has the name, or it is the reserved `none`.
    #[error("the name {} is taken; choose another", Shown(.name))]
    NameTaken {
        /// The name.
        name: Vec<u8>,
    },
    /// No line further up declares the name.
    #[error("no witness or group {} is declared further up", Shown(.name))]
    UnknownName {
        /// The name.
        name: Vec<u8>,
    },
    /// The name is in a group already.
    #[error("{} is a member of a group already, and would vote twice", Shown(.name))]
    MemberTwice {
        /// The name.
        name: Vec<u8>,
    },
    /// The group needs none of its members, or more than it has.
    #[error("the group needs `any`, `all`, or a decimal from 1 to its {members} members")]
    Threshold {
        /// How many it has.
        members: usize,
    },
    /// More logs, witnesses or groups than any reader should have to check.
    #[error("more than {max} lines of this kind")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// There is a quorum already.
    #[error("a second quorum; a policy has exactly one")]
    SecondQuorum,
    /// The file ends without one.
    #[error("the policy ends without a quorum; add a line `quorum <name>`, or `quorum none`")]
    NoQuorum,
}

/// A name for people: between backticks, and what is not UTF-8 replaced.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", String::from_utf8_lossy(self.0))
    }
}

#[cfg(test)]
mod tests;
