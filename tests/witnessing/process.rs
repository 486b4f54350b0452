//! `logwood witness` as a process, for a log that exists already.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use logwood_note::{CosigningKey, SignatureType};

/// A running witness. SIGKILL when dropped.
pub struct WitnessProcess {
    child: Child,
    pub address: String,
    /// Its `witness` line.
    pub line: String,
}

impl WitnessProcess {
    /// Starts a witness of the log that signs with `vkey`, with a key and a state of its own in `dir`.
    pub fn start(dir: &Path, name: &str, vkey: &str) -> Self {
        let key = CosigningKey::generate(name, SignatureType::Ed25519Cosignature).expect("a key");
        let file = |kind: &str| dir.join(format!("{name}.{kind}"));
        key.create(file("key")).expect("a key file");
        std::fs::write(file("logs"), format!("log {vkey}\nquorum none\n")).expect("a policy file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_logwood"));
        command.args(["witness", "--listen", "127.0.0.1:0", "--state"]).arg(file("state"));
        command.arg("--key").arg(file("key")).arg("--logs").arg(file("logs")).env("RUST_LOG", "off");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the witness starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let serving = |line: std::io::Result<String>| {
            line.expect("its output is text").strip_prefix("serving HTTP on ").map(str::to_owned)
        };
        let address = lines.find_map(serving).expect("the witness listens");
        let line = format!("witness {name} {} http://{address}\n", key.verifier());
        Self { child, address, line }
    }
}

impl Drop for WitnessProcess {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
