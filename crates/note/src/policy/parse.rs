//! From the text of a policy to [`Policy`]: one line at a time, names looked up among those above.

use std::collections::HashMap;

use super::{
    Component, GROUPS_MAX, Group, LOGS_MAX, POLICY_BYTES_MAX, Policy, PolicyError, PolicyLog, PolicyProblem,
    PolicyWitness, Quorum, WITNESSES_MAX,
};
use crate::key::{KeyError, VerifierKey};
use crate::text;

const LOG: &str = "`log <vkey> [<url>]`";
const WITNESS: &str = "`witness <name> <vkey> [<url>]`";
const GROUP: &str = "`group <name> all|any|<k> <member>...`";
const QUORUM: &str = "`quorum <name>` or `quorum none`";
const LINE: &str = "a line that begins with `log`, `witness`, `group`, `quorum` or `#`";

/// The name that stands for no quorum.
const NONE: &[u8] = b"none";

impl Policy {
    /// Parses a policy file, at most [`POLICY_BYTES_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] for the first line that is not as C2SP tlog-policy has it.
    pub fn parse(policy: &[u8]) -> Result<Self, PolicyError> {
        if policy.len() > POLICY_BYTES_MAX {
            return Err(PolicyError { line: 1, problem: PolicyProblem::TooLong });
        }
        let mut parser = Parser::default();
        let mut number = 0;
        for line in policy.split_inclusive(|&byte| byte == b'\n') {
            number += 1;
            parser.line(number, line).map_err(|problem| PolicyError { line: number, problem })?;
        }
        let quorum = parser.quorum.ok_or(PolicyError { line: number + 1, problem: PolicyProblem::NoQuorum })?;
        let Parser { logs, witnesses, components, .. } = parser;
        let logs = logs.into_iter().map(|(_, log)| log).collect();
        let witnesses = witnesses.into_iter().map(|(_, witness)| witness).collect();
        Ok(Self { logs, witnesses, components, quorum })
    }
}

/// What the lines so far have said. Logs and witnesses are kept with the numbers of their lines.
#[derive(Default)]
struct Parser {
    logs: Vec<(usize, PolicyLog)>,
    witnesses: Vec<(usize, PolicyWitness)>,
    components: Vec<Component>,
    /// Index of each component by its name, and whether it is a member of a group already.
    names: HashMap<Vec<u8>, (usize, bool)>,
    quorum: Option<Quorum>,
}

impl Parser {
    fn line(&mut self, number: usize, line: &[u8]) -> Result<(), PolicyProblem> {
        let line = line.strip_suffix(b"\n").ok_or(PolicyProblem::CutOff)?;
        if let Some(&byte) = line.iter().find(|&&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return Err(PolicyProblem::Byte { byte });
        }
        let items: Vec<_> = line.split(|byte| b" \t".contains(byte)).filter(|item| !item.is_empty()).collect();
        match items.split_first() {
            None => Ok(()),
            Some((word, _)) if word.starts_with(b"#") => Ok(()),
            Some((&b"log", items)) => self.log(number, items),
            Some((&b"witness", items)) => self.witness(number, items),
            Some((&b"group", items)) => self.group(items),
            Some((&b"quorum", items)) => self.quorum(items),
            Some(_) => Err(PolicyProblem::Syntax { expected: LINE }),
        }
    }

    fn log(&mut self, number: usize, items: &[&[u8]]) -> Result<(), PolicyProblem> {
        let (key, url) = match *items {
            [key] => (key, None),
            [key, url] if is_url(url) => (key, Some(url.to_vec())),
            _ => return Err(PolicyProblem::Syntax { expected: LOG }),
        };
        let key = parse_key(key)?;
        check_log_type(&key).map_err(PolicyProblem::Key)?;
        if let Some(&(first, _)) = self.logs.iter().find(|(_, log)| log.key.is_duplicate_of(&key)) {
            return Err(PolicyProblem::DuplicateKey { first });
        }
        check_count(self.logs.len(), LOGS_MAX)?;
        self.logs.push((number, PolicyLog { key, url }));
        Ok(())
    }

