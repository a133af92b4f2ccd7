//! `simulate`: reads what is asked about, and shows what the planner would make of it.

mod args;
mod running;
mod show;

use std::fs::File;
use std::io::{BufReader, IsTerminal, Read, stdin};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use steading::ids::{Layout, Regions, ShardCount};

use crate::args::AskArgs;
use crate::client::AskError;
use crate::exit::Exit;
use crate::output::{self, with_causes};
use crate::simulate::{
    Keys, KeysError, LoadSpec, Machine, Pattern, Report, Simulation, Source, World, alike, as_f64,
    made, read, records, run,
};

pub(crate) use args::SimulateArgs;
use args::{COUNT_DEFAULT, PATTERN_DEFAULT};

/// Shows how keys and load would spread; exit code 1 with `--check` if something speaks against it.
pub(crate) async fn simulate(args: &SimulateArgs, json: bool) -> Result<Exit, AskError> {
    let simulation = match &args.address {
        Some(address) => {
            let (address, tls) = (address.clone(), args.tls.clone());
            let running = running::look(&AskArgs { address, tls }).await?;
            let count = running.shard_count()?;
            let world = running.world(plan_settings(args, count)?, machine(args));
            let source = match keys(args)? {
                Some(keys) => Source::Keys(keys, load(args)),
                None => Source::Reported(running.loads(count)),
            };
            asked_for(args, world, count, source)?
        }
        None => described(args)?,
    };
    let report = run(simulation).map_err(refused)?;
    show(&report, args, json);
    let is_refused = args.check && !report.is_good();
    Ok(if is_refused {
        Exit::Refused
    } else {
        Exit::Done
    })
}

/// Makes a cluster of what the arguments say of it.
fn described(args: &SimulateArgs) -> Result<Simulation, AskError> {
    let count = args.num_shards;
    let nodes = if args.node.is_empty() {
        alike(args.nodes, &args.zones, args.capacity)
    } else {
        args.node.clone()
    };
    let nodes = records(&nodes)
        .map_err(|node| AskError::Simulation(format!("`--node {node}` is there twice")))?;
    let world = World::new(nodes, count, plan_settings(args, count)?, machine(args));
    let keys = match keys(args)? {
        Some(keys) => keys,
        None => made_of(args, &pattern_default())?,
    };
    asked_for(args, world, count, Source::Keys(keys, load(args)))
}

fn asked_for(
    args: &SimulateArgs,
    world: World,
    count: ShardCount,
    source: Source,
) -> Result<Simulation, AskError> {
    let regions = Regions::new(args.regions.clone(), count).map_err(refused)?;
    Ok(Simulation {
        world,
        layout: Layout::new(count, regions),
        source,
        growths: args.growth.clone(),
    })
}

/// Returns the keys that the arguments name, if they name any.
fn keys(args: &SimulateArgs) -> Result<Option<Keys>, AskError> {
    match (&args.keys, &args.pattern) {
        (Some(file), _) => read_keys(&args.object_type, file).map(Some),
        (None, Some(pattern)) => made_of(args, pattern).map(Some),
        (None, None) if args.count.is_some() => made_of(args, &pattern_default()).map(Some),
        (None, None) => Ok(None),
    }
}

fn pattern_default() -> Pattern {
    PATTERN_DEFAULT.parse().expect("a pattern with a number")
}

/// Makes as many IDs of a pattern as the arguments say.
fn made_of(args: &SimulateArgs, pattern: &Pattern) -> Result<Keys, AskError> {
    let count = args.count.unwrap_or(COUNT_DEFAULT);
    made(&args.object_type, pattern, count).map_err(|error| match error {
        KeysError::Id { line, source } => {
            AskError::Simulation(format!("the ID of n = {line}: {source}"))
        }
        KeysError::None => AskError::Simulation("`--count 0` makes no IDs".into()),
        other @ (KeysError::Read { .. }
        | KeysError::LongLine(_)
        | KeysError::NotText(_)
        | KeysError::Control { .. }
        | KeysError::Calls { .. }
        | KeysError::TooMany) => refused(other),
    })
}

/// Reads a file of IDs, or the standard input, with a bar on a terminal.
fn read_keys(object_type: &str, file: &Path) -> Result<Keys, AskError> {
    let name = file.display();
    let say = |error: &dyn std::error::Error| {
        AskError::Simulation(format!("--keys {name}: {}", with_causes(error)))
    };
    let (input, length): (Box<dyn Read>, Option<u64>) = if file == Path::new("-") {
        if stdin().is_terminal() {
            output::note("reading IDs from the terminal, one a line; end with Ctrl-D");
        }
        (Box::new(stdin().lock()), None)
    } else {
        let opened = File::open(file).map_err(|error| say(&error))?;
        let length = opened.metadata().ok().map(|data| data.len());
        (Box::new(opened), length)
    };
    let bar = match length {
        Some(length) => ProgressBar::new(length).with_style(
            ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}")
                .expect("a good template"),
        ),
        None => ProgressBar::new_spinner(),
    };
    let keys = read(object_type, BufReader::new(bar.wrap_read(input)));
    bar.finish_and_clear();
    keys.map_err(|error| say(&error))
}

fn plan_settings(
    args: &SimulateArgs,
    count: ShardCount,
) -> Result<steading::placement::planner::PlanSettings, AskError> {
    args.planner.plan_settings(count).map_err(refused)
}

fn machine(args: &SimulateArgs) -> Machine {
    Machine {
        cpus: args.cpus,
        memory_bytes: args.memory,
    }
}

fn load(args: &SimulateArgs) -> LoadSpec {
    LoadSpec {
        calls_per_s: args.calls.map(as_f64),
        calls_by: args.distribution,
        state_bytes: args.size,
        state_by: args.size_distribution,
        cpu_per_call: args.cpu_per_call,
        objects: args.objects,
        seed: args.seed,
    }
}

fn show(report: &Report, args: &SimulateArgs, json: bool) {
    if json {
        output::json(report);
    } else {
        show::report(report, args);
    }
}

fn refused(error: impl std::error::Error) -> AskError {
    AskError::Simulation(with_causes(&error))
}
