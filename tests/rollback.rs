//! An old copy of the data directory with the real key: it must not sign.

mod common;

use std::path::Path;
use std::process::Command;

use common::{LOGWOOD, Server, copy};
use logwood_proto::v1;
use logwood_proto::v1::log_service_client::LogServiceClient;

/// Runs a client command in `dir`, where each caller remembers in a directory of its own.
fn logwood(server: &Server, dir: &Path, state: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = common::logwood(server, dir, state).args(arguments).output().expect("the command runs");
    let (code, out, err) = common::outcome(&output);
    (code, out + &err)
}

#[test]
fn an_old_copy_of_the_data_reads_but_does_not_sign() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, old, anchor) = (dir.path().join("data"), dir.path().join("old"), dir.path().join("ANCHOR"));
    std::fs::write(dir.path().join("one"), "first\nsecond\n").expect("written");
    std::fs::write(dir.path().join("two"), "third\n").expect("written");

    let server = Server::start(&data, 0, &["--anchor", anchor.to_str().expect("UTF-8")]);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "one"]).0, Some(0));
    server.stop();
    copy(&data, &old);
    let server = Server::start(&data, 0, &["--anchor", anchor.to_str().expect("UTF-8")]);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "two"]).0, Some(0));
    server.stop();

    let server = Server::start(&old, 0, &["--anchor", anchor.to_str().expect("UTF-8")]);
    let (code, text) = logwood(&server, dir.path(), "b", &["append", "two"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("read-only"), "{text}");
    let (code, text) = logwood(&server, dir.path(), "c", &["head"]);
    assert_eq!(code, Some(0), "reads go on: {text}");
    server.stop();
}

#[test]
fn a_copy_that_went_its_own_way_does_not_sign_beside_the_anchor_of_the_original_however_large_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, twin) = (dir.path().join("data"), dir.path().join("twin"));
    for (name, entries) in [("one", "first\n"), ("two", "second\n"), ("other", "another second\nand a third\n")] {
        std::fs::write(dir.path().join(name), entries).expect("written");
    }
    let append = |data: &Path, state: &str, file: &str| {
        let server = Server::start(data, 0, &[]);
        let (code, text) = logwood(&server, dir.path(), state, &["append", file]);
        server.stop();
        (code, text)
    };
    assert_eq!(append(&data, "a", "one").0, Some(0));
    copy(&data, &twin);
    assert_eq!(append(&data, "a", "two").0, Some(0));
    assert_eq!(append(&twin, "b", "other").0, Some(0), "nothing tells it that it is a copy");

    std::fs::copy(data.join("ANCHOR"), twin.join("ANCHOR")).expect("copied");
    let (code, text) = append(&twin, "c", "one");
    assert!(code == Some(1) && text.contains("read-only"), "{text}");
}

/// Why a server does not start on `data`.
fn refusal(data: &Path) -> String {
    let mut command = Command::new(LOGWOOD);
    command.args(["serve", "--grpc", "127.0.0.1:0", "--http", "off", "--data"]).arg(data);
    command.env("LOGWOOD_LIMITS__DISK_RESERVE_MIB", "0");
    let (code, out, err) = common::outcome(&command.output().expect("the command runs"));
    assert_eq!(code, Some(1), "{out}{err}");
    err
}

