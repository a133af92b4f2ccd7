//! What commands print: tables for people, JSON for programs.
//!
//! Colours appear on a terminal only, and never with `NO_COLOR` set; `anstream` sees to both.
//!
//! Everything that is printed passes here, and what comes from the cluster is not trusted: [`Text`]
//! escapes whatever is not plainly visible, and so does JSON.

use std::fmt::Display;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use console::measure_text_width;
use serde::Serialize;
use steading::text::Escaped;
use steading_settings::escaped_json;

use crate::exit::Exit;

/// Prints a value as JSON on lines of its own.
pub(crate) fn json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("our answers can be written as JSON");
    bytes(format!("{}\n", escaped_json(&text)).as_bytes());
}

/// Prints a value as JSON on one line: an event.
pub(crate) fn json_line(value: &impl Serialize) {
    let text = serde_json::to_string(value).expect("our events can be written as JSON");
    bytes(format!("{}\n", escaped_json(&text)).as_bytes());
}

/// Prints a line.
pub(crate) fn line(text: impl Into<Text>) {
    or_end(writeln!(anstream::stdout(), "{}", text.into().0));
}

/// Prints bytes as they are, such as a script for a shell. Nothing from the cluster.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut output = io::stdout();
    or_end(output.write_all(bytes).and_then(|()| output.flush()));
}

/// Ends the process if its answer cannot be written and somebody wanted it: on a full disk nothing
/// that follows helps. Who does not read to the end, such as `head`, has what they wanted.
fn or_end(written: io::Result<()>) {
    match written {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            note(format!("cannot write to the output: {why}"));
            std::process::exit(i32::from(Exit::Failed as u8));
        }
        Ok(()) | Err(_) => {}
    }
}

/// Prints what went wrong, with all its causes, to the error output.
pub(crate) fn error(error: &dyn std::error::Error) {
    note(text!(painted("error", Mood::Bad), ": ", with_causes(error)));
}

/// Prints a hint for people to the error output, so that it is no part of an answer.
pub(crate) fn note(text: impl Into<Text>) {
    // A closed or full error output must not change the exit code.
    let _ = writeln!(anstream::stderr(), "{}", text.into().0);
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
pub(crate) fn table<C: Into<Text>>(header: &[&str], rows: impl IntoIterator<Item = Vec<C>>) {
    for row in aligned(header, rows) {
        line(Text(row));
    }
}

/// Returns the lines of a table. Colours take no room in it, whether or not they are shown.
fn aligned<C: Into<Text>>(header: &[&str], rows: impl IntoIterator<Item = Vec<C>>) -> Vec<String> {
    let header = header.iter().map(|name| name.to_uppercase()).collect();
    let rows = rows.into_iter().map(|row| {
        let cells = row.into_iter().map(|cell| cell.into().0);
        cells.collect()
    });
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

/// The longest text that is printed as one piece, in bytes. The rest is left out.
const TEXT_LEN_MAX: usize = 16 << 10;

/// Text for a terminal: everything in it is plainly visible, but our own colours.
///
/// Made from anything that can be displayed, which escapes it; pieces are joined by `text!`. It
/// cannot be displayed itself, so that no piece is escaped twice or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(String);

impl<T: Display> From<T> for Text {
    fn from(value: T) -> Self {
        let mut text = Escaped(value).to_string();
        if text.len() > TEXT_LEN_MAX {
            let rest = text.len() - TEXT_LEN_MAX;
            text.truncate(text.floor_char_boundary(TEXT_LEN_MAX));
            text = format!("{text}… ({rest} bytes more)");
        }
        Self(text)
    }
}

impl Text {
    /// Joins pieces without anything between them.
    pub(crate) fn joined(pieces: impl IntoIterator<Item = Self>) -> Self {
        Self(pieces.into_iter().map(|piece| piece.0).collect())
    }
}

/// Joins pieces, each of which can be made a [`Text`].
macro_rules! text {
    ($($piece:expr),+ $(,)?) => {
        $crate::output::Text::joined([$($crate::output::Text::from($piece)),+])
    };
}
pub(crate) use text;

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
pub(crate) fn painted(word: impl Into<Text>, mood: Mood) -> Text {
    let style = match mood {
        Mood::Good => AnsiColor::Green.on_default(),
        Mood::Busy => AnsiColor::Yellow.on_default(),
        Mood::Bad => AnsiColor::Red.on_default().bold(),
    };
    paint(&word.into(), style)
}

fn paint(word: &Text, style: Style) -> Text {
    Text(format!("{style}{}{style:#}", word.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room_in_a_table() {
        let row = |mood, word: &str, what: &str| vec![painted(word, mood), what.into()];
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

    #[test]
    fn untrusted_text_stays_in_its_cell() {
        let forged = "a\nb  owned";
        let rows = [
            vec![Text::from(forged), Text::from("\u{1b}[2J\u{202e}x")],
            vec![painted("c\u{1b}[0m", Mood::Bad), Text::from("d\r")],
        ];
        let lines = aligned(&["id", "node"], rows);
        let plain = lines.iter().map(|line| console::strip_ansi_codes(line));
        let plain: Vec<_> = plain.collect();
        let expected = [
            "ID           NODE",
            "a\\nb  owned  \\u{1b}[2J\\u{202e}x",
            "c\\u{1b}[0m   d\\r",
        ];
        assert_eq!(plain, expected);
    }

    #[test]
    fn long_texts_are_cut() {
        let long = Text::from("ä".repeat(TEXT_LEN_MAX)).0;
        assert!(long.len() < TEXT_LEN_MAX + 64, "{}", long.len());
        assert!(long.ends_with("bytes more)"), "{long}");
    }
}
