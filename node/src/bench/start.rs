//! Cold start: three node processes on a real etcd.

use futures::future::try_join_all;
use tokio::time::Instant;

use super::BenchArgs;
use super::children::{Etcd, NodeProcess};
use super::report::{Figure, Goal};

/// The bound, in milliseconds.
const GOAL_MS: f64 = 1500.0;

/// Measures from the start of the last process until all three are ready.
pub(super) async fn measure(args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let etcd = Etcd::start(&args.etcd_program).await?;
    let mut times = Vec::new();
    for round in 0..args.rounds {
        let prefix = format!("/start-{round}/");
        let start = Instant::now();
        let nodes = ["n0", "n1", "n2"].map(|id| NodeProcess::start(&etcd, &prefix, id));
        let nodes = try_join_all(nodes).await?;
        try_join_all(nodes.iter().map(NodeProcess::ready)).await?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let name = "cold start of 3 nodes, 8192 shards";
    Ok(vec![
        Figure::new(name, "ms", times).goal(Goal::AtMost(GOAL_MS)),
    ])
}
