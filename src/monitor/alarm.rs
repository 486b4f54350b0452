//! Alarms: told once while their cause lasts, with a file that says what was seen.
//!
//! What proves a fault becomes an evidence file, which anybody can judge who has the key. Everything else that is odd
//! becomes an incident file, which proves nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logwood_monitor::status::Status;
use logwood_note::{Evidence, VerifierKey, hex};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::hook::{Call, Hook};
use crate::failure::VerificationFailed;
use crate::{files, output};

/// Most files of a directory for evidence: a source that lies in ever new ways does not fill the disk.
const FILES_MAX: usize = 1_000;

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The log signed two histories, or a cosigner took back what it saw.
    SplitView,
    /// The log grew after it signed that it never would.
    BrokenSeal,
    /// A signature of a key that is trusted is bad, or there is none.
    BadSignature,
    /// Entries are not those that were signed.
    BadEntry,
    /// Tiles do not lead to the head that was signed.
    BadTile,
    /// A proof does not verify.
    BadProof,
    /// An answer is malformed, or lacks what the head beside it promises.
    BadAnswer,
    /// A source shows a smaller head than before. It may lag.
    Rollback,
    /// Too few witnesses cosigned.
    NoQuorum,
    /// Nobody cosigned for too long.
    Stale,
    /// A cosignature says a time that has not come yet.
    Future,
    /// Nobody has the proof that a head is of the one history.
    Unproved,
    /// A source does not answer.
    Unreachable,
    /// An entry is not confirmed.
    Undelivered,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::SplitView,
        Self::BrokenSeal,
        Self::BadSignature,
        Self::BadEntry,
        Self::BadTile,
        Self::BadProof,
        Self::BadAnswer,
        Self::Rollback,
        Self::NoQuorum,
        Self::Stale,
        Self::Future,
        Self::Unproved,
        Self::Unreachable,
        Self::Undelivered,
    ];

    /// Its name, as hooks, metrics and `--json` have it.
    fn name(self) -> &'static str {
        match self {
            Self::SplitView => "split-view",
            Self::BrokenSeal => "broken-seal",
            Self::BadSignature => "bad-signature",
            Self::BadEntry => "bad-entry",
            Self::BadTile => "bad-tile",
            Self::BadProof => "bad-proof",
            Self::BadAnswer => "bad-answer",
            Self::Rollback => "rollback",
            Self::NoQuorum => "no-quorum",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::Unproved => "unproved",
            Self::Unreachable => "unreachable",
            Self::Undelivered => "undelivered",
        }
    }

    /// The names of all kinds.
    pub(super) fn names() -> Vec<&'static str> {
        Self::ALL.map(Self::name).to_vec()
    }

    /// Something that should verify does not, as opposed to not being there.
    fn is_lie(self) -> bool {
        self <= Self::BadAnswer
    }
}

/// Something that should not be.
pub(super) struct Alarm {
    pub(super) kind: Kind,
    /// The source that showed it; else the origin of the log.
    pub(super) subject: String,
    /// Origin of the log, if it is known.
    pub(super) origin: Option<String>,
    /// A sentence for people.
    pub(super) reason: String,
    /// What may prove it.
    pub(super) evidence: Option<Evidence>,
    /// What was seen, verbatim.
    pub(super) notes: Vec<Bytes>,
}

/// What an alarm is known by while it lasts.
type Told = (Kind, String);

/// When an alarm is raised, and would be raised again if its cause is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// While the sources are asked for their heads.
    Heads,
    /// In between: while entries are fetched and delivered.
    Entries,
}

/// Where alarms go.
pub(super) struct Alarms {
    /// Keys of everybody who can be accused.
    pub(super) keys: Vec<VerifierKey>,
    /// The log's origin where it differs from the name of its key.
    pub(super) origin: Option<String>,
    pub(super) evidence_dir: Option<PathBuf>,
    hook: Option<Hook>,
    pub(super) as_json: bool,
    pub(super) status: Arc<Status>,
    /// What was told, and was still so in the last round.
    known: BTreeMap<Told, Part>,
    /// What was so since the last round began.
    current: BTreeMap<Told, Part>,
    part: Part,
    exit_code: u8,
}

impl Alarms {
    /// To be called where tasks can be spawned.
    ///
    /// * `hook` - a shell command.
    pub(super) fn new(
        (keys, origin): (Vec<VerifierKey>, Option<String>),
        (evidence_dir, hook): (Option<PathBuf>, Option<String>),
        as_json: bool,
        status: Arc<Status>,
    ) -> Self {
        let (known, current, part) = (BTreeMap::new(), BTreeMap::new(), Part::Heads);
        let hook = hook.map(Hook::start);
        Self { keys, origin, evidence_dir, hook, as_json, status, known, current, part, exit_code: 0 }
    }

    /// 0, 1 if something failed, 3 if something does not verify.
    pub(super) fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// Begins a round: what is not raised until the next one is over, and told anew when it comes back.
    ///
    /// * `is_waiting` - entries are being delivered: what was raised between two rounds is as it was.
    pub(super) fn begin_round(&mut self, is_waiting: bool) {
        let before = std::mem::replace(&mut self.known, std::mem::take(&mut self.current));
        if is_waiting {
            self.known.extend(before.into_iter().filter(|(_, part)| *part == Part::Entries));
            let lasting = self.known.iter().filter(|(_, part)| **part == Part::Entries);
            self.current = lasting.map(|(told, part)| (told.clone(), *part)).collect();
        }
        self.part = Part::Heads;
    }

