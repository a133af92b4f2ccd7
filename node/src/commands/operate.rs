//! Operators' commands, and plans.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use steading::coordination::commands::MOVES_MAX;
use steading::ids::{NodeId, canonical_number};
use steading::text::Escaped;

use crate::args::AskArgs;
use crate::client::{AskError, Client};
use crate::exit::Exit;
use crate::http::{Abort, Answer, Cluster, MoveTo, Moves, NewPlan, PlanInfo, Problem, Whereto};
use crate::output::{self, Mood, Text, or_dash, painted, text};

/// How often a plan or a node is looked at while it is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Most moves of a plan that are printed.
const MOVES_PRINTED_MAX: usize = 40;

/// What operators order. Each may be given again: what is so already changes nothing.
#[derive(Debug, Subcommand)]
pub(crate) enum Operate {
    /// List the plans that are kept, newest first.
    Plans(AskArgs),
    /// Show a plan with its moves.
    Plan {
        /// Its number.
        plan: u64,
        /// How to ask.
        #[command(flatten)]
        how: How,
    },
    /// Have the planner look now whether shards are well divided.
    Rebalance {
        /// Only tell what would move.
        #[arg(long)]
        dry_run: bool,
        /// Balance the `count` of shards, or their `load` too; default: as the settings say.
        #[arg(long, value_parser = ["count", "load"])]
        strategy: Option<String>,
        /// How to ask.
        #[command(flatten)]
        how: How,
    },
    /// Pause balancing: only what nobody serves, what drains and what you order moves.
    Pause(AskArgs),
    /// Go on balancing.
    Resume(AskArgs),
    /// End a plan early: what is under way goes on, the rest is cancelled.
    Abort {
        /// Its number.
        plan: u64,
        /// Move back what was moved.
        #[arg(long)]
        reverse: bool,
        /// How to ask.
        #[command(flatten)]
        how: How,
    },
    /// Pin a shard to a node, or to where it is.
    Pin {
        /// Its number.
        shard: u32,
        /// Where to.
        node: Option<NodeId>,
        /// How to ask.
        #[command(flatten)]
        how: How,
    },
    /// Let a shard be moved again.
    Unpin {
        /// Its number.
        shard: u32,
        /// Which node to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Move shards to a node, all or none.
    Move {
        /// Where to.
        node: NodeId,
        /// Their numbers, or ranges such as 16-31.
        #[arg(required = true, value_name = "SHARD")]
        shards: Vec<String>,
        /// How to ask.
        #[command(flatten)]
        how: How,
    },
    /// Let a node keep what it has and get nothing more.
    Cordon(OneNode),
    /// Let a node get shards again.
    Uncordon(OneNode),
    /// Let a node hand its shards over while it serves, then leave and exit.
    Drain(OneNode),
    /// Take a drain back, as long as the node has not begun to leave.
    Undrain(OneNode),
    /// Release a shard from quarantine.
    Release {
        /// Its number.
        shard: u32,
        /// Which node to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Which node to ask, and whether to wait.
#[derive(Args, Clone, Debug)]
pub(crate) struct How {
    /// Wait until the plan has ended; exit code 1 if it failed.
    #[arg(long)]
    wait: bool,
    /// Which node to ask.
    #[command(flatten)]
    ask: AskArgs,
}

/// A node that a command is about.
#[derive(Args, Clone, Debug)]
pub(crate) struct OneNode {
    /// Its name.
    node: NodeId,
    /// Wait until it has left, for `drain`.
    #[arg(long)]
    wait: bool,
    /// Which node to ask.
    #[command(flatten)]
    ask: AskArgs,
}

/// Gives a command, or shows plans.
pub(crate) async fn operate(command: &Operate, json: bool) -> Result<Exit, AskError> {
    match command {
        Operate::Plans(ask) => plans(ask, json).await,
        Operate::Plan { plan, how } => plan_with_moves(*plan, how, json).await,
        Operate::Rebalance {
            dry_run,
            strategy,
            how,
        } => {
            let body = NewPlan {
                dry_run: *dry_run,
                strategy: strategy.clone(),
            };
            give(&["v1", "plans"], &body, how, json).await
        }
        Operate::Pause(ask) => give(&["v1", "pause"], &json!({}), &now(ask), json).await,
        Operate::Resume(ask) => give(&["v1", "resume"], &json!({}), &now(ask), json).await,
        Operate::Abort { plan, reverse, how } => {
            let body = Abort { reverse: *reverse };
            give(
                &["v1", "plans", &plan.to_string(), "abort"],
                &body,
                how,
                json,
            )
            .await
        }
        Operate::Pin { shard, node, how } => {
            let node = node.as_ref().map(ToString::to_string);
            let path = ["v1", "shards", &shard.to_string(), "pin"];
            give(&path, &Whereto { node }, how, json).await
        }
        Operate::Unpin { shard, ask } => {
            let path = ["v1", "shards", &shard.to_string(), "unpin"];
            give(&path, &json!({}), &now(ask), json).await
        }
        Operate::Release { shard, ask } => {
            let path = ["v1", "shards", &shard.to_string(), "release"];
            give(&path, &json!({}), &now(ask), json).await
        }
        Operate::Move { node, shards, how } => {
            give(&["v1", "moves"], &moves(node, shards)?, how, json).await
        }
        Operate::Cordon(one) => about(one, "cordon", json).await,
        Operate::Uncordon(one) => about(one, "uncordon", json).await,
        Operate::Undrain(one) => about(one, "undrain", json).await,
        Operate::Drain(one) => {
            let exit = about(one, "drain", json).await?;
            if one.wait {
                wait_until_gone(one).await?;
            }
            Ok(exit)
        }
    }
}

/// Returns the moves of these shards, named as `17` or `16-31`, to a node.
fn moves(node: &NodeId, shards: &[String]) -> Result<Moves, AskError> {
    let ranges = shards.iter().map(|text| shards_of(text));
    let ranges = ranges.collect::<Result<Vec<_>, _>>()?;
    // Before they are written out, which could fill the memory.
    let count: u64 = ranges
        .iter()
        .map(|of| u64::from(of.end() - of.start()) + 1)
        .sum();
    if count > MOVES_MAX as u64 {
        return Err(AskError::TooManyShards(shards.join(" ")));
    }
    let moves = ranges.into_iter().flatten().map(|shard| MoveTo {
        shard,
        node: node.to_string(),
    });
    Ok(Moves {
        moves: moves.collect(),
    })
}

fn now(ask: &AskArgs) -> How {
    How {
        wait: false,
        ask: ask.clone(),
    }
}

/// Reads `17` or `16-31`.
fn shards_of(text: &str) -> Result<RangeInclusive<u32>, AskError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (canonical_number(first), canonical_number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(AskError::Shards(text.to_owned())),
    }
}

async fn about(one: &OneNode, verb: &str, json: bool) -> Result<Exit, AskError> {
    let path = ["v1", "nodes", one.node.as_str(), verb];
    give(&path, &json!({}), &now(&one.ask), json).await
}

async fn give(
    path: &[&str],
    body: &impl Serialize,
    how: &How,
    json: bool,
) -> Result<Exit, AskError> {
    let client = Client::new(&how.ask)?;
    let body = serde_json::to_string(body).expect("commands can be written as JSON");
    let mut answer: Answer = client.post(path, body).await?;
    let mut exit = Exit::Done;
    if let (true, true, Some(plan)) = (how.wait, answer.changed, &answer.plan) {
        let ended = wait_until_ended(&client, plan).await?;
        if ended.outcome == "failed" {
            exit = Exit::Refused;
        }
        answer.plan = Some(ended);
    }
    if json {
        output::json(&answer);
        return Ok(exit);
    }
    let already = if answer.changed {
        ""
    } else {
        " (nothing had to change)"
    };
    output::line(format_args!("{}{already}", answer.text));
    if let Some(plan) = &answer.plan {
        print_plan(plan);
    }
    Ok(exit)
}

async fn plans(ask: &AskArgs, json: bool) -> Result<Exit, AskError> {
    let client = Client::new(ask)?;
    let plans: Vec<PlanInfo> = client.get(&["v1", "plans"], &[]).await?;
    if json {
        output::json(&plans);
        return Ok(Exit::Done);
    }
    let header = [
        "plan", "reason", "outcome", "moves", "done", "began", "trigger",
    ];
    output::table(&header, plans.iter().map(row));
    Ok(Exit::Done)
}

fn row(plan: &PlanInfo) -> Vec<Text> {
    let counts = plan.counts;
    let ended = counts.done + counts.failed + counts.cancelled;
    vec![
        plan.id.into(),
        (&plan.reason).into(),
        painted(&plan.outcome, mood(plan)),
        (ended + counts.pending + counts.ordered).into(),
        format_args!("{} %", plan.percent).into(),
        (&plan.created_at).into(),
        (&plan.trigger).into(),
    ]
}

async fn plan_with_moves(id: u64, how: &How, json: bool) -> Result<Exit, AskError> {
    let client = Client::new(&how.ask)?;
    let mut plan = plan_of(&client, id).await?;
    if how.wait {
        plan = wait_until_ended(&client, &plan).await?;
    }
    if json {
        output::json(&plan);
    } else {
        print_plan(&plan);
    }
    Ok(Exit::Done)
}

async fn plan_of(client: &Client, id: u64) -> Result<PlanInfo, AskError> {
    client.get(&["v1", "plans", &id.to_string()], &[]).await
}

fn mood(plan: &PlanInfo) -> Mood {
    match plan.outcome.as_str() {
        "running" => Mood::Busy,
        "failed" => Mood::Bad,
        _ => Mood::Good,
    }
}

fn print_plan(plan: &PlanInfo) {
    let counts = plan.counts;
    output::line(text!(
        format_args!("plan {} ({}): ", plan.id, plan.reason),
        painted(&plan.outcome, mood(plan)),
        format_args!(", {} %", plan.percent),
    ));
    output::line(format_args!("  because  {}", plan.trigger));
    output::line(format_args!(
        "  moves    {} done, {} under way, {} waiting, {} given up, {} cancelled; {} were the least",
        counts.done,
        counts.ordered,
        counts.pending,
        counts.failed,
        counts.cancelled,
        plan.least_moves
    ));
    output::line(format_args!(
        "  began    {}, ended {}",
        plan.created_at,
        or_dash(plan.ended_at.as_ref())
    ));
    if let Some(ends_at) = &plan.ends_at {
        output::line(format_args!("  ends     about {ends_at}"));
    }
    if let Some(text) = checked(plan) {
        output::line(format_args!("  check    {text}"));
    }
    for event in &plan.events {
        output::line(format_args!(
            "  {}  {}: {}",
            event.at, event.kind, event.text
        ));
    }
    for step in plan.moves.iter().take(MOVES_PRINTED_MAX) {
        output::line(format_args!(
            "  shard {:<6} {} -> {}  {} ({})",
            step.shard,
            or_dash(step.from.as_ref()),
            step.to,
            step.phase,
            step.reason
        ));
    }
    if let Some(more) = plan
        .moves
        .len()
        .checked_sub(MOVES_PRINTED_MAX)
        .filter(|more| *more > 0)
    {
        output::line(format_args!("  and {more} more"));
    }
}

/// Says what a look at the shards of a plan showed after its end.
fn checked(plan: &PlanInfo) -> Option<String> {
    let shards = if plan.as_planned? {
        "as planned"
    } else {
        "not as planned: see the leader's log"
    };
    Some(match (plan.objects_before, plan.objects_after) {
        (Some(sent), Some(taken)) => {
            format!("{shards}; {sent} objects sent, {taken} taken in")
        }
        (None, _) | (_, None) => format!("{shards}; objects not counted"),
    })
}

/// Waits for the end of a plan, with a bar on a terminal.
async fn wait_until_ended(client: &Client, plan: &PlanInfo) -> Result<PlanInfo, AskError> {
    let bar = ProgressBar::new(100).with_style(
        ProgressStyle::with_template("{bar:40} {pos} % {msg}").expect("a good template"),
    );
    let id = plan.id;
    loop {
        // The record of a plan that has just begun may not be there yet.
        match plan_of(client, id).await {
            Ok(plan) if !plan.is_running() => {
                bar.finish_and_clear();
                return Ok(plan);
            }
            Ok(plan) => {
                bar.set_position(plan.percent.into());
                bar.set_message(Escaped(&plan.trigger).to_string());
            }
            Err(AskError::Problem(problem)) if is_missing(&problem) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Waits until a node has left the cluster. If the node itself was asked, its silence says so.
async fn wait_until_gone(one: &OneNode) -> Result<(), AskError> {
    let client = Client::new(&one.ask)?;
    let bar = ProgressBar::new_spinner();
    loop {
        let cluster: Result<Cluster, _> = client.get(&["v1", "cluster"], &[]).await;
        let cluster = match cluster {
            Ok(cluster) => cluster,
            Err(AskError::Unreachable(..) | AskError::Broken(..)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(node) = cluster
            .nodes
            .iter()
            .find(|node| node.id == one.node.as_str())
        else {
            bar.finish_and_clear();
            return Ok(());
        };
        bar.set_message(format!("{} shards left", node.shards_owned));
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn is_missing(problem: &Problem) -> bool {
    problem.status == 404
}
