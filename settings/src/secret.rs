//! Secrets, as they are or in a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Secret, SettingsError};

/// The most that is read of a file with a secret. A password or token is far shorter: more means
/// that the setting names the wrong file.
const SECRET_LEN_MAX: u64 = 64 << 10;

/// The two settings that a secret can come from.
#[derive(Clone, Copy, Debug)]
pub struct SecretNames {
    /// The setting that is the secret.
    pub value: &'static str,
    /// The setting that names a file with it.
    pub file: &'static str,
}

impl SecretNames {
    /// Returns the secret from whichever of the two settings has a value. One newline at the end of
    /// a file is not part of it.
    ///
    /// # Errors
    ///
    /// [`SettingsError`]: both are set, or the file cannot be read, is empty or is no text. The
    /// secret itself is never told.
    pub fn read(
        self,
        value: Option<&Secret>,
        file: Option<&Path>,
    ) -> Result<Option<Secret>, SettingsError> {
        match (value, file) {
            (Some(_), Some(_)) => {
                let why = format!("`{}` is set too, and only one of them can be", self.value);
                Err(self.refused(why))
            }
            (Some(value), None) => Ok(Some(value.clone())),
            (None, Some(path)) => self.read_file(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn read_file(self, path: &Path) -> Result<Secret, SettingsError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(SECRET_LEN_MAX + 1).read_to_end(&mut bytes))
            .map_err(|source| SettingsError::File {
                setting: self.file,
                path: path.to_owned(),
                source,
            })?;
        let shown = path.display();
        if bytes.len() as u64 > SECRET_LEN_MAX {
            return Err(self.refused(format!("{shown} has more than {SECRET_LEN_MAX} bytes")));
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| self.refused(format!("{shown} is no text")))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        match text.strip_suffix('\r').unwrap_or(text) {
            "" => Err(self.refused(format!("{shown} is empty"))),
            secret => Ok(secret.to_owned().into()),
        }
    }

    fn refused(self, why: String) -> SettingsError {
        SettingsError::Refused {
            setting: self.file,
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: SecretNames = SecretNames {
        value: "word",
        file: "word_file",
    };

    fn read(content: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("word");
        std::fs::write(&path, content).expect("a file");
        let secret = NAMES.read(None, Some(&path));
        let secret = secret.map_err(|error| error.to_string())?;
        Ok(secret.expect("it is set").reveal().to_owned())
    }

    #[test]
    fn one_newline_at_the_end_is_cut() {
        for (content, secret) in [
            ("geheim", "geheim"),
            ("geheim\n", "geheim"),
            ("geheim\r\n", "geheim"),
            ("geheim\n\n", "geheim\n"),
            (" ge heim ", " ge heim "),
        ] {
            assert_eq!(read(content.as_bytes()).as_deref(), Ok(secret));
        }
    }

    #[test]
    fn a_file_that_holds_no_secret_is_refused_by_its_settings_name() {
        let long = vec![b'x'; 70_000];
        for content in [&b""[..], b"\n", b"\r\n", b"\xff\xfe", &long] {
            let error = read(content).expect_err("no secret");
            assert!(error.contains("`word_file`"), "{error}");
            assert!(!error.contains("xxx"), "{error}");
        }
        let missing = NAMES.read(None, Some(Path::new("/does/not/exist")));
        let error = missing.expect_err("no file").to_string();
        assert!(
            error.contains("`word_file`") && error.contains("/does/not/exist"),
            "{error}"
        );
        let folder = NAMES.read(None, Some(Path::new("/")));
        assert!(folder.is_err(), "a folder is no file");
    }

    #[test]
    fn both_at_once_are_refused_by_both_names() {
        let value = Secret::from("geheim".to_owned());
        let both = NAMES.read(Some(&value), Some(Path::new("/does/not/exist")));
        let error = both.expect_err("which one?").to_string();
        assert!(
            error.contains("`word_file`") && error.contains("`word`"),
            "{error}"
        );
        assert!(!error.contains("geheim"), "{error}");
    }
}
