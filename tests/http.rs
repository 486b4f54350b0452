//! The HTTP API of a real server, over real sockets.

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use common::Server;
use common::raw::{Answer, exchange, get, request};
use logwood_merkle::{CompactRange, Hash, TileId, TileNodes, TilePath, TreeSize};
use logwood_note::{Checkpoint, VerifierKey};
use logwood_proto::v1;
use logwood_proto::v1::log_service_client::LogServiceClient;

const YEAR: &str = "public, max-age=31536000, immutable";
const WEEK: &str = "public, max-age=604800";

fn entry(number: u64) -> Vec<u8> {
    format!("entry {number} of this log, in words that shrink: {}", "lorem ipsum ".repeat(7)).into_bytes()
}

/// Appends entries until there are `size`, and waits until they are published.
async fn grow(server: &Server, from: u64, size: u64) {
    let mut rpc = LogServiceClient::connect(server.url.clone()).await.expect("it listens");
    let mut next = from;
    while next < size {
        let end = size.min(next + 1_000);
        let entries = (next..end).map(|number| v1::BatchEntry { entry: entry(number).into(), identity: None });
        let (log, entries) = ("default".to_owned(), entries.collect());
        let wait = if end == size { v1::HeadLevel::Published } else { v1::HeadLevel::Signed };
        let request = v1::AppendBatchRequest { log, entries, wait: wait.into(), ..Default::default() };
        let answer = rpc.append_batch(request).await.expect("the batch is logged").into_inner();
        let head = answer.head.expect("a head");
        assert!(end < size || head.level == i32::from(v1::HeadLevel::Published), "published in time");
        next = end;
    }
}

/// A server with a log of so many entries, all published.
async fn start(dir: &Path, size: u64, arguments: &[&str]) -> Server {
    let server = Server::start(dir, 0, arguments);
    grow(&server, 0, size).await;
    server
}

fn checkpoint(server: &Server) -> Checkpoint {
    let answer = get(&server.http, "/logs/default/checkpoint");
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert_eq!(answer.field("cache-control"), Some("public, max-age=1"), "no longer than the publish interval");
    let key: VerifierKey = server.vkey.parse().expect("a verifier key");
    Checkpoint::open(&answer.body, &key, None).expect("signed by the log")
}

fn read(server: &Server, path: TilePath) -> Vec<u8> {
    let answer = get(&server.http, &format!("/logs/default/{path}"));
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/octet-stream")), "{path}");
    let cache = if path.width() == 256 { YEAR } else { WEEK };
    assert_eq!(answer.field("cache-control"), Some(cache), "{path}");
    assert_eq!(answer.field("content-encoding"), None, "nobody asked for one");
    answer.body
}

fn entries(bundle: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut entries) = (bundle, Vec::new());
    while let [high, low, after @ ..] = rest {
        let (entry, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        entries.push(entry.to_vec());
        rest = after;
    }
    assert!(rest.is_empty(), "the bundle ends between entries");
    entries
}

