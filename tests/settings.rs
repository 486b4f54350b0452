//! What `logwood serve --print-config` shows: the limits with the defaults of `docs/limits.md`, and what else was set where.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output};

/// Setting and default of each row whose first cell is a name and whose second is a number.
fn documented(text: &str) -> BTreeMap<String, i64> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
    let row = |line: &str| {
        let cells = cells(line);
        Some((cells.get(1)?.clone(), cells.get(2)?.parse().ok()?))
    };
    let table = text.split("## Settings").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a table");
    table.lines().filter_map(row).collect()
}

fn call(arguments: &[&OsStr], environment: &[(&str, &OsStr)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logwood"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LOGWOOD_")) {
        command.env_remove(name);
    }
    command.args(["serve", "--print-config"]).args(arguments).envs(environment.iter().copied());
    command.output().expect("the command runs")
}

fn print_config(environment: &[(&str, &str)]) -> (bool, String) {
    let environment: Vec<_> = environment.iter().map(|&(name, value)| (name, OsStr::new(value))).collect();
    let output = call(&[], &environment);
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).expect("text"))
}

fn limits(config: &str) -> BTreeMap<String, i64> {
    let config: toml::Table = config.parse().expect("TOML");
    let limits = config["limits"].as_table().expect("a table");
    limits.iter().map(|(name, value)| (name.clone(), value.as_integer().expect("a number"))).collect()
}

#[test]
fn the_documented_limits_are_the_settings_and_their_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/limits.md");
    let documented = documented(&std::fs::read_to_string(path).expect("the document"));
    let (works, config) = print_config(&[]);
    assert!(works, "{config}");
    assert_eq!(documented, limits(&config));
}

#[test]
fn a_limit_can_be_set_in_the_environment_and_nonsense_is_refused_by_name() {
    let (works, config) = print_config(&[("LOGWOOD_LIMITS__BODY_TIMEOUT_MS", "2500")]);
    assert!(works, "{config}");
    assert_eq!(limits(&config)["body-timeout-ms"], 2_500);
    for (name, value, complaint) in [
        ("LOGWOOD_LIMITS__BATCH_ENTRIES", "1001", "limits.batch-entries = 1001: must be 1 to 1000"),
        ("LOGWOOD_LIMITS__BATCH_ENTRIES", "many", "batch-entries"),
        ("LOGWOOD_LIMITS__BACH_ENTRIES", "10", "bach-entries"),
    ] {
        let (works, error) = print_config(&[(name, value)]);
        assert!(!works && error.contains(complaint), "{name}={value}: {error}");
    }
}

#[test]
fn a_misspelt_variable_is_named_and_changes_nothing() {
    let output =
        call(&[], &[("LOGWOOD_PUBLISH_INTERVAL", OsStr::new("10")), ("LOGWOOD_SERVICE_PORT", OsStr::new("80"))]);
    assert!(output.status.success());
    assert_eq!(output.stdout, call(&[], &[]).stdout);
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(told, "logwood: warning: LOGWOOD_PUBLISH_INTERVAL sets nothing: no setting has that name\n");
}

#[test]
fn what_is_not_utf_8_is_a_usage_error_and_never_another_directory() {
    let odd = OsStr::from_bytes(b"data-\xff");
    for output in [call(&[OsStr::new("--data"), odd], &[]), call(&[], &[("LOGWOOD_DATA", odd)])] {
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("UTF-8"));
    }
    // Another program's variable is none of ours.
    assert!(call(&[], &[("OTHER", odd)]).status.success());
}
