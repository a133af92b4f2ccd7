//! Why settings cannot be used.

use std::path::PathBuf;

/// Settings that do not go together, or that this version cannot give effect.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A setting without which this command cannot start has no value.
    #[error(
        "`{setting}` is not set: {why} (flag --{}, variable STEADING_{}, or the key in the file of --config)",
        setting.replace('_', "-"),
        setting.to_uppercase()
    )]
    Missing {
        /// The setting.
        setting: &'static str,
        /// What it is needed for.
        why: &'static str,
    },
    /// A value that is well-formed, and still cannot be used here.
    #[error("`{setting}` cannot be used: {why}")]
    Refused {
        /// The setting.
        setting: &'static str,
        /// Why.
        why: String,
    },
    /// Certificates that cannot be used.
    #[error(transparent)]
    Certificates(#[from] steading::tls::TlsError),
    /// A file that a setting names cannot be read.
    #[error("`{setting}`: cannot read {}", path.display())]
    File {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
