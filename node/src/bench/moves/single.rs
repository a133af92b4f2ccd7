//! One shard moved, again and again, there and back.

use std::time::Duration;

use anyhow::Context;
use steading::Node;
use steading::ids::{NodeId, ShardId};
use steading::placement::ClusterView;
use tokio::time::{Instant, sleep};

use super::super::report::{Figure, Goal};
use super::super::views::{counts, sees, takers};
use super::probe::{Probe, Seen};
use super::steady::{Outcome, SteadyLoad};
use super::{outcome_figures, quantile_ms};

/// How far apart the shards are that are moved one after the other: no factor of any shard count,
/// so that all are reached, on every node.
const STRIDE: usize = 997;

/// The least time that a shard is watched while it is not moved.
const QUIET_MIN: Duration = Duration::from_millis(5);

/// What some moves came to.
pub(super) struct Round {
    /// What the probe of each shard saw while it moved.
    moved: Vec<Seen>,
    /// What it saw just before, for as long.
    quiet: Vec<Seen>,
    /// How long each move took, from the order until its target owned the shard.
    took: Vec<Duration>,
    outcome: Outcome,
}

/// Moves so many shards there and back under a steady load over all shards.
pub(super) async fn round(gate: &Node, moves: u32) -> anyhow::Result<Round> {
    let view = gate.view();
    let shards: Vec<_> = view.meta.shard_count.shards().collect();
    let (movable, to) = movable(&view).context("no shard can be moved without harm")?;
    let load = SteadyLoad::start(gate, &shards).await?;
    let (mut moved, mut quiet, mut took) = (Vec::new(), Vec::new(), Vec::new());
    let mut watched_for = QUIET_MIN;
    for n in 0..moves.div_ceil(2) as usize {
        let (shard, from) = &movable[n * STRIDE % movable.len()];
        let probe = Probe::new(gate, *shard).await?;
        for whereto in [&to, from] {
            quiet.push(probe.during(sleep(watched_for)).await.0);
            load.set_moving(true);
            let began = Instant::now();
            let (seen, done) = probe.during(move_to(gate, *shard, whereto)).await;
            load.set_moving(false);
            done?;
            watched_for = began.elapsed().max(QUIET_MIN);
            took.push(began.elapsed());
            moved.push(seen);
        }
        probe.end().await?;
    }
    let mut outcome = load.stop().await?;
    for seen in moved.iter().chain(&quiet) {
        outcome
            .moving
            .add_failed(seen.failed, seen.first_error.as_ref());
    }
    Ok(Round {
        moved,
        quiet,
        took,
        outcome,
    })
}

/// Orders a move, and waits until it is done.
async fn move_to(gate: &Node, shard: ShardId, to: &NodeId) -> anyhow::Result<()> {
    let ordered = gate.cluster().move_shards([(shard, to.clone())]).await;
    ordered.with_context(|| format!("shard {shard} may not move to {to}"))?;
    let there = |view: &ClusterView| view.live_owner(shard).is_some_and(|o| o.node == *to);
    sees(gate, "the shard is where it was moved to", there).await?;
    Ok(())
}

/// Returns shards that an operator may move, each with its owner, and where to: from the nodes with
/// most to the one with least, so that the planner has no reason to move others in return, if the
/// shards cannot be divided equally. `None` if there are none, or nobody else to take them.
fn movable(view: &ClusterView) -> Option<(Vec<(ShardId, NodeId)>, NodeId)> {
    let counts = counts(view);
    let count = |node: &NodeId| counts.get(node).copied().unwrap_or_default();
    let takers = takers(view);
    let least = takers.iter().min_by_key(|node| count(node))?;
    let others = || takers.iter().filter(|node| *node != least);
    let most = others().map(count).max()?;
    let shards = view.meta.shard_count.shards().filter_map(|shard| {
        let target = view.targets.get(shard);
        let owner = &view.live_owner(shard)?.node;
        let from = others().find(|node| *node == owner && count(node) == most)?;
        (!target.pinned && !target.quarantined).then(|| (shard, from.clone()))
    });
    let shards: Vec<_> = shards.collect();
    (!shards.is_empty()).then(|| (shards, least.clone()))
}

/// Sums up.
pub(super) fn figures(rounds: &[Round]) -> Vec<Figure> {
    let of = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let figure = |what: &str, ours, without| {
        Figure::new(format!("one shard moved: {what}"), "ms", ours)
            .beside("the same without a move", without)
    };
    let pauses = |seen: &[Seen], quantile| quantile_ms(seen.iter().map(|s| s.pause), quantile);
    let gap = |quantile| {
        let ours = rounds.iter().map(|round| pauses(&round.moved, quantile));
        let without = rounds.iter().map(|round| pauses(&round.quiet, quantile));
        (ours.collect(), without.collect())
    };
    let ((p50, p50_without), (p99, p99_without)) = (gap(0.5), gap(0.99));
    let mut figures = vec![
        figure("ownerless gap p50", p50, p50_without).goal(Goal::AtMost(3.0)),
        figure("ownerless gap p99", p99, p99_without).goal(Goal::AtMost(25.0)),
        Figure::new(
            "one shard moved: added latency of its calls p99",
            "ms",
            of(added_p99_ms),
        )
        .goal(Goal::AtMost(50.0)),
        figure(
            "p99 of calls to all shards",
            of(|round| round.outcome.moving.quantile_ms(0.99)),
            of(|round| round.outcome.quiet.quantile_ms(0.99)),
        ),
        Figure::new(
            "one shard moved: from the order to its end p50",
            "ms",
            of(|round| quantile_ms(round.took.iter().copied(), 0.5)),
        ),
    ];
    let outcomes = rounds.iter().map(|round| &round.outcome);
    figures.extend(outcome_figures("one shard moved", outcomes));
    figures
}

/// Returns by how much the longest call of a move exceeded what calls take without one.
fn added_p99_ms(round: &Round) -> f64 {
    let added = round.moved.iter().zip(&round.quiet);
    let added = added.map(|(moved, quiet)| moved.longest.saturating_sub(quiet.median));
    quantile_ms(added, 0.99)
}
