//! What commands print: tables for people, JSON for programs.
//!
//! Colours appear on a terminal only, and never with `NO_COLOR` set; `anstream` sees to both.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};
use serde::Serialize;

/// Prints a value as JSON on lines of its own.
pub(crate) fn json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("our answers can be written as JSON");
    anstream::println!("{text}");
}

/// Prints a value as JSON on one line: an event.
pub(crate) fn json_line(value: &impl Serialize) {
    let text = serde_json::to_string(value).expect("our events can be written as JSON");
    anstream::println!("{text}");
}

/// Prints a line for people.
pub(crate) fn line(text: impl Display) {
    anstream::println!("{text}");
}

/// Prints what went wrong, with all its causes, to the error output.
pub(crate) fn error(error: &dyn std::error::Error) {
    let red = AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{red}error{red:#}: {}", with_causes(error));
}

/// Prints a hint for people to the error output, so that it is no part of an answer.
pub(crate) fn note(text: impl Display) {
    anstream::eprintln!("{text}");
}

/// Writes an error with all its causes: `cannot start: cannot bind: address in use`.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = Vec::new();
    for text in causes.map(ToString::to_string) {
        // Some errors repeat their cause in their own text.
        if !texts.last().is_some_and(|last| last.ends_with(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

/// A table for people: no lines, columns two spaces apart.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(header.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.to_string().lines() {
        anstream::println!("{}", line.trim_end());
    }
}

/// Writes a value that may be missing.
pub(crate) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Not as it should be.
    Bad,
}

/// Colours a word by how good it is.
pub(crate) fn painted(word: impl Display, mood: Mood) -> String {
    let style = match mood {
        Mood::Good => AnsiColor::Green.on_default(),
        Mood::Busy => AnsiColor::Yellow.on_default(),
        Mood::Bad => AnsiColor::Red.on_default().bold(),
    };
    paint(word, style)
}

fn paint(word: impl Display, style: Style) -> String {
    format!("{style}{word}{style:#}")
}
