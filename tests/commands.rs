//! The client's commands from the outside: what they print, what they leave behind, and their exit status.

mod common;

use std::fs;
use std::path::Path;

use common::{Server, logwood, outcome};
use logwood_merkle::Hash;
use logwood_note::{Checkpoint, PrivateKey, Receipt, SignatureType, VerifierKey};
use serde_json::{Value, json};

/// Somebody who calls commands in a directory.
struct User<'a> {
    server: &'a Server,
    dir: &'a Path,
}

impl User<'_> {
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        outcome(&logwood(self.server, self.dir, "state").args(arguments).output().expect("the command runs"))
    }

    /// What a command prints that succeeds.
    fn ok(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
        out
    }

    /// The JSON objects that it prints, one a line.
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let out = self.ok(arguments);
        out.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.join(name), bytes).expect("written");
    }

    /// A policy with a quorum, which this server's log cannot reach: it has no witnesses.
    fn write_policy(&self) {
        let key = PrivateKey::from_seed("w.example", SignatureType::MlDsa44Cosignature, &[1; 32]).expect("a key");
        let policy = format!("log {}\nwitness w {}\nquorum w\n", self.server.vkey, key.verifier());
        self.write("witnessed", policy.as_bytes());
    }

    fn receipt(&self, name: &str) -> Receipt {
        Receipt::parse(&fs::read(self.dir.join(name)).expect("written")).expect("a receipt")
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn every_kind_of_line_is_logged_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let user = User { server: &server, dir: dir.path() };
    let key: VerifierKey = server.vkey.parse().expect("a verifier key");
    let long = vec![0xc3; 65_535];
    let lines: [&[u8]; 8] =
        [b"x", &long, b"\xff\xfe not UTF-8 \x80", b"with a CR\r", b"same", b"same", b"\0", b"no LF"];
    user.write("lines", &lines.join(&b'\n'));
    let said = user.json(&["append", "--json", "--receipts", "receipts", "lines"]);
    assert_eq!(said.len(), lines.len());
    for (index, (line, said)) in lines.iter().zip(&said).enumerate() {
        assert_eq!((&said["index"], &said["line"]), (&json!(index), &json!(index + 1)));
        assert_eq!(keys(said), ["duplicate", "index", "line", "root", "size"]);
        let receipt = user.receipt(&format!("receipts/{}.tlog-proof", index + 1));
        receipt.verify(line, &key, None).expect("a good receipt");
        let output = logwood(&server, dir.path(), "state").args(["get", &index.to_string()]).output().expect("runs");
        assert_eq!(output.stdout, *line, "byte for byte");
    }

    user.write("refused", &[&b"good\n\n"[..], &vec![b'a'; 65_536], b"\nlast\n"].concat());
    let (code, out, err) = user.run(&["append", "refused"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("2 appended, at indices 8 to 9; 0 were there already; 2 refused"), "{out}");
    assert!(err.contains("line 2: ") && err.contains("line 3: ") && err.contains("65535"), "{err}");
    user.ok(&["append", "--skip-empty", "--digest", "refused"]);
    let digest = user.ok(&["get", "11"]);
    assert!(digest.starts_with("sha256:") && digest.ends_with(" 65536"), "{digest}");
    server.stop();
}

#[test]
fn a_file_that_is_not_there_is_told_before_any_server_is_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let user = User { server: &server, dir: dir.path() };
    let nobody = ["--server", "http://127.0.0.1:1"];
    for arguments in [&["append", "missing"][..], &["append", "--whole", "missing"], &["append", "."]] {
        let (code, _, err) = user.run(&[arguments, &nobody[..]].concat());
        assert!(code == Some(1) && err.contains("cannot read"), "{arguments:?}: {err}");
    }
    for option in ["--refresh", "--since", "--entry"] {
        let (code, _, err) = user.run(&[&["prove", option, "missing"], &nobody[..]].concat());
        assert!(code == Some(1) && err.contains("cannot read"), "{option}: {err}");
    }
    user.write("lines", b"x\n");
    let (code, _, err) = user.run(&[&["append", "lines"], &nobody[..]].concat());
    assert!(code == Some(1) && err.contains("cannot reach http://127.0.0.1:1"), "{err}");
    server.stop();
}

