//! Errors in one line, for people.

use std::error::Error;
use std::fmt::Write as _;

/// `sentence`, and what caused `error`, from the outermost to the innermost: `sentence: cause: its cause`.
#[must_use]
pub fn with_causes(sentence: impl Into<String>, error: &dyn Error) -> String {
    let mut sentence = sentence.into();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(sentence, ": {error}").expect("writing to a String cannot fail");
        cause = error.source();
    }
    sentence
}
