//! A whole program out of a user's object types.

use std::fmt;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use steading::NodeBuilder;
use steading::object::Methods;
use steading_settings::{not_utf8, start_runtime};

use crate::args::{Cli, Command};
use crate::client::AskError;
use crate::commands::RaiseTokensError;
use crate::doctor::DoctorError;
use crate::exit::Exit;
use crate::process::ProcessError;
use crate::settings::{FileError, Role, Settings, UnknownVariable, check_variables, with_file};
use crate::{bench, commands, dev, doctor, output, process, supervise};

/// Adds one type to what a node hosts.
type Register = fn(NodeBuilder) -> NodeBuilder;

/// A program that runs nodes and gates with these object types, and asks them.
///
/// It has every command, setting and endpoint of the stock `steading` binary:
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use steading::{Object, methods};
///
/// #[derive(Default, Serialize, Deserialize, Object)]
/// struct Greeter {}
///
/// #[methods]
/// impl Greeter {
///     async fn greet(&self, name: String) -> String {
///         format!("Hello, {name}!")
///     }
/// }
///
/// fn main() -> std::process::ExitCode {
///     steading_node::App::new().register::<Greeter>().run()
/// }
/// ```
#[derive(Clone, Default)]
pub struct App {
    types: Vec<Register>,
}

impl App {
    /// Begins without any object type.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type of objects that nodes can host. All nodes of a cluster should host the same.
    #[must_use]
    pub fn register<T: Methods>(mut self) -> Self {
        self.types.push(NodeBuilder::register::<T>);
        self
    }

    /// Does what the process's arguments and variables say, and returns its exit code:
    /// 0 done, 1 refused, 2 wrong usage, 3 unreachable, 4 a server failed or the system refused
    /// threads or open files, 5 the store is not the one that the node joined.
    pub fn run(self) -> ExitCode {
        let cli = match parse(std::env::args_os()) {
            Ok(cli) => cli,
            Err(error) => return error.report().into(),
        };
        let runtime = match start_runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                output::error(&error);
                return Exit::from(&error).into();
            }
        };
        let exit = runtime.block_on(async {
            match supervised(&cli.command) {
                Some((settings, role)) => supervise::run(settings, role)
                    .await
                    .unwrap_or_else(|error| reported(Err(error), ProcessError::exit).into()),
                None => self.execute(cli).await.into(),
            }
        });
        // Whatever still runs has had its chance; nothing may keep the process from ending.
        runtime.shutdown_background();
        exit
    }

    async fn execute(&self, cli: Cli) -> Exit {
        let json = cli.json;
        match cli.command {
            Command::Dev(args) => reported(dev::run(self, &args, json).await, ProcessError::exit),
            Command::Node(args) => self.serve(&args.settings, Role::Node, json).await,
            Command::Gate(args) => self.serve(&args.settings, Role::Gate, json).await,
            Command::Status(args) => asked(commands::status(&args, json).await, json),
            Command::Nodes(args) => asked(commands::nodes(&args, json).await, json),
            Command::Shards(args) => asked(commands::shards(&args, json).await, json),
            Command::Objects(args) => asked(commands::objects(&args, json).await, json),
            Command::Explain(args) => asked(commands::explain(&args.subject, json).await, json),
            Command::Operate(command) => asked(commands::operate(&command, json).await, json),
            Command::Call(args) => asked(commands::call(&args).await, json),
            Command::Simulate(args) => asked(commands::simulate(&args, json).await, json),
            Command::Doctor(args) => reported(doctor::doctor(&args, json).await, DoctorError::exit),
            Command::RaiseTokens(args) => {
                reported(commands::raise(&args, json).await, RaiseTokensError::exit)
            }
            Command::Bench(args) => measured(bench::run(&args, json).await.map(|()| Exit::Done)),
            Command::BenchPart { part } => measured(bench::run_part(part, json).await),
            Command::Completions { shell } => {
                let mut command = Cli::command();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command, program(), &mut script);
                output::bytes(&script);
                Exit::Done
            }
        }
    }

    async fn serve(&self, settings: &Settings, role: Role, json: bool) -> Exit {
        reported(
            process::run(self, settings, role, json).await,
            ProcessError::exit,
        )
    }

    /// Adds this program's types to what a node hosts.
    pub(crate) fn types_into(&self, builder: NodeBuilder) -> NodeBuilder {
        self.types
            .iter()
            .fold(builder, |builder, register| register(builder))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("types", &self.types.len())
            .finish()
    }
}