#[test]
fn what_makes_no_sense_is_told_as_such_and_sent_to_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let user = User { server: &server, dir: dir.path() };
    let socket = dir.path().join("data/admin.sock");
    let admin = ["--admin", socket.to_str().expect("UTF-8")];
    user.write("lines", b"x\n");
    let name = "n".repeat(64);
    let origin = format!("example.com/{}", "o".repeat(255));
    let rows: [&[&str]; 16] = [
        &["head", "--server", "localhost"],
        &["head", "--server", "no URL"],
        &["head", "--server", "ftp://127.0.0.1:7070"],
        &["head", "--server", "http://me:secret@127.0.0.1:7070"],
        &["head", "--server", "http://127.0.0.1:7070/logs/default"],
        &["head", "--server", "http://127.0.0.1:7070?log=default"],
        &["bench", "null", "--server", "localhost"],
        &["head", "--log", "No Log"],
        &["append", "--settle-within", "18446744073709551615", "lines"],
        &["append", "--settle-within", "-1", "lines"],
        &["prove", "--settle", "--settle-within", "86401"],
        &["bench", "null", "--seconds", "18446744073709551615"],
        &["logs", "create", "No Log"],
        &["logs", "create", &name],
        &["logs", "create", "fine", "--origin", "not an origin"],
        &["logs", "create", "fine", "--origin", &origin],
    ];
    for arguments in rows {
        let admin = if arguments[0] == "logs" { &admin[..] } else { &[] };
        let (code, out, err) = user.run(&[arguments, admin].concat());
        assert!(code == Some(2) && out.is_empty() && !err.contains("panicked"), "{arguments:?}: {code:?} {out}{err}");
    }
    let names: Vec<_> = user.json(&["logs", "list", "--json"]).iter().map(|log| log["name"].clone()).collect();
    assert_eq!(names, [json!("default")]);
    server.stop();
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let user = User { server: &server, dir: dir.path() };
    user.write("half", b"a\na\n");
    user.write("whole", b"a\na\nb\n");
    let (_, _, err) = user.run(&["append", "half"]);
    let run = err.split("--resume ").nth(1).expect("the run id is printed").trim();
    let out = user.ok(&["append", "--resume", run, "whole"]);
    assert!(out.contains("1 appended, at indices 2 to 2; 2 were there already; 0 refused"), "{out}");
    user.write("other", b"a\nz\n");
    let (code, _, err) = user.run(&["append", "--resume", run, "other"]);
    assert!(code == Some(1) && err.contains("line 2: the identity was used for other bytes, at index 1"), "{err}");
    server.stop();
}

#[test]
fn receipts_are_settled_at_the_end_or_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let user = User { server: &server, dir: dir.path() };
    user.write("lines", b"a\nb\nc\n");
    let out = user.ok(&["append", "lines"]);
    assert!(out.ends_with("settled: the published head of size 3 extends every receipt\n"), "{out}");
    assert_eq!(user.ok(&["prove", "--settle"]), "nothing is unsettled\n");
    let (code, out, err) = user.run(&["append", "--settle-within", "0", "lines"]);
    assert!(code == Some(0) && !out.contains("settled:") && err.contains("prove --settle"), "{out}{err}");
    assert_eq!(user.ok(&["prove", "--settle"]), "settled: the published head of size 6 extends every receipt\n");
    assert_eq!(user.ok(&["prove", "--settle"]), "nothing is unsettled\n");

    user.write_policy();
    let witnessed = ["prove", "--settle", "--policy", "witnessed"];
    let (code, _, err) = user.run(&witnessed);
    assert_eq!((code, err.is_empty()), (Some(0), true), "nothing to do, nothing to ask: {err}");
    user.ok(&["append", "--settle-within", "0", "lines"]);
    let (code, _, err) = user.run(&witnessed);
    assert!(code == Some(1) && err.contains("no witnesses"), "{err}");
    user.ok(&["prove", "--settle"]);
    server.stop();
}

