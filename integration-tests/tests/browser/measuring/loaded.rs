//! A cluster that has as many calls as it can serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use futures::future::{join_all, select};
use rustix::process::Pid;
use rustix::thread::gettid;
use steading::ids::NodeId;
use steading::node::NodeBuilder;
use steading::placement::Weight;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::objects::Tally;
use tokio::sync::oneshot;

use super::processes::{cpu_of, cpu_of_thread};
use crate::cluster;

/// How many callers each cluster has, who never rest, with ten objects each.
pub(super) const CALLERS: usize = 64;

/// Two nodes of 8192 shards, and a thread with a gate and callers.
pub(super) struct Loaded {
    pub(super) cluster: Cluster,
    nodes: [Node; 2],
    calls: Arc<AtomicU32>,
    thread: Pid,
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

/// What a cluster has done so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Calls that were answered.
    pub(super) calls: f64,
    /// The CPU time of its nodes, its gate and its callers.
    cpu: Duration,
}

impl Reading {
    pub(super) fn calls_per_cpu_second_since(&self, before: &Self) -> f64 {
        let spent = self.cpu.checked_sub(before.cpu).expect("it grows");
        (self.calls - before.calls) / spent.as_secs_f64()
    }
}

impl Loaded {
    /// Starts it, and has it called from now on.
    pub(super) async fn begin(name: &str) -> Self {
        let cluster = cluster(name).await.shard_count(8192);
        let nodes = cluster.ready(["node-0", "node-1"]).await;
        nodes[0].is_settled(["node-0", "node-1"]).await;
        let gate = steading::Node::builder()
            .id(NodeId::new("caller").expect("a good name"))
            .etcd([cluster.etcd()])
            .prefix(cluster.prefix())
            .weight(Weight::GATE);
        let calls = Arc::new(AtomicU32::new(0));
        let (stop, until) = oneshot::channel();
        let (say_stopped, stopped) = oneshot::channel();
        let (say_thread, thread) = oneshot::channel();
        thread::spawn({
            let calls = calls.clone();
            move || {
                say_thread.send(gettid()).expect("it is waited for");
                run(call_until(until, gate, &calls));
                // Nobody waits for it once a test has failed.
                let _ = say_stopped.send(());
            }
        });
        Self {
            cluster,
            nodes,
            calls,
            thread: thread.await.expect("it has begun"),
            stop,
            stopped,
        }
    }

    pub(super) fn read(&self) -> Reading {
        let nodes = self.nodes.iter().map(|node| cpu_of(node.pid()));
        Reading {
            calls: f64::from(self.calls.load(Ordering::Relaxed)),
            cpu: nodes.sum::<Duration>() + cpu_of_thread(self.thread),
        }
    }

    /// Ends the calls, and then the cluster.
    pub(super) async fn end(self) {
        self.stop.send(()).expect("it calls");
        self.stopped.await.expect("no call has failed");
    }
}

/// On one thread, whose CPU time is all that the future takes.
fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("it can be built").block_on(future);
}

async fn call_until(until: oneshot::Receiver<()>, gate: NodeBuilder, calls: &AtomicU32) {
    let gate = gate.start().await.expect("it joins");
    let callers = (0..CALLERS).map(|caller| call(&gate, caller, calls));
    select(Box::pin(join_all(callers)), until).await;
    gate.stop().await;
}

/// Calls for ever.
async fn call(gate: &steading::Node, caller: usize, calls: &AtomicU32) {
    let object = |number| gate.object::<Tally>(format!("object-{caller}-{number}"));
    let objects: Vec<_> = (0..10).map(object).collect();
    for object in objects.iter().cycle() {
        object.add(1).await.expect("it answers");
        calls.fetch_add(1, Ordering::Relaxed);
    }
}
