//! Runs the tour of the README against a real server, and compares what is printed with what is promised.
//!
//! In a `console` block, lines that begin with `$ ` are commands, the others their output; `…` stands for anything.

mod common;

use std::path::Path;
use std::process::Command;

use common::{LOGWOOD, Server};

/// A command, and the lines that it shall print.
struct Step {
    command: String,
    output: Vec<String>,
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match (line, line.strip_prefix("$ ")) {
            ("```console", _) => inside = true,
            ("```", _) => inside = false,
            (_, Some(command)) if inside => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
            _ if inside => steps.last_mut().expect("a command comes first").output.push(line.to_owned()),
            _ => {}
        }
    }
    steps
}

/// Whether `line` is `pattern`, in which each `…` stands for any text.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().expect("splitting gives at least one part");
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut open_end = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        open_end = part.is_empty();
    }
    rest.is_empty() || open_end
}

#[test]
fn the_tour_prints_what_the_readme_shows() {
    let readme = include_str!("../README.md");
    let steps = steps(readme);
    assert!(steps.len() > 5, "the tour was not found");
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("logwood-data"), 0, &[]);

    // One shell for all steps, since one of them exports a variable. A line of its own ends each output.
    let end = "--- end of step";
    let script: Vec<String> = steps.iter().map(|step| format!("{}\necho '{end}'", step.command)).collect();
    let script = script.join("\n").replace("127.0.0.1:7071", &server.http);
    let script = script.replace("127.0.0.1:7070", server.url.trim_start_matches("http://"));
    let bin = Path::new(LOGWOOD).parent().expect("a file is in a directory");
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1\nPATH={}:$PATH\n{script}", bin.display())])
        .current_dir(dir.path())
        .env("LOGWOOD_SERVER", &server.url)
        .env("XDG_STATE_HOME", dir.path().join("state"))
        .env_remove("LOGWOOD_VKEY")
        .output()
        .expect("bash runs");
    let output = String::from_utf8(output.stdout).expect("text");
    let printed: Vec<Vec<&str>> = output.split(&format!("{end}\n")).map(|printed| printed.lines().collect()).collect();
    assert_eq!(printed.len(), steps.len() + 1, "the shell ended early:\n{output}");
    for (step, printed) in steps.iter().zip(printed) {
        let is_as_shown = step.output.len() == printed.len()
            && step.output.iter().zip(&printed).all(|(pattern, line)| matches(pattern, line));
        assert!(is_as_shown, "$ {}\nshown: {:#?}\nprinted: {printed:#?}", step.command, step.output);
    }
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(matches("a … c", "a b c"));
    assert!(matches("a …", "a b c"));
    assert!(matches("a", "a"));
    assert!(!matches("a … d", "a b c"));
    assert!(!matches("a", "ab"));
}