#[test]
fn an_old_receipt_gets_a_new_head() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let user = User { server: &server, dir: dir.path() };
    let key: VerifierKey = server.vkey.parse().expect("a verifier key");
    user.write("first", b"a\nb\nc\n");
    user.ok(&["append", "--receipts", "receipts", "first"]);
    user.ok(&["append", "first"]);
    let old = fs::read(dir.path().join("receipts/2.tlog-proof")).expect("written");
    for (level, size) in [(&[][..], 6), (&["--published"], 6)] {
        fs::write(dir.path().join("receipt"), &old).expect("written");
        user.ok(&[&["prove", "--refresh", "receipt", "--out", "receipt"], level].concat());
        let fresh = user.receipt("receipt").verify(b"b", &key, None).expect("a good receipt");
        assert_eq!(fresh.head.size.0, size);
    }
    assert_eq!(user.ok(&["prove", "--refresh", "receipt"]).as_bytes(), user.receipt("receipt").to_bytes());
    user.write_policy();
    let policy = ["--witnessed", "--policy", "witnessed"];
    let (code, _, err) = user.run(&[&["prove", "--refresh", "receipt", "--out", "receipt"], &policy[..]].concat());
    assert!(code == Some(1) && err.contains("no witnesses"), "{err}");
    assert_eq!(user.receipt("receipt").verify(b"b", &key, None).expect("still good").head.size.0, 6);

    // A receipt of another tree, signed by nobody, and one of another entry.
    let text = String::from_utf8(old).expect("text");
    for bad in [text.replace("index 1", "index 2"), text.replace("\n3\n", "\n4\n"), "no receipt".to_owned()] {
        assert_ne!(bad, text);
        fs::write(dir.path().join("bad"), bad).expect("written");
        assert_eq!(user.run(&["prove", "--refresh", "bad"]).0, Some(3));
    }
    server.stop();
}

#[test]
fn entries_are_found_by_hash_and_heads_are_printed_as_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let user = User { server: &server, dir: dir.path() };
    let key: VerifierKey = server.vkey.parse().expect("a verifier key");
    user.write("lines", b"a\nb\nb\n");
    user.ok(&["append", "lines"]);
    let hash = Hash::leaf(b"b").to_string();
    assert_eq!(user.ok(&["get", "--leaf-hash", &hash]), "b");
    let said = user.json(&["get", "--json", "--leaf-hash", &hash]).remove(0);
    assert_eq!((&said["index"], &said["entry"]), (&json!(1), &json!("Yg==")));
    let (code, _, err) = user.run(&["get", "--leaf-hash", &Hash::leaf(b"z").to_string()]);
    assert!(code == Some(1) && err.contains("no entry has that leaf hash"), "{err}");
    assert_eq!(user.run(&["get", "--leaf-hash", "abc"]).0, Some(2));
    user.write("entry", b"b");
    user.ok(&["prove", "--entry", "entry", "--out", "proof"]);
    user.receipt("proof").verify(b"b", &key, None).expect("a good receipt");

    for level in [&[][..], &["--published"]] {
        let note = user.ok(&[&["head", "--raw"], level].concat());
        let checkpoint = Checkpoint::open(note.as_bytes(), &key, None).expect("a signed note, verbatim");
        assert_eq!(checkpoint.head.size.0, 3);
        let said = user.json(&[&["head", "--json"], level].concat()).remove(0);
        assert_eq!(keys(&said), ["level", "origin", "root", "size", "time"]);
        assert_eq!(said["size"], json!(3));
    }
    user.write_policy();
    let (code, _, err) = user.run(&["head", "--witnessed", "--raw", "--policy", "witnessed"]);
    assert!(code == Some(1) && err.contains("no witnesses"), "{err}");
    // Without a policy with a quorum, there is nothing that could make a head witnessed.
    user.write("none", format!("log {}\nquorum none\n", server.vkey).as_bytes());
    for policy in [&[][..], &["--policy", "none"]] {
        let (code, out, err) = user.run(&[&["head", "--witnessed"], policy].concat());
        assert!(code == Some(2) && out.is_empty() && err.contains("--policy"), "{out}{err}");
    }
    server.stop();
}

