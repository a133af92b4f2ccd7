//! The log, on the error output.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{PanicHookInfo, set_hook};

use clap::Args;
use tracing::error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::log_writer::LogWriter;
use crate::marked::Marked;
use crate::runtime::panic_text;
use crate::{LogFormat, LogGuard, SettingsError};

/// Somebody else who gets the log.
pub type LogLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What sends the log must not log what it does then.
const NETWORK_LIBRARIES_OFF: &str =
    "h2=off,hyper=off,hyper_util=off,reqwest=off,tonic=off,tower=off";

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

    /// Starts to log as the settings say. A second time in one process changes nothing. Hold the
    /// guard until the end.
    ///
    /// # Errors
    ///
    /// The system has no thread for the log.
    pub fn start(&self) -> io::Result<LogGuard> {
        self.start_with(None, None)
    }

    /// Begins to log as the settings say, and to `more`, which gets nothing of what the libraries
    /// of the network say, for it may be itself what uses them. `unfiltered` gets everything.
    ///
    /// # Errors
    ///
    /// The system has no thread for the log.
    pub fn start_with(
        &self,
        more: Option<LogLayer>,
        unfiltered: Option<LogLayer>,
    ) -> io::Result<LogGuard> {
        let terminal = io::stderr().is_terminal();
        let json = match self.log_format {
            LogFormat::Text => false,
            LogFormat::Json => true,
            LogFormat::Auto => !terminal,
        };
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let writer = LogWriter::start(error_output())?;
        let guard = writer.guard();
        let log = fmt::layer()
            .with_ansi(colours)
            .with_writer(move || writer.clone());
        let log = if json {
            let form = Marked::json(fmt::format().json());
            log.json().event_format(form).boxed()
        } else {
            log.event_format(Marked::text(fmt::format().with_ansi(colours)))
                .boxed()
        };
        let mut layers = vec![log.with_filter(EnvFilter::new(&self.log)).boxed()];
        layers.extend(more.map(|more| {
            let quiet = format!("{},{NETWORK_LIBRARIES_OFF}", self.log);
            more.with_filter(EnvFilter::new(quiet)).boxed()
        }));
        layers.extend(unfiltered);
        // An error says that there is a log already, which is fine.
        drop(tracing_subscriber::registry().with(layers).try_init());
        set_hook(Box::new(log_panic));
        Ok(guard)
    }
}

/// Logs a panic like any other event. The standard hook prints its message as it is, and what a
/// method panics with can come from its caller.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let why = panic_text(panic.payload()).unwrap_or("(not a text)");
    let at = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(thread = thread.name(), at, why, backtrace, "panicked");
}

/// Returns the error output, without the lock that others need who write there, such as a panic:
/// a write to it may never end.
fn error_output() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(own) => Box::new(File::from(own)),
        Err(_) => Box::new(io::stderr()),
    }
}