/// Returns the name under which this program was started: users' own have other names.
fn program() -> String {
    let path = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = path.as_deref().and_then(std::path::Path::file_name);
    name.map_or_else(
        || "steading".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Why the command line was not understood.
enum ParseError {
    Arguments(clap::Error),
    File(FileError),
    Variable(UnknownVariable),
}

impl ParseError {
    /// Prints it, and returns the exit code. Asking for help is no error.
    fn report(&self) -> Exit {
        match self {
            Self::Arguments(error) => {
                // Nobody reads us any more if this fails.
                drop(error.print());
                if let Some(hint) = not_utf8(error, std::env::vars_os()) {
                    output::note(hint);
                }
                if error.use_stderr() {
                    Exit::Usage
                } else {
                    Exit::Done
                }
            }
            Self::File(error) => {
                output::error(error);
                Exit::Usage
            }
            Self::Variable(error) => {
                output::error(error);
                Exit::Usage
            }
        }
    }
}

impl From<clap::Error> for ParseError {
    fn from(error: clap::Error) -> Self {
        Self::Arguments(error)
    }
}

/// Reads the command line twice if it names a file of settings: the second time on top of it.
fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Cli, ParseError> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let matches = Cli::command().try_get_matches_from(&arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    check_variables(std::env::vars_os()).map_err(ParseError::Variable)?;
    let settings = match &cli.command {
        Command::Dev(args) => &args.settings,
        Command::Node(args) | Command::Gate(args) => &args.settings,
        Command::Status(_)
        | Command::Nodes(_)
        | Command::Shards(_)
        | Command::Objects(_)
        | Command::Explain(_)
        | Command::Operate(_)
        | Command::Call(_)
        | Command::Simulate(_)
        | Command::Doctor(_)
        | Command::RaiseTokens(_)
        | Command::Bench(_)
        | Command::BenchPart { .. }
        | Command::Completions { .. } => return Ok(cli),
    };
    let Some(file) = &settings.config else {
        return Ok(cli);
    };
    let name = matches.subcommand_name().expect("a command is required");
    let mut with_file_under = Ok(());
    let command = Cli::command().mut_subcommand(name, |command| {
        with_file::<Settings>(command.clone(), file).unwrap_or_else(|error| {
            with_file_under = Err(ParseError::File(error));
            command
        })
    });
    with_file_under?;
    Ok(Cli::from_arg_matches(
        &command.try_get_matches_from(arguments)?,
    )?)
}

/// Returns the settings of a node or gate that is to run as a child of this process.
fn supervised(command: &Command) -> Option<(&Settings, Role)> {
    let (settings, role) = match command {
        Command::Node(args) => (&args.settings, Role::Node),
        Command::Gate(args) => (&args.settings, Role::Gate),
        Command::BenchPart {
            part: bench::Part::Node(args),
        } => (&args.settings, Role::Node),
        Command::Dev(_)
        | Command::Status(_)
        | Command::Nodes(_)
        | Command::Shards(_)
        | Command::Objects(_)
        | Command::Explain(_)
        | Command::Operate(_)
        | Command::Call(_)
        | Command::Simulate(_)
        | Command::Doctor(_)
        | Command::RaiseTokens(_)
        | Command::Bench(_)
        | Command::BenchPart { .. }
        | Command::Completions { .. } => return None,
    };
    supervise::is_wanted(settings).then_some((settings, role))
}

fn measured(result: anyhow::Result<Exit>) -> Exit {
    result.unwrap_or_else(|error| {
        output::error(error.as_ref());
        Exit::Failed
    })
}

/// Prints what a node refused as its problem, if JSON is wanted, or else as any error.
fn asked(result: Result<Exit, AskError>, json: bool) -> Exit {
    if let (Err(AskError::Problem(problem)), true) = (&result, json) {
        output::json(problem);
        return Exit::Refused;
    }
    reported(result, AskError::exit)
}

/// Prints an error, if there is one, and returns the exit code.
fn reported<E: std::error::Error>(result: Result<Exit, E>, exit: impl FnOnce(&E) -> Exit) -> Exit {
    result.unwrap_or_else(|error| {
        output::error(&error);
        exit(&error)
    })
}
