//! Text from outside, made safe for a terminal and for a log line.
//!
//! Object IDs, labels, errors of methods and everything in etcd can hold escape sequences, line
//! breaks that forge a row, and marks that reorder or hide text. Pure: the places that print decide
//! what to escape.

use std::fmt::{self, Display, Write};

/// Displays a value with everything escaped that is not plainly visible: control characters, line
/// breaks, marks of direction, zero-width and unassigned characters. ESC becomes `\u{1b}`.
///
/// Quotes and backslashes stay, so this is for reading, not for parsing back.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Writes on to another writer, escaped.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if is_visible(c) {
                self.0.write_char(c)?;
            } else {
                write!(self.0, "{}", c.escape_debug())?;
            }
        }
        Ok(())
    }
}

/// Whether each character of a text is plainly visible, or a space.
pub fn is_visible_text(text: &str) -> bool {
    text.chars().all(is_visible)
}

/// Whether a character is plainly visible, or a space. Marks that combine with the letter before
/// them are: whole scripts are written with them.
pub fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library escapes what has no glyph; only at the start of a text does it escape
    // combining marks too.
    let mut text = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut text[1..]).len();
    let text = std::str::from_utf8(&text[..len]).unwrap_or_default();
    text.escape_debug().count() == 2
}

/// Returns a text as one word for a shell: as it is if it is made of letters, digits and a few
/// signs, or else [`shell_quoted`].
pub fn shell_word(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/,@[]".contains(&b);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        shell_quoted(text)
    }
}

/// Quotes a text so that a shell takes it for one word, whatever it holds: `'it'\''s'`. One with
/// characters that are not plainly visible becomes `$'…'`, which bash, zsh and ksh know.
pub fn shell_quoted(text: &str) -> String {
    if is_visible_text(text) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut quoted = "$'".to_owned();
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            c if is_visible(c) => quoted.push(c),
            c => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(quoted, "\\{byte:03o}");
                }
            }
        }
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Escaped(text).to_string(), expected);
        assert!(is_visible_text(&Escaped(text).to_string()));
    }

    #[test]
    fn control_characters_are_escaped() {
        check("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}");
        check("a\nb\rc\td\0", "a\\nb\\rc\\td\\0");
        check("\u{8}\u{7f}", "\\u{8}\\u{7f}");
        check("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}");
        check("\u{2028}\u{2029}", "\\u{2028}\\u{2029}");
    }

    #[test]
    fn hidden_and_reordering_marks_are_escaped() {
        for c in "\u{61c}\u{ad}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\
                  \u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}\u{fff9}\
                  \u{e0041}\u{fdd0}\u{e000}"
            .chars()
        {
            assert!(!is_visible(c), "U+{:04X}", u32::from(c));
            check(&c.to_string(), &format!("\\u{{{:x}}}", u32::from(c)));
        }
    }

    #[test]
    fn visible_text_stays() {
        for text in [
            "",
            "a b",
            r#"it's "C:\x""#,
            "größe",
            "日本語",
            "हिन्दी",
            "e\u{301}",
            "→ € 🦀",
            "Zoë/{n}",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn quoted_words_stay_one_word() {
        assert_eq!(shell_quoted("a b"), "'a b'");
        assert_eq!(shell_word("http://a-1.b:7480"), "http://a-1.b:7480");
        assert_eq!(shell_word("a;b"), "'a;b'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_quoted("'; rm x; '"), r"''\''; rm x; '\'''");
        assert_eq!(shell_quoted("a\n'b\\"), r"$'a\012\'b\\'");
        assert_eq!(shell_quoted("\u{202e}"), r"$'\342\200\256'");
    }
}
