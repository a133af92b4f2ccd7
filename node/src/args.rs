//! The command line: every command with its arguments.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use steading::ids::{NodeId, ObjectKey};

use crate::bench::{self, BenchArgs};
use crate::commands::{Operate, RaiseArgs, SimulateArgs};
use crate::doctor::DoctorArgs;
use crate::http::TIMEOUT_MAX;
use crate::settings::{Settings, TlsSettings};

/// The program's whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "steading",
    version,
    about = "Runs the nodes of a cluster of virtual actors, shows them, and tells them what to do",
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Print JSON: one value, or one line for each event.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run several nodes in this process, with sample objects and the Inspector.
    Dev(Box<DevArgs>),
    /// Run a node: it hosts objects and routes calls.
    Node(Box<NodeArgs>),
    /// Run a gate: it hosts nothing and only routes calls.
    Gate(Box<NodeArgs>),
    /// Show the cluster in a few lines; exit code 1 while a shard is unowned, or while the asked node
    /// does not follow the store.
    Status(AskArgs),
    /// List the nodes.
    Nodes(AskArgs),
    /// List shards, or show one.
    Shards(ShardsArgs),
    /// List live objects.
    Objects(ObjectsArgs),
    /// Explain where something is, since when, and what comes next.
    Explain(ExplainArgs),
    /// What operators order.
    #[command(flatten)]
    Operate(Operate),
    /// Call a method of an object.
    Call(CallArgs),
    /// Tell how keys and load would spread over nodes, with no cluster at all.
    Simulate(Box<SimulateArgs>),
    /// Find out what is wrong with a cluster, why, and what to type; exit code 1 if something is.
    Doctor(Box<DoctorArgs>),
    /// Make all later tokens greater than all before: the last step of restoring etcd from a
    /// snapshot, while no node runs.
    RaiseTokens(Box<RaiseArgs>),
    /// Measure, each figure beside its baseline.
    Bench(BenchArgs),
    /// A part of a measurement, which `bench` starts.
    #[command(hide = true)]
    BenchPart {
        /// Which part.
        #[command(subcommand)]
        part: bench::Part,
    },
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Arguments of `dev`.
#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) nodes: u16,
    /// `numbered`: node i listens on the set ports plus i. `any`: on any free ports.
    #[arg(long, default_value = "numbered")]
    pub(crate) ports: Ports,
    /// Settings of all nodes.
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Which ports the nodes of `dev` listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ports {
    /// The set ports plus the node's number.
    Numbered,
    /// Any free ports.
    Any,
}

/// Arguments of `node` and `gate`.
#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    /// The node's settings.
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Which node to ask.
#[derive(Args, Clone, Debug)]
pub(crate) struct AskArgs {
    /// HTTP server of any node of the cluster.
    #[arg(
        long,
        env = "STEADING_ADDRESS",
        value_name = "URL",
        default_value = "http://127.0.0.1:7480"
    )]
    pub(crate) address: String,
    /// The certificates for an address `https://…`.
    #[command(flatten)]
    pub(crate) tls: TlsSettings,
}

/// Arguments of `shards`.
#[derive(Args, Debug)]
pub(crate) struct ShardsArgs {
    /// Only this shard.
    pub(crate) shard: Option<u32>,
    /// Only shards that this node owns or should own.
    #[arg(long)]
    pub(crate) node: Option<NodeId>,
    /// Only shards in this state: `owned`, `moving`, `unowned` or `quarantined`.
    #[arg(long)]
    pub(crate) state: Option<crate::http::ShardState>,
    /// Print at most this many; 0: all.
    #[arg(long, default_value_t = 40)]
    pub(crate) limit: usize,
    /// Which node to ask.
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// Arguments of `objects`.
#[derive(Args, Debug)]
pub(crate) struct ObjectsArgs {
    /// Only objects of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) object_type: Option<String>,
    /// Only objects of this shard.
    #[arg(long)]
    pub(crate) shard: Option<u32>,
    /// Only objects on this node.
    #[arg(long)]
    pub(crate) node: Option<NodeId>,
    /// At most this many, 1 to 1000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Only objects after this one, in order of type and ID.
    #[arg(long, value_name = "TYPE/ID")]
    pub(crate) after: Option<ObjectKey>,
    /// Which node to ask.
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// What to explain.
    #[command(subcommand)]
    pub(crate) subject: Subject,
}

/// What to explain.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// A shard: who owns it, who should, and what happens next.
    Shard {
        /// Its number.
        shard: u32,
        /// Which node to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// An object: its shard, and that shard's owner. It is not activated.
    Object {
        /// Its type and ID.
        #[arg(value_name = "TYPE/ID")]
        key: ObjectKey,
        /// Which node to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// A node: its life, and what it owns and should own.
    Node {
        /// Its name.
        node: NodeId,
        /// Which node to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Arguments of `call`.
#[derive(Args, Debug)]
pub(crate) struct CallArgs {
    /// The object's type.
    #[arg(value_name = "TYPE")]
    pub(crate) object_type: String,
    /// Its ID.
    pub(crate) id: String,
    /// The method.
    pub(crate) method: String,
    /// Its arguments: one JSON object or array, or NAME=VALUE for each. A value that is not JSON
    /// is taken as text.
    #[arg(value_name = "ARGUMENT")]
    pub(crate) arguments: Vec<String>,
    /// How long to wait for the answer, from 1ms to 10m. [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = call_timeout)]
    pub(crate) timeout: Option<Duration>,
    /// Which node to ask.
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// Reads the time limit of a call, within what nodes take.
fn call_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_millis(1)..=TIMEOUT_MAX).contains(&timeout) {
        Ok(timeout)
    } else {
        Err("it must be from 1ms to 10m".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// Returns every command of this program in the shell blocks of a page.
    fn commands_of(page: &str) -> Vec<String> {
        let blocks = page.split("```sh\n").skip(1);
        let blocks = blocks.filter_map(|rest| rest.split("```").next());
        let lines = blocks.flat_map(str::lines);
        let code = lines.filter_map(|line| line.split(" # ").next());
        let code = code.map(str::trim);
        code.filter(|line| line.starts_with("steading "))
            .map(str::to_owned)
            .collect()
    }

    fn runbooks() -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks");
        let files = std::fs::read_dir(folder).expect("there are runbooks");
        files.map(|file| file.expect("readable").path()).collect()
    }

    #[test]
    fn s0_36_every_command_of_the_runbooks_is_understood() {
        let mut count = 0;
        for path in runbooks() {
            let page = std::fs::read_to_string(&path).expect("text");
            for command in commands_of(&page) {
                let understood = Cli::try_parse_from(command.split_whitespace());
                let page = path.display();
                assert!(understood.is_ok(), "{page}: {command}: {understood:?}");
                count += 1;
            }
        }
        assert!(count > 50, "only {count} commands were found");
    }
}
