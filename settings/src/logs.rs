//! The log, on the error output.

use std::io::IsTerminal;

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::{LogFormat, SettingsError};

/// The settings of the log.
#[derive(Args, Clone, Debug)]
pub struct LogSettings {
    /// What to log to the error output, in `EnvFilter` syntax such as `info,steading=debug`.
    #[arg(
        long,
        env = "STEADING_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,

    /// Form of the log: `text`, `json`, or `auto` for text on a terminal and JSON elsewhere.
    #[arg(
        long,
        env = "STEADING_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub log_format: LogFormat,
}

impl LogSettings {
    /// Checks what to log.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if it is no filter.
    pub fn check(&self) -> Result<(), SettingsError> {
        match EnvFilter::try_new(&self.log) {
            Ok(_) => Ok(()),
            Err(error) => Err(SettingsError::Refused {
                setting: "log",
                why: error.to_string(),
            }),
        }
    }

    /// Begins to log as the settings say. A second time in one process changes nothing.
    pub fn start(&self) {
        let terminal = std::io::stderr().is_terminal();
        let json = match self.log_format {
            LogFormat::Text => false,
            LogFormat::Json => true,
            LogFormat::Auto => !terminal,
        };
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(&self.log))
            .with_ansi(colours)
            .with_writer(std::io::stderr);
        // An error says that there is a log already, which is fine.
        drop(if json {
            log.json().try_init()
        } else {
            log.try_init()
        });
    }
}
