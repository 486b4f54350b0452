//! `logwood witness` as a process: what it answers over HTTP, how it starts and stops, and ten SIGKILLs while two
//! clients submit.

#[path = "../crates/monitor/tests/common/mod.rs"]
mod log;

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use common::raw::{Answer, exchange, get};
use logwood_note::add_checkpoint::ADD_CHECKPOINT_BYTES_MAX;
use logwood_note::{Checkpoint, parse_conflict, parse_signatures};
use rustix::process::{Pid, Signal, kill_process};

/// SIGKILLs of the loop.
const KILLS: usize = 10;

/// Cosignatures between two of them.
const COSIGNED_PER_LIFE: usize = 5;

/// The last checkpoint that `witness` serves.
fn last_checkpoint(witness: &Witness) -> Answer {
    get(&witness.address, &format!("/{}/checkpoint", log::ORIGIN_PATH))
}

/// A `logwood witness` on the loopback. SIGKILL when dropped.
struct Witness {
    child: Child,
    address: String,
    vkeys: Vec<String>,
}

fn command(dir: &Path, policy: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logwood"));
    command.args(["witness", "--listen", "127.0.0.1:0", "--state"]).arg(dir.join("state"));
    for (name, key) in ["ed25519", "ml-dsa"].iter().zip(log::keys()) {
        let file = dir.join(name);
        if !file.exists() {
            key.create(&file).expect("a key file");
        }
        command.arg("--key").arg(file);
    }
    std::fs::write(dir.join("policy"), policy).expect("a policy file");
    command.arg("--logs").arg(dir.join("policy")).env("RUST_LOG", "off");
    command
}

fn policy() -> String {
    format!("log {}\nquorum none\n", log::log_key().verifier())
}

