//! Publishing: which heads are kept, and when somebody may see them.

/// How widely a head is known. Each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Signed by the log as soon as its round was durable: a promise, comparable to an SCT. Not kept.
    #[default]
    Signed,
    /// Kept in the history and in the anchor, and served to everybody.
    Published,
    /// Published, with a quorum of the log's witnesses.
    Witnessed,
}