    fn witness(&mut self, number: usize, items: &[&[u8]]) -> Result<(), PolicyProblem> {
        let (name, key, url) = match *items {
            [name, key] => (name, key, None),
            [name, key, url] if is_url(url) => (name, key, Some(url.to_vec())),
            _ => return Err(PolicyProblem::Syntax { expected: WITNESS }),
        };
        let key = parse_key(key)?;
        if !key.kind().is_for_witnesses() {
            let needed = "a witness cosigns with a key of type 0x04 or 0x06; `logwood keys convert` gives the vkey";
            return Err(PolicyProblem::Key(KeyError::WrongType { kind: key.kind(), needed }));
        }
        if let Some(&(first, _)) = self.witnesses.iter().find(|(_, other)| other.key.is_duplicate_of(&key)) {
            return Err(PolicyProblem::DuplicateKey { first });
        }
        check_count(self.witnesses.len(), WITNESSES_MAX)?;
        self.declare(name, Component::Witness(self.witnesses.len()))?;
        self.witnesses.push((number, PolicyWitness { name: name.to_vec(), key, url }));
        Ok(())
    }

    fn group(&mut self, items: &[&[u8]]) -> Result<(), PolicyProblem> {
        let [name, threshold, members @ ..] = items else {
            return Err(PolicyProblem::Syntax { expected: GROUP });
        };
        if members.is_empty() {
            return Err(PolicyProblem::Syntax { expected: GROUP });
        }
        let threshold = parse_threshold(threshold, members.len())?;
        check_count(self.components.len() - self.witnesses.len(), GROUPS_MAX)?;
        let members = members.iter().map(|member| self.claim(member)).collect::<Result<_, _>>()?;
        self.declare(name, Component::Group(Group { name: name.to_vec(), threshold, members }))
    }

    fn quorum(&mut self, items: &[&[u8]]) -> Result<(), PolicyProblem> {
        let &[name] = items else {
            return Err(PolicyProblem::Syntax { expected: QUORUM });
        };
        if self.quorum.is_some() {
            return Err(PolicyProblem::SecondQuorum);
        }
        let quorum = if name == NONE { Quorum::None } else { Quorum::Component(self.look_up(name)?.0) };
        self.quorum = Some(quorum);
        Ok(())
    }

    fn declare(&mut self, name: &[u8], component: Component) -> Result<(), PolicyProblem> {
        if name == NONE || self.names.contains_key(name) {
            return Err(PolicyProblem::NameTaken { name: name.to_vec() });
        }
        self.names.insert(name.to_vec(), (self.components.len(), false));
        self.components.push(component);
        Ok(())
    }

    /// Makes `name` a member of a group: the index of its component.
    fn claim(&mut self, name: &[u8]) -> Result<usize, PolicyProblem> {
        let (index, is_member) = self.look_up(name)?;
        if std::mem::replace(is_member, true) {
            return Err(PolicyProblem::MemberTwice { name: name.to_vec() });
        }
        Ok(index)
    }

    fn look_up(&mut self, name: &[u8]) -> Result<(usize, &mut bool), PolicyProblem> {
        let found = self.names.get_mut(name).map(|(index, is_member)| (*index, is_member));
        found.ok_or_else(|| PolicyProblem::UnknownName { name: name.to_vec() })
    }
}

/// A comment has a line of its own, and must not pass for a URL.
fn is_url(item: &[u8]) -> bool {
    !item.starts_with(b"#")
}

fn parse_key(item: &[u8]) -> Result<VerifierKey, PolicyProblem> {
    let vkey = std::str::from_utf8(item).map_err(|_| PolicyProblem::Key(KeyError::Syntax))?;
    vkey.parse().map_err(PolicyProblem::Key)
}

pub(super) fn check_log_type(key: &VerifierKey) -> Result<(), KeyError> {
    let needed = "a log signs with a key of type 0x01 or 0x06";
    if key.kind().is_for_logs() { Ok(()) } else { Err(KeyError::WrongType { kind: key.kind(), needed }) }
}

fn parse_threshold(item: &[u8], members: usize) -> Result<usize, PolicyProblem> {
    let threshold = match item {
        b"any" => Some(1),
        b"all" => Some(members),
        k => std::str::from_utf8(k).ok().and_then(text::decimal).and_then(|k| usize::try_from(k).ok()),
    };
    threshold.filter(|&k| (1..=members).contains(&k)).ok_or(PolicyProblem::Threshold { members })
}

fn check_count(count: usize, max: usize) -> Result<(), PolicyProblem> {
    if count < max { Ok(()) } else { Err(PolicyProblem::TooMany { max }) }
}
