//! The variables of the environment that set something.

use std::ffi::OsString;

use crate::failure::Usage;

/// The names that a variable `LOGWOOD_<NAME>` can set; `LOGWOOD_LIMITS__<LIMIT>` sets one of a table.
const NAMES: [&str; 16] = [
    "data",
    "grpc",
    "http",
    "admin",
    "anchor",
    "anchor-every",
    "torn-tail",
    "public-url",
    "publish-interval-ms",
    "refresh-interval-ms",
    "witness-deadline-ms",
    "limits",
    "tls-cert",
    "tls-key",
    "client-ca",
    "insecure",
];

/// The variable of a setting that is a list: names, parted by spaces.
const DISTRUST_WITNESS: &str = "LOGWOOD_DISTRUST_WITNESS";

/// Variables of the other commands.
const OTHERS: [&str; 3] = ["server", "vkey", "tls-ca"];

/// Whether it is a variable that Kubernetes sets for every pod beside a service named `logwood`.
fn is_of_kubernetes(name: &str) -> bool {
    name == "port" || name.starts_with("port-") || name.starts_with("service-")
}

/// What the environment says to `logwood serve`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Variables {
    /// Names, whole, and values.
    pub(super) settings: Vec<(String, String)>,
    /// The witnesses that are distrusted, by name.
    pub(super) distrusted: Vec<String>,
    /// Names that look like settings and are none: misspelt, perhaps.
    pub(super) ignored: Vec<String>,
}

impl Variables {
    /// Sorts the variables of a process.
    ///
    /// # Errors
    ///
    /// A setting whose value is not UTF-8.
    pub(super) fn of(environment: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, Usage> {
        let mut found = Self::default();
        for (variable, value) in environment {
            let Ok(variable) = variable.into_string() else { continue };
            let Some(name) = variable.strip_prefix("LOGWOOD_") else { continue };
            let table = name.split_once("__").map_or(name, |(table, _)| table);
            let name = table.to_lowercase().replace('_', "-");
            if NAMES.contains(&name.as_str()) || variable == DISTRUST_WITNESS {
                let Ok(value) = value.into_string() else {
                    return Err(Usage { problem: format!("the value of {variable} is not UTF-8") });
                };
                if variable == DISTRUST_WITNESS {
                    found.distrusted = value.split_whitespace().map(str::to_owned).collect();
                } else {
                    found.settings.push((variable, value));
                }
            } else if !OTHERS.contains(&name.as_str()) && !is_of_kubernetes(&name) {
                found.ignored.push(variable);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn sorted(variables: &[(&str, &[u8])]) -> Result<Variables, Usage> {
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Variables::of(variables.iter().map(|&(name, value)| (os(name.as_bytes()), os(value))))
    }

    #[test]
    fn a_misspelt_name_is_told_and_those_of_other_programs_are_not() {
        let found = sorted(&[
            ("LOGWOOD_TLS_CERT", b"cert.pem"),
            ("LOGWOOD_LIMITS__BODIES_MIB", b"16"),
            ("LOGWOOD_HTTP__APPEND", b"true"),
            ("LOGWOOD_TLS_KEYS", b"key.pem"),
            ("LOGWOOD_PORTS", b"7070"),
            ("LOGWOOD_LIMIT__BODIES_MIB", b"16"),
            ("LOGWOOD_SERVER", b"http://127.0.0.1:7070"),
            ("LOGWOOD_DISTRUST_WITNESS", b"w1 w2"),
            ("LOGWOOD_SERVICE_HOST", b"10.0.0.1"),
            ("LOGWOOD_PORT_7070_TCP", b"tcp://10.0.0.1:7070"),
            ("PATH", b"/bin"),
        ]);
        let found = found.expect("all are text");
        let names: Vec<_> = found.settings.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["LOGWOOD_TLS_CERT", "LOGWOOD_LIMITS__BODIES_MIB", "LOGWOOD_HTTP__APPEND"]);
        assert_eq!(found.distrusted, ["w1", "w2"]);
        assert_eq!(found.ignored, ["LOGWOOD_TLS_KEYS", "LOGWOOD_PORTS", "LOGWOOD_LIMIT__BODIES_MIB"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_in_a_setting_and_nothing_elsewhere() {
        assert_eq!(sorted(&[("OTHER", b"\xff")]).expect("another program's"), Variables::default());
        for name in ["LOGWOOD_DATA", "LOGWOOD_DISTRUST_WITNESS"] {
            let error = sorted(&[(name, b"\xff")]).expect_err("not text");
            assert_eq!(error.problem, format!("the value of {name} is not UTF-8"));
        }
    }
}
