//! Why something that a source should have cannot be had, or is not what it has to be.

use std::fmt;

/// What failed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Path of the resource below the log's URL, or the name of the rpc.
    pub path: String,
    /// What is the matter with it.
    pub problem: Problem,
}

/// What is the matter with a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The server does not have it.
    Missing,
    /// It is not what the signed root says.
    Wrong(String),
    /// Nobody can tell now.
    Unavailable(String),
}

impl Failure {
    /// The resource at `path` is not what it has to be.
    pub fn wrong(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), problem: Problem::Wrong(reason.into()) }
    }

    /// Nobody can tell now what is at `path`.
    pub fn unavailable(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), problem: Problem::Unavailable(reason.into()) }
    }

    /// Whether the server does not have it.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.problem == Problem::Missing
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, problem } = self;
        match problem {
            Problem::Missing => write!(f, "{path} is missing, although the log has signed a tree that needs it"),
            Problem::Wrong(reason) | Problem::Unavailable(reason) => write!(f, "{path}: {reason}"),
        }
    }
}
