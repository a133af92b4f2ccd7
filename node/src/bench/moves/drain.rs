//! One of four nodes drained by SIGTERM, with live objects on it.

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use steading::Node;
use steading::ids::{NodeId, ShardId};
use steading::object::Object;
use tokio::time::{Instant, timeout};

use super::super::children::Etcd;
use super::super::report::{Figure, Goal};
use super::super::views::{LIMIT, owned_by};
use super::cluster::{Cluster, name};
use super::outcome_figures;
use super::steady::{Outcome, SteadyLoad};
use crate::samples::Counter;

/// The bound, in milliseconds.
const GOAL_MS: f64 = 10_000.0;

/// So many nodes, of which the last is drained.
const NODES: usize = 4;

/// So many live objects on the node that is drained.
const OBJECTS: usize = 100_000;

/// Calls under way at once, while objects are made or read back.
const CALLS_MAX: usize = 256;

/// What a drain came to.
pub(super) struct Round {
    took_ms: f64,
    /// Live objects that did not keep their state.
    lost: u64,
    outcome: Outcome,
}

/// Measures from the signal until the process is gone.
pub(super) async fn round(etcd: &Etcd, prefix: &str) -> anyhow::Result<Round> {
    let mut cluster = Cluster::start(etcd, prefix, NODES).await?;
    let view = cluster.gate.view();
    let drained = NodeId::new(&name(NODES - 1))?;
    let theirs = owned_by(&view, &drained);
    make(&cluster.gate, &theirs).await?;
    let shards: Vec<_> = view.meta.shard_count.shards().collect();
    let load = SteadyLoad::start(&cluster.gate, &shards).await?;
    load.set_moving(true);
    let start = Instant::now();
    let mut node = cluster.nodes.pop().expect("it was started");
    let status = node.terminate().await?;
    let took_ms = start.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(status.success(), "the drained process ended with {status}");
    let outcome = load.stop().await?;
    let lost = count_lost(&cluster.gate, &theirs).await?;
    cluster.stop().await;
    Ok(Round {
        took_ms,
        lost,
        outcome,
    })
}

/// Returns the objects of the measurement, all over these shards.
fn objects<'a>(
    gate: &'a Node,
    shards: &'a [ShardId],
) -> impl Iterator<Item = <Counter as Object>::Handle> + 'a {
    let numbered = shards.iter().cycle().zip(0..OBJECTS);
    numbered.map(|(shard, n)| gate.object::<Counter>(format!("shard#{shard}/live-{n}")))
}

async fn make(gate: &Node, shards: &[ShardId]) -> anyhow::Result<()> {
    anyhow::ensure!(!shards.is_empty(), "the node has no shard");
    let made = stream::iter(objects(gate, shards))
        .map(|counter| async move { counter.add(1).await.map(drop) })
        .buffer_unordered(CALLS_MAX)
        .try_collect::<()>();
    timeout(LIMIT, made)
        .await
        .context("the objects take too long")??;
    Ok(())
}

async fn count_lost(gate: &Node, shards: &[ShardId]) -> anyhow::Result<u64> {
    let totals = stream::iter(objects(gate, shards))
        .map(|counter| async move { counter.total().await })
        .buffer_unordered(CALLS_MAX);
    let lost = totals.try_fold(0, async |lost, total| Ok(lost + u64::from(total != 1)));
    Ok(timeout(LIMIT, lost)
        .await
        .context("the objects take too long")??)
}

/// Sums up.
pub(super) fn figures(rounds: &[Round]) -> Vec<Figure> {
    let what = "1 of 4 nodes drained";
    let took = rounds.iter().map(|round| round.took_ms).collect();
    #[allow(clippy::cast_precision_loss, reason = "100 000 at most")]
    let lost = rounds.iter().map(|round| round.lost as f64).collect();
    let name = format!("{what}, {OBJECTS} live objects: from SIGTERM until it is gone");
    let mut figures = vec![
        Figure::new(name, "ms", took).goal(Goal::AtMost(GOAL_MS)),
        Figure::new(
            format!("{what}: live objects that lost their state"),
            "objects",
            lost,
        )
        .goal(Goal::Exactly(0.0)),
    ];
    let outcomes = rounds.iter().map(|round| &round.outcome);
    figures.extend(outcome_figures(what, outcomes));
    figures
}
