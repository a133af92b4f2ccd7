//! All nodes restarted, one after the other: SIGTERM, then the same ID again, until it is ready.

use super::super::children::Etcd;
use super::super::report::{Figure, Goal};
use super::cluster::Cluster;
use super::steady::{Outcome, SteadyLoad};
use super::{longest_ms, outcome_figures};

/// The bound for the longest stall of any call, in milliseconds.
const STALL_GOAL_MS: f64 = 250.0;

/// So many nodes.
const NODES: usize = 3;

/// Restarts every node, and returns what the callers saw meanwhile.
pub(super) async fn round(etcd: &Etcd, prefix: &str) -> anyhow::Result<Outcome> {
    let mut cluster = Cluster::start(etcd, prefix, NODES).await?;
    let shards: Vec<_> = cluster.gate.view().meta.shard_count.shards().collect();
    let load = SteadyLoad::start(&cluster.gate, &shards).await?;
    load.set_moving(true);
    for n in 0..NODES {
        let status = cluster.nodes[n].terminate().await?;
        anyhow::ensure!(status.success(), "a stopped process ended with {status}");
        cluster.nodes[n] = cluster.launch(n).await?;
        cluster.nodes[n].ready().await?;
    }
    let outcome = load.stop().await?;
    cluster.stop().await;
    Ok(outcome)
}

/// Sums up.
pub(super) fn figures(rounds: &[Outcome]) -> Vec<Figure> {
    let what = "rolling restart of 3 nodes";
    let name = format!("{what}: longest stall of any call");
    let mut figures =
        vec![Figure::new(name, "ms", longest_ms(rounds.iter())).goal(Goal::AtMost(STALL_GOAL_MS))];
    figures.extend(outcome_figures(what, rounds.iter()));
    figures
}
