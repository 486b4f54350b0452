//! `logwood monitor` and what sources show it: heads that are of one history with what is known and not with each other,
//! seals that are broken, times to come, and rounds that go on while a delivery waits.

mod common;
#[path = "fsck_url/log.rs"]
mod log;
mod monitoring;
#[path = "fsck_url/server.rs"]
#[allow(dead_code, reason = "fsck's own tests use all of it")]
mod source;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use common::LOGWOOD;
use log::{Resources, entries, publish};
use logwood_merkle::{Hash, TreeHead, TreeSize};
use logwood_note::{Checkpoint, CosigningKey, PrivateKey, Seal, SignatureType, SignedNote, assemble_note};
use monitoring::{Log, Running, assert_exit, delivered, directory, end, files, terminate};
use serde_json::Value;
use sha2::Digest as _;
use source::Answer;

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_mins(2);

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::yield_now();
    }
}

fn witness() -> CosigningKey {
    let key = PrivateKey::from_seed("witness.test/w", SignatureType::Ed25519Cosignature, &[3; 32]).expect("a name");
    key.try_into().expect("it cosigns")
}

/// A policy of the log with one witness, whose cosignature is the quorum.
fn policy(dir: &Path) -> PathBuf {
    let path = dir.join("policy");
    let text = format!("log {}\nwitness w {}\nquorum w\n", log::vkey(), witness().verifier());
    std::fs::write(&path, text).expect("written");
    path
}

fn now() -> u64 {
    jiff::Timestamp::now().as_second().try_into().expect("after 1970")
}

/// What `resources` are once the witness has cosigned their checkpoint.
fn cosigned(mut resources: Resources, seconds: u64) -> Resources {
    let note = SignedNote::parse(&resources["checkpoint"]).expect("a note");
    let line = witness().cosign(note.text(), seconds).expect("a checkpoint");
    let lines: Vec<_> = note.signatures().iter().cloned().chain([line]).collect();
    resources.insert("checkpoint".into(), assemble_note(note.text(), &lines).expect("a note"));
    resources
}

/// The log, had its entry 400 been another.
fn other(size: usize) -> Resources {
    let mut changed = entries(size);
    changed[400] = b"nothing happened".to_vec();
    publish(&changed)
}

/// `logwood monitor` with its state in `dir`.
fn monitor(dir: &Path, sources: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(LOGWOOD);
    command.current_dir(dir).env_remove("LOGWOOD_VKEY").args(["monitor", "--state", ".", "--evidence-dir", "evidence"]);
    command.args(sources.iter().flat_map(|source| ["--source", source])).args(arguments);
    command
}

/// One round that only checks, held to the policy.
fn once(dir: &Path, sources: &[&str], arguments: &[&str]) -> Output {
    let policy = policy(dir);
    let policy = policy.to_str().expect("text");
    let arguments = [&["--policy", policy, "--once", "--check-only"], arguments].concat();
    monitor(dir, sources, &arguments).output().expect("the command runs")
}

/// That there is evidence of this kind, and convinces.
#[track_caller]
fn assert_proved(dir: &Path, kind: char) {
    let [file] = &files(dir, &format!("evidence-{kind}"))[..] else { panic!("one file of kind {kind}") };
    let mut verify = Command::new(LOGWOOD);
    verify
        .args(["verify", "--vkey", &log::vkey(), "--vkey", &witness().verifier().to_string(), "--evidence"])
        .arg(file);
    assert_eq!(verify.output().expect("the command runs").status.code(), Some(3));
}

fn start(dir: &Path, sources: &[&str], arguments: &[&str]) -> Running {
    let arguments = [&["--interval", "1"], arguments].concat();
    Running::start(monitor(dir, sources, &arguments))
}

