//! The arguments of `simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use steading::ids::{Region, ShardCount};

use crate::settings::TlsSettings;
use crate::settings::{PlannerSettings, region, shard_count};
use crate::simulate::{self, Distribution, NODES_MAX, NodeSpec, Pattern};

/// The IDs that are looked at if no others are named.
pub(super) const PATTERN_DEFAULT: &str = "object-{n}";

/// How many IDs a pattern makes if nothing else is said.
pub(super) const COUNT_DEFAULT: u64 = 100_000;

/// The greatest multiple of the load that is looked at.
const GROWTH_MAX: f64 = 1000.0;

/// The most CPUs that a node may be said to have.
const CPUS_MAX: f64 = 4096.0;

/// Arguments of `simulate`.
#[derive(Args, Debug)]
pub(crate) struct SimulateArgs {
    /// Which type the objects are of.
    #[arg(
        long = "type",
        value_name = "TYPE",
        default_value = "Object",
        help_heading = "Keys"
    )]
    pub(super) object_type: String,
    /// File of IDs, one a line (`-`: standard input). A number behind a tabulator says how many calls
    /// a second go to that object; an ID that is repeated is called so many times as often.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "pattern",
        help_heading = "Keys"
    )]
    pub(super) keys: Option<PathBuf>,
    /// Pattern of IDs, such as `user-{n%10}`: an `n` in braces counts from 0, `{n%10}` is its
    /// remainder, `{n/10}` its quotient. [default: object- and the number]
    #[arg(long, value_name = "PATTERN", help_heading = "Keys")]
    pub(super) pattern: Option<Pattern>,
    /// How many IDs the pattern makes, at most 2 000 000. [default: 100000]
    #[arg(
        long,
        value_name = "COUNT",
        conflicts_with = "keys",
        help_heading = "Keys"
    )]
    pub(super) count: Option<u64>,
    /// How many live objects the IDs stand for, if they are a sample. [default: as many as they are]
    #[arg(long, value_name = "COUNT", help_heading = "Keys")]
    pub(super) objects: Option<u64>,
    /// Shards that are kept for some objects, as the cluster has them.
    #[arg(
        long,
        value_name = "REGIONS",
        value_delimiter = ',',
        value_parser = region,
        help_heading = "Keys"
    )]
    pub(super) regions: Vec<Region>,

    /// Calls a second to all objects. [default: one to each, or as the file says]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(..=1_000_000_000_000), help_heading = "Load")]
    pub(super) calls: Option<u64>,
    /// How they are divided over the objects: `uniform`, or `zipf:S`. [default: uniform, or as the
    /// file says]
    #[arg(long, value_name = "LAW", help_heading = "Load")]
    pub(super) distribution: Option<Distribution>,
    /// CPU time of a turn.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "20us",
        value_parser = humantime::parse_duration,
        help_heading = "Load"
    )]
    pub(super) cpu_per_call: Duration,
    /// State of an object on average.
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "1KiB",
        value_parser = simulate::bytes,
        help_heading = "Load"
    )]
    pub(super) size: u64,
    /// How state is divided over the objects: `uniform`, or `zipf:S`.
    #[arg(
        long,
        value_name = "LAW",
        default_value = "uniform",
        help_heading = "Load"
    )]
    pub(super) size_distribution: Distribution,
    /// Multiples of the load for which to say whether the nodes suffice.
    #[arg(
        long,
        value_name = "FACTORS",
        default_value = "1,2,3",
        value_delimiter = ',',
        value_parser = growth,
        help_heading = "Load"
    )]
    pub(super) growth: Vec<f64>,

    /// Take nodes and shards from a running cluster, and its load too unless keys are named: the HTTP
    /// server of any node.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with_all = ["nodes", "node", "zones", "capacity", "num_shards"],
        help_heading = "Nodes"
    )]
    pub(super) address: Option<String>,
    /// The certificates for an address `https://…`.
    #[command(flatten)]
    pub(super) tls: TlsSettings,
    /// How many nodes, all alike.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)),
        help_heading = "Nodes"
    )]
    pub(super) nodes: u16,
    /// Zones over which they are dealt out, comma-separated.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
        help_heading = "Nodes"
    )]
    pub(super) zones: Vec<String>,
    /// Most shards that each of them takes.
    #[arg(long, value_name = "SHARDS", help_heading = "Nodes")]
    pub(super) capacity: Option<u32>,
    /// One node, as `NAME[,zone=NAME][,weight=NUMBER][,capacity=SHARDS]`; once for each.
    #[arg(
        long,
        value_name = "NODE",
        conflicts_with_all = ["nodes", "zones", "capacity"],
        help_heading = "Nodes"
    )]
    pub(super) node: Vec<NodeSpec>,
    /// CPUs of a node.
    #[arg(long, value_name = "NUMBER", default_value = "2", value_parser = cpus, help_heading = "Nodes")]
    pub(super) cpus: f64,
    /// Memory of a node.
    #[arg(long, value_name = "BYTES", default_value = "4GiB", value_parser = memory, help_heading = "Nodes")]
    pub(super) memory: u64,
    /// How many shards the cluster has.
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "8192",
        value_parser = shard_count,
        help_heading = "Nodes"
    )]
    pub(super) num_shards: ShardCount,

    /// What chance depends on: which object has which rank.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) seed: u64,
    /// End with exit code 1 if a lint warns or the nodes do not suffice.
    #[arg(long)]
    pub(super) check: bool,

    /// How the leader plans.
    #[command(flatten)]
    pub(super) planner: PlannerSettings,
}

fn growth(text: &str) -> Result<f64, String> {
    within(text, 0.01, GROWTH_MAX)
}

fn cpus(text: &str) -> Result<f64, String> {
    within(text, 0.01, CPUS_MAX)
}

fn memory(text: &str) -> Result<u64, String> {
    let bytes = simulate::bytes(text)?;
    (bytes > 0)
        .then_some(bytes)
        .ok_or_else(|| "a node has some memory".into())
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    let is_within = (least..=most).contains(&number);
    is_within
        .then_some(number)
        .ok_or_else(|| format!("it must be from {least} to {most}"))
}
