//! The types of the table, and how it is printed.

use std::fmt::{self, Write as _};

use crate::proxy::Lie;
use crate::world::World;

/// What a tool knows of the log before the lie begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knows {
    /// The key, and nothing else.
    Nothing,
    /// An earlier head.
    Older,
    /// The newest head.
    Newest,
}

/// Over what the liar lies. A monitor sees the log over that alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Grpc,
    Http,
    Both,
}

/// What comes of some ways to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell {
    /// * `how` - the error of the client, the exit status of the others, the alarm of the monitor, its evidence.
    /// * `says` - words of the message.
    Caught { asks: &'static [&'static str], how: How, says: &'static str },
    /// The tool ends well.
    CannotSee { asks: &'static [&'static str], why: &'static str },
}

/// How a lie is told to the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// The variant of [`logwood_client::ClientError`].
    Error(&'static str),
    /// The exit status.
    Exit(i32),
    /// The exit status, the kind of the alarm, and the kind of the evidence, if the lie proves itself.
    Alarm(i32, &'static str, Option<char>),
}

/// A lie, and what each tool makes of it.
pub(crate) struct Row {
    pub(crate) lie: &'static str,
    pub(crate) tell: fn(&World) -> Lie,
    pub(crate) log: &'static str,
    pub(crate) knows: Knows,
    pub(crate) over: Over,
    /// Whether the monitor sees the log from a second place, too.
    pub(crate) mirror: bool,
    /// Whether the tools are given a policy with a witness, besides the key.
    pub(crate) policy: bool,
    pub(crate) client: &'static [Cell],
    pub(crate) command: &'static [Cell],
    pub(crate) monitor: Cell,
    pub(crate) fsck: Cell,
}

/// The client library, asked in these ways, answers with this error.
pub(crate) const fn error(asks: &'static [&'static str], variant: &'static str, says: &'static str) -> Cell {
    Cell::Caught { asks, how: How::Error(variant), says }
}

/// These commands end with this exit status.
pub(crate) const fn exit(asks: &'static [&'static str], status: i32, says: &'static str) -> Cell {
    Cell::Caught { asks, how: How::Exit(status), says }
}

/// The monitor raises this alarm.
pub(crate) const fn alarm(status: i32, kind: &'static str, says: &'static str) -> Cell {
    Cell::Caught { asks: &[], how: How::Alarm(status, kind, None), says }
}

/// The monitor raises this alarm, with evidence of this kind.
pub(crate) const fn proof(kind: &'static str, evidence: char, says: &'static str) -> Cell {
    Cell::Caught { asks: &[], how: How::Alarm(3, kind, Some(evidence)), says }
}

/// `logwood fsck URL` ends with this exit status.
pub(crate) const fn fsck(status: i32, says: &'static str) -> Cell {
    exit(&[], status, says)
}

/// These ways to ask show nothing of the lie.
pub(crate) const fn blind(asks: &'static [&'static str], why: &'static str) -> Cell {
    Cell::CannotSee { asks, why }
}

impl Row {
    /// The cells, column by column.
    pub(crate) fn columns(&self) -> [&[Cell]; 4] {
        let [monitor, fsck] = [&self.monitor, &self.fsck].map(std::slice::from_ref);
        [self.client, self.command, monitor, fsck]
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Caught { asks, .. } | Self::CannotSee { asks, .. }) = self;
        if !asks.is_empty() {
            let names: Vec<_> = asks.iter().map(|ask| format!("`{ask}`")).collect();
            write!(f, "{}: ", names.join(", "))?;
        }
        match self {
            Self::CannotSee { why, .. } => write!(f, "cannot see, because {why}"),
            Self::Caught { how, says, .. } => {
                f.write_str("caught, ")?;
                match how {
                    How::Error(variant) => write!(f, "`{variant}`")?,
                    How::Exit(status) => write!(f, "{status}")?,
                    How::Alarm(status, kind, None) => write!(f, "{status}, `{kind}`")?,
                    How::Alarm(status, kind, Some(evidence)) => {
                        write!(f, "{status}, `{kind}`, evidence `{evidence}`")?;
                    }
                }
                write!(f, ": \"{says}\"")
            }
        }
    }
}

/// The table in Markdown.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut table =
        String::from("| the lie | client library | command | `monitor --once` | `fsck URL` |\n|---|---|---|---|---|\n");
    for row in rows {
        let cells = row.columns().map(|cells| {
            let cells: Vec<_> = cells.iter().map(Cell::to_string).collect();
            cells.join("; ")
        });
        let over = match row.over {
            Over::Grpc => " (gRPC)",
            Over::Http => " (HTTP)",
            Over::Both => "",
        };
        let known = match row.knows {
            Knows::Nothing => "",
            Knows::Older => "; known: an earlier head",
            Knows::Newest => "; known: the newest head",
        };
        writeln!(table, "| {}{over}{known} | {} |", row.lie, cells.join(" | "))
            .expect("writing to a String cannot fail");
    }
    table
}
