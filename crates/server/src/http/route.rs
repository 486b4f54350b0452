//! From the path of a request to what it names. Paths are compared as they were sent: nothing is decoded, so that one
//! resource has one path and a cache cannot be filled with aliases.

use hyper::Method;
use logwood_merkle::TilePath;
use logwood_note::LogName;

/// Longest path that names anything, in bytes: `/logs/`, a name of 63, `/tile/entries/` and a tile number.
const PATH_BYTES_MAX: usize = 160;

/// Something that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/logs`, or `/logs?after=<name>`: a page of the list of logs.
    Logs {
        /// The page begins after this name.
        after: &'a str,
    },
    /// `/logs/<name>/...`
    Log {
        /// A log name; there may be no such log.
        name: &'a str,
        /// What of it.
        part: Part,
    },
    /// `/healthz`: the process answers.
    Healthz,
    /// `/readyz`: reads and writes are served.
    Readyz,
    /// `/metrics`
    Metrics,
}

/// What a log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// `checkpoint`
    Checkpoint,
    /// `tile/...`
    Tile(TilePath),
    /// `seal`
    Seal,
    /// `add`
    Add,
}

impl<'a> Route<'a> {
    /// What `path` and `query` name. `None`: nothing.
    pub(super) fn parse(path: &'a str, query: Option<&'a str>) -> Option<Self> {
        if path.len() > PATH_BYTES_MAX {
            return None;
        }
        if path == "/logs" {
            let Some(query) = query else { return Some(Self::Logs { after: "" }) };
            let after = query.strip_prefix("after=").filter(|name| name.parse::<LogName>().is_ok());
            return after.map(|after| Self::Logs { after });
        }
        if query.is_some() {
            return None;
        }
        match path {
            "/healthz" => return Some(Self::Healthz),
            "/readyz" => return Some(Self::Readyz),
            "/metrics" => return Some(Self::Metrics),
            _ => {}
        }
        let (name, part) = path.strip_prefix("/logs/")?.split_once('/')?;
        name.parse::<LogName>().ok()?;
        let part = match part {
            "checkpoint" => Part::Checkpoint,
            "seal" => Part::Seal,
            "add" => Part::Add,
            tile => Part::Tile(tile.parse().ok()?),
        };
        Some(Self::Log { name, part })
    }

    /// The methods that it takes, as the `Allow` field lists them.
    pub(super) fn allowed(self) -> &'static str {
        match self {
            Self::Log { part: Part::Add, .. } => "POST",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Whether it takes `method`.
    pub(super) fn allows(self, method: &Method) -> bool {
        self.allowed().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// The label of its kind in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Logs { .. } => "logs",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Metrics => "metrics",
            Self::Log { part, .. } => match part {
                Part::Checkpoint => "checkpoint",
                Part::Tile(TilePath::Hashes { .. }) => "tile",
                Part::Tile(TilePath::Entries { .. }) => "entries",
                Part::Seal => "seal",
                Part::Add => "add",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canonical_path_is_a_route() {
        let longest = format!("/logs/{}/tile/entries/x018/x446/x744/x073/x709/x551/615.p/255", "a".repeat(63));
        let paths = [
            "/logs",
            "/healthz",
            "/readyz",
            "/metrics",
            "/logs/a/checkpoint",
            "/logs/a/seal",
            "/logs/a/add",
            "/logs/a/tile/0/000",
            "/logs/a/tile/63/x001/234.p/255",
            "/logs/a/tile/entries/000.p/1",
            &longest,
        ];
        for path in paths {
            assert!(Route::parse(path, None).is_some(), "{path}");
        }
        assert_eq!(Route::parse("/logs", Some("after=a")), Some(Route::Logs { after: "a" }));
    }

    #[test]
    fn nothing_else_is_a_route() {
        let paths = [
            "",
            "/",
            "*",
            "/logs/",
            "//logs",
            "/Logs",
            "/logs/a",
            "/logs/a/",
            "/logs//checkpoint",
            "/logs/a/checkpoint/",
            "/logs/a//checkpoint",
            "/logs/A/checkpoint",
            "/logs/../checkpoint",
            "/logs/a/./checkpoint",
            "/logs/a/../a/checkpoint",
            "/logs/a/%63heckpoint",
            "/logs/a/checkpoint%00",
            "/logs/a/tile",
            "/logs/a/tile/",
            "/logs/a/tile/0/0",
            "/logs/a/tile/0/0000",
            "/logs/a/tile/00/000",
            "/logs/a/tile/+0/000",
            "/logs/a/tile/64/000",
            "/logs/a/tile/0/000.p/0",
            "/logs/a/tile/0/000.p/256",
            "/logs/a/tile/0/000.p/01",
            "/logs/a/tile/0/000.p/",
            "/logs/a/tile/0/x000/000",
            "/logs/a/tile/0/001/000",
            "/logs/a/tile/0/x001",
            "/logs/a/tile/-1/000",
            "/logs/a/tile/entries/000/",
            "/logs/a/tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "/healthz/",
            "/metrics/x",
        ];
        for path in paths {
            assert_eq!(Route::parse(path, None), None, "{path}");
        }
        assert_eq!(Route::parse(&format!("/logs/{}/checkpoint", "a".repeat(200)), None), None);
        for query in ["", "x", "after", "before=a", "after=", "after=A", "after=a&x=1", "after=a&after=a"] {
            assert_eq!(Route::parse("/logs", Some(query)), None, "{query}");
        }
        assert_eq!(Route::parse("/logs/a/checkpoint", Some("")), None, "a query makes an alias");
    }
}
