//! Compiles the public contract in `proto/` with protox, so that no `protoc` is needed.

use std::error::Error;
use std::path::Path;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    // As of this run: the script may have been compiled in another checkout that shares the target directory.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let files = ["logwood/v1/log.proto", "logwood/v1/admin.proto"];
    println!("cargo::rerun-if-changed={}", root.display());

    let descriptors = protox::compile(files, [&root])?;
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("logwood.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