impl Witness {
    fn start(dir: &Path) -> Self {
        let mut child = command(dir, &policy()).stdout(Stdio::piped()).spawn().expect("the witness starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut witness = Self { child, address: String::new(), vkeys: Vec::new() };
        for line in lines {
            let line = line.expect("its output is text");
            witness.vkeys.extend(line.strip_prefix("vkey ").map(str::to_owned));
            if let Some(address) = line.strip_prefix("serving HTTP on ") {
                address.clone_into(&mut witness.address);
                return witness;
            }
        }
        panic!("the witness stopped before it listened");
    }

    /// SIGKILL: nothing is flushed.
    fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("it is ours");
        assert!(self.child.wait().expect("it is ours").success());
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Submits a checkpoint. `None` if the witness dies meanwhile.
fn submit(address: &str, body: &[u8]) -> Option<Answer> {
    let length = body.len();
    let head =
        format!("POST /add-checkpoint HTTP/1.1\r\nhost: w\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let answer = exchange(address, &[head.as_bytes(), body].concat())?;
    // A body that the kill cut short is no answer.
    let is_whole = answer.field("content-length")?.parse() == Ok(answer.body.len());
    is_whole.then_some(answer)
}

fn status(address: &str, body: &[u8]) -> Option<u16> {
    submit(address, body).map(|answer| answer.status)
}

/// What one client got: branch, size and timestamp of each cosignature, in order.
type Cosigned = Vec<(bool, u64, u64)>;

/// Submits growing checkpoints, and now and then a fork, until it is told to stop.
fn client(address: &Mutex<String>, stop: &AtomicBool, got: &Mutex<Cosigned>) {
    let (mut old, mut turn) = (0, 0_u64);
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let branch = turn.is_multiple_of(4);
        let new = (old + turn % 2).min(log::SIZE_MAX);
        let target = address.lock().expect("no panics").clone();
        let Some(answer) = submit(&target, &log::request(branch, old, new)) else { continue };
        match answer.status {
            200 => {
                let key = &log::keys()[0];
                let line = &parse_signatures(&answer.body).expect("signature lines")[0];
                assert!(key.verifier().verify(log::checkpoint(branch, new).text().as_bytes(), &line.bytes));
                let seconds = key.verifier().timestamp(&line.bytes).expect("a timestamp");
                got.lock().expect("no panics").push((branch, new, seconds));
                old = new;
            }
            409 => old = parse_conflict(&answer.body).expect("a size").0,
            422 | 429 => {}
            status => panic!("status {status}"),
        }
    }
}

#[test]
fn sigkill_at_any_point_leaves_one_history() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut witness = Witness::start(dir.path());
    let address = Mutex::new(witness.address.clone());
    let stop = AtomicBool::new(false);
    let got = [Mutex::default(), Mutex::default()];
    let total = || got.iter().map(|got: &Mutex<Cosigned>| got.lock().expect("no panics").len()).sum::<usize>();
    std::thread::scope(|scope| {
        for got in &got {
            scope.spawn(|| client(&address, &stop, got));
        }
        for life in 1..=KILLS {
            while total() < life * COSIGNED_PER_LIFE {
                std::thread::yield_now();
            }
            witness.kill();
            witness = Witness::start(dir.path());
            witness.address.clone_into(&mut address.lock().expect("no panics"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let all: Vec<Cosigned> = got.into_iter().map(|got| got.into_inner().expect("no panics")).collect();
    for cosigned in &all {
        for pair in cosigned.windows(2) {
            assert!(pair[0].1 <= pair[1].1 && pair[0].2 <= pair[1].2, "{pair:?} went back");
        }
    }
    let forks = |branch| all.iter().flatten().any(|got| got.1 > log::FORK && got.0 == branch);
    assert!(!(forks(false) && forks(true)), "two branches were cosigned: {all:?}");
    let largest = all.iter().flatten().map(|got| got.1).max().expect("cosignatures");
    let served = last_checkpoint(&witness);
    assert_eq!(served.status, 200);
    assert!(Checkpoint::parse_unverified(&served.body).expect("a checkpoint").head.size.0 >= largest);
}

#[test]
fn answers_are_those_of_the_specification() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let witness = Witness::start(dir.path());
    let vkeys: Vec<_> = log::keys().iter().map(|key| key.verifier().to_string()).collect();
    assert_eq!(witness.vkeys, vkeys);
    let address = &witness.address;
    assert_eq!(last_checkpoint(&witness).status, 404, "nothing was cosigned yet");

    let cosigned = submit(address, &log::request(false, 0, 7)).expect("an answer");
    assert_eq!(cosigned.status, 200);
    assert_eq!(parse_signatures(&cosigned.body).expect("signature lines").len(), 2);
    let conflict = submit(address, &log::request(false, 3, 9)).expect("an answer");
    assert_eq!((conflict.status, conflict.text()), (409, "7\n"));
    assert_eq!(conflict.field("content-type"), Some("text/x.tlog.size"));

    let stranger = String::from_utf8(log::request(false, 7, 9)).expect("text").replace(log::ORIGIN, "other.example");
    for (what, body, expected) in [
        ("malformed", b"old x\n\n".to_vec(), 400),
        ("unknown origin", stranger.into_bytes(), 404),
        ("a fork", log::request(true, 7, 9), 422),
        ("too long", vec![b'x'; ADD_CHECKPOINT_BYTES_MAX + 1], 413),
    ] {
        assert_eq!(status(address, &body), Some(expected), "{what}");
    }
    let forged = String::from_utf8(log::request(false, 7, 9)).expect("text").replace("\n9\n", "\n8\n");
    assert_eq!(status(address, forged.as_bytes()), Some(403));

    let served = last_checkpoint(&witness);
    assert_eq!((served.status, served.field("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert!(served.text().starts_with(log::checkpoint(false, 7).text()) && served.text().ends_with(cosigned.text()));
    for (target, expected) in [("/healthz", 200), ("/add-checkpoint", 405), ("/", 404)] {
        assert_eq!(get(address, target).status, expected, "{target}");
    }
    witness.stop();
}

#[test]
fn two_witnesses_do_not_share_a_state_and_a_policy_with_a_quorum_is_a_usage_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let witness = Witness::start(dir.path());
    let second = command(dir.path(), &policy()).output().expect("it runs");
    assert_eq!(second.status.code(), Some(1), "the directory is in use");
    let keys = log::keys();
    let asks = format!("{}witness w {}\nquorum w\n", policy().replace("quorum none\n", ""), keys[0].verifier());
    for policy in [asks.as_str(), "quorum none\n", "nonsense\n"] {
        let refused = command(dir.path(), policy).output().expect("it runs");
        assert_eq!(refused.status.code(), Some(2), "{policy}");
    }
    witness.stop();
}