#[test]
fn two_heads_that_no_witness_saw_are_compared_with_each_other() {
    for (size, kind) in [(600, 'a'), (500, 'b'), (700, 'b')] {
        for begins_known in [true, false] {
            let dir = directory();
            let (one, two) = (Log::start(publish(&entries(600))), Log::start(other(size)));
            if begins_known {
                let good = Log::start(cosigned(publish(&entries(300)), now()));
                assert_exit(&once(dir.path(), &[good.url()], &[]), 0, "300 entries");
            }
            for sources in [[one.url(), two.url()], [two.url(), one.url()]] {
                let caught = once(dir.path(), &sources, &[]);
                assert_exit(&caught, 3, "alarm: split-view");
                assert_exit(&caught, 3, "alarm: no-quorum");
                assert!(!files(dir.path(), &format!("evidence-{kind}")).is_empty(), "{size}, {begins_known}");
            }
        }
    }
}

#[test]
fn what_no_witness_saw_is_remembered_and_compared_with_what_comes_later() {
    let dir = directory();
    let (one, two) = (Log::start(publish(&entries(600))), Log::start(cosigned(other(700), now())));
    assert_exit(&once(dir.path(), &[one.url()], &[]), 1, "alarm: no-quorum");
    let caught = once(dir.path(), &[two.url()], &[]);
    assert_exit(&caught, 3, "alarm: split-view");
    assert_exit(&caught, 3, "700 entries are those of its head of size 700");
    assert_proved(dir.path(), 'b');
}

/// SHA-256 of the origin, which names it at a witness (C2SP tlog-witness).
fn origin_path() -> String {
    let digest = sha2::Sha256::digest(log::ORIGIN);
    digest.iter().fold(String::new(), |path, byte| path + &format!("{byte:02x}"))
}

#[test]
fn heads_that_come_before_the_first_good_one_are_judged_too() {
    let dir = directory();
    let good = Log::start(cosigned(publish(&entries(600)), now()));
    let mirror = Log::start(other(500));
    let seen = Log::start([(format!("{}/checkpoint", origin_path()), other(500)["checkpoint"].clone())].into());
    let seen = format!("witness+{}", seen.url());
    for (state, first) in [("mirror", mirror.url()), ("witness", &seen)] {
        let dir = dir.path().join(state);
        std::fs::create_dir(&dir).expect("a directory");
        let caught = once(&dir, &[first, good.url()], &[]);
        assert_exit(&caught, 3, "alarm: split-view");
        assert_exit(&caught, 3, "600 entries");
        assert_proved(&dir, 'b');
    }
}

#[test]
fn two_witnesses_that_saw_two_histories_are_noticed_before_the_log_is() {
    let dir = directory();
    let at = |resources: Resources| {
        Log::start([(format!("{}/checkpoint", origin_path()), resources["checkpoint"].clone())].into())
    };
    let (one, two, log) = (at(publish(&entries(600))), at(other(600)), Log::start(Resources::new()));
    let sources = [&format!("witness+{}", one.url()), &format!("witness+{}", two.url()), log.url()];
    assert_exit(&once(dir.path(), &sources, &[]), 3, "alarm: split-view");
    assert_proved(dir.path(), 'a');
}

#[test]
fn a_head_that_was_of_one_history_with_the_known_one_is_compared_with_the_next() {
    let dir = directory();
    let policy = policy(dir.path());
    let (ahead, log) = (Log::start(other(600)), Log::start(cosigned(publish(&entries(300)), now())));
    let policy = ["--policy", policy.to_str().expect("text"), "--check-only"];
    let _running = start(dir.path(), &[ahead.url(), log.url()], &policy);
    until("it follows", || delivered(dir.path()) == 300);
    assert!(files(dir.path(), "evidence").is_empty(), "both extend what is known");
    log.now_serves(cosigned(publish(&entries(700)), now()));
    until("it is caught", || !files(dir.path(), "evidence-b").is_empty());
    until("what the witness vouches for is followed", || delivered(dir.path()) == 700);
}

