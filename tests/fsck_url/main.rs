//! `logwood fsck URL`: what it accepts, and that each lie of a server has exit status 3 and a name.

#[path = "../common/mod.rs"]
mod common;
mod log;
mod server;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
use log::{ORIGIN, Resources, bundle, entries, publish, vkey};
use logwood_note::{CosigningKey, SignatureType, SignedNote, assemble_note};
use server::{Answer, Server};
use tempfile::TempDir;

/// The key of the log that Tessera keeps for its tests (`testdata/log` in its repository).
const TESSERA_VKEY: &str = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";

/// Leaves of a log with tiles on three levels, none of whose right edge is full.
const SIZE: usize = 70_000;

fn fsck(url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logwood"));
    command.args(["fsck", url]).args(arguments).env_clear();
    command.output().expect("the command runs")
}

/// Judges what `server` serves, with the log's key.
fn judge(server: &Server, arguments: &[&str]) -> Output {
    fsck(&server.url, &[&["--vkey", &vkey()], arguments].concat())
}

#[track_caller]
fn assert_good(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[track_caller]
fn assert_fails(output: &Output, status: i32, names: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{errors}");
    assert!(errors.contains(names), "no `{names}` in: {errors}");
}

fn plain(resources: Resources) -> impl Fn(&str, u32) -> Answer + Send + Sync {
    move |path, _| resources.get(path).map_or(Answer::Status(404), |body| Answer::Body(body.clone()))
}

fn serve(resources: Resources) -> Server {
    Server::start(plain(resources))
}

/// `resources`, but for what `lie` says about `path`.
fn serve_lie(
    resources: Resources,
    path: &'static str,
    lie: impl Fn(u32) -> Option<Answer> + Send + Sync + 'static,
) -> Server {
    let honest = plain(resources);
    Server::start(move |asked, count| {
        let lie = if asked == path { lie(count) } else { None };
        lie.unwrap_or_else(|| honest(asked, count))
    })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

fn without(mut resources: Resources, gone: impl Fn(&str) -> bool) -> Resources {
    resources.retain(|path, _| !gone(path));
    resources
}

#[test]
fn logs_of_every_shape_are_accepted() {
    for size in [0, 1, 255, 256, 257, 511, 512, 65_536, 65_537, SIZE] {
        let verdict = assert_good(&judge(&serve(publish(&entries(size))), &["--json"]));
        assert_eq!(verdict["size"], size);
        assert_eq!(verdict["origin"], ORIGIN);
        assert_eq!(verdict["first"], 0);
        assert_eq!(verdict["verified"], true);
    }
}

#[test]
fn a_flipped_bit_in_any_kind_of_resource_is_found_and_named() {
    let honest = publish(&entries(SIZE));
    let kinds = [
        "checkpoint",
        "tile/0/000",
        "tile/0/255",
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
        "tile/entries/000",
        "tile/entries/130",
        "tile/entries/273.p/112",
    ];
    for path in kinds {
        let length = honest[path].len();
        for at in [0, length / 2, length - 1] {
            let mut spoilt = honest.clone();
            spoilt.get_mut(path).expect("it is served")[at] ^= 1;
            let verdict = judge(&serve(spoilt), &["--json"]);
            assert_fails(&verdict, 3, &format!("{path}: "));
            let json: serde_json::Value = serde_json::from_slice(&verdict.stdout).expect("one object");
            assert_eq!(json["verified"], false);
        }
    }
}

#[test]
fn what_is_missing_cut_off_swapped_or_too_long_is_named() {
    let honest = publish(&entries(SIZE));
    for path in ["tile/0/005", "tile/1/000", "tile/2/000.p/1", "tile/entries/005", "tile/entries/273.p/112"] {
        let missing = serve(without(honest.clone(), |other| other == path));
        assert_fails(&judge(&missing, &[]), 3, &format!("{path} is missing"));
    }
    for path in ["tile/0/005", "tile/1/001.p/17", "tile/entries/005", "tile/entries/273.p/112"] {
        for change in [|body: &mut Vec<u8>| body.truncate(body.len() - 1), |body: &mut Vec<u8>| body.push(0)] {
            let mut spoilt = honest.clone();
            change(spoilt.get_mut(path).expect("it is served"));
            assert_fails(&judge(&serve(spoilt), &[]), 3, &format!("{path}: "));
        }
    }
    let mut swapped = honest.clone();
    swapped.insert("tile/entries/007".to_owned(), honest["tile/entries/008"].clone());
    swapped.insert("tile/entries/008".to_owned(), honest["tile/entries/007"].clone());
    assert_fails(&judge(&serve(swapped), &[]), 3, "tile/entries/007: entry 0 of the bundle");
}

#[test]
fn the_first_of_two_bad_resources_is_named() {
    let mut spoilt = publish(&entries(SIZE));
    for path in ["tile/entries/200", "tile/0/201", "tile/entries/030"] {
        spoilt.get_mut(path).expect("it is served")[9] ^= 1;
    }
    assert_fails(&judge(&serve(spoilt), &["--parallel", "256"]), 3, "tile/entries/030: ");
}

#[test]
fn gzip_that_nobody_asked_for_is_decoded_within_the_limits() {
    let honest = publish(&entries(600));
    let served = honest.clone();
    let zipped =
        Server::start(move |path, _| served.get(path).map_or(Answer::Status(404), |body| Answer::Gzip(gzip(body))));
    assert_good(&judge(&zipped, &[]));

    let bomb = gzip(&vec![0; 64 << 20]);
    for path in ["checkpoint", "tile/0/001", "tile/entries/001"] {
        let bomb = bomb.clone();
        let served = serve_lie(honest.clone(), path, move |_| Some(Answer::Gzip(bomb.clone())));
        assert_fails(&judge(&served, &[]), 3, &format!("{path}: "));
    }
}

#[test]
fn gzip_that_does_not_decompress_is_asked_for_once_more_and_then_wrong() {
    let honest = publish(&entries(600));
    let zipped = gzip(&honest["tile/entries/001"]);
    let checksum = zipped.len() - 8;
    let mut flipped = zipped.clone();
    flipped[checksum] ^= 1;
    for corrupt in [honest["tile/entries/001"].clone(), zipped[..checksum].to_vec(), flipped] {
        let body = corrupt.clone();
        let served = serve_lie(honest.clone(), "tile/entries/001", move |_| Some(Answer::Gzip(body.clone())));
        assert_fails(&judge(&served, &[]), 3, "tile/entries/001: ");
        let once = serve_lie(honest.clone(), "tile/entries/001", move |count| {
            (count < 2).then(|| Answer::Gzip(corrupt.clone()))
        });
        assert_good(&judge(&once, &[]));
        assert_eq!(once.requests("tile/entries/001"), 2);
    }
    let cut = serve_lie(honest, "tile/entries/001", move |_| Some(Answer::CutGzip(zipped[..checksum].to_vec())));
    assert_fails(&judge(&cut, &[]), 1, "tile/entries/001: no whole answer");
}

#[test]
fn an_endless_answer_ends_at_the_limit() {
    let honest = publish(&entries(600));
    for path in ["checkpoint", "tile/0/001", "tile/1/000.p/2", "tile/entries/001", "tile/entries/002.p/88"] {
        let body = honest[path].clone();
        let served = serve_lie(honest.clone(), path, move |_| Some(Answer::Endless(body.clone())));
        assert_fails(&judge(&served, &[]), 3, &format!("{path}: "));
    }
}

#[test]
fn what_may_pass_is_asked_for_again() {
    let honest = publish(&entries(600));
    for status in [429, 500, 503] {
        let served =
            serve_lie(honest.clone(), "tile/entries/001", move |count| (count < 4).then_some(Answer::Status(status)));
        assert_good(&judge(&served, &[]));
        assert_eq!(served.requests("tile/entries/001"), 4);
    }
    let half = honest["tile/entries/001"][..99].to_vec();
    let cut = serve_lie(honest, "tile/entries/001", move |count| (count < 2).then(|| Answer::Cut(half.clone())));
    assert_good(&judge(&cut, &[]));
}

#[test]
fn a_server_that_is_down_has_not_lied() {
    let honest = publish(&entries(600));
    for (status, requests) in [(503, 6), (403, 1)] {
        let served = serve_lie(honest.clone(), "tile/0/001", move |_| Some(Answer::Status(status)));
        assert_fails(&judge(&served, &[]), 1, "tile/0/001: the server answers");
        assert_eq!(served.requests("tile/0/001"), requests);
    }
    assert_fails(&judge(&serve(Resources::new()), &[]), 1, "there is no `checkpoint` at this URL");
}

/// Log of [`SIZE`] whose minimum index is 66,000: what ends at or before that entry is gone, which is all before bundle 257.
fn pruned() -> Resources {
    without(publish(&entries(SIZE)), |path| {
        let number = |prefix: &str| path.strip_prefix(prefix).and_then(|number| number.parse::<u32>().ok());
        number("tile/entries/").or(number("tile/0/")).is_some_and(|number| number < 257) || path == "tile/1/000"
    })
}

#[test]
fn a_pruned_log_is_checked_from_its_minimum_index_on() {
    let server = serve(pruned());
    let verdict = judge(&server, &["--json", "--from", "66000"]);
    assert_eq!(assert_good(&verdict)["first"], 257 * 256);
    let verdict = judge(&server, &["--from", "66000"]);
    assert!(String::from_utf8_lossy(&verdict.stderr).contains("nobody has checked its entries below 65792"));
    assert_fails(&judge(&server, &["--from", "70000"]), 2, "no entry 70000");

    let mut spoilt = pruned();
    spoilt.get_mut("tile/entries/257").expect("it is served")[9] ^= 1;
    assert_fails(&judge(&serve(spoilt), &["--from", "66000"]), 3, "tile/entries/257: ");

    let only_the_tail = without(pruned(), |path| path.starts_with("tile/entries/") && !path.contains(".p/"));
    let verdict = judge(&serve(only_the_tail.clone()), &["--json", "--from", "69999"]);
    assert_eq!(assert_good(&verdict)["first"], 273 * 256);
    let nothing = without(only_the_tail, |path| path.starts_with("tile/entries/"));
    assert_fails(&judge(&serve(nothing), &["--from", "69999"]), 3, "tile/entries/273.p/112 is missing");

    let whole = serve(publish(&entries(SIZE)));
    assert_good(&judge(&whole, &["--from", "66000"]));
    assert_eq!(whole.requests("tile/entries/256"), 0);
}

#[test]
fn first_entries_that_are_not_there_pass_for_pruned_with_a_warning_unless_they_are_demanded() {
    let server = serve(pruned());
    let verdict = judge(&server, &[]);
    assert_good(&verdict);
    assert!(String::from_utf8_lossy(&verdict.stderr).contains("the entries 0 to 65791 are not served"));
    assert_eq!(assert_good(&judge(&server, &["--json"]))["first"], 257 * 256);
    assert_fails(&judge(&server, &["--from", "0"]), 1, "the entries 0 to 65791 are not served");
    assert_fails(&judge(&server, &["--from", "0"]), 1, "`--from 65792` checks the others");
    assert_fails(&judge(&server, &["--from", "65535"]), 1, "the entries 65280 to 65791 are not served");

    let full = publish(&entries(1_024));
    let withheld = serve(without(full, |path| path.starts_with("tile/entries/")));
    assert_fails(&judge(&withheld, &[]), 3, "tile/entries/000 is missing");
}

#[test]
fn what_is_known_of_a_log_outlasts_its_pruning() {
    let directory = TempDir::new().expect("a directory");
    let (state, kept) = (path(&directory, "state"), path(&directory, "kept"));
    let server = serve(pruned());
    std::fs::write(&kept, &publish(&entries(300))["checkpoint"]).expect("a file");
    let verdict = judge(&server, &["--from", "66000", "--checkpoint", &kept]);
    assert_fails(&verdict, 1, "give a checkpoint of 66000 entries or more");
    std::fs::write(&kept, &publish(&entries(66_000))["checkpoint"]).expect("a file");
    assert_good(&judge(&server, &["--from", "66000", "--checkpoint", &kept, "--state", &state]));

    assert_good(&judge(&server, &["--state", &state]));
    assert_fails(&judge(&server, &["--from", "0", "--state", &state]), 2, "is of a check with --from 65792");
    let grown = serve(publish(&entries(SIZE + 1_000)));
    let verdict = judge(&grown, &["--from", "66000", "--state", &state, "--json"]);
    assert_eq!(assert_good(&verdict)["resumed"], 273 * 256);
}

#[test]
fn full_tiles_stand_in_for_partial_ones_that_were_dropped() {
    let later = publish(&entries(131_072));
    let mut resources = without(publish(&entries(SIZE)), |path| path.contains(".p/"));
    resources.extend(later.into_iter().filter(|(path, _)| path != "checkpoint"));
    // The only tile of level 2 has no full one yet.
    resources.extend(publish(&entries(SIZE)).into_iter().filter(|(path, _)| path.starts_with("tile/2/")));
    assert_good(&judge(&serve(resources.clone()), &[]));

    resources.get_mut("tile/entries/273").expect("it is served")[9] ^= 1;
    assert_fails(&judge(&serve(resources), &[]), 3, "tile/entries/273: ");
}

#[test]
fn an_interrupted_check_goes_on_where_it_stopped() {
    let directory = TempDir::new().expect("a directory");
    let state = path(&directory, "state");
    let down = serve_lie(publish(&entries(SIZE)), "tile/entries/200", |_| Some(Answer::Status(503)));
    assert_fails(&judge(&down, &["--state", &state]), 1, "tile/entries/200: the server answers 503");

    let up = serve(publish(&entries(SIZE)));
    let verdict = judge(&up, &["--state", &state, "--json"]);
    assert_eq!(assert_good(&verdict)["resumed"], 200 * 256);
    assert_eq!(up.requests("tile/entries/199"), 0);
    assert_eq!(up.requests("tile/entries/200"), 1);

    let grown = serve(publish(&entries(SIZE + 1_000)));
    let verdict = judge(&grown, &["--state", &state, "--json"]);
    assert_eq!(assert_good(&verdict)["resumed"], 273 * 256);
    assert_eq!(grown.requests("tile/entries/272"), 0);
}

#[test]
fn a_log_that_rewrites_what_a_state_file_knows_is_caught() {
    let directory = TempDir::new().expect("a directory");
    let state = path(&directory, "state");
    assert_good(&judge(&serve(publish(&entries(1_000))), &["--state", &state]));
    let before = std::fs::read(&state).expect("it was written");

    let mut changed = entries(2_000);
    changed[3] = b"nothing happened".to_vec();
    let rewritten = publish(&changed);
    assert_fails(&judge(&serve(rewritten.clone()), &["--state", &state]), 3, "they are of two trees");
    let evidence = std::fs::read(path(&directory, "state.conflict")).expect("the other checkpoint is kept");
    assert_eq!(evidence, rewritten["checkpoint"]);

    let shorter = serve(publish(&entries(999)));
    assert_fails(&judge(&shorter, &["--state", &state]), 3, "entries were taken back");
    assert_eq!(std::fs::read(&state).expect("it is there"), before);
}

#[test]
fn a_state_file_of_another_log_or_of_nothing_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let state = path(&directory, "state");
    let server = serve(publish(&entries(1_000)));
    assert_good(&judge(&server, &["--state", &state]));
    let text = std::fs::read_to_string(&state).expect("it was written");
    let refused = |from: &str, to: &str, status: i32, names: &str| {
        assert!(text.contains(from));
        std::fs::write(&state, text.replace(from, to)).expect("a file");
        assert_fails(&judge(&server, &["--state", &state]), status, names);
    };
    refused("\"origin\": \"log.test/fsck\"", "\"origin\": \"log.test/other\"", 2, "is the state of log.test/other");
    refused("\"checkpoint\": \"log", "\"checkpoint\": \"lag", 2, "is by none of the keys given");
    refused("\"format\": 2", "\"format\": 1", 1, "remove it to start anew");
    refused("\"bundles\": 3", "\"bundles\": 5", 1, "remove it to start anew");
    refused("\"bundles\": 3", "\"bundles\": 6", 1, "remove it to start anew");
    refused("{", "", 1, "remove it to start anew");
}

#[test]
fn a_checkpoint_kept_elsewhere_must_be_of_the_same_tree() {
    let directory = TempDir::new().expect("a directory");
    let kept = path(&directory, "kept");
    let server = serve(publish(&entries(1_000)));
    for size in [0, 1, 77, 256, 300, 1_000] {
        std::fs::write(&kept, &publish(&entries(size))["checkpoint"]).expect("a file");
        assert_good(&judge(&server, &["--checkpoint", &kept]));
    }
    let mut changed = entries(300);
    changed[3] = b"nothing happened".to_vec();
    std::fs::write(&kept, &publish(&changed)["checkpoint"]).expect("a file");
    assert_fails(&judge(&server, &["--checkpoint", &kept]), 3, "they are of two trees");
    std::fs::write(&kept, &publish(&entries(1_001))["checkpoint"]).expect("a file");
    assert_fails(&judge(&server, &["--checkpoint", &kept]), 3, "entries were taken back");
}

#[test]
fn the_key_and_the_origin_must_be_the_logs() {
    let server = serve(publish(&entries(10)));
    let other = logwood_note::SigningKey::from_seed(ORIGIN, &[8; 32]).expect("a valid name");
    assert_fails(&fsck(&server.url, &["--vkey", &other.private().verifier().to_string()]), 3, "checkpoint: ");
    assert_fails(&judge(&server, &["--origin", "log.test/other"]), 3, "checkpoint: ");
    assert_good(&judge(&server, &["--origin", ORIGIN]));
    assert_good(&judge(&server, &["--vkey", &other.private().verifier().to_string()]));
    assert_fails(&fsck("./nowhere", &["--vkey", &vkey(), "--origin", ORIGIN]), 2, "--origin");
}

#[test]
fn a_policy_needs_its_quorum_besides_the_logs_signature() {
    let directory = TempDir::new().expect("a directory");
    let (policy, state) = (path(&directory, "policy"), path(&directory, "state"));
    let write = |text: &str| std::fs::write(&policy, text).expect("a file");
    let witness = CosigningKey::generate("w.test", SignatureType::Ed25519Cosignature).expect("a key");
    let needs_one = format!("log {}\nwitness w {}\nquorum w\n", vkey(), witness.verifier());
    let resources = publish(&entries(300));
    let (note, server) = (resources["checkpoint"].clone(), serve(resources.clone()));
    assert_good(&judge(&server, &["--state", &state]));

    write(&needs_one);
    let verdict = fsck(&server.url, &["--policy", &policy, "--json"]);
    assert_fails(&verdict, 3, "checkpoint: the quorum `w` needs 1 and has 0");
    assert!(String::from_utf8_lossy(&verdict.stdout).contains("\"verified\":false"));

    let note = SignedNote::parse(&note).expect("a note");
    let cosignature = witness.cosign(note.text(), 1_700_000_000).expect("a checkpoint");
    let cosigned = assemble_note(note.text(), &[note.signatures(), &[cosignature]].concat()).expect("a note");
    let mut witnessed = resources;
    witnessed.insert("checkpoint".to_owned(), cosigned);
    let witnessed = serve(witnessed);
    let verdict = fsck(&witnessed.url, &["--policy", &policy, "--state", &state]);
    assert_good(&verdict);
    assert!(String::from_utf8_lossy(&verdict.stdout).contains("are what its witnessed checkpoint says"));
    // What was kept is held against the log, cosigned or not.
    let kept = path(&directory, "kept");
    std::fs::write(&kept, &publish(&entries(301))["checkpoint"]).expect("a file");
    let verdict = fsck(&witnessed.url, &["--policy", &policy, "--checkpoint", &kept]);
    assert_fails(&verdict, 3, "entries were taken back");

    write(&needs_one.replace("quorum w", "quorum none"));
    assert_good(&fsck(&server.url, &["--policy", &policy]));
    write("quorum none\n");
    assert_good(&judge(&server, &["--policy", &policy]));
    assert_fails(&fsck(&server.url, &["--policy", &policy]), 2, "the policy lists no log");
    write("quorum none");
    assert_fails(&judge(&server, &["--policy", &policy]), 2, "policy line 1");
    assert_fails(&fsck("./nowhere", &["--vkey", &vkey(), "--policy", &policy]), 2, "--policy");
}

#[test]
fn an_entry_of_the_wrong_framing_is_the_bundles_fault() {
    let mut resources = publish(&entries(300));
    // The same bytes, cut in another place.
    let moved = bundle(&[b"0".to_vec(), b"1".to_vec()]);
    resources.insert("tile/entries/001.p/44".to_owned(), moved);
    assert_fails(&judge(&serve(resources), &[]), 3, "tile/entries/001.p/44: ");
}

/// Every head of the log that Tessera keeps for its own tests; skipped where the public data is not (CONTRIBUTING.md).
#[test]
fn the_log_of_tesseras_tests_is_accepted_at_each_of_its_sizes() {
    let Some(data) = common::shared_data() else {
        eprintln!("skipped: no public data (LOGWOOD_SHARED)");
        return;
    };
    let vectors = data.join("vectors/tessera-testlog");
    let mut judged = 0;
    for entry in vectors.read_dir().expect("a directory") {
        let path = entry.expect("a readable directory").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
        let Some(size) = name.strip_prefix("checkpoint.").map(str::to_owned) else { continue };
        let directory = vectors.clone();
        let server = Server::start(move |asked, _| {
            let asked = if asked == "checkpoint" { &name } else { asked };
            std::fs::read(directory.join(asked)).map_or(Answer::Status(404), Answer::Body)
        });
        let verdict = fsck(&server.url, &["--vkey", TESSERA_VKEY, "--json"]);
        assert_eq!(assert_good(&verdict)["size"].to_string(), size);
        judged += 1;
    }
    assert_eq!(judged, 16);
}

fn path(directory: &TempDir, name: &str) -> String {
    let path: PathBuf = directory.path().join(name);
    path.into_os_string().into_string().expect("text")
}