#[test]
fn an_old_copy_does_not_sign_whatever_has_become_of_the_anchor() {
    let dir = restored();
    let newest = std::fs::read(dir.path().join("data/ANCHOR")).expect("readable");
    let old = dir.path().join("old");
    let anchor = old.join("ANCHOR");
    let at = newest.windows(3).position(|part| part == b" 3 ").expect("the newest size");
    let flipped = |at: usize, bit: u8| [&newest[..at], &[newest[at] ^ bit][..], &newest[at + 1..]].concat();
    let damaged = [
        flipped(at + 1, 2),
        flipped(newest.len() - 2, 1),
        [&newest[..=at], &b"03"[..], &newest[at + 2..]].concat(),
        [&newest[..], b"nonsense\n"].concat(),
        newest[..20].to_vec(),
    ];
    for bytes in damaged {
        std::fs::write(&anchor, &bytes).expect("written");
        let text = refusal(&old);
        assert!(text.contains("is damaged") && text.contains("logwood logs thaw"), "{text}");
        assert_eq!(std::fs::read(&anchor).expect("readable"), bytes, "it is kept as it was");
    }
    // The newest line cut short, as by a crash; but then the store would hold what it names.
    std::fs::write(&anchor, &newest[..newest.len() - 1]).expect("written");
    let text = refusal(&old);
    assert!(text.contains("names size 3 of log `default`, which the store lacks"), "{text}");

    for lost in ["emptied", "deleted"] {
        match lost {
            "emptied" => std::fs::write(&anchor, "").expect("written"),
            _ => std::fs::remove_file(&anchor).expect("removed"),
        }
        // Nor after another start, which finds the anchor of this one.
        for _ in 0..2 {
            let server = Server::start(&old, 0, &[]);
            let (code, text) = logwood(&server, dir.path(), "b", &["append", "two"]);
            assert!(code == Some(1) && text.contains("read-only"), "{lost}: {text}");
            assert_eq!(logwood(&server, dir.path(), "c", &["head"]).0, Some(0), "reads go on");
            server.stop();
        }
    }
}

#[test]
fn a_log_whose_anchor_was_lost_is_thawed_against_the_checkpoints_that_others_hold() {
    let dir = restored();
    for (data, kept) in [("old", "kept-1"), ("data", "kept-2")] {
        std::fs::remove_file(dir.path().join(data).join("ANCHOR")).expect("removed");
        let server = Server::start(&dir.path().join(data), 0, &[]);
        if data == "old" {
            let (code, text) = admin(dir.path(), data, &["thaw", "default", "--checkpoint", "kept-2"]);
            assert!(code == Some(1) && text.contains("the log has 2 entries"), "{text}");
        }
        assert_eq!(logwood(&server, dir.path(), "b", &["append", "two"]).0, Some(1), "it is read-only");
        let (code, text) = admin(dir.path(), data, &["thaw", "default", "--checkpoint", kept]);
        assert!(code == Some(0) && text.contains("the anchor: it knows nothing"), "{text}");
        assert_eq!(logwood(&server, dir.path(), data, &["append", "two"]).0, Some(0));
        server.stop();
        let server = Server::start(&dir.path().join(data), 0, &[]);
        assert_eq!(logwood(&server, dir.path(), data, &["append", "two"]).0, Some(0), "also after a restart");
    }
}

#[test]
fn a_new_log_needs_no_anchor_and_has_one_before_it_signs() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let server = Server::start(&data, 0, &[]);
    assert_eq!(admin(dir.path(), "data", &["create", "another"]).0, Some(0));
    let text = std::fs::read_to_string(data.join("ANCHOR")).expect("readable");
    assert!(text.contains("log default 0 ") && text.contains("log another 0 "), "{text}");
    server.stop();
    let server = Server::start(&data, 0, &[]);
    std::fs::write(dir.path().join("one"), "first\n").expect("written");
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "one", "--log", "another"]).0, Some(0));
}

#[test]
fn of_two_servers_on_copies_with_one_anchor_the_first_stops_signing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, twin, anchor) = (dir.path().join("data"), dir.path().join("twin"), dir.path().join("ANCHOR"));
    let anchor = ["--anchor", anchor.to_str().expect("UTF-8")];
    std::fs::write(dir.path().join("one"), "first\n").expect("written");
    let server = Server::start(&data, 0, &anchor);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "one"]).0, Some(0));
    server.stop();
    copy(&data, &twin);

    let first = Server::start(&data, 0, &anchor);
    let second = Server::start(&twin, 0, &anchor);
    // The first finds the other's token when it next publishes; until then its heads are promises like any other. An
    // append that is on its way at that moment is not acknowledged either.
    let append = ["append", "one", "--settle-within", "0"];
    let stopped = (0..10_000).any(|_| {
        let (code, text) = logwood(&first, dir.path(), "a", &append);
        assert!(matches!(code, Some(0 | 1)), "{text}");
        code == Some(1) && text.contains("another process serves a copy")
    });
    assert!(stopped, "the first server stops signing");
    assert_eq!(logwood(&first, dir.path(), "a", &append).0, Some(1), "and does not start again");
    assert_eq!(logwood(&first, dir.path(), "b", &["head"]).0, Some(0), "reads go on");
    assert_eq!(logwood(&second, dir.path(), "c", &["append", "one"]).0, Some(0), "the last one started may sign");
}

