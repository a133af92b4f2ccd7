//! A crash of one node of three, under load: until every shard is served again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use futures::future::try_join_all;
use steading::ids::{NodeId, ShardId};
use steading::object::Object;
use steading::placement::Weight;
use steading::{CallError, Node, Tasks};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::BenchArgs;
use super::children::{Etcd, NodeProcess};
use super::objects::Tally;
use super::report::{Figure, Goal};
use super::views::{LIMIT, all_owned, owned_by, sees};

/// The lease's default time to live and what is allowed on top, in milliseconds.
const CRASH_GOAL_MS: f64 = 5600.0;

/// The bound for a restart under the same ID, in milliseconds.
const RESTART_GOAL_MS: f64 = 500.0;

/// The bound for a crash under `--supervise`, in milliseconds.
const SUPERVISED_GOAL_MS: f64 = 300.0;

/// So many callers make the load.
const CALLERS: u64 = 16;

/// Measures a crash, a crash with a restart under the same ID, and a crash under `--supervise`.
pub(super) async fn measure(args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let etcd = Etcd::start(&args.etcd_program).await?;
    let (mut crashes, mut restarts, mut supervised) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds {
        crashes.push(crash(&etcd, &format!("/crash-{round}/"), How::Alone).await?);
        restarts.push(crash(&etcd, &format!("/restart-{round}/"), How::Restarted).await?);
        supervised.push(crash(&etcd, &format!("/supervised-{round}/"), How::Supervised).await?);
    }
    let crash = Figure::new(
        "SIGKILL of 1 of 3 nodes until every shard is served",
        "ms",
        crashes,
    );
    let restart = Figure::new("the same with a restart under the same ID", "ms", restarts);
    let supervised = Figure::new("the same under --supervise", "ms", supervised);
    Ok(vec![
        crash.goal(Goal::AtMost(CRASH_GOAL_MS)),
        restart.goal(Goal::AtMost(RESTART_GOAL_MS)),
        supervised.goal(Goal::AtMost(SUPERVISED_GOAL_MS)),
    ])
}

/// How the crash is noticed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// The lease runs out.
    Alone,
    /// Its successor under the same ID ends the lease.
    Restarted,
    /// Whoever supervises it ends the lease.
    Supervised,
}

/// Returns the milliseconds from the kill until an object of every shard answers.
async fn crash(etcd: &Etcd, prefix: &str, how: How) -> anyhow::Result<f64> {
    let more: &[&str] = match how {
        How::Alone | How::Restarted => &[],
        How::Supervised => &["--supervise"],
    };
    let nodes = ["n0", "n1", "n2"].map(|id| NodeProcess::start_with(etcd, prefix, id, more));
    let mut nodes = try_join_all(nodes).await?;
    try_join_all(nodes.iter().map(NodeProcess::ready)).await?;
    let gate = Node::builder()
        .id(NodeId::new("gate")?)
        .etcd([etcd.endpoint()])
        .prefix(prefix)
        .weight(Weight::GATE)
        .start()
        .await?;
    let view = sees(&gate, "every shard has an owner", all_owned).await?;
    let victim = NodeId::new("n2")?;
    let lost = owned_by(&view, &victim);

    let tasks = Tasks::new();
    let answered = make_load(&gate, &tasks);
    let started = Instant::now();
    match how {
        How::Alone | How::Restarted => nodes[2].kill().await?,
        How::Supervised => nodes[2].kill_supervised()?,
    }
    let restarted = match how {
        How::Restarted => Some(NodeProcess::start(etcd, prefix, victim.as_str()).await?),
        How::Alone | How::Supervised => None,
    };
    timeout(LIMIT, all_answer(&gate, &lost))
        .await
        .context("shards stay silent")??;
    let took = started.elapsed().as_secs_f64() * 1e3;
    tasks.stop(LIMIT).await;
    anyhow::ensure!(answered.load(Ordering::Relaxed) > 0, "the load did nothing");
    gate.stop().await;
    drop(restarted);
    Ok(took)
}

/// Calls objects all over the cluster until the tasks are stopped; counts the answers.
fn make_load(gate: &Node, tasks: &Tasks) -> Arc<AtomicU64> {
    let answered = Arc::new(AtomicU64::new(0));
    for caller in 0..CALLERS {
        let (gate, answered) = (gate.clone(), answered.clone());
        let load = |shutdown: CancellationToken| async move {
            for n in (caller..).step_by(7) {
                let call = async {
                    gate.object::<Tally>(format!("load-{}", n % 1000))
                        .add(1)
                        .await
                };
                match shutdown.run_until_cancelled(call).await {
                    Some(Ok(_)) => answered.fetch_add(1, Ordering::Relaxed),
                    Some(Err(_)) => continue, // Calls under way at the kill may fail.
                    None => break,
                };
            }
            Ok::<_, CallError>(())
        };
        tasks.spawn("load", load);
    }
    answered
}

/// Waits until an object of each shard has answered, trying again whatever happens.
async fn all_answer(gate: &Node, shards: &[ShardId]) -> anyhow::Result<()> {
    let answers = shards.iter().map(async |shard| {
        let object: <Tally as Object>::Handle =
            gate.object::<Tally>(format!("shard#{shard}/probe"));
        while object.add(1).await.is_err() {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    });
    try_join_all(answers).await.map(drop)
}
