//! Why certificates cannot be used.

use std::path::PathBuf;

/// Why files of certificates cannot be used. No part of a key is ever told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("`{setting}`: cannot read {}: {why}", path.display())]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A file was read and will not do.
    #[error("`{setting}`: {} {why}", path.display())]
    Unusable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why, as the rest of a sentence.
        why: String,
    },
    /// The name that certificates must carry is none.
    #[error("`tls_name`: `{0}` is no name of a host")]
    Name(String),
    /// A part of what is needed is not there.
    #[error("`{0}` is not set, and TLS between nodes needs it")]
    Missing(&'static str),
}