#[test]
fn logs_are_made_and_described() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let user = User { server: &server, dir: dir.path() };
    let socket = dir.path().join("data/admin.sock");
    let socket = socket.to_str().expect("UTF-8");
    let made = user.json(&["logs", "create", "lean", "--without-leaf-index", "--json", "--admin", socket]).remove(0);
    assert_eq!(keys(&made), ["name", "origin", "size", "state", "vkeys"]);
    let (code, _, err) = user.run(&["logs", "create", "lean", "--admin", socket]);
    assert_eq!(code, Some(1), "{err}");
    user.write("lines", b"a\n");
    user.ok(&["append", "--log", "lean", "lines"]);
    let (code, _, err) = user.run(&["get", "--log", "lean", "--leaf-hash", &Hash::leaf(b"a").to_string()]);
    assert!(code == Some(1) && err.contains("no index of leaf hashes"), "{err}");

    let said = user.json(&["logs", "describe", "--log", "lean", "--json"]).remove(0);
    assert_eq!(keys(&said), ["name", "origin", "root", "size", "state", "vkeys"]);
    let full = user.json(&["logs", "describe", "--log", "lean", "--json", "--full", "--admin", socket]).remove(0);
    assert_eq!((&full["leaf_index"], &full["size"], &full["state"]), (&json!(false), &json!(1), &json!("active")));
    assert_eq!((&full["profile"], &full["read_only_reason"]), (&json!("opaque"), &Value::Null));
    let text = user.ok(&["logs", "describe", "--log", "lean", "--full", "--admin", socket]);
    assert!(text.contains("identity_scope log\n"), "{text}");
    let names: Vec<_> = user.json(&["logs", "list", "--json"]).iter().map(|log| log["name"].clone()).collect();
    assert_eq!(names, [json!("default"), json!("lean")]);
    server.stop();
}

#[test]
fn a_policy_says_which_log_and_how_many_witnesses() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let user = User { server: &server, dir: dir.path() };
    let other = user.ok(&["keys", "generate", "--name", "other.example", "--out", "other"]);
    let other = other.trim();
    user.write_policy();
    user.write("alone", format!("log {}\nquorum none\n", server.vkey).as_bytes());
    // The server says which of the two its log is.
    user.write("two", format!("log {other}\nlog {}\nquorum none\n", server.vkey).as_bytes());
    user.write("others", format!("log {other}\nquorum none\n").as_bytes());
    user.write("malformed", b"quorum none");
    user.write("lines", b"a\nb\n");

    for policy in ["alone", "two"] {
        user.ok(&["append", "--policy", policy, "--receipts", "receipts", "lines"]);
        assert_eq!(user.ok(&["get", "--policy", policy, "0"]), "a");
        user.ok(&["prove", "--policy", policy, "1", "--out", "receipt"]);
        user.ok(&["export", "--policy", policy, "--range", "0..2", "--out", "range"]);
        user.ok(&["verify", "--policy", policy, "--range", "range"]);
        user.write("b", b"b");
        user.ok(&["verify", "--policy", policy, "receipt", "b"]);
    }
    // Another log's key vouches for nothing here.
    assert_eq!(user.run(&["head", "--policy", "others", "--client-state", "new"]).0, Some(3));
    assert_eq!(user.run(&["head", "--policy", "alone", "--vkey", other]).0, Some(2));
    let (code, _, err) = user.run(&["head", "--policy", "malformed"]);
    assert!(code == Some(2) && err.contains("policy line 1"), "{err}");
    assert_eq!(user.run(&["head", "--policy", "missing"]).0, Some(1));

    // This log has no witnesses, so nothing that it has is good under a policy with a quorum.
    for arguments in [&["head"][..], &["get", "0"], &["prove", "0"], &["export", "--range", "0..2", "--out", "x"]] {
        let (code, out, err) = user.run(&[arguments, &["--policy", "witnessed"]].concat());
        assert!(code == Some(1) && out.is_empty(), "{arguments:?}: {out}{err}");
    }
    assert_eq!(user.run(&["verify", "--policy", "witnessed", "receipt", "b"]).0, Some(3));
    assert_eq!(user.run(&["append", "--policy", "witnessed", "lines"]).0, Some(1), "logged, but not settled");
}
