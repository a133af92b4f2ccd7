//! `bench`: each figure beside its baseline, measured in the same run.
//!
//! The machine's mood swings, so ours and the baseline take turns, and each figure is the median
//! of some rounds with its least and greatest.

mod callers;
mod children;
mod failover;
mod local;
mod lookup;
mod mailbox;
mod memory;
mod moves;
mod objects;
mod remote;
mod report;
mod start;
mod views;

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::app::App;
use crate::args::NodeArgs;
use crate::exit::Exit;
use crate::samples::Counter;
use crate::settings::Role;
use crate::{output, process};
use report::{Figure, Report};

/// Where the section of the Inspector's figures begins in the page.
const INSPECTOR_HEADING: &str = "## The Inspector\n";

/// Arguments of `bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure.
    #[arg(default_value = "all")]
    pub(crate) what: What,
    /// How many rounds; each figure is their median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How long each measurement of a rate lasts.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) time: Duration,
    /// How many times `moves` moves a single shard in each round.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) moves: u32,
    /// Endpoints of etcd, comma-separated: `moves` measures the cluster that is there, and starts
    /// and kills nothing. Its nodes must host the sample object `Counter`. Each shard is moved back;
    /// where nodes have equally many, the planner moves another in return.
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    pub(crate) etcd: Vec<String>,
    /// Prefix of that cluster's keys.
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "/steading/",
        requires = "etcd"
    )]
    pub(crate) prefix: String,
    /// The etcd program, for `remote`, `start`, `failover` and `moves`.
    #[arg(
        long,
        env = "STEADING_BENCH_ETCD",
        value_name = "FILE",
        default_value = "etcd"
    )]
    pub(crate) etcd_program: PathBuf,
    /// Write a Markdown page with machine and date to this file; without a file, print it.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) markdown: Option<PathBuf>,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// From an object's key to its owner.
    Lookup,
    /// Calls within one process, beside a tokio mailbox.
    Local,
    /// Calls between two processes, beside plain unary gRPC.
    Remote,
    /// Cold start of three nodes.
    Start,
    /// A crash, a restart under the same ID, and a crash under `--supervise`.
    Failover,
    /// Calls while shards move: one by one, as a node joins or drains, as all restart, and as the
    /// leader dies.
    Moves,
    /// Bytes per idle object.
    Memory,
    /// Everything.
    All,
}

/// The parts of a measurement that run in a process of their own.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// A node that hosts the objects of the benchmarks.
    Node(Box<NodeArgs>),
    /// A plain tonic server that echoes.
    Echo,
    /// Measures the memory of idle objects.
    Memory {
        /// Of what.
        kind: memory::Kind,
        /// How many.
        count: u64,
    },
}

/// Measures, and prints or writes the report.
pub(crate) async fn run(args: &BenchArgs, json: bool) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    anyhow::ensure!(
        args.etcd.is_empty() || args.what == What::Moves,
        "only `bench moves` measures a cluster that exists (`--etcd`)"
    );
    let progress = Progress::new();
    for what in args.what.parts() {
        progress.tell(&format_args!("{what:?}"));
        figures.extend(measure(what, args, &progress).await?);
    }
    progress.end();
    let report = Report::new(figures, args);
    match &args.markdown {
        Some(file) if file.as_os_str() != "-" => {
            let others = others_part(&std::fs::read_to_string(file).unwrap_or_default());
            std::fs::write(file, format!("{}{others}", report.markdown()))?;
        }
        Some(_) => output::bytes(format!("{}\n", report.markdown()).as_bytes()),
        None if json => output::json(&report),
        None => report.print(),
    }
    Ok(())
}

/// Returns what another command wrote into the page, to be kept: `make bench-inspector` its section,
/// which is the last.
fn others_part(page: &str) -> String {
    let begin = page.find(INSPECTOR_HEADING);
    begin.map_or_else(String::new, |begin| format!("\n{}", &page[begin..]))
}

/// Shows on a terminal what is being measured.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("a good template"));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    fn tell(&self, what: &impl Display) {
        self.0.set_message(format!("measuring {what}"));
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

async fn measure(what: What, args: &BenchArgs, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    match what {
        What::Lookup => lookup::measure(args).await,
        What::Local => local::measure(args).await,
        What::Remote => remote::measure(args).await,
        What::Start => start::measure(args).await,
        What::Failover => failover::measure(args).await,
        What::Moves => moves::measure(args, progress).await,
        What::Memory => memory::measure(args).await,
        What::All => unreachable!("it was split into its parts"),
    }
}

impl What {
    const EACH: [Self; 7] = [
        Self::Lookup,
        Self::Local,
        Self::Remote,
        Self::Start,
        Self::Failover,
        Self::Moves,
        Self::Memory,
    ];

    fn parts(self) -> Vec<Self> {
        match self {
            Self::All => Self::EACH.to_vec(),
            Self::Lookup
            | Self::Local
            | Self::Remote
            | Self::Start
            | Self::Failover
            | Self::Moves
            | Self::Memory => vec![self],
        }
    }
}

/// Runs a part of a measurement, in the process that [`children`] started for it.
pub(crate) async fn run_part(part: Part, json: bool) -> anyhow::Result<Exit> {
    match part {
        Part::Node(args) => {
            let app = App::new()
                .register::<objects::Tally>()
                .register::<Counter>();
            Ok(process::run(&app, &args.settings, Role::Node, json).await?)
        }
        Part::Echo => remote::echo().await,
        Part::Memory { kind, count } => memory::in_this_process(kind, count).await,
    }
}

#[cfg(test)]
mod tests {
    use super::others_part;

    #[test]
    fn the_section_of_the_inspector_outlasts_a_new_measurement() {
        let section = "## The Inspector\n\nfast\n";
        let page = format!("# Benchmarks\n\n| a |\n\n{section}");
        assert_eq!(others_part(&page), format!("\n{section}"));
        assert_eq!(others_part("# Benchmarks\n"), "");
    }
}