#[test]
fn a_cosignature_from_the_future_is_told_and_is_not_fresh() {
    let dir = directory();
    let log = Log::start(cosigned(publish(&entries(600)), now() + 200));
    assert_exit(&once(dir.path(), &[log.url()], &["--max-age", "3600"]), 0, "600 entries");
    log.now_serves(cosigned(publish(&entries(700)), now() + 10_000));
    let told = once(dir.path(), &[log.url()], &["--max-age", "3600"]);
    assert_exit(&told, 1, "alarm: future");
    assert_exit(&told, 1, "alarm: stale");
    assert_exit(&told, 1, "700 entries");
    // It does not hide a true one of the same head.
    log.now_serves(cosigned(publish(&entries(700)), now()));
    assert_exit(&once(dir.path(), &[log.url()], &["--max-age", "3600"]), 0, "700 entries");
}

#[test]
fn a_log_that_grows_after_its_seal_is_caught_with_evidence() {
    let seal = |resources: &Resources| {
        let head = Checkpoint::parse_unverified(&resources["checkpoint"]).expect("a checkpoint").head;
        Seal { origin: log::ORIGIN.into(), head, seconds: now() }
    };
    let dir = directory();
    let log = Log::start(cosigned(publish(&entries(500)), now()));
    let run = || once(dir.path(), &[log.url()], &[]);
    assert_exit(&run(), 0, "500 entries");
    let mut sealed = cosigned(publish(&entries(600)), now());
    sealed.insert("seal".into(), b"something that logs of other makers have there".to_vec());
    log.now_serves(sealed.clone());
    assert_exit(&run(), 0, "600 entries");
    let good = seal(&sealed).sign(&log::key());
    let mut spoilt = good.clone();
    spoilt[60] ^= 1;
    sealed.insert("seal".into(), spoilt);
    log.now_serves(sealed.clone());
    assert_exit(&run(), 3, "alarm: bad-signature");
    sealed.insert("seal".into(), good);
    log.now_serves(sealed);
    assert_exit(&run(), 0, "600 entries");
    // The seal is remembered, whether it is still shown or not.
    log.now_serves(cosigned(publish(&entries(700)), now()));
    assert_exit(&run(), 3, "alarm: broken-seal");
    assert_proved(dir.path(), 'e');

    // It is not of the tree that it is said to be of: an incident, since a seal is no checkpoint.
    let dir = directory();
    let mut resources = cosigned(publish(&entries(600)), now());
    let head = TreeHead { size: TreeSize(600), root: Hash::leaf(b"another") };
    let seal = Seal { origin: log::ORIGIN.into(), head, seconds: now() };
    resources.insert("seal".into(), seal.sign(&log::key()));
    log.now_serves(resources);
    assert_exit(&once(dir.path(), &[log.url()], &[]), 3, "alarm: broken-seal");
    assert!(files(dir.path(), "evidence").is_empty());
}

#[test]
fn lines_that_a_source_adds_to_a_note_do_not_make_the_state_grow() {
    let dir = directory();
    let mut resources = cosigned(publish(&entries(600)), now());
    let stranger = PrivateKey::from_seed("stranger.test", SignatureType::Ed25519Cosignature, &[4; 32]).expect("a name");
    let stranger: CosigningKey = stranger.try_into().expect("it cosigns");
    let note = SignedNote::parse(&resources["checkpoint"]).expect("a note");
    let mut line = stranger.cosign(note.text(), now()).expect("a checkpoint");
    line.bytes = vec![7; 7_000];
    let lines: Vec<_> = note.signatures().iter().cloned().chain(std::iter::repeat_n(line, 90)).collect();
    let padded = assemble_note(note.text(), &lines).expect("a note");
    assert!(padded.len() > 800_000, "nearly as long as a note may be");
    resources.insert("checkpoint".into(), padded);
    let log = Log::start(resources);
    assert_exit(&once(dir.path(), &[log.url()], &[]), 0, "600 entries");
    let bytes = std::fs::metadata(dir.path().join("state.json")).expect("written").len();
    assert!(bytes < 4_000, "{bytes} bytes");
}