/// The log's newest signed checkpoint, as somebody keeps it.
fn keep_checkpoint(server: &Server, dir: &Path, name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let checkpoint = runtime.block_on(async {
        let mut rpc = LogServiceClient::connect(server.url.clone()).await.expect("it listens");
        let request = v1::GetTreeHeadRequest { log: "default".into(), ..Default::default() };
        rpc.get_tree_head(request).await.expect("a head").into_inner().head.expect("a head").checkpoint
    });
    std::fs::write(dir.join(name), checkpoint).expect("written");
}

/// Runs `logwood logs` on the admin socket of `data`.
fn admin(dir: &Path, data: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(LOGWOOD);
    command.arg("logs").args(arguments).args(["--admin", &format!("{data}/admin.sock")]).current_dir(dir);
    let (code, out, err) = common::outcome(&command.output().expect("the command runs"));
    (code, out + &err)
}

/// A directory with `data`, whose log holds `one` and then `two`, and `old`, a copy of it from between the two with its
/// anchor, as a restored backup is; `kept-1` and `kept-2` are the checkpoints of both moments.
fn restored() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("one"), "first\nsecond\n").expect("written");
    std::fs::write(dir.path().join("two"), "third\n").expect("written");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "one"]).0, Some(0));
    keep_checkpoint(&server, dir.path(), "kept-1");
    server.stop();
    copy(&dir.path().join("data"), &dir.path().join("old"));
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "two"]).0, Some(0));
    keep_checkpoint(&server, dir.path(), "kept-2");
    server.stop();
    dir
}

