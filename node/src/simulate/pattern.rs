//! IDs by the thousand from one pattern.

use std::fmt::Write;
use std::str::FromStr;

/// A description of IDs: text with places for a number that counts from 0.
///
/// `{n}` is the number, `{n%10}` its remainder, `{n/10}` its quotient. All else stays as it is,
/// braces too: `cart{{n%100}}` gives `cart{0}` to `cart{99}`, whose braces name a placement key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Number,
    Remainder(u64),
    Quotient(u64),
}

/// A pattern that gives the same ID for every number, or that divides by zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must have a place for the number: {{n}}, {{n%10}} or {{n/10}}")]
pub(crate) struct InvalidPattern;

impl Pattern {
    /// Returns the ID of a number.
    pub(super) fn id(&self, number: u64) -> String {
        let mut id = String::new();
        for part in &self.0 {
            let number = match part {
                Part::Text(text) => {
                    id.push_str(text);
                    continue;
                }
                Part::Number => number,
                Part::Remainder(by) => number % by,
                Part::Quotient(by) => number / by,
            };
            write!(id, "{number}").expect("a text takes all that is written");
        }
        id
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(first) = rest.chars().next() {
            if let Some((part, after)) = place(rest) {
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(part);
                rest = after;
            } else {
                plain.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        parts.push(Part::Text(plain));
        if parts.len() == 1 {
            return Err(InvalidPattern);
        }
        Ok(Self(parts))
    }
}

/// Reads a place for the number at the beginning of a text.
fn place(text: &str) -> Option<(Part, &str)> {
    let (inside, after) = text.strip_prefix("{n")?.split_once('}')?;
    let divisor = |by: &str| by.parse().ok().filter(|by| *by > 0);
    let part = match inside.split_at_checked(1) {
        None => Part::Number,
        Some(("%", by)) => Part::Remainder(divisor(by)?),
        Some(("/", by)) => Part::Quotient(divisor(by)?),
        Some(_) => return None,
    };
    Some((part, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, number: u64, id: &str) {
        let pattern: Pattern = pattern.parse().expect("a pattern");
        assert_eq!(pattern.id(number), id);
    }

    #[test]
    fn a_pattern_has_numbers_remainders_and_quotients() {
        check("user-{n}", 7, "user-7");
        check("{n%10}/{n/10}", 123, "3/12");
        check("{n}{n}é", 5, "55é");
    }

    #[test]
    fn other_braces_stay_and_name_a_placement_key() {
        check("cart{{n%100}}", 205, "cart{5}");
        check("{tenant-{n%3}}/order-{n}", 4, "{tenant-1}/order-4");
        check("{name}{n}", 1, "{name}1");
    }

    #[test]
    fn a_pattern_without_a_number_is_refused() {
        for text in ["user", "", "{m}", "{n%0}", "{n*2}", "{n%}", "{n"] {
            assert_eq!(text.parse::<Pattern>(), Err(InvalidPattern), "{text}");
        }
    }
}
