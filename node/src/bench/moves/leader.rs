//! The leader killed: what callers of the other nodes' shards see of it.

use anyhow::Context;
use steading::placement::ClusterView;
use tokio::time::Instant;

use super::super::children::Etcd;
use super::super::report::{Figure, Goal};
use super::super::views::{all_owned, owned_by, sees};
use super::cluster::{Cluster, name};
use super::steady::{Outcome, SteadyLoad};
use super::{longest_ms, outcome_figures};

/// The lease's default time to live and what is allowed on top, in milliseconds.
const GOAL_MS: f64 = 5600.0;

/// So many nodes.
const NODES: usize = 3;

/// What the death of a leader came to.
pub(super) struct Round {
    took_ms: f64,
    outcome: Outcome,
}

/// Measures from the kill until another leads and every shard has an owner.
pub(super) async fn round(etcd: &Etcd, prefix: &str) -> anyhow::Result<Round> {
    let mut cluster = Cluster::start(etcd, prefix, NODES).await?;
    let view = cluster.gate.view();
    let leader = view.leader.as_ref().context("nobody leads")?.node.clone();
    let theirs = owned_by(&view, &leader);
    let others = view.meta.shard_count.shards();
    let others: Vec<_> = others.filter(|shard| !theirs.contains(shard)).collect();
    let load = SteadyLoad::start(&cluster.gate, &others).await?;
    load.set_moving(true);
    let start = Instant::now();
    let mut killed = (0..NODES).zip(&mut cluster.nodes);
    let killed = killed.find(|(n, _)| name(*n) == leader.as_str());
    killed
        .context("the leader is one of them")?
        .1
        .kill()
        .await?;
    let is_over = |view: &ClusterView| {
        let succeeded = view.leader.as_ref().is_some_and(|l| l.node != leader);
        succeeded && all_owned(view)
    };
    sees(&cluster.gate, "another leads, and all is served", is_over).await?;
    let took_ms = start.elapsed().as_secs_f64() * 1e3;
    let outcome = load.stop().await?;
    cluster.stop().await;
    Ok(Round { took_ms, outcome })
}

/// Sums up.
pub(super) fn figures(rounds: &[Round]) -> Vec<Figure> {
    let what = "SIGKILL of the leader";
    let took = rounds.iter().map(|round| round.took_ms).collect();
    let name = format!("{what} until another leads and all have owners");
    let outcomes = || rounds.iter().map(|round| &round.outcome);
    let others = format!("{what}, others' shards");
    let stall = Figure::new(
        format!("{others}: longest stall of any call"),
        "ms",
        longest_ms(outcomes()),
    );
    let mut figures = vec![
        Figure::new(name, "ms", took).goal(Goal::AtMost(GOAL_MS)),
        stall,
    ];
    figures.extend(outcome_figures(&others, outcomes()));
    figures
}
