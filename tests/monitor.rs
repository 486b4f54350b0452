//! `logwood monitor` as a process: it follows real servers through SIGKILLs, catches an operator who rewrites an entry,
//! and meets sources that lie, lag, stall or bury it in bytes.

mod common;
#[path = "../src/demo/forge.rs"]
mod forge;
#[path = "fsck_url/log.rs"]
mod log;
mod monitoring;
#[path = "fsck_url/server.rs"]
#[allow(dead_code, reason = "fsck's own tests use all of it")]
mod source;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{LOGWOOD, Server, copy, logwood, outcome, raw};
use flate2::Compression;
use flate2::write::GzEncoder;
use log::{Resources, entries, publish};
use logwood_merkle::{Hash, TreeHead, TreeSize};
use logwood_note::{Checkpoint, CosigningKey, Evidence, PrivateKey, SignatureType, SignedNote, SigningKey};
use logwood_note::{assemble_note, sign_checkpoint};
use logwood_sequencer::Sequencer;
use logwood_sequencer::publisher::{Publication, note};
use logwood_store::{LogQuery, LogStore as _, PublishedHead};
use logwood_store_rocksdb::RocksStore;
use monitoring::{Log, Running, assert_exit, delivered, directory, end, files, terminate};
use serde_json::Value;
use sha2::Digest as _;
use source::Answer;

/// SIGKILLs of the loop.
const KILLS: usize = 24;

/// Entries that are appended meanwhile.
const ENTRIES: usize = 2_000;

/// Entries between two writes of the state.
const BATCH: u64 = 8;

fn append(server: &Server, dir: &Path, numbers: std::ops::Range<usize>) {
    append_lines(
        server,
        dir,
        numbers.map(|n| format!("{{\"event\":{n},\"who\":\"{}\"}}", ["alice", "bob", "eve"][n % 3])),
    );
}