#[test]
fn the_length_of_the_file_of_entries_outlives_runs_that_write_none() {
    let dir = directory();
    let log = Log::start(publish(&entries(40)));
    let vkey = log::vkey();
    let run = |arguments: &[&str]| {
        let arguments = [&["--vkey", &vkey, "--once"], arguments].concat();
        monitor(dir.path(), &[log.url()], &arguments).output().expect("the command runs")
    };
    let out = ["--out", "out.ndjson"];
    assert_exit(&run(&out), 0, "40 entries");
    log.now_serves(publish(&entries(60)));
    assert_exit(&run(&["--check-only"]), 0, "60 entries");
    log.now_serves(publish(&entries(80)));
    assert_exit(&run(&out), 0, "80 entries");
    let lines = std::fs::read_to_string(dir.path().join("out.ndjson")).expect("there");
    let indices: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a whole line")["index"].as_u64().expect("a number"))
        .collect();
    assert_eq!(indices, (0..40).chain(60..80).collect::<Vec<_>>());
}

#[test]
fn a_proof_that_comes_after_its_alarm_is_kept_and_the_alarm_is_not_told_again() {
    let dir = directory();
    let policy = policy(dir.path());
    let log = Log::start(cosigned(publish(&entries(600)), now() - 100));
    let arguments = ["--policy", policy.to_str().expect("text"), "--check-only", "--on-alarm", "cat >> alarms"];
    let _running = start(dir.path(), &[log.url()], &arguments);
    until("it follows", || delivered(dir.path()) == 600);
    log.now_serves(cosigned(publish(&entries(500)), now() - 300));
    until("it is told", || !files(dir.path(), "incident-rollback").is_empty());
    assert!(files(dir.path(), "evidence").is_empty(), "an old head again proves nothing");
    log.now_serves(cosigned(publish(&entries(500)), now() - 50));
    until("it is proved", || !files(dir.path(), "evidence-d").is_empty());
    assert_proved(dir.path(), 'd');
    let alarms = std::fs::read_to_string(dir.path().join("alarms")).expect("the hook wrote it");
    assert_eq!(alarms.matches("\"alarm\":\"rollback\"").count(), 1, "{alarms}");
}

#[test]
fn heads_are_checked_while_a_delivery_waits() {
    let dir = directory();
    let policy = policy(dir.path());
    let log = Log::start(cosigned(publish(&entries(20)), now()));
    let command = "echo ${LOGWOOD_KEY##*#} >> keys; \
                   if test ${LOGWOOD_KEY##*#} = 7; then until test -e go; do sleep 0.1; done; fi";
    let arguments = ["--policy", policy.to_str().expect("text"), "--exec", command, "--batch", "4", "--out", "out"];
    let keys = || std::fs::read_to_string(dir.path().join("keys")).unwrap_or_default();
    let _running = start(dir.path(), &[log.url()], &arguments);
    until("it waits", || keys().ends_with("7\n"));
    let mut changed = entries(20);
    changed[3] = b"nothing happened".to_vec();
    log.now_serves(cosigned(publish(&changed), now()));
    until("the fork is told", || !files(dir.path(), "evidence-a").is_empty());
    log.now_serves(cosigned(publish(&entries(30)), now()));
    until("the head is taken in", || {
        std::fs::read_to_string(dir.path().join("state.json")).is_ok_and(|state| state.contains("\\n30\\n"))
    });
    assert_eq!(delivered(dir.path()), 4, "what waits is not confirmed");
    assert_eq!(keys().lines().count(), 8);
    std::fs::write(dir.path().join("go"), "").expect("written");
    until("all are delivered", || delivered(dir.path()) == 30);
    let numbers: Vec<u64> = keys().lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "in order, and each once");
    assert_eq!(std::fs::read_to_string(dir.path().join("out")).expect("there").lines().count(), 30);
}

