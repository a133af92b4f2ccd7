//! Files and their words, without any cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// How often each word occurs.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Longer ones are no words but data; they count nowhere.
const WORD_LEN_MAX: usize = 100;

/// Returns every file that the paths name or hold, each once: links are followed.
///
/// # Errors
///
/// If a path cannot be read.
pub(crate) fn files(paths: &[PathBuf]) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut paths = paths.to_vec();
    while let Some(path) = paths.pop() {
        let real = fs::canonicalize(&path);
        let real = real.with_context(|| format!("cannot find {}", path.display()))?;
        if !seen.insert(real.clone()) {
            continue; // A link to a file or folder that was here already.
        }
        if real.is_dir() {
            let entries = fs::read_dir(&real);
            let entries = entries.with_context(|| format!("cannot list {}", path.display()))?;
            for entry in entries {
                paths.push(entry?.path());
            }
        } else {
            files.insert(real);
        }
    }
    Ok(files)
}

/// Counts the words of one file, unless it holds no text: pictures have no words, and no text has a
/// byte that is zero.
///
/// # Errors
///
/// If it cannot be read.
pub(crate) fn count_file(file: &Path) -> anyhow::Result<Option<Counts>> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let is_text = !bytes.contains(&0);
    Ok(is_text.then(|| count(&String::from_utf8_lossy(&bytes))))
}

/// Counts the words of a text: runs of letters and digits, in lower case.
fn count(text: &str) -> Counts {
    let mut counts = Counts::new();
    let words = text.split(|c: char| !c.is_alphanumeric());
    for word in words.filter(|word| (1..=WORD_LEN_MAX).contains(&word.len())) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        let counts = count("The end, the END: été-2!");
        let expected = [("2", 1), ("end", 2), ("the", 2), ("été", 1)];
        assert!(
            counts
                .iter()
                .map(|(word, n)| (word.as_str(), *n))
                .eq(expected)
        );
    }

    #[test]
    fn what_is_too_long_for_a_word_does_not_count() {
        assert!(count(&"x".repeat(WORD_LEN_MAX + 1)).is_empty());
    }

    #[test]
    fn each_file_counts_once_however_it_is_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("deep").join("file");
        fs::create_dir(folder.path().join("deep")).expect("made");
        fs::write(&file, "word").expect("written");
        std::os::unix::fs::symlink(&file, folder.path().join("link")).expect("linked");
        let found = files(&[folder.path().into(), file]).expect("found");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_picture_has_no_words() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").expect("written");
        assert_eq!(count_file(file.path()).expect("read"), None);
        fs::write(file.path(), "été").expect("written");
        assert!(count_file(file.path()).expect("read").is_some());
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = files(&["/no/such/path".into()]).expect_err("not there");
        assert!(error.to_string().contains("/no/such/path"));
    }
}