fn append_lines(server: &Server, dir: &Path, lines: impl Iterator<Item = String>) {
    let lines = lines.fold(String::new(), |lines, line| lines + &line + "\n");
    let mut command = logwood(server, dir, "writer");
    command.args(["append", "--vkey", &server.vkey, "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("the command runs");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

fn tiles(server: &Server) -> String {
    format!("http://{}/logs/default", server.http)
}

fn grpc(server: &Server) -> String {
    server.url.replace("http://", "grpc://")
}

/// `logwood monitor` in `dir`, with a state there.
fn monitor(dir: &Path, vkey: &str, sources: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(LOGWOOD);
    command.current_dir(dir).env_remove("LOGWOOD_VKEY");
    command.args(["monitor", "--vkey", vkey, "--state", ".", "--evidence-dir", "evidence"]);
    command.args(sources.iter().flat_map(|source| ["--source", source])).args(arguments);
    command
}

fn once(dir: &Path, vkey: &str, sources: &[&str], arguments: &[&str]) -> Output {
    monitor(dir, vkey, sources, &[&["--once"], arguments].concat()).output().expect("the command runs")
}

/// What `logwood verify` says of evidence.
fn judge(file: &Path, vkey: &str) -> (Option<i32>, String) {
    let mut command = Command::new(LOGWOOD);
    command.args(["verify", "--vkey", vkey, "--evidence"]).arg(file);
    let (code, stdout, _) = outcome(&command.output().expect("the command runs"));
    (code, stdout)
}

/// SIGTERM; the exit status.
fn stop(running: Running) -> Option<i32> {
    terminate(&running);
    end(running)
}

/// What a webhook was sent.
struct Post {
    stream: TcpStream,
    index: u64,
    body: Vec<u8>,
}

impl Post {
    /// The next request of any monitor; `None` if it broke off.
    fn accept(listener: &TcpListener) -> Option<Self> {
        let (stream, _) = listener.accept().expect("a connection");
        let mut reader = BufReader::new(&stream);
        let (mut index, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ") {
                match name.to_ascii_lowercase().as_str() {
                    "idempotency-key" => index = value.rsplit_once('#').and_then(|(_, index)| index.parse().ok()),
                    "content-length" => length = value.parse().expect("a length"),
                    _ => {}
                }
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { stream, index: index.expect("each entry has its key"), body })
    }

    /// Throws away what a monitor sent before it was killed, and nobody has read.
    fn discard(listener: &TcpListener) {
        listener.set_nonblocking(true).expect("a socket");
        while listener.accept().is_ok() {}
        listener.set_nonblocking(false).expect("a socket");
    }

    fn confirm(mut self) {
        // The monitor may have been killed.
        let _ = self.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
}

#[test]
fn nothing_is_lost_and_nothing_confirmed_is_repeated_through_kills_while_a_writer_appends() {
    let dir = directory();
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    append(&server, dir.path(), 0..100);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let webhook = format!("http://{}/", listener.local_addr().expect("bound"));
    let (tiles, grpc) = (tiles(&server), grpc(&server));
    let arguments = ["--webhook", &webhook, "--out", "out.ndjson", "--batch", &BATCH.to_string(), "--interval", "1"];

    let seen = thread::scope(|scope| {
        scope.spawn(|| (1..ENTRIES / 100).for_each(|n| append(&server, dir.path(), n * 100..(n + 1) * 100)));
        let mut seen: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for life in 0..=KILLS {
            let start = delivered(dir.path());
            let running = Running::start(monitor(dir.path(), &server.vkey, &[&tiles, &grpc], &arguments));
            // It begins where the state is: what was confirmed is not repeated, and what was not is not passed over.
            let mut next = start;
            let gate = start + 1 + (life as u64 * 13) % 60;
            loop {
                let Some(post) = Post::accept(&listener) else { continue };
                assert_eq!(post.index, next, "in order, from {start} on");
                next += 1;
                if let Some(before) = seen.insert(post.index, post.body.clone()) {
                    assert_eq!(before, post.body);
                }
                if life < KILLS && next == gate {
                    // With and without the answer: the monitor is somewhere between two writes either way.
                    if life % 2 == 0 {
                        post.confirm();
                    }
                    drop(running);
                    Post::discard(&listener);
                    break;
                }
                post.confirm();
                if next == ENTRIES as u64 {
                    assert_eq!(stop(running), Some(0));
                    break;
                }
            }
            if life < KILLS {
                // What a SIGKILL between the write of the entries and that of the state leaves.
                let out = File::options().append(true).open(dir.path().join("out.ndjson"));
                out.expect("it is there").write_all(b"{\"key\":\"twice\"}\n{\"ha").expect("written");
            }
            let after = delivered(dir.path());
            assert!(after <= next && next - after <= BATCH, "at most a batch is to be repeated: {after}, {next}");
        }
        seen
    });
    assert_eq!(delivered(dir.path()), ENTRIES as u64);
    assert_eq!(seen.len(), ENTRIES);
    let out = std::fs::read_to_string(dir.path().join("out.ndjson")).expect("the file of entries");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect();
    let indices: Vec<_> = lines.iter().map(|line| line["index"].as_u64().expect("a number")).collect();
    assert_eq!(indices, (0..ENTRIES as u64).collect::<Vec<_>>(), "each entry is in the file exactly once");
    for (line, body) in lines.iter().zip(seen.values()) {
        assert_eq!(line["entry"], base64(body));
        assert_eq!(line["leaf"], base64(Hash::leaf(body).as_bytes()));
    }
    assert!(files(dir.path(), "").is_empty(), "nobody lied");
}

/// Entries of the long run; `LOGWOOD_MONITOR_ENTRIES=1000000` makes it as long as the log of a busy week.
fn long_run() -> usize {
    std::env::var("LOGWOOD_MONITOR_ENTRIES").map_or(20_000, |count| count.parse().expect("a number"))
}

/// SIGKILLs of each monitor of the long run.
const LONG_RUN_KILLS: usize = 20;

/// An entry of 64 to 256 bytes.
fn long_line(n: usize) -> String {
    format!("{{\"event\":{n},\"what\":\"{}\"}}", "0123456789abcdef".repeat(3 + n % 12))
}

/// Follows the log into a file of entries. It is killed as it goes.
fn follow_into_file(server: &Server, dir: &Path, count: usize) {
    for life in 1..=LONG_RUN_KILLS + 1 {
        let arguments = ["--out", "out.ndjson", "--interval", "1"];
        let running = Running::start(monitor(dir, &server.vkey, &[&tiles(server), &grpc(server)], &arguments));
        while delivered(dir) < (count * life / (LONG_RUN_KILLS + 1)) as u64 {
            thread::park_timeout(Duration::from_millis(1));
        }
        if life > LONG_RUN_KILLS {
            assert_eq!(stop(running), Some(0));
        }
    }
    let out = BufReader::new(File::open(dir.join("out.ndjson")).expect("the file of entries"));
    let mut next = 0;
    for line in out.lines() {
        let line: Value = serde_json::from_str(&line.expect("text")).expect("a whole line");
        assert_eq!(line["index"], next as u64, "each entry is in the file exactly once");
        assert_eq!(line["entry"], base64(long_line(next).as_bytes()));
        next += 1;
    }
    assert_eq!(next, count);
}

/// Sends every hundredth entry of the log to a webhook. It is killed as it goes.
fn follow_into_webhook(server: &Server, dir: &Path, count: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let webhook = format!("http://{}/", listener.local_addr().expect("bound"));
    let arguments = ["--webhook", &webhook, "--contains", "00,\"what", "--interval", "1"];
    let wanted: Vec<_> = (0..count as u64).filter(|n| n % 100 == 0 && *n > 0).collect();
    let (mut next, mut repeats) = (0, 0);
    for life in 1..=LONG_RUN_KILLS + 1 {
        // It begins where the state is: what was confirmed is not repeated.
        let start = wanted.partition_point(|&index| index < delivered(dir));
        repeats += next - start;
        next = start;
        let running = Running::start(monitor(dir, &server.vkey, &[&grpc(server), &tiles(server)], &arguments));
        while next < wanted.len() * life / (LONG_RUN_KILLS + 1) {
            let Some(post) = Post::accept(&listener) else { continue };
            assert_eq!(post.index, wanted[next], "in order, and none is passed over");
            assert_eq!(post.body, long_line(next * 100 + 100).into_bytes());
            post.confirm();
            next += 1;
        }
        if life <= LONG_RUN_KILLS {
            drop(running);
            Post::discard(&listener);
        } else {
            while delivered(dir) < count as u64 {
                thread::park_timeout(Duration::from_millis(1));
            }
            assert_eq!(stop(running), Some(0));
        }
    }
    assert_eq!(next, wanted.len());
    // A batch has 256 entries, of which three at most are wanted.
    assert!(repeats <= 3 * LONG_RUN_KILLS, "{repeats}");
    eprintln!("{repeats} of {} entries were repeated in {LONG_RUN_KILLS} kills", wanted.len());
}

#[test]
fn a_long_log_is_followed_through_kills_while_it_grows_and_its_rewrite_is_proved() {
    let (dir, count) = (directory(), long_run());
    let (data, out, hook) = (dir.path().join("data"), dir.path().join("out"), dir.path().join("hook"));
    std::fs::create_dir(&out).and_then(|()| std::fs::create_dir(&hook)).expect("directories");
    let server = Server::start(&data, 0, &[]);
    append_lines(&server, dir.path(), (0..count / 2).map(long_line));
    thread::scope(|scope| {
        scope.spawn(|| {
            for part in 10..20 {
                append_lines(&server, dir.path(), (count * part / 20..count * (part + 1) / 20).map(long_line));
            }
        });
        scope.spawn(|| follow_into_file(&server, &out, count));
        scope.spawn(|| follow_into_webhook(&server, &hook, count));
    });
    assert!(files(&out, "").is_empty() && files(&hook, "").is_empty(), "nobody lied");
    let vkey = server.vkey.clone();
    server.stop();

    let forged = dir.path().join("forged");
    forge::rewrite(&data, &forged).expect("forged");
    let liar = Server::start(&forged, 0, &[]);
    thaw(&forged, &liar);
    for dir in [&out, &hook] {
        let caught = once(dir, &vkey, &[&tiles(&liar)], &["--check-only"]);
        assert_exit(&caught, 3, "alarm: split-view");
        let [file] = &files(dir, "evidence-a")[..] else { panic!("one file of kind a") };
        assert_eq!(judge(file, &vkey).0, Some(3));
    }
}

/// The operator has done away with the anchor of a log, and says that it is no matter.
fn thaw(data: &Path, server: &Server) {
    let socket = data.join("admin.sock");
    let thawed = Command::new(LOGWOOD).args(["logs", "thaw", "default", "--admin"]).arg(socket).output();
    assert_exit(&thawed.expect("the command runs"), 0, "");
    while raw::get(&server.http, "/logs/default/checkpoint").status != 200 {}
}

/// Adds a head to those that a server has published, which is stopped.
fn publish_head(data: &Path, head: TreeHead) {
    let store = RocksStore::open(&data.join("db")).expect("nobody uses it");
    let record = store.logs(LogQuery::Name("default")).expect("readable").pop().expect("it is there");
    let key = SigningKey::load(data.join("keys/default")).expect("a key");
    let signatures = note::signatures(&sign_checkpoint(&key, &record.settings.origin, &head)).expect("a note");
    let head = PublishedHead { head, time_ms: record.head.time_ms, signatures };
    let mut sequencer: Sequencer<()> = Sequencer::new(store.state().expect("readable").round);
    sequencer.publish(Publication { log: record.number, head, thinned: Vec::new() });
    let round = sequencer.seal(record.head.time_ms).and_then(|sealed| sealed.round).expect("something to write");
    store.commit(&round).expect("written");
}

#[test]
fn a_published_head_that_the_entries_contradict_is_proved_by_whoever_can() {
    let dir = directory();
    let data = dir.path().join("data");
    let server = Server::start(&data, 0, &[]);
    let vkey = server.vkey.clone();
    append(&server, dir.path(), 0..600);
    server.stop();
    publish_head(&data, TreeHead { size: TreeSize(300), root: Hash::leaf(b"another tree") });
    let server = Server::start(&data, 0, &[]);
    let http = server.http.clone();
    // A mirror of it that lacks a tile: the entries come from there, and the proof must come from the server.
    let mirror = source::Server::start(move |path, _| match raw::get(&http, &format!("/logs/default/{path}")) {
        answer if answer.status == 200 && path != "tile/0/001" => Answer::Body(answer.body),
        _ => Answer::Status(404),
    });
    let caught = once(dir.path(), &vkey, &[&mirror.url, &grpc(&server)], &["--check-only"]);
    assert_exit(&caught, 3, &format!("alarm: split-view: {}: it published a head of size 300", grpc(&server)));
    assert_exit(&caught, 3, "600 entries");
    let [file] = &files(dir.path(), "evidence-b")[..] else { panic!("one file of kind b") };
    assert_eq!(judge(file, &vkey).0, Some(3));
}

#[test]
fn a_seal_is_seen_over_http_and_over_grpc() {
    let dir = directory();
    let data = dir.path().join("data");
    let server = Server::start(&data, 0, &[]);
    append(&server, dir.path(), 0..30);
    let sealed =
        Command::new(LOGWOOD).args(["logs", "seal", "default", "--admin"]).arg(data.join("admin.sock")).output();
    assert_exit(&sealed.expect("the command runs"), 0, "");
    let seal = raw::get(&server.http, "/logs/default/seal").body;
    for (state, source) in [("http", tiles(&server)), ("grpc", grpc(&server))] {
        let dir = dir.path().join(state);
        std::fs::create_dir(&dir).expect("a directory");
        assert_exit(&once(&dir, &server.vkey, &[&source], &["--check-only"]), 0, "30 entries");
        let state: Value =
            serde_json::from_slice(&std::fs::read(dir.join("state.json")).expect("there")).expect("JSON");
        assert_eq!(state["seals"], serde_json::json!([String::from_utf8_lossy(&seal)]));
    }
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn an_operator_who_rewrites_an_entry_is_caught_with_evidence() {
    let dir = directory();
    let (data, forged) = (dir.path().join("data"), dir.path().join("forged"));
    let server = Server::start(&data, 0, &[]);
    let vkey = server.vkey.clone();
    append(&server, dir.path(), 0..600);
    let good = once(dir.path(), &vkey, &[&tiles(&server), &grpc(&server)], &["--check-only"]);
    assert_exit(&good, 0, "600 entries are those of its head of size 600");
    server.stop();
    let honest = dir.path().join("honest");
    copy(&data, &honest);
    forge::rewrite(&data, &forged).expect("forged");

    // Two heads of one size.
    let liar = Server::start(&forged, 0, &[]);
    thaw(&forged, &liar);
    let caught = once(dir.path(), &vkey, &[&tiles(&liar)], &["--check-only"]);
    assert_exit(&caught, 3, "alarm: split-view");
    let [file] = &files(dir.path(), "evidence-a")[..] else { panic!("one file of kind a") };
    let (code, sentence) = judge(file, &vkey);
    assert_eq!(code, Some(3));
    assert!(sentence.contains("two different histories of the same 600 entries"), "{sentence}");

    // The forgery grows. Each way of asking proves that it does not begin with what was signed before.
    append(&liar, dir.path(), 600..650);
    for (state, source) in [("over-http", tiles(&liar)), ("over-grpc", grpc(&liar))] {
        let dir = dir.path().join(state);
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::copy(dir.with_file_name("state.json"), dir.join("state.json")).expect("a state");
        let caught = once(&dir, &vkey, &[&source], &["--check-only"]);
        assert_exit(&caught, 3, "alarm: split-view");
        let [file] = &files(&dir, "evidence-b")[..] else { panic!("one file of kind b over {source}") };
        assert_eq!(judge(file, &vkey).0, Some(3));
        assert_eq!(delivered(&dir), 600, "nothing of the forgery is delivered");
    }

    // Both at once, to somebody who knows nothing yet.
    let honest = Server::start(&honest, 0, &[]);
    let fresh = dir.path().join("fresh");
    std::fs::create_dir(&fresh).expect("a directory");
    let caught = once(&fresh, &vkey, &[&grpc(&honest), &tiles(&liar)], &["--json"]);
    assert_exit(&caught, 3, "alarm: split-view");
    let (_, stdout, _) = outcome(&caught);
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.iter().any(|line| line["alarm"] == "split-view" && line["proved"].is_string()), "{stdout}");
    assert_eq!(lines.iter().filter(|line| line["key"].is_string()).count(), 600);
}

#[test]
fn two_honest_heads_and_a_spoilt_proof_convince_nobody() {
    let dir = directory();
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let head = |numbers| {
        append(&server, dir.path(), numbers);
        raw::get(&server.http, "/logs/default/checkpoint").body
    };
    let (old, new) = (head(0..5), head(5..9));
    assert_eq!(Checkpoint::parse_unverified(&new).expect("a checkpoint").head.size.0, 9);
    let (root, proof) = (Hash::leaf(b"root"), vec![Hash::leaf(b"spoilt"); 4]);
    let file = dir.path().join("frame");
    for evidence in [
        Evidence::Rewrite { old: old.clone(), new: new.clone(), root, proof },
        Evidence::SplitView { first: old.clone(), second: new.clone() },
        Evidence::Rollback { earlier: new, later: old },
    ] {
        std::fs::write(&file, evidence.to_bytes()).expect("written");
        assert_eq!(judge(&file, &server.vkey).0, Some(1), "{evidence:?}");
    }
}

#[test]
fn down_is_1_and_lying_is_3() {
    let dir = directory();
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    append(&server, dir.path(), 0..3);
    let (tiles, grpc, vkey) = (tiles(&server), grpc(&server), server.vkey.clone());
    let run = |state: &str, vkey: &str, sources: &[&str], more: &[&str]| {
        let dir = dir.path().join(state);
        std::fs::create_dir_all(&dir).expect("a directory");
        once(&dir, vkey, sources, &[&["--check-only"], more].concat())
    };
    assert_exit(&run("good", &vkey, &[&tiles, &grpc], &[]), 0, "3 entries");
    // Nothing of the default log says when it was signed.
    assert_exit(&run("good", &vkey, &[&tiles], &["--max-age", "60"]), 1, "alarm: stale");
    let other = log::vkey();
    assert_exit(&run("other", &other, &[&tiles, &grpc], &[]), 3, "alarm: bad-signature");
    assert_exit(&run("good", &other, &[&tiles], &[]), 2, "which the keys given do not vouch for");
    assert_exit(&run("bad", &vkey, &["ftp://example.com"], &[]), 2, "is no source");
    assert_exit(&run("bad", &vkey, &["witness+http://127.0.0.1:9"], &[]), 2, "give a --source that has them");
    assert_exit(&run("name", &vkey, &[&format!("{grpc}/nobody")], &[]), 1, "alarm: unreachable");
    server.stop();
    assert_exit(&run("good", &vkey, &[&grpc], &[]), 1, "alarm: unreachable");
}

#[test]
fn entries_are_not_appended_to_a_file_that_lost_some() {
    let dir = directory();
    let log = Log::start(publish(&entries(40)));
    let run = || once(dir.path(), &log::vkey(), &[log.url()], &["--out", "out.ndjson"]);
    assert_exit(&run(), 0, "40 entries");
    let out = File::options().write(true).open(dir.path().join("out.ndjson")).expect("it is there");
    out.set_len(100).expect("cut");
    assert_exit(&run(), 2, "use the file that belongs to the state");
}

#[test]
fn an_entry_that_was_not_signed_is_not_delivered() {
    let dir = directory();
    let mut spoilt = publish(&entries(600));
    let mut changed = entries(600);
    changed[300] = b"nothing happened".to_vec();
    spoilt.insert("tile/entries/001".into(), log::bundle(&changed[256..512]));
    let log = Log::start(spoilt);
    let run = |sources: &[&str]| once(dir.path(), &log::vkey(), sources, &["--out", "out.ndjson"]);
    let caught = run(&[log.url()]);
    assert_exit(&caught, 3, "alarm: bad-entry");
    assert_exit(&caught, 3, "entry 300 does not hash to its leaf");
    assert_eq!(delivered(dir.path()), 256);
    assert_eq!(files(dir.path(), "incident-bad-entry").len(), 1);
    assert!(files(dir.path(), "evidence").is_empty(), "whoever serves an entry may not be who signed");
    // A mirror that has the entries helps.
    let mirror = Log::start(publish(&entries(600)));
    assert_exit(&run(&[log.url(), mirror.url()]), 3, "600 entries are those of its head");
    let out = std::fs::read_to_string(dir.path().join("out.ndjson")).expect("the file of entries");
    assert_eq!(out.lines().count(), 600);
}

#[test]
fn a_smaller_head_is_told_and_is_no_lie() {
    let dir = directory();
    let log = Log::start(publish(&entries(700)));
    let mirror = Log::start(publish(&entries(300)));
    let run = |sources: &[&str]| once(dir.path(), &log::vkey(), sources, &["--check-only"]);
    assert_exit(&run(&[log.url(), mirror.url()]), 0, "700 entries");
    // The mirror always lagged; the log did not.
    log.now_serves(publish(&entries(500)));
    let told = run(&[log.url(), mirror.url()]);
    assert_exit(&told, 1, "alarm: rollback");
    assert!(files(dir.path(), "evidence").is_empty());
    log.now_serves(publish(&entries(900)));
    mirror.now_serves(publish(&entries(800)));
    assert_exit(&run(&[mirror.url(), log.url()]), 0, "900 entries");
}

#[test]
fn what_is_not_asked_for_is_checked_and_not_delivered() {
    let dir = directory();
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    append(&server, dir.path(), 0..300);
    let run = |arguments: &[&str]| {
        std::fs::remove_file(dir.path().join("state.json")).ok();
        once(dir.path(), &server.vkey, &[&grpc(&server)], arguments)
    };
    let keys = |output: &Output| -> Vec<u64> {
        let (code, stdout, errors) = outcome(output);
        assert_eq!(code, Some(0), "{errors}");
        let index =
            |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["index"].as_u64().expect("a number");
        stdout.lines().map(index).collect()
    };
    assert_eq!(keys(&run(&[])), (0..300).collect::<Vec<_>>());
    assert_eq!(keys(&run(&["--match", "/who=^eve$"])), (2..300).step_by(3).collect::<Vec<_>>());
    assert_eq!(keys(&run(&["--match", "/who=^bob$", "--contains", ":250"])), [250]);
    assert_eq!(keys(&run(&["--from", "290"])), (290..300).collect::<Vec<_>>());
    assert_eq!(keys(&run(&["--from", "1000"])), [299]);
    assert!(keys(&run(&["--check-only"])).is_empty());
    let shell = run(&["--exec", "read -r line; echo \"${LOGWOOD_KEY##*#} $line\"", "--match", "/event=^17$"]);
    assert_eq!(
        outcome(&shell).1,
        "17 {\"event\":17,\"who\":\"alice\"}\n".replace("alice", ["alice", "bob", "eve"][17 % 3])
    );
}

#[test]
fn an_entry_that_is_not_confirmed_stops_the_delivery_and_the_next_run_begins_with_it() {
    let dir = directory();
    let log = Log::start(publish(&entries(40)));
    let hook = "echo \"$LOGWOOD_ALARM $LOGWOOD_ALARM_SUBJECT\" >> alarms; cat >> alarms";
    let run = |command: &str| once(dir.path(), &log::vkey(), &[log.url()], &["--exec", command, "--on-alarm", hook]);
    let failed = run("echo ${LOGWOOD_KEY##*#} >> keys; test ${LOGWOOD_KEY##*#} != 13");
    assert_exit(&failed, 1, "alarm: undelivered");
    assert_eq!(delivered(dir.path()), 13, "what came before is confirmed");
    let alarms = std::fs::read_to_string(dir.path().join("alarms")).expect("the hook wrote it");
    assert!(alarms.starts_with(&format!("undelivered {}\n{{", log::ORIGIN)), "{alarms}");
    assert_exit(&run("echo ${LOGWOOD_KEY##*#} >> keys"), 0, "40 entries");
    let keys = std::fs::read_to_string(dir.path().join("keys")).expect("the command wrote it");
    let mut keys: Vec<u64> = keys.lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(keys.iter().filter(|&&key| key == 13).count(), 7, "6 attempts, and one that was confirmed");
    keys.dedup();
    assert_eq!(keys, (0..40).collect::<Vec<_>>());
}

fn gzip(bytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::copy(&mut std::io::repeat(b'a').take(bytes as u64), &mut encoder).expect("a Vec");
    encoder.finish().expect("a Vec")
}

/// Writes what memory the monitor has had in use at most, when there is an alarm.
const PEAK: &str = "sed -n 's/VmHWM:[[:space:]]*\\([0-9]*\\) kB/\\1/p' /proc/$PPID/status >> peak";

#[test]
fn a_source_that_buries_a_monitor_in_bytes_is_cut_off() {
    let good = publish(&entries(600));
    let bomb = Arc::new(gzip(1 << 30));
    for (path, says) in [
        ("checkpoint", "alarm: bad-answer"),
        ("tile/1/000.p/2", "alarm: bad-answer"),
        ("tile/entries/000", "alarm: bad-entry"),
    ] {
        for is_gzip in [true, false] {
            let dir = directory();
            let (resources, bomb) = (good.clone(), Arc::clone(&bomb));
            let server = source::Server::start(move |asked, _| match resources.get(asked) {
                Some(_) if asked == path && is_gzip => Answer::Gzip(bomb.to_vec()),
                Some(_) if asked == path => Answer::Endless(vec![b'a'; 1 << 16]),
                Some(body) => Answer::Body(body.clone()),
                None => Answer::Status(404),
            });
            let mirror = Log::start(good.clone());
            let arguments = ["--check-only", "--on-alarm", PEAK];
            let output = once(dir.path(), &log::vkey(), &[&server.url, mirror.url()], &arguments);
            assert_exit(&output, 3, says);
            assert_exit(&output, 3, "600 entries are those of its head");
            let peaks = std::fs::read_to_string(dir.path().join("peak")).expect("the hook wrote it");
            let peaks: Vec<u64> = peaks.lines().map(|line| line.parse().expect("KiB")).collect();
            assert!(!peaks.is_empty() && peaks.iter().all(|&peak| peak < 200 * 1024), "{peaks:?} KiB");
        }
    }
}

#[test]
fn a_running_monitor_tells_how_it_is_and_ends_at_a_signal() {
    let dir = directory();
    let log = Log::start(publish(&entries(300)));
    let mut command = monitor(
        dir.path(),
        &log::vkey(),
        &[log.url()],
        &["--check-only", "--listen", "127.0.0.1:0", "--interval", "1"],
    );
    command.stderr(Stdio::piped());
    let mut running = Running::start(command);
    let mut lines = BufReader::new(running.0.stderr.take().expect("piped")).lines();
    let line = lines.next().expect("a line").expect("text");
    let address = line.strip_prefix("serving HTTP on ").expect("the address").to_owned();
    assert_eq!(raw::get(&address, "/healthz").body, b"ok\n");
    let metrics = || String::from_utf8(raw::get(&address, "/metrics").body).expect("text");
    while !metrics().contains(&format!("logwood_monitor_entries{{log=\"{}\"}} 300", log::ORIGIN)) {}
    let active = "logwood_monitor_alarms_active{kind=\"bad-signature\"}";
    assert!(metrics().contains(&format!("{active} 0\n")), "it is there before there was one");
    let mut spoilt = publish(&entries(300));
    spoilt.get_mut("checkpoint").expect("there").truncate(90);
    log.now_serves(spoilt);
    while !metrics().contains(&format!("{active} 1\n")) {}
    log.now_serves(publish(&entries(300)));
    while !metrics().contains(&format!("{active} 0\n")) {}
    let second = once(dir.path(), &log::vkey(), &[log.url()], &[]);
    assert_exit(&second, 1, "another monitor uses the state");
    assert_eq!(stop(running), Some(3), "it tells of the worst alarm");
}

/// SHA-256 of the origin, which names it at a witness (C2SP tlog-witness).
fn origin_path() -> String {
    let digest = sha2::Sha256::digest(log::ORIGIN);
    digest.iter().fold(String::new(), |path, byte| path + &format!("{byte:02x}"))
}

#[test]
fn a_witness_that_saw_another_history_is_a_vantage_point() {
    let dir = directory();
    let log = Log::start(publish(&entries(600)));
    let other_head = |size: usize| {
        let mut changed = entries(size);
        changed[3] = b"nothing happened".to_vec();
        publish(&changed)["checkpoint"].clone()
    };
    let at = |note: Vec<u8>| Log::start([(format!("{}/checkpoint", origin_path()), note)].into());
    for (note, status, evidence) in [
        (publish(&entries(500))["checkpoint"].clone(), 0, ""),
        (publish(&entries(600))["checkpoint"].clone(), 0, ""),
        (other_head(600), 3, "evidence-a"),
        (other_head(500), 3, "evidence-b"),
        (other_head(512), 3, "evidence-b"),
    ] {
        let witness = at(note);
        let dir = dir.path().join(format!("{status}{evidence}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        let sources = [log.url(), &format!("witness+{}", witness.url())];
        let seen = once(&dir, &log::vkey(), &sources, &["--check-only"]);
        assert_exit(&seen, status, "600 entries are those of its head of size 600");
        assert_eq!(files(&dir, "evidence").is_empty(), status == 0);
        assert!(files(&dir, evidence).iter().all(|file| judge(file, &log::vkey()).0 == Some(3)));
    }
}

/// The checkpoint of so many entries, cosigned.
fn cosigned(size: usize, witness: &CosigningKey, seconds: i64) -> Resources {
    let mut resources = publish(&entries(size));
    let note = SignedNote::parse(&resources["checkpoint"]).expect("a note");
    let line = witness.cosign(note.text(), seconds.try_into().expect("after 1970")).expect("a checkpoint");
    let lines: Vec<_> = note.signatures().iter().cloned().chain([line]).collect();
    resources.insert("checkpoint".into(), assemble_note(note.text(), &lines).expect("a note"));
    resources
}

#[test]
fn a_policy_is_held_to() {
    let dir = directory();
    let key = PrivateKey::from_seed("witness.test/w", SignatureType::Ed25519Cosignature, &[3; 32]).expect("a name");
    let witness: CosigningKey = key.try_into().expect("it cosigns");
    let vkey = witness.verifier().to_string();
    let policy = format!("log {}\nwitness w {vkey}\nquorum w\n", log::vkey());
    std::fs::write(dir.path().join("policy"), policy).expect("written");
    let run = |url: &str, more: &[&str]| {
        let arguments = [&["--policy", "policy", "--check-only"], more].concat();
        once(dir.path(), &log::vkey(), &[url], &arguments)
    };
    let log = Log::start(publish(&entries(600)));
    let alone = run(log.url(), &[]);
    assert_exit(&alone, 1, "alarm: no-quorum");
    assert_eq!(delivered(dir.path()), 0, "a head without quorum is not followed");
    let now = jiff::Timestamp::now().as_second();
    log.now_serves(cosigned(600, &witness, now - 100));
    assert_exit(&run(log.url(), &["--max-age", "3600"]), 0, "600 entries");
    assert_exit(&run(log.url(), &["--max-age", "50"]), 1, "alarm: stale");
    // An old head again is an old head. That its witness says it has seen no more, later, is the witness's fault.
    log.now_serves(cosigned(500, &witness, now - 200));
    assert_exit(&run(log.url(), &[]), 1, "alarm: rollback");
    assert!(files(dir.path(), "evidence").is_empty());
    log.now_serves(cosigned(500, &witness, now - 50));
    assert_exit(&run(log.url(), &[]), 3, "alarm: rollback");
    let [file] = &files(dir.path(), "evidence-d")[..] else { panic!("one file of kind d") };
    assert_eq!(judge(file, &vkey).0, Some(3));
    assert_eq!(judge(file, &log::vkey()).0, Some(1), "the log did nothing wrong");
}
