//! What the settings of all Steading programs have in common.
//!
//! Every setting has one name in three forms, from weak to strong: a key of a TOML file, a
//! `STEADING_*` variable, a flag. Programs define theirs with clap; here are the parts that they
//! share, the file, and the table for the documentation. No value that is secret is ever shown.

mod docs;
mod error;
mod file;
mod limits;
mod log_writer;
mod logs;
mod marked;
mod runtime;
mod secret;
mod store;
mod tls;
mod values;
mod variables;

pub use docs::table;
pub use error::SettingsError;
pub use file::{FileError, with_file};
pub use limits::{LimitSettings, raise_descriptors};
pub use log_writer::LogGuard;
pub use logs::{LogLayer, LogSettings};
pub use marked::escaped_json;
pub use runtime::{OPEN_FILES_MIN, RuntimeError, start_runtime};
pub use secret::SecretNames;
pub use store::StoreSettings;
pub use tls::TlsSettings;
pub use values::{Address, Endpoint, LogFormat, Prefix, Secret, duration};
pub use variables::{SETTINGS, UnknownVariable, check_variables, not_utf8};
