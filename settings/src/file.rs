//! The settings of a TOML file, laid beneath variables and flags.

use std::path::{Path, PathBuf};

use clap::{Args, Command};

/// Why a file of settings was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the file {} that `config` names", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// It is not TOML.
    #[error("{} is not TOML: line {line}: {why}", file.display())]
    NotToml {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// It has a key that is no setting.
    #[error("{}: there is no setting `{key}`", file.display())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// A value cannot be used.
    #[error("{}: bad value for `{key}`: {why}", file.display())]
    BadValue {
        /// The file.
        file: PathBuf,
        /// The setting.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Makes the values of a file the defaults of a command that takes these settings, so that any
/// variable or flag goes before them.
///
/// # Errors
///
/// [`FileError`]: a key or value that cannot be used is named, with the file.
pub fn with_file<S: Args>(command: Command, file: &Path) -> Result<Command, FileError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| FileError::Unreadable(file.to_owned(), error))?;
    let table: toml::Table =
        toml::from_str(&text).map_err(|error| not_toml(file, &text, &error))?;
    table
        .into_iter()
        .try_fold(command, |command, (key, value)| {
            let known = S::augment_args(Command::new("settings"));
            if key == "config"
                || !known
                    .get_arguments()
                    .any(|arg| arg.get_id() == key.as_str())
            {
                let file = file.to_owned();
                return Err(FileError::UnknownKey { file, key });
            }
            let values = check_value(&known, &key, &value).map_err(|why| FileError::BadValue {
                file: file.to_owned(),
                key: key.clone(),
                why,
            })?;
            Ok(command.mut_arg(key, |arg| arg.default_values(values)))
        })
}

/// Names the line: the parser's own message has several, with a picture of it.
fn not_toml(file: &Path, text: &str, error: &toml::de::Error) -> FileError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let lines_before = text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    FileError::NotToml {
        file: file.to_owned(),
        line: lines_before + 1,
        why: error.message().to_owned(),
    }
}

/// Returns the texts of a value if the setting takes them.
fn check_value(known: &Command, key: &str, value: &toml::Value) -> Result<Vec<String>, String> {
    let texts = texts(value)?;
    let arg = known.get_arguments().find(|arg| arg.get_id() == key);
    let arg = arg.expect("the caller looked").clone().env(None::<&str>);
    let many = arg.get_value_delimiter().is_some();
    if texts.len() != 1 && !many {
        return Err("it takes one value".into());
    }
    let flags = texts
        .iter()
        .map(|text| format!("--{}={text}", key.replace('_', "-")));
    let alone = Command::new("settings").no_binary_name(true).arg(arg);
    match alone.try_get_matches_from(flags) {
        Ok(_) => Ok(texts),
        Err(error) => Err(reason(&error)),
    }
}

/// Returns what clap found wrong, without the flag that the user did not write.
fn reason(error: &clap::Error) -> String {
    use std::error::Error;
    if let Some(source) = error.source() {
        return source.to_string();
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.trim_start_matches("error: ").to_owned()
}

fn texts(value: &toml::Value) -> Result<Vec<String>, String> {
    match value {
        toml::Value::String(text) => Ok(vec![text.clone()]),
        toml::Value::Integer(number) => Ok(vec![number.to_string()]),
        toml::Value::Float(number) => Ok(vec![number.to_string()]),
        toml::Value::Boolean(on) => Ok(vec![on.to_string()]),
        toml::Value::Array(values) => {
            let texts = values.iter().map(texts).collect::<Result<Vec<_>, _>>()?;
            Ok(texts.concat())
        }
        toml::Value::Table(table) => table
            .iter()
            .map(|(name, value)| match &texts(value)?[..] {
                [text] => Ok(format!("{name}={text}")),
                _ => Err(format!("`{name}` takes one value")),
            })
            .collect(),
        toml::Value::Datetime(_) => Err("no setting is a date".into()),
    }
}
