//! TLS on both listeners, and what is refused without it.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::Server;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

const BINARY: &str = env!("CARGO_BIN_EXE_logwood");

/// A root, a certificate of `127.0.0.1` and one of a client, as PEM files.
struct Certificates {
    ca: PathBuf,
    server: (PathBuf, PathBuf),
    client: (PathBuf, PathBuf),
}

impl Certificates {
    fn make(dir: &Path) -> Self {
        let write = |name: &str, pem: String| {
            let path = dir.join(name);
            std::fs::write(&path, pem).expect("a file");
            path
        };
        let mut root = CertificateParams::new(Vec::new()).expect("no names");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().expect("a key");
        let ca = write("ca.pem", root.self_signed(&root_key).expect("signed").pem());
        let issuer = Issuer::new(root, root_key);
        let leaf = |name: &str, host: &str| {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &issuer).expect("signed");
            (write(&format!("{name}.pem"), certificate.pem()), write(&format!("{name}.key"), key.serialize_pem()))
        };
        let (server, client) = (leaf("server", "127.0.0.1"), leaf("client", "auditor.example"));
        Self { ca, server, client }
    }

    fn flags(&self) -> [&str; 4] {
        ["--tls-cert", text(&self.server.0), "--tls-key", text(&self.server.1)]
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn logwood(state: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).env("XDG_STATE_HOME", state).output().expect("it runs")
}

fn https(certificates: &Certificates, with_identity: bool) -> reqwest::Client {
    // Another test of this program may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = |path: &Path| std::fs::read(path).expect("a file");
    let root = reqwest::Certificate::from_pem(&pem(&certificates.ca)).expect("a certificate");
    let mut client = reqwest::Client::builder().tls_certs_only([root]);
    if with_identity {
        let identity = [pem(&certificates.client.0), pem(&certificates.client.1)].concat();
        client = client.identity(reqwest::Identity::from_pem(&identity).expect("an identity"));
    }
    client.build().expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_listeners_speak_tls_to_those_who_trust_the_root() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::make(dir.path());
    let server = Server::start(&dir.path().join("data"), 0, &certificates.flags());
    let url = server.url.replace("http://", "https://");
    let ca = text(&certificates.ca);

    let head = logwood(dir.path(), &["head", "--server", &url, "--tls-ca", ca, "--vkey", &server.vkey]);
    assert!(head.status.success(), "{}", String::from_utf8_lossy(&head.stderr));
    let unknown = logwood(dir.path(), &["head", "--server", &url, "--vkey", &server.vkey]);
    assert_eq!(unknown.status.code(), Some(1), "the system does not know this root");
    let plain = logwood(dir.path(), &["head", "--server", &server.url, "--vkey", &server.vkey]);
    assert_eq!(plain.status.code(), Some(1), "there is no plain text");
    let pointless = logwood(dir.path(), &["head", "--server", &server.url, "--tls-ca", ca, "--vkey", &server.vkey]);
    assert_eq!(pointless.status.code(), Some(2), "roots are for https://");

    let client = https(&certificates, false);
    let checkpoint = format!("https://{}/logs/default/checkpoint", server.http);
    let answer = client.get(&checkpoint).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2), "ALPN chooses HTTP/2");
    let old = reqwest::Client::builder()
        .http1_only()
        .tls_certs_only([
            reqwest::Certificate::from_pem(&std::fs::read(&certificates.ca).expect("a file")).expect("a certificate")
        ]);
    let answer = old.build().expect("a client").get(&checkpoint).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_11));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_client_ca_nobody_is_served_without_a_certificate() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::make(dir.path());
    let ca = text(&certificates.ca);
    let arguments = [&certificates.flags()[..], &["--client-ca", ca]].concat();
    let server = Server::start(&dir.path().join("data"), 0, &arguments);
    let url = server.url.replace("http://", "https://");

    let stranger = logwood(dir.path(), &["head", "--server", &url, "--tls-ca", ca, "--vkey", &server.vkey]);
    assert_eq!(stranger.status.code(), Some(1));
    let (cert, key) = (text(&certificates.client.0), text(&certificates.client.1));
    let known = ["head", "--server", &url, "--tls-ca", ca, "--tls-cert", cert, "--tls-key", key];
    let known = logwood(dir.path(), &[&known[..], &["--vkey", &server.vkey]].concat());
    assert!(known.status.success(), "{}", String::from_utf8_lossy(&known.stderr));
    let load = ["bench", "unary", "--seconds", "1", "--in-flight", "2", "--server", &url, "--tls-ca", ca];
    assert_eq!(logwood(dir.path(), &load).status.code(), Some(1));
    let load = logwood(dir.path(), &[&load[..], &["--tls-cert", cert, "--tls-key", key]].concat());
    assert!(load.status.success(), "{}", String::from_utf8_lossy(&load.stderr));

    let health = format!("https://{}/healthz", server.http);
    assert!(https(&certificates, false).get(&health).send().await.is_err());
    assert_eq!(https(&certificates, true).get(&health).send().await.expect("an answer").status(), 200);
}

#[test]
fn plain_text_beyond_the_loopback_has_to_be_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    for (flag, other) in [("--grpc", "--http"), ("--http", "--grpc")] {
        let arguments = ["serve", "--data", text(&data), flag, "0.0.0.0:0", other, "127.0.0.1:0"];
        let refused = logwood(dir.path(), &arguments);
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{message}");
        assert!(["--tls-cert", "--tls-key", "--insecure", flag].iter().all(|name| message.contains(name)), "{message}");
        let print = logwood(dir.path(), &[&arguments[..], &["--insecure", "--print-config"]].concat());
        assert!(print.status.success(), "{}", String::from_utf8_lossy(&print.stderr));
    }
    let certificates = Certificates::make(dir.path());
    for half in [&certificates.flags()[..2], &certificates.flags()[2..], &["--client-ca", text(&certificates.ca)]] {
        let refused = logwood(dir.path(), &[&["serve", "--data", text(&data)], half].concat());
        assert_eq!(refused.status.code(), Some(2), "{half:?}");
    }
    assert!(!data.exists(), "a server that does not start makes nothing");
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::make(dir.path());
    let junk = dir.path().join("junk.pem");
    std::fs::write(&junk, "not a certificate").expect("a file");
    let data = dir.path().join("data");
    let listen = ["serve", "--data", text(&data), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let (cert, key) = (text(&certificates.server.0), text(&certificates.server.1));
    let missing = text(dir.path()).to_owned() + "/missing.pem";
    let wrong = text(&certificates.client.1);
    for (cert, key, named) in [
        (text(&junk), key, text(&junk)),
        (cert, text(&junk), text(&junk)),
        (&missing, key, &missing),
        ("/dev/zero", key, "/dev/zero"),
        (cert, wrong, wrong),
    ] {
        let refused = logwood(dir.path(), &[&listen[..], &["--tls-cert", cert, "--tls-key", key]].concat());
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{message}");
        assert!(message.contains(named), "{message}");
    }
    let endless = logwood(dir.path(), &["head", "--server", "https://127.0.0.1:1", "--tls-ca", "/dev/zero"]);
    assert_eq!(endless.status.code(), Some(2), "{}", String::from_utf8_lossy(&endless.stderr));
}