#[test]
fn a_restored_log_is_thawed_only_against_checkpoints_that_it_extends() {
    let dir = restored();
    let server = Server::start(&dir.path().join("old"), 0, &[]);
    assert_eq!(admin(dir.path(), "old", &["freeze", "default"]).0, Some(0));

    let (code, text) =
        admin(dir.path(), "old", &["thaw", "default", "--checkpoint", "kept-1", "--checkpoint", "kept-2"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the log has 2 entries, checkpoint 2 says 3"), "both sizes are told: {text}");
    let (code, text) = logwood(&server, dir.path(), "b", &["append", "two"]);
    assert!(code == Some(1) && text.contains("frozen"), "it stays read-only: {text}");

    let (code, text) = admin(dir.path(), "old", &["thaw", "default", "--checkpoint", "kept-1"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("witnesses"), "whom it could not ask is told: {text}");
    assert_eq!(logwood(&server, dir.path(), "b", &["append", "two"]).0, Some(0));
}

#[test]
fn a_log_with_another_history_is_not_thawed() {
    let dir = restored();
    std::fs::write(dir.path().join("other"), "something else\nand more\n").expect("written");
    let server = Server::start(&dir.path().join("old"), 0, &[]);
    assert_eq!(logwood(&server, dir.path(), "b", &["append", "other"]).0, Some(0), "nothing was known of `two`");
    assert_eq!(admin(dir.path(), "old", &["freeze", "default"]).0, Some(0));
    let (code, text) = admin(dir.path(), "old", &["thaw", "default", "--checkpoint", "kept-2"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("at size 3 the log's root is") && text.contains("another history"), "{text}");
    assert_eq!(admin(dir.path(), "old", &["thaw", "default", "--checkpoint", "kept-1"]).0, Some(0), "which it extends");
}

#[test]
fn checkpoints_that_the_log_did_not_sign_are_refused() {
    let dir = restored();
    let server = Server::start(&dir.path().join("old"), 0, &[]);
    assert_eq!(admin(dir.path(), "old", &["freeze", "default"]).0, Some(0));
    let stranger = Server::start(&dir.path().join("stranger"), 0, &[]);
    keep_checkpoint(&stranger, dir.path(), "strange");
    let kept = std::fs::read_to_string(dir.path().join("kept-1")).expect("text");
    std::fs::write(dir.path().join("forged"), kept.replacen("\n2\n", "\n1\n", 1)).expect("written");
    std::fs::write(dir.path().join("nonsense"), "nonsense").expect("written");
    for (file, problem) in [("strange", "is of"), ("forged", "does not verify"), ("nonsense", "malformed")] {
        let (code, text) = admin(dir.path(), "old", &["thaw", "default", "--checkpoint", file]);
        assert!(code == Some(1) && text.contains(problem), "{file}: {text}");
    }
    let (code, text) = logwood(&server, dir.path(), "b", &["append", "two"]);
    assert!(code == Some(1) && text.contains("frozen"), "it stays read-only: {text}");
}

#[test]
fn a_log_that_is_behind_its_anchor_is_not_thawed() {
    let dir = restored();
    let anchor = dir.path().join("data/ANCHOR");
    let _server = Server::start(&dir.path().join("old"), 0, &["--anchor", anchor.to_str().expect("UTF-8")]);
    let (code, text) = admin(dir.path(), "old", &["thaw", "default", "--checkpoint", "kept-1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the anchor says 3"), "{text}");
}

#[test]
fn an_anchor_of_every_round_holds_heads_that_were_never_published() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, anchor) = (dir.path().join("data"), dir.path().join("ANCHOR"));
    std::fs::write(dir.path().join("one"), "first\n").expect("written");
    std::fs::write(
        dir.path().join("config"),
        "anchor-every = \"round\"\npublish-interval-ms = 3600000\n[logs.default]\nacknowledge = \"signed\"\n",
    )
    .expect("written");
    let config = dir.path().join("config");
    let arguments = ["--config", config.to_str().expect("UTF-8"), "--anchor", anchor.to_str().expect("UTF-8")];
    let server = Server::start(&data, 0, &arguments);
    for _ in 0..3 {
        // Nothing is published here, so nothing can be settled.
        let append = ["append", "--settle-within", "0", "one"];
        assert_eq!(logwood(&server, dir.path(), "a", &append).0, Some(0));
    }
    let text = std::fs::read_to_string(&anchor).expect("readable");
    drop(server);
    assert!(text.lines().any(|line| line.starts_with("log default 3 ")), "the receipt's head is there: {text}");
}

#[test]
fn a_client_that_saw_more_notices_a_rollback_and_proves_a_fork() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, old) = (dir.path().join("data"), dir.path().join("old"));
    for (name, lines) in [("one", "first\nsecond\n"), ("two", "third\n"), ("other", "forged\nmore\n")] {
        std::fs::write(dir.path().join(name), lines).expect("written");
    }
    let server = Server::start(&data, 0, &[]);
    let port = server.port;
    assert_eq!(logwood(&server, dir.path(), "victim", &["append", "one"]).0, Some(0));
    server.stop();
    copy(&data, &old);
    let server = Server::start(&data, port, &[]);
    assert_eq!(logwood(&server, dir.path(), "victim", &["append", "two"]).0, Some(0));
    server.stop();

    // The whole data directory is an old one, its anchor too: nothing keeps the server from signing.
    let server = Server::start(&old, port, &[]);
    for command in [&["head"][..], &["append", "two"], &["get", "0"], &["logs", "describe"]] {
        let (code, text) = logwood(&server, dir.path(), "victim", command);
        assert_eq!(code, Some(1), "smaller proves nothing: {text}");
        assert!(text.contains("was rolled back"), "{text}");
    }
    assert_eq!(logwood(&server, dir.path(), "accomplice", &["append", "other"]).0, Some(0));
    for command in [&["head"][..], &["append", "two"], &["get", "0"], &["head", "--published"]] {
        let (code, text) = logwood(&server, dir.path(), "victim", command);
        assert_eq!(code, Some(3), "another history is proof: {text}");
    }
    server.stop();
}
