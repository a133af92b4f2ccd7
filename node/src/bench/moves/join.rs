//! A fourth node joins three.

use steading::Node;
use steading::coordination::plans::PlanRecord;
use tokio::time::Instant;

use super::super::children::Etcd;
use super::super::report::{Figure, Goal};
use super::super::views::counts;
use super::cluster::Cluster;
use super::outcome_figures;
use super::steady::{Outcome, SteadyLoad};

/// The bound, in milliseconds.
const GOAL_MS: f64 = 3000.0;

/// So many nodes are there before.
const NODES: usize = 3;

/// What a join came to.
pub(super) struct Round {
    took_ms: f64,
    moves: u32,
    least: u32,
    outcome: Outcome,
}

/// Measures from the start of the fourth process until it has its share.
pub(super) async fn round(etcd: &Etcd, prefix: &str) -> anyhow::Result<Round> {
    let cluster = Cluster::start(etcd, prefix, NODES).await?;
    let view = cluster.gate.view();
    let least = least_moves(counts(&view).into_values());
    let shards: Vec<_> = view.meta.shard_count.shards().collect();
    let moved_before = moves_planned(&cluster.gate).await?;
    let load = SteadyLoad::start(&cluster.gate, &shards).await?;
    load.set_moving(true);
    let start = Instant::now();
    let joined = cluster.launch(NODES).await?;
    cluster.is_settled(NODES + 1).await?;
    let took_ms = start.elapsed().as_secs_f64() * 1e3;
    let outcome = load.stop().await?;
    let moves = moves_planned(&cluster.gate).await? - moved_before;
    cluster.stop().await;
    drop(joined);
    Ok(Round {
        took_ms,
        moves,
        least,
        outcome,
    })
}

/// Counts the moves of every plan of the cluster so far.
async fn moves_planned(gate: &Node) -> anyhow::Result<u32> {
    let plans = gate.cluster().plans().await?;
    Ok(plans
        .iter()
        .map(|plan: &PlanRecord| plan.counts().total())
        .sum())
}

/// Returns the fewest moves after which a further node has its share: what each has above what it
/// may keep, where all nodes weigh the same.
fn least_moves(counts: impl IntoIterator<Item = u32>) -> u32 {
    let mut counts: Vec<u32> = counts.into_iter().collect();
    let nodes = u32::try_from(counts.len() + 1).expect("a few nodes");
    let shards: u32 = counts.iter().sum();
    // The remainder goes to those who have most.
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let (share, remainder) = (shards / nodes, shards % nodes);
    let quotas = (0..).map(|rank| share + u32::from(rank < remainder));
    let above = counts.iter().zip(quotas);
    above
        .map(|(count, quota)| count.saturating_sub(quota))
        .sum()
}

/// Sums up.
pub(super) fn figures(rounds: &[Round]) -> Vec<Figure> {
    let what = "a 4th node joins 3";
    let took = rounds.iter().map(|round| round.took_ms).collect();
    let moves = rounds.iter().map(|round| f64::from(round.moves)).collect();
    let least = f64::from(rounds[0].least);
    let mut figures = vec![
        Figure::new(
            format!("{what}: from its start until all are moved"),
            "ms",
            took,
        )
        .goal(Goal::AtMost(GOAL_MS)),
        Figure::new(
            format!("{what}: moves, beside the fewest possible"),
            "moves",
            moves,
        )
        .goal(Goal::Exactly(least)),
    ];
    let outcomes = rounds.iter().map(|round| &round.outcome);
    figures.extend(outcome_figures(what, outcomes));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_moves_leave_the_remainder_with_those_who_have_most() {
        assert_eq!(least_moves([2731, 2731, 2730]), 2048);
        assert_eq!(least_moves([3, 3]), 2, "6 over 3");
        assert_eq!(least_moves([4, 3]), 2, "3, 2, 2: one of 4 and one of 3");
        assert_eq!(least_moves([1, 0, 0]), 0);
    }
}