#[test]
fn an_entry_that_is_not_confirmed_for_many_rounds_is_told_of_once() {
    let dir = directory();
    let log = Log::start(publish(&entries(3)));
    let arguments = ["--exec", "echo >> attempts; test -e go", "--on-alarm", "cat >> alarms"];
    let vkey = log::vkey();
    let _running = start(dir.path(), &[log.url()], &[&["--vkey", &vkey], &arguments[..]].concat());
    let lines = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default().lines().count();
    until("it is tried again", || lines("attempts") > 20);
    assert_eq!(lines("alarms"), 1);
    std::fs::write(dir.path().join("go"), "").expect("written");
    until("all are delivered", || delivered(dir.path()) == 3);
    assert_eq!(lines("alarms"), 1);
}

#[test]
fn a_hook_that_hangs_holds_up_nothing_and_is_told_of_every_alarm_before_the_end() {
    let dir = directory();
    let policy = policy(dir.path());
    let log = Log::start(cosigned(publish(&entries(20)), now()));
    let hook = "until test -e go; do sleep 0.1; done; echo $LOGWOOD_ALARM >> alarms";
    let arguments = ["--policy", policy.to_str().expect("text"), "--check-only", "--on-alarm", hook];
    let running = start(dir.path(), &[log.url()], &arguments);
    until("it follows", || delivered(dir.path()) == 20);
    let mut changed = entries(20);
    changed[3] = b"nothing happened".to_vec();
    log.now_serves(cosigned(publish(&changed), now()));
    until("the fork is told", || !files(dir.path(), "evidence-a").is_empty());
    log.now_serves(publish(&entries(25)));
    until("what no witness saw is told", || !files(dir.path(), "incident-no-quorum").is_empty());
    log.now_serves(cosigned(publish(&entries(30)), now()));
    until("rounds go on", || delivered(dir.path()) == 30);
    assert!(!dir.path().join("alarms").exists(), "the hook hangs");
    terminate(&running);
    std::fs::write(dir.path().join("go"), "").expect("written");
    assert_eq!(end(running), Some(3));
    let alarms = std::fs::read_to_string(dir.path().join("alarms")).expect("the hook wrote it");
    assert_eq!(alarms, "split-view\nno-quorum\n", "in order, and none is lost");
}

/// A log whose answers below one path never come.
fn silent_below(path: &'static str, resources: Resources) -> source::Server {
    source::Server::start(move |asked, _| match resources.get(asked) {
        Some(_) if asked.starts_with(path) => Answer::Silence,
        Some(body) => Answer::Body(body.clone()),
        None => Answer::Status(404),
    })
}

/// That a monitor checks its second source while the first one is silent below `path`.
#[track_caller]
fn assert_checks_beside_silence(path: &'static str) {
    let dir = directory();
    let policy = policy(dir.path());
    let silent = silent_below(path, cosigned(publish(&entries(600)), now()));
    let log = Log::start(cosigned(publish(&entries(600)), now()));
    let arguments = ["--policy", policy.to_str().expect("text"), "--check-only"];
    let _running = start(dir.path(), &[&silent.url, log.url()], &arguments);
    until("it knows the log", || {
        std::fs::read_to_string(dir.path().join("state.json")).is_ok_and(|state| state.contains("\\n600\\n"))
    });
    log.now_serves(cosigned(other(600), now()));
    until("the fork is told", || !files(dir.path(), "evidence-a").is_empty());
    assert!(files(dir.path(), "incident-unreachable").is_empty(), "the silent source still has time");
    log.now_serves(cosigned(publish(&entries(600)), now()));
    until("the other source has the entries", || delivered(dir.path()) == 600);
    until("the silent source is told", || !files(dir.path(), "incident-unreachable").is_empty());
}

#[test]
fn a_source_that_is_silent_about_its_head_does_not_keep_another_from_being_checked() {
    assert_checks_beside_silence("checkpoint");
}

#[test]
fn a_source_that_is_silent_about_its_entries_does_not_keep_another_from_being_checked() {
    assert_checks_beside_silence("tile/entries/");
}
