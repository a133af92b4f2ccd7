//! The log, on the error output.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, Settings};

/// Begins to log as the settings say. A second time in one process changes nothing.
pub(crate) fn start_logs(settings: &Settings) {
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.log_format {
        LogFormat::Text => false,
        LogFormat::Json => true,
        LogFormat::Auto => !terminal,
    };
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&settings.log))
        .with_ansi(colours)
        .with_writer(std::io::stderr);
    // An error says that there is a log already, which is fine.
    drop(if json {
        log.json().try_init()
    } else {
        log.try_init()
    });
}