/// Reads every tile and bundle of a tree and derives all of them, and its root, from the entries.
fn check_all(server: &Server, size: TreeSize) -> Hash {
    let mut tree = CompactRange::new();
    let mut level: Vec<Hash> = Vec::new();
    for index in 0..size.0.div_ceil(256) {
        let width = TileId { level: 0, index }.partial_width(size);
        let bundle = read(server, TilePath::Entries { index, width });
        for bytes in entries(&bundle) {
            assert_eq!(bytes, entry(tree.size().0), "entries come back as they were sent");
            level.push(Hash::leaf(&bytes));
            tree.append(Hash::leaf(&bytes), |_, _| {});
        }
    }
    assert_eq!(tree.size(), size);
    let mut tiles = TileId::for_size(size).peekable();
    for number in 0.. {
        let mut above = Vec::new();
        while let Some((tile, width)) = tiles.next_if(|(tile, _)| tile.level == number) {
            let bytes = read(server, TilePath::Hashes { tile, width });
            let nodes = TileNodes::from_bytes(&bytes).expect("whole hashes");
            let first = usize::try_from(tile.index).expect("small") * 256;
            assert_eq!(nodes.hashes(), &level[first..first + usize::from(width)], "{tile:?}");
            above.extend(nodes.root());
        }
        level = above;
        if tiles.peek().is_none() {
            break;
        }
    }
    tree.root()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tile_of_a_log_together_gives_its_checkpoint() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), 0, &[]);
    let empty = checkpoint(&server);
    assert_eq!((empty.head.size, empty.head.root), (TreeSize(0), Hash::empty_root()));
    assert_eq!(get(&server.http, "/logs/default/tile/0/000").status, 404, "empty tiles are never served");
    let mut last = 0;
    for size in [1, 255, 256, 257, 65_800] {
        grow(&server, last, size).await;
        let checkpoint = checkpoint(&server);
        assert_eq!(checkpoint.head.size, TreeSize(size));
        assert_eq!(check_all(&server, TreeSize(size)), checkpoint.head.root, "the root at size {size}");
        last = size;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_tiles_of_every_width_are_prefixes_and_end_at_the_head() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 300, &[]).await;
    for (index, widest) in [(0, 256), (1, 44)] {
        let tile = TileId { level: 0, index };
        let hashes = read(&server, TilePath::Hashes { tile, width: widest });
        let bundle = read(&server, TilePath::Entries { index, width: widest });
        assert_eq!(hashes.len(), usize::from(widest) * 32);
        for width in 1..=255 {
            let path = TilePath::Hashes { tile, width };
            let entries_path = TilePath::Entries { index, width };
            if width > widest {
                for path in [path, entries_path] {
                    let answer = get(&server.http, &format!("/logs/default/{path}"));
                    assert_eq!((answer.status, answer.field("cache-control")), (404, Some("no-store")), "{path}");
                }
                continue;
            }
            assert_eq!(read(&server, path), &hashes[..usize::from(width) * 32], "{path}");
            let part = read(&server, entries_path);
            assert!(bundle.starts_with(&part), "{entries_path}");
            assert_eq!(entries(&part).len(), usize::from(width), "{entries_path}");
        }
    }
    assert_eq!(read(&server, TilePath::Hashes { tile: TileId { level: 1, index: 0 }, width: 1 }).len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_canonical_is_not_found_and_not_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 300, &[]).await;
    let malformed = [
        "/",
        "/logs/",
        "/logs/default",
        "/logs/default/",
        "/logs/default/checkpoint/",
        "/logs//default/checkpoint",
        "//logs/default/checkpoint",
        "/logs/default/./checkpoint",
        "/logs/other/../default/checkpoint",
        "/logs/default/%63heckpoint",
        "/logs/default/checkpoint%00",
        "/logs/default/checkpoint?",
        "/logs/default/checkpoint?x=1",
        "/logs?page=1",
        "/logs?after",
        "/logs/default/tile/0/0",
        "/logs/default/tile/0/0000",
        "/logs/default/tile/0/x000/000",
        "/logs/default/tile/00/000",
        "/logs/default/tile/64/000",
        "/logs/default/tile/0/000.p/0",
        "/logs/default/tile/0/000.p/256",
        "/logs/default/tile/0/000.p/007",
        "/logs/default/tile/0/000.p",
        "/logs/default/keys",
        "/logs/default/add",
        "/healthz/",
        "/favicon.ico",
        "/metrics?x",
        "/tile/0/000",
        "/logs/default/tile/entries/000;x",
    ];
    let absent = [
        "/logs/none/checkpoint",
        "/logs/Default/checkpoint",
        "/logs/logwood.audit/checkpoint",
        "/logs/%64efault/checkpoint",
        "/logs/../checkpoint",
        "/logs/default/seal",
        "/logs/default/tile/0/001",
        "/logs/default/tile/0/001.p/45",
        "/logs/default/tile/1/000",
        "/logs/default/tile/1/000.p/2",
        "/logs/default/tile/2/000.p/1",
        "/logs/default/tile/7/000.p/1",
        "/logs/default/tile/8/000.p/1",
        "/logs/default/tile/63/000.p/1",
        "/logs/default/tile/entries/001",
        "/logs/default/tile/entries/002.p/1",
        "/logs/default/tile/entries/x018/x446/x744/x073/x709/x551/615",
        "/logs/default/tile/0/x072/x057/x594/x037/x927/935",
    ];
    let not_found = |method: &str, target: &str| {
        let answer = request(&server.http, method, target, &[], &[]);
        assert_eq!((answer.status, answer.field("cache-control")), (404, Some("no-store")), "{method} {target}");
        assert_eq!(answer.body.is_empty(), method == "HEAD", "{method} {target}");
    };
    for target in malformed {
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            not_found(method, target);
        }
    }
    for target in absent {
        for method in ["GET", "HEAD"] {
            not_found(method, target);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_a_resource_does_not_take_are_named_with_those_that_it_takes() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 1, &[]).await;
    for target in ["/logs", "/logs/default/checkpoint", "/logs/default/tile/0/000.p/1", "/healthz", "/metrics"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "get"] {
            let answer = request(&server.http, method, target, &[], &[]);
            assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method} {target}");
            assert_eq!(answer.field("cache-control"), Some("no-store"), "{method} {target}");
        }
        let answer = request(&server.http, "OPTIONS", target, &["origin: https://example.com"], &[]);
        assert_eq!((answer.status, answer.field("access-control-allow-methods")), (204, Some("GET, HEAD")), "{target}");
        assert_eq!(get(&server.http, target).field("access-control-allow-origin"), Some("*"), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_tells_the_length_and_a_known_tag_spares_the_body() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 300, &[]).await;
    let targets =
        ["checkpoint", "tile/0/000", "tile/0/000.p/9", "tile/0/001.p/44", "tile/entries/000", "tile/entries/001.p/44"];
    for target in targets.map(|part| format!("/logs/default/{part}")).into_iter().chain(["/logs".to_owned()]) {
        let full = get(&server.http, &target);
        let tag = full.field("etag").expect("a tag").to_owned();
        assert_eq!(full.field("content-length"), Some(full.body.len().to_string().as_str()), "{target}");
        let head = request(&server.http, "HEAD", &target, &[], &[]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{target}");
        for name in ["content-length", "content-type", "etag", "cache-control", "vary"] {
            assert_eq!(head.field(name), full.field(name), "{name} of {target}");
        }
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let field = format!("if-none-match: {known}");
            let answer = request(&server.http, "GET", &target, &[&field], &[]);
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{target} {known}");
            assert_eq!(answer.field("etag"), Some(tag.as_str()), "{target} {known}");
            assert_eq!(answer.field("cache-control"), full.field("cache-control"), "{target} {known}");
        }
        let other = request(&server.http, "GET", &target, &["if-none-match: \"0123\""], &[]);
        assert_eq!((other.status, other.body), (200, full.body), "{target}");
    }
}

