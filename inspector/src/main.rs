//! `steading-inspector`: looks at a cluster, and serves what it sees.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use steading::connections::{Accepting, Connections};
use steading::ids::NodeId;
use steading::node::{ObservedStore, ObserverSettings};
use steading::routing::network::listen;
use steading::telemetry::Metrics;
use steading::text::Escaped;
use steading_inspector::{Inspector, Listening, Program};
use steading_settings::{
    FileError, RuntimeError, SettingsError, UnknownVariable, check_variables, not_utf8,
    raise_descriptors, start_runtime, with_file,
};
use steading_signals::Signals;
use steading_telemetry::{OtlpSettings, Telemetry};

/// Why the program did not start, or ended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Variable(#[from] UnknownVariable),
    #[error("`inspector_listen`: cannot listen on {0}")]
    Listen(String, #[source] std::io::Error),
    #[error("cannot start the log")]
    Log(#[source] std::io::Error),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("cannot write to the output")]
    Output(#[source] std::io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("a background task ended; the log has more")]
    Ended,
}

impl Failure {
    /// The codes that all programs have: 2 wrong usage, 4 a server failed or the system refused.
    fn code(&self) -> ExitCode {
        match self {
            Self::Settings(_)
            | Self::File(_)
            | Self::Variable(_)
            | Self::Runtime(RuntimeError::Variable { .. }) => ExitCode::from(2),
            Self::Listen(..)
            | Self::Log(_)
            | Self::Output(_)
            | Self::Runtime(RuntimeError::OpenFiles { .. } | RuntimeError::System(_))
            | Self::Signals(_)
            | Self::Ended => ExitCode::from(4),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let program = match parse(&arguments) {
        Ok(program) => program,
        Err(Parse::Arguments(error)) => {
            if let Some(hint) = not_utf8(&error, std::env::vars_os()) {
                let _ = writeln!(anstream::stderr(), "{hint}");
            }
            error.exit()
        }
        Err(Parse::File(error)) => return report(&error.into()),
    };
    let ended = start_runtime().map_err(Failure::from).and_then(|runtime| {
        let ended = runtime.block_on(run(program));
        // Nothing may keep the process from ending.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    let mut text = failure.to_string();
    let mut source = std::error::Error::source(failure);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    // A closed or full error output must not change the exit code.
    let _ = writeln!(anstream::stderr(), "error: {}", Escaped(text));
    failure.code()
}

enum Parse {
    Arguments(clap::Error),
    File(FileError),
}

/// Reads the command line twice if it names a file of settings: the second time on top of it.
fn parse(arguments: &[OsString]) -> Result<Program, Parse> {
    let read = |command: clap::Command| {
        let matches = command.try_get_matches_from(arguments);
        matches.and_then(|matches| Program::from_arg_matches(&matches))
    };
    let program = read(Program::command()).map_err(Parse::Arguments)?;
    match &program.settings.config {
        None => Ok(program),
        Some(file) => {
            let command = Program::command();
            let command = with_file::<steading_inspector::ProgramSettings>(command, file);
            read(command.map_err(Parse::File)?).map_err(Parse::Arguments)
        }
    }
}

async fn run(program: Program) -> Result<(), Failure> {
    check_variables(std::env::vars_os())?;
    let settings = program.settings;
    let access = settings.check()?;
    let telemetry = Telemetry::new(OtlpSettings::of_this_process()?)?;
    let _log = settings
        .logs
        .start_with(telemetry.log_layer("inspector"), None)
        .map_err(Failure::Log)?;
    let mut signals = Signals::listen().map_err(Failure::Signals)?;
    let descriptors = raise_descriptors();
    // Whatever is wrong with settings or files is said before the address is taken.
    let tls = settings.inspector.tls()?;
    let observer = ObserverSettings {
        store: ObservedStore::Etcd(settings.store.etcd_settings()?),
        tls: settings.tls.load()?,
        prefix: settings.store.prefix.as_str().to_owned(),
        name: NodeId::new("inspector").expect("a good name"),
    };
    let address = settings.inspector.listen();
    let failed = |source| Failure::Listen(address.to_string(), source);
    let listener = listen(&address.to_string()).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let encrypted = tls.is_some();
    if !address.is_loopback() && !encrypted {
        tracing::warn!(%address, "other machines can reach this address, and it has no TLS");
    }
    let inspector = Inspector::start(observer, access);
    announce(bound, encrypted, program.json).map_err(Failure::Output)?;
    let metrics = Metrics::new();
    let limits = settings.limits.of(descriptors, 1);
    let listening = Listening {
        listener,
        connections: Connections::new(
            "inspector",
            limits,
            metrics.connections.clone(),
            Accepting::default(),
        ),
        limits,
        budget: settings.limits.budget(),
        tls: tls.map(|tls| (tls, metrics.certificates.clone())),
    };
    let served = tokio::select! {
        () = inspector.serve(listening) => Err(Failure::Ended),
        received = signals.next() => {
            tracing::info!(signal = received.name, "stopping");
            Ok(())
        }
    };
    inspector.stop().await;
    telemetry.stop().await;
    served
}

/// Prints the address. A reader that has gone is fine; a full disk is not.
fn announce(address: SocketAddr, encrypted: bool, json: bool) -> std::io::Result<()> {
    let line = if json {
        serde_json::json!({"event": "listening", "inspector": address.to_string()}).to_string()
    } else {
        let scheme = if encrypted { "https" } else { "http" };
        format!("Inspector on {scheme}://{address}")
    };
    match writeln!(anstream::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