    /// A source has not answered yet: what was told of its head is as it was.
    ///
    /// * `subject` - its name.
    pub(super) fn not_answered(&mut self, subject: &str) {
        let lasting = self.known.iter().filter(|((_, of), part)| of == subject && **part == Part::Heads);
        self.current.extend(lasting.map(|(told, part)| (told.clone(), *part)));
    }

    /// Waits until the hook was told of every alarm; no longer than `within`, if that is given.
    pub(super) async fn finish(&mut self, within: Option<Duration>) {
        if let Some(hook) = self.hook.take() {
            hook.finish(within).await;
        }
    }

    /// Ends the part of a round in which all sources were asked.
    pub(super) fn end_heads(&mut self) {
        self.part = Part::Entries;
    }

    /// Tells what lasts.
    pub(super) fn end_round(&self) {
        let active: Vec<_> = self.current.keys().map(|(kind, _)| kind.name()).collect();
        self.status.round(&active);
    }

    /// Whether `evidence` convinces anybody who has the keys.
    pub(super) fn is_proved(&self, evidence: &Evidence) -> bool {
        evidence.judge(&self.keys, self.origin.as_deref()).is_ok()
    }

    /// Tells of `alarm`, unless it was told of and its cause has been there since.
    pub(super) async fn raise(&mut self, alarm: Alarm) {
        let proof = alarm.evidence.as_ref().and_then(|evidence| {
            let proved = evidence.judge(&self.keys, self.origin.as_deref()).ok()?;
            Some((evidence, proved.to_string()))
        });
        let code = if alarm.kind.is_lie() || proof.is_some() { VerificationFailed::EXIT_CODE } else { 1 };
        self.exit_code = self.exit_code.max(code);
        let key = (alarm.kind, alarm.subject.clone());
        let is_new = !self.known.contains_key(&key);
        if self.current.insert(key, self.part).is_some() || !is_new {
            // It was told without a proof, perhaps.
            if let Some((evidence, _)) = proof {
                self.keep_evidence(evidence);
            }
            return;
        }
        self.status.alarm(alarm.kind.name());
        let mut value = json!({
            "alarm": alarm.kind.name(),
            "subject": alarm.subject,
            "origin": alarm.origin,
            "reason": alarm.reason,
            "proved": proof.as_ref().map(|(_, sentence)| sentence),
        });
        let file = match &proof {
            Some((evidence, _)) => self.keep_evidence(evidence),
            None => self.keep_incident(&alarm, value.clone()),
        };
        value["file"] = json!(file);
        self.tell(&alarm, proof.as_ref().map(|(_, sentence)| sentence.as_str()), file.as_deref(), &value);
        if let Some(hook) = &self.hook {
            hook.call(Call { kind: alarm.kind.name(), subject: alarm.subject, file, value }).await;
        }
    }

    fn tell(&self, alarm: &Alarm, proved: Option<&str>, file: Option<&Path>, value: &Value) {
        let mut sentence = format!("alarm: {}: {}: {}", alarm.kind.name(), alarm.subject, alarm.reason);
        if let Some(proved) = proved {
            write!(sentence, "; proved: {proved}").expect("writing to a String cannot fail");
        }
        if let Some(file) = file {
            write!(sentence, " [{}]", file.display()).expect("writing to a String cannot fail");
        }
        eprintln!("logwood: {}", output::printable(&sentence));
        if self.as_json {
            // The exit status and the hook tell the same, should standard output be closed.
            let _ = output::json(value);
        }
    }

    fn keep_evidence(&self, evidence: &Evidence) -> Option<PathBuf> {
        self.keep(&format!("evidence-{}", evidence.kind()), "logwood-evidence", &evidence.to_bytes())
    }

    /// Keeps what `value` tells of an alarm that nothing proves, with the notes as they were seen, unless the directory is
    /// full.
    fn keep_incident(&self, alarm: &Alarm, mut value: Value) -> Option<PathBuf> {
        let room = self.evidence_dir.as_deref().map_or(Ok(()), check_room);
        room.map_err(|error| complain(&error)).ok()?;
        value["notes"] = alarm.notes.iter().map(|note| String::from_utf8_lossy(note)).collect();
        self.keep(&format!("incident-{}", alarm.kind.name()), "json", format!("{value:#}\n").as_bytes())
    }

    /// Writes a file that has its bytes in its name, so that the same thing again is the same file, and costs nothing.
    fn keep(&self, prefix: &str, extension: &str, bytes: &[u8]) -> Option<PathBuf> {
        let directory = self.evidence_dir.as_ref()?;
        let name = format!("{prefix}-{}", hex(&Sha256::digest(bytes)[..8]));
        let path = directory.join(name).with_added_extension(extension);
        if !path.exists() {
            let written = files::make_directory(directory).and_then(|()| files::write_synced(&path, bytes));
            written.map_err(|error| complain(&error)).ok()?;
        }
        Some(path)
    }
}

fn complain(error: &anyhow::Error) {
    eprintln!("logwood: {}", output::printable(&format!("{error:#}")));
}

/// Refuses incidents beyond what the directory may hold. Evidence is written all the same.
fn check_room(directory: &Path) -> anyhow::Result<()> {
    files::make_directory(directory)?;
    let count = std::fs::read_dir(directory)?.take(FILES_MAX).count();
    anyhow::ensure!(
        count < FILES_MAX,
        "{} holds {FILES_MAX} files: look at them, and move them away; this incident is not kept",
        directory.display()
    );
    Ok(())
}