fn decoded(answer: &Answer) -> Vec<u8> {
    match answer.field("content-encoding") {
        None => answer.body.clone(),
        Some("zstd") => zstd::stream::decode_all(&*answer.body).expect("zstd"),
        Some("gzip") => {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&*answer.body).read_to_end(&mut plain).expect("gzip");
            plain
        }
        Some(other) => panic!("{other} was not asked for"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_are_compressed_for_those_who_ask_and_tiles_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 1_300, &[]).await;
    let mut tags = std::collections::BTreeSet::new();
    let table = [
        ("tile/entries/000", "gzip", Some("gzip")),
        ("tile/entries/000", "gzip, zstd", Some("zstd")),
        ("tile/entries/000", "zstd;q=0, gzip;q=0", None),
        ("tile/entries/005.p/20", "gzip, zstd", Some("gzip")),
        ("tile/entries/005.p/20", "zstd", None),
        ("tile/entries/005.p/20", "br", None),
        ("tile/0/000", "gzip, zstd", None),
        ("checkpoint", "gzip, zstd", None),
    ];
    for (part, accepted, coding) in table {
        let target = format!("/logs/default/{part}");
        let plain = get(&server.http, &target);
        let field = format!("accept-encoding: {accepted}");
        let answer = request(&server.http, "GET", &target, &[&field], &[]);
        assert_eq!(answer.field("content-encoding"), coding, "{part} {accepted}");
        assert_eq!(decoded(&answer), plain.body, "{part} {accepted}");
        let varies = part.contains("entries").then_some("accept-encoding");
        assert_eq!((answer.field("vary"), plain.field("vary")), (varies, varies), "{part} {accepted}");
        let tag = answer.field("etag").expect("a tag").to_owned();
        assert_eq!(tag == plain.field("etag").expect("a tag"), coding.is_none(), "{part} {accepted}");
        let known = format!("if-none-match: {tag}");
        assert_eq!(request(&server.http, "GET", &target, &[&field, &known], &[]).status, 304, "{part} {accepted}");
        if coding.is_some() {
            assert!(answer.body.len() * 2 < plain.body.len(), "{part} {accepted}: {} bytes", answer.body.len());
            assert!(tags.insert(tag), "each representation has a tag of its own");
            let head = request(&server.http, "HEAD", &target, &[&field], &[]);
            assert_eq!(head.field("content-length"), answer.field("content-length"), "{part} {accepted}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_logs_names_what_can_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 3, &[]).await;
    let answer = get(&server.http, "/logs");
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let list: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let log = &list["logs"][0];
    assert_eq!(log["name"], "default");
    assert_eq!(log["size"], 3);
    assert_eq!(log["vkeys"][0], server.vkey);
    assert!(list["next"].is_null());
    let checkpoint = get(&server.http, log["links"]["checkpoint"].as_str().expect("a link"));
    assert_eq!(checkpoint.text().lines().next(), log["origin"].as_str());
    assert_eq!(get(&server.http, "/logs?after=default").text().matches("\"name\"").count(), 0);
    assert_eq!((get(&server.http, "/healthz").status, get(&server.http, "/readyz").status), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seal_is_served_once_there_is_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 3, &[]).await;
    let sealed = Command::new(env!("CARGO_BIN_EXE_logwood"))
        .args(["logs", "seal", "default", "--admin"])
        .arg(dir.path().join("admin.sock"))
        .output()
        .expect("it runs");
    assert!(sealed.status.success(), "{}", String::from_utf8_lossy(&sealed.stderr));
    let answer = get(&server.http, "/logs/default/seal");
    assert_eq!((answer.status, answer.field("cache-control")), (200, Some(YEAR)));
    assert!(answer.text().starts_with("logwood-seal/v1\n"), "{}", answer.text());
    assert!(get(&server.http, "/logs").text().contains("/logs/default/seal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_to_those_who_begin_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 300, &[]).await;
    // It wants one even where there is no TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().http2_prior_knowledge().no_gzip().no_zstd().build().expect("a client");
    let url = |path: &str| format!("http://{}{path}", server.http);
    for path in ["/logs/default/checkpoint", "/logs/default/tile/0/000", "/logs/default/tile/entries/000"] {
        let plain = get(&server.http, path);
        let answer = client.get(url(path)).send().await.expect("an answer");
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        assert_eq!(answer.headers()["content-length"], plain.field("content-length").expect("a length"));
        assert_eq!(answer.bytes().await.expect("a body"), plain.body, "{path}");
        let head = client.head(url(path)).send().await.expect("an answer");
        assert_eq!(head.headers()["content-length"], plain.field("content-length").expect("a length"));
        assert!(head.bytes().await.expect("no body").is_empty());
    }
    assert_eq!(client.get(url("/logs/default/tile/0/7")).send().await.expect("an answer").status(), 404);
    assert_eq!(client.delete(url("/logs")).send().await.expect("an answer").status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_client_at_the_wrong_port_is_told_so_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 1, &[]).await;
    let http = format!("http://{}", server.http);
    let mut command = common::logwood(&server, dir.path(), "state");
    let output = command.args(["head", "--server", &http, "--vkey", &server.vkey]).output().expect("it runs");
    let (code, _, told) = common::outcome(&output);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("this is the HTTP listener; gRPC is served on that of --grpc"), "{told}");
    let mut rpc = LogServiceClient::connect(http).await.expect("it listens");
    let status = rpc.get_tree_head(v1::GetTreeHeadRequest::default()).await.expect_err("no gRPC");
    assert_eq!(status.code(), tonic::Code::Unimplemented, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_and_the_next_one_is_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 1, &[]).await;
    let long = "x".repeat(1 << 20);
    let many: Vec<String> = (0..2_000).map(|number| format!("x-{number}: y\r\n")).collect();
    let many = many.concat();
    let requests = [
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "a/".repeat(2_000)),
        format!("GET /logs HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"),
        format!("GET /logs HTTP/1.1\r\nhost: x\r\n{many}\r\n"),
        "GET /logs\0 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "GET /logs HTTP/1.1\r\nhost: x\0\r\n\r\n".to_owned(),
        "GET /logs HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(),
        "GET http:///\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".repeat(9),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\0\0\0\0\0\0\0\0".to_owned(),
        "GET /logs HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned(),
        "GET /logs HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(),
        "CONNECT example.com:80 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
    ];
    for bytes in requests {
        let answer = exchange(&server.http, bytes.as_bytes());
        let refused = answer.as_ref().is_none_or(|answer| (400..500).contains(&answer.status));
        assert!(refused, "{} {answer:?}", &bytes[..bytes.len().min(60)].escape_debug());
        assert_eq!(get(&server.http, "/healthz").status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_finish_a_request_make_room_for_those_that_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 1, &[]).await;
    let mut slow = Vec::new();
    for number in 0..700 {
        let mut stream = TcpStream::connect(&server.http).expect("it accepts");
        // A third says nothing, the others a part of a request.
        let said = ["", "GET /logs HTTP/1.1\r\nhost: x\r\nx-", "PRI * HTTP/2.0"][number % 3];
        stream.write_all(said.as_bytes()).expect("it listens");
        slow.push(stream);
        if number % 100 == 99 {
            assert_eq!(get(&server.http, "/logs/default/checkpoint").status, 200, "beside {number} slow ones");
        }
    }
    let metrics = get(&server.http, "/metrics");
    let open = metrics.text().lines().find_map(|line| line.strip_prefix("logwood_http_connections "));
    assert!(open.expect("a gauge").parse::<u32>().expect("a number") <= 512, "{open:?}");
    slow[0].set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a timeout");
    let ended = slow[0].read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(ended, Ok(0) | Err(ErrorKind::ConnectionReset)), "the first of them was put out: {ended:?}");
}

fn add(server: &Server, fields: &[&str], body: &[u8]) -> Answer {
    request(&server.http, "POST", "/logs/default/add", fields, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_can_be_posted_where_that_is_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("logwood.toml");
    std::fs::write(&config, "[http]\nappend = true\n").expect("a file");
    let config = config.to_str().expect("text");
    let data = dir.path().join("data");
    let server = Server::start(&data, 0, &["--config", config]);

    let first = add(&server, &["idempotency-key: one"], b"first");
    assert_eq!((first.status, first.text(), first.field("cache-control")), (200, "0", Some("no-store")));
    assert_eq!(add(&server, &["idempotency-key: one"], b"first").text(), "0", "a retry changes nothing");
    assert_eq!(add(&server, &["idempotency-key: one"], b"other").status, 409);
    assert_eq!(add(&server, &[], b"second").text(), "1");
    assert_eq!(add(&server, &[], b"second").text(), "2", "without a key each is an entry of its own");
    assert_eq!(add(&server, &[], &vec![7; 65_535]).text(), "3");
    assert_eq!(add(&server, &[], &vec![7; 65_536]).status, 413);
    assert_eq!(add(&server, &["content-length: 0"], &[]).status, 400);
    assert_eq!(add(&server, &["idempotency-key: a", "idempotency-key: b"], b"x").status, 400);
    assert_eq!(add(&server, &["idempotency-key:"], b"x").status, 400);
    assert_eq!(add(&server, &[&format!("idempotency-key: {}", "k".repeat(129))], b"x").status, 400);
    assert_eq!(add(&server, &["origin: https://example.com"], b"x").status, 403, "no web page may append");
    let chunked = |count: usize| {
        let head =
            "POST /logs/default/add HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = format!("400\r\n{}\r\n", "c".repeat(1024));
        exchange(&server.http, format!("{head}{}0\r\n\r\n", chunk.repeat(count)).as_bytes()).expect("an answer")
    };
    assert_eq!(chunked(2).text(), "4");
    assert_eq!(chunked(64).status, 413);
    assert_eq!(request(&server.http, "POST", "/logs/none/add", &[], b"x").status, 404);
    let wrong = get(&server.http, "/logs/default/add");
    assert_eq!((wrong.status, wrong.field("allow")), (405, Some("POST")));

    let frozen = Command::new(env!("CARGO_BIN_EXE_logwood"))
        .args(["logs", "freeze", "default", "--admin"])
        .arg(data.join("admin.sock"))
        .output()
        .expect("it runs");
    assert!(frozen.status.success(), "{}", String::from_utf8_lossy(&frozen.stderr));
    assert_eq!(add(&server, &[], b"x").status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_gets_the_answer_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, body) = (dir.path().join("logwood.toml"), dir.path().join("body"));
    std::fs::write(&config, "[http]\nappend = true\n").expect("a file");
    let server = Server::start(&dir.path().join("data"), 0, &["--config", config.to_str().expect("text")]);
    let post = |version: &str, path: &str, fields: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", version, "--output", "/dev/null", "--write-out", "%{http_code}", "--data-binary"]);
        curl.arg(format!("@{}", body.display())).args(fields.iter().flat_map(|field| ["--header", field]));
        let output = curl.arg(format!("http://{}/logs/default/{path}", server.http)).output().expect("it runs");
        String::from_utf8(output.stdout).expect("text")
    };
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for bytes in [65_536, 100_000, 4_000_000] {
            std::fs::write(&body, vec![7; bytes]).expect("a file");
            for _ in 0..8 {
                assert_eq!(post(version, "add", &[]), "413", "{version} {bytes}");
                assert_eq!(post(version, "add", &["transfer-encoding: chunked"]), "413", "{version} {bytes}, chunked");
                assert_eq!(post(version, "checkpoint", &[]), "405", "{version} {bytes}");
            }
        }
        std::fs::write(&body, "x").expect("a file");
        for _ in 0..8 {
            assert_eq!(post(version, "add", &["origin: https://example.com"]), "403", "{version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_was_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), 1_500, &[]).await;
    get(&server.http, "/logs/default/tile/0/000");
    get(&server.http, "/nothing/of/this/kind");
    let mut rpc = LogServiceClient::connect(server.url.clone()).await.expect("it listens");
    let beyond = v1::GetTreeHeadRequest { log: "default".into(), known_size: 9_999, ..Default::default() };
    assert!(rpc.get_tree_head(beyond).await.is_err());
    let metrics = get(&server.http, "/metrics");
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(metrics.field("content-type"), Some(media));
    for line in [
        "logwood_grpc_requests_total{rpc=\"AppendBatch\",code=\"OK\"} 2",
        "logwood_grpc_requests_total{rpc=\"GetTreeHead\",code=\"OUT_OF_RANGE\"} 1",
        "logwood_http_requests_total{resource=\"tile\",status=\"200\"} 1",
        "logwood_http_requests_total{resource=\"other\",status=\"404\"} 1",
        "logwood_entries_appended_total 1500",
        "logwood_log_entries{log=\"default\"} 1500",
        "logwood_log_published_entries{log=\"default\"} 1500",
        "logwood_log_publish_age_seconds{log=\"default\"} 0.0",
        "logwood_queue_entries_limit 65536",
        "logwood_queue_limit_bytes 67108864",
    ] {
        assert!(metrics.text().lines().any(|shown| shown == line), "{line} is not in\n{}", metrics.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_beyond_the_largest_head_that_the_log_lets_out_is_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("logwood.toml");
    let settings = "publish-interval-ms = 3600000\n[logs.default]\nacknowledge = \"published\"\n";
    std::fs::write(&config, settings).expect("a file");
    let arguments = ["--config", config.to_str().expect("text")];
    let server = Server::start(&dir.path().join("data"), 0, &arguments);
    let mut rpc = LogServiceClient::connect(server.url.clone()).await.expect("it listens");
    let request = v1::AppendRequest { log: "default".into(), entry: "one".into(), wait_ms: 1, ..Default::default() };
    let waiting = rpc.append(request).await.expect_err("it is durable, but not published for an hour");
    assert_eq!(waiting.code(), tonic::Code::Unavailable, "{waiting}");
    for part in ["tile/0/000.p/1", "tile/entries/000.p/1"] {
        let answer = get(&server.http, &format!("/logs/default/{part}"));
        assert_eq!((answer.status, answer.field("cache-control")), (404, Some("no-store")), "{part}");
    }
    let answer = get(&server.http, "/logs/default/checkpoint");
    assert_eq!(
        (answer.text().lines().nth(1), answer.field("cache-control")),
        (Some("0"), Some("public, max-age=3600"))
    );
}
