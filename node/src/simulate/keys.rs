//! The IDs that are looked at: read line by line, or made from a pattern.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead, Read};
use std::sync::Arc;

use steading::ids::{InvalidObjectKey, ObjectKey};

use super::numbers::as_f64;
use super::pattern::Pattern;

/// Most IDs that one simulation takes: beyond that, a sample says as much.
pub(crate) const KEYS_MAX: u64 = 2_000_000;

/// The longest line: an ID of its greatest length and a number beside it.
const LINE_LEN_MAX: u64 = 1024 + 64;

/// The most calls a second that a line can state.
const CALLS_MAX: f64 = 1e12;

/// Some objects of one type, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    pub(super) each: Vec<Key>,
    /// Whether lines said which objects are called more than others, by a number or by
    /// repeating the ID.
    pub(super) are_weighed: bool,
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) key: ObjectKey,
    /// Calls a second, or how often its ID came.
    pub(super) calls: f64,
}

/// Why a list of IDs cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// It cannot be read.
    #[error("cannot read the IDs after line {line}")]
    Read {
        /// The last line that could be.
        line: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is too long to be an ID.
    #[error("line {0} is longer than {LINE_LEN_MAX} bytes: write one ID a line")]
    LongLine(u64),
    /// A line is not text.
    #[error("line {0} is not UTF-8")]
    NotText(u64),
    /// A line has invisible characters.
    #[error("line {line} has the control character {character:?}")]
    Control {
        /// Which line.
        line: u64,
        /// The first such character.
        character: char,
    },
    /// What stands behind the tabulator is no number.
    #[error("line {line}: `{text}` is no number of calls a second")]
    Calls {
        /// Which line.
        line: u64,
        /// What stands there.
        text: String,
    },
    /// An ID that no object can have.
    #[error("line {line}")]
    Id {
        /// Which line, or which number of a pattern.
        line: u64,
        /// Why not.
        #[source]
        source: InvalidObjectKey,
    },
    /// Too many.
    #[error("there are more than {KEYS_MAX} IDs: take a sample")]
    TooMany,
    /// None at all.
    #[error("there are no IDs: write one a line")]
    None,
}

/// Reads IDs of one type, one a line; a number behind a tabulator says how many calls a second go
/// to it, and one that is repeated is called so many times as often.
///
/// # Errors
///
/// [`KeysError`], with the number of the line.
pub(crate) fn read(object_type: &str, mut input: impl BufRead) -> Result<Keys, KeysError> {
    let mut found = Found::of(object_type);
    let mut buffer = Vec::new();
    for line in 1.. {
        buffer.clear();
        let length = (&mut input)
            .take(LINE_LEN_MAX + 2)
            .read_until(b'\n', &mut buffer)
            .map_err(|source| KeysError::Read {
                line: line - 1,
                source,
            })?;
        if length == 0 {
            break;
        }
        if line > KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let (id, calls) = parsed(&buffer, line)?;
        found.add(id, calls, line)?;
    }
    found.end()
}

/// Makes so many IDs of one type from a pattern.
///
/// # Errors
///
/// [`KeysError`] if an object can have no such ID, or there are to be more than [`KEYS_MAX`].
pub(crate) fn made(object_type: &str, pattern: &Pattern, count: u64) -> Result<Keys, KeysError> {
    if count > KEYS_MAX {
        return Err(KeysError::TooMany);
    }
    let mut found = Found::of(object_type);
    for number in 0..count {
        found.add(&pattern.id(number), None, number)?;
    }
    let mut keys = found.end()?;
    // Numbers that give one ID twice make it no busier.
    keys.are_weighed = false;
    Ok(keys)
}

/// Takes a line apart.
fn parsed(line: &[u8], number: u64) -> Result<(&str, Option<f64>), KeysError> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() as u64 > LINE_LEN_MAX {
        return Err(KeysError::LongLine(number));
    }
    let line = std::str::from_utf8(line).map_err(|_| KeysError::NotText(number))?;
    let (id, calls) = match line.split_once('\t') {
        Some((id, calls)) => (id, Some(calls)),
        None => (line, None),
    };
    if let Some(character) = line.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(KeysError::Control {
            line: number,
            character,
        });
    }
    let calls = calls.map(|text| {
        let calls = text.trim().parse().ok();
        let good = calls.filter(|calls| (0.0..=CALLS_MAX).contains(calls));
        good.ok_or_else(|| KeysError::Calls {
            line: number,
            text: text.into(),
        })
    });
    Ok((id, calls.transpose()?))
}

