//! What people see of long work: a bar on standard error, if that is a terminal.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a bar moves that only shows that something is going on.
const TICK: Duration = Duration::from_millis(120);

/// A bar for so many bytes, or one that only counts if the number is not known.
pub(crate) fn of_bytes(what: &str, length: Option<u64>) -> ProgressBar {
    let known = "{msg} [{wide_bar}] {bytes}/{total_bytes} {eta}";
    bar(what, length, if length.is_some() { known } else { "{msg} {spinner} {bytes}" })
}

/// A bar for so many pieces.
pub(crate) fn of_count(what: &str, length: u64) -> ProgressBar {
    bar(what, Some(length), "{msg} [{wide_bar}] {human_pos}/{human_len} {eta}")
}

/// Something of unknown length goes on.
pub(crate) fn waiting(what: &str) -> ProgressBar {
    let bar = bar(what, None, "{spinner} {msg} ({elapsed})");
    bar.enable_steady_tick(TICK);
    bar
}

fn bar(what: &str, length: Option<u64>, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.set_style(ProgressStyle::with_template(template).expect("the templates are constants that parse"));
    bar.set_message(what.to_owned());
    bar
}
