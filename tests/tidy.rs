//! The house rules that no compiler checks: short files, modules that say what they are for, no
//! notes to self, and documents whose links lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a source file. Test files may be longer.
const LINES_MAX: usize = 500;

/// Directories that hold no work of ours.
const SKIPPED: [&str; 4] = [".git", "target", "logwood-data", "logwoodv1"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` with one of the `extensions`, in a stable order.
fn files(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a directory that was just listed") {
            let entry = entry.expect("a readable directory");
            let name = entry.file_name();
            let kind = entry.file_type().expect("a file type");
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                open.push(entry.path());
            } else if kind.is_file() && has_extension(&entry.path(), extensions) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    extensions.iter().any(|wanted| path.extension().is_some_and(|extension| extension == *wanted))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn source_files_are_short() {
    let long = |path: &PathBuf| {
        let lines = read(path).lines().count();
        (!is_test(path) && lines > LINES_MAX).then(|| format!("{}: {lines}", path.display()))
    };
    let found: Vec<_> = files(&root(), &["rs"]).iter().filter_map(long).collect();
    assert_none(&format!("source files of more than {LINES_MAX} lines"), &found);
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = |path: &PathBuf| {
        let says = read(path).lines().next().is_some_and(|line| line.starts_with("//! "));
        (!says).then(|| path.display().to_string())
    };
    let found: Vec<_> = files(&root(), &["rs"]).iter().filter_map(silent).collect();
    assert_none("modules that do not begin with `//! `", &found);
}

#[test]
fn no_notes_to_self() {
    // Put together here, so that this file does not find itself.
    let notes = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "todo".to_owned() + "!("];
    let mut found = Vec::new();
    for path in files(&root(), &["rs", "go", "proto", "toml", "md"]) {
        for (index, line) in read(&path).lines().enumerate() {
            if notes.iter().any(|note| line.contains(note)) {
                found.push(format!("{}:{}", path.display(), index + 1));
            }
        }
    }
    assert_none("notes to self", &found);
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut found = Vec::new();
    for path in files(&root(), &["md"]) {
        let dir = path.parent().expect("a file is in a directory");
        for target in links(&read(&path)) {
            let is_local = !target.contains("://") && !target.starts_with('#');
            let file = target.split('#').next().unwrap_or_default();
            if is_local && !dir.join(file).exists() {
                found.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert_none("dead links", &found);
}

/// The targets of the inline links of a Markdown text: what is between `](` and `)`.
fn links(text: &str) -> Vec<String> {
    let after = text.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn links_are_found() {
    assert_eq!(links("[a](b.md) and [c](https://d)\n[e]"), ["b.md", "https://d"]);
}
