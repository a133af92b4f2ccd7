//! What commands print: tables for people, JSON for programs.
//!
//! Colours appear on a terminal only, and never with `NO_COLOR` set; `anstream` sees to both.

use std::fmt::Display;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use console::measure_text_width;
use serde::Serialize;

use crate::exit::Exit;

/// Prints a value as JSON on lines of its own.
pub(crate) fn json(value: &impl Serialize) {
    line(serde_json::to_string_pretty(value).expect("our answers can be written as JSON"));
}

/// Prints a value as JSON on one line: an event.
pub(crate) fn json_line(value: &impl Serialize) {
    line(serde_json::to_string(value).expect("our events can be written as JSON"));
}

/// Prints a line.
pub(crate) fn line(text: impl Display) {
    or_end(writeln!(anstream::stdout(), "{text}"));
}

/// Prints bytes as they are, such as a script for a shell.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut output = io::stdout();
    or_end(output.write_all(bytes).and_then(|()| output.flush()));
}

/// Ends the process if its answer cannot be written and somebody wanted it: on a full disk nothing
/// that follows helps. Who does not read to the end, such as `head`, has what they wanted.
fn or_end(written: io::Result<()>) {
    match written {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            note(format_args!("cannot write to the output: {why}"));
            std::process::exit(i32::from(Exit::Failed as u8));
        }
        Ok(()) | Err(_) => {}
    }
}

/// Prints what went wrong, with all its causes, to the error output.
pub(crate) fn error(error: &dyn std::error::Error) {
    let red = AnsiColor::Red.on_default().bold();
    note(format_args!("{red}error{red:#}: {}", with_causes(error)));
}

/// Prints a hint for people to the error output, so that it is no part of an answer.
pub(crate) fn note(text: impl Display) {
    // Where nobody reads errors there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{text}");
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
    for row in aligned(header, rows) {
        line(row);
    }
}

/// Returns the lines of a table. Colours take no room in it, whether or not they are shown.
fn aligned(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let header = header.iter().map(|name| name.to_uppercase()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = measure_text_width(cell).max(*width);
        }
    }
    let padded = |(cell, width): (&String, &usize)| {
        let missing = width - measure_text_width(cell);
        format!("{cell}{:missing$}", "")
    };
    let cells = rows.iter().map(|row| row.iter().zip(&widths).map(padded));
    let lines = cells.map(|cells| cells.collect::<Vec<_>>().join("  "));
    lines.map(|line| line.trim_end().to_owned()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room_in_a_table() {
        let row = |mood, word: &str, what: &str| vec![painted(word, mood), what.to_owned()];
        let rows = [
            row(Mood::Good, "ok", "every node answers"),
            row(Mood::Bad, "FAULT", "größer"),
        ];
        let lines = aligned(&["", "found"], rows);
        let plain = lines.iter().map(|line| console::strip_ansi_codes(line));
        let plain: Vec<_> = plain.collect();
        assert_eq!(
            plain,
            ["       FOUND", "ok     every node answers", "FAULT  größer"]
        );
    }
}