/// What was found so far.
struct Found {
    object_type: Arc<str>,
    keys: Keys,
    places: HashMap<Arc<str>, usize>,
}

impl Found {
    fn of(object_type: &str) -> Self {
        Self {
            object_type: object_type.into(),
            keys: Keys::default(),
            places: HashMap::new(),
        }
    }

    fn add(&mut self, id: &str, calls: Option<f64>, line: u64) -> Result<(), KeysError> {
        self.keys.are_weighed |= calls.is_some();
        let calls = calls.unwrap_or(1.0);
        let id: Arc<str> = id.into();
        match self.places.entry(id.clone()) {
            Entry::Occupied(place) => {
                self.keys.are_weighed = true;
                self.keys.each[*place.get()].calls += calls;
            }
            Entry::Vacant(place) => {
                let key = ObjectKey::new(self.object_type.clone(), id);
                let key = key.map_err(|source| KeysError::Id { line, source })?;
                place.insert(self.keys.each.len());
                self.keys.each.push(Key { key, calls });
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Keys, KeysError> {
        if self.keys.each.is_empty() {
            return Err(KeysError::None);
        }
        Ok(self.keys)
    }
}

impl Keys {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.each.len()
    }

    /// Returns the calls a second to all of them, as the lines say.
    pub(super) fn calls(&self) -> f64 {
        if self.are_weighed {
            self.each.iter().map(|key| key.calls).sum()
        } else {
            as_f64(self.len() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Result<Vec<(String, f64)>, String> {
        let keys = read("T", text).map_err(|error| {
            let error: &dyn std::error::Error = &error;
            crate::output::with_causes(error)
        })?;
        let each = keys.each.into_iter();
        Ok(each.map(|key| (key.key.id().into(), key.calls)).collect())
    }

    #[track_caller]
    fn check(text: &[u8], ids: &[(&str, f64)]) {
        let ids: Vec<_> = ids.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect();
        assert_eq!(lines(text), Ok(ids));
    }

    #[track_caller]
    fn refused(text: &[u8], says: &str) {
        let error = lines(text).expect_err("garbage");
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn an_id_a_line_with_or_without_calls() {
        check(b"a\nb\n", &[("a", 1.0), ("b", 1.0)]);
        check(b"a\t2.5\r\nb c", &[("a", 2.5), ("b c", 1.0)]);
    }

    #[test]
    fn a_repeated_id_is_called_more_often() {
        check(b"a\nb\na\n", &[("a", 2.0), ("b", 1.0)]);
        check(b"a\t3\na\t4\n", &[("a", 7.0)]);
        let keys = read("T", &b"a\nb\na\n"[..]).expect("good");
        assert!(keys.are_weighed);
        assert!((keys.calls() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn garbage_is_refused_with_its_line() {
        refused(b"a\n\nb\n", "line 2");
        refused(b"a\n\xff\n", "line 2 is not UTF-8");
        refused(b"a\nb\0\n", "line 2 has the control character '\\0'");
        refused(b"a\tmany\n", "line 1: `many`");
        refused(b"a\t-1\n", "line 1: `-1`");
        refused(b"a\tNaN\n", "line 1: `NaN`");
        refused(b"", "there are no IDs");
        let long = [b"ok\n".to_vec(), vec![b'x'; 1_000_000]].concat();
        refused(&long, "line 2 is longer than");
        refused(&vec![b'x'; 1030], "line 1: ");
    }

    #[test]
    fn a_pattern_that_repeats_ids_makes_none_of_them_busier() {
        let keys = made("T", &"u{n%3}".parse().expect("good"), 10).expect("good");
        assert_eq!((keys.len(), keys.are_weighed), (3, false));
        let too_many = made("T", &"{n}".parse().expect("good"), KEYS_MAX + 1);
        assert!(matches!(too_many, Err(KeysError::TooMany)));
    }
}
