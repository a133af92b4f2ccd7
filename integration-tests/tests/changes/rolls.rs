//! A StatefulSet's controller, played with plain processes: it rolls nodes to another program and other settings
//! from the highest ordinal on, one after the other, and scales them. Under load, callers notice nothing, unless a pod
//! must be killed: then its objects are away as long as after a crash.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::load::Load;
use steading_integration_tests::signals;

use super::deaths::{assert_unharmed, owned_by};
use super::drains::has_only;
use super::{ALL, PROGRAM, cluster};

/// What nodes run after the roll-out.
const NEXT_PROGRAM: &str = env!("CARGO_BIN_EXE_test-node-next");

/// How long a pod may take to stop, within the patience of tests; `manifests` holds that of `k8s/base` to its drain timeout.
const GRACE: Duration = Duration::from_secs(40);

/// What pods are made of.
#[derive(Clone, Copy)]
struct Template {
    program: &'static str,
    /// Told to the others, so that each node's release is seen.
    release: &'static str,
    drain_timeout: &'static str,
}

const FIRST: Template = Template {
    program: PROGRAM,
    release: "release=first",
    drain_timeout: "25s",
};

const NEXT: Template = Template {
    program: NEXT_PROGRAM,
    release: "release=next",
    drain_timeout: "25s",
};

struct StatefulSet {
    cluster: Cluster,
    template: Template,
    /// By ordinal.
    pods: Vec<Node>,
}

impl StatefulSet {
    /// Starts all pods at once, as `podManagementPolicy: Parallel` says.
    async fn start(cluster: Cluster, replicas: usize, template: Template) -> Self {
        let mut set = Self {
            cluster,
            template,
            pods: Vec::new(),
        };
        set.scale(replicas).await;
        set
    }

    fn create(&self, ordinal: usize) -> Node {
        let cluster = self.cluster.clone().program(self.template.program);
        let settings = [
            "--supervise",
            "--replace",
            "always",
            "--labels",
            self.template.release,
            "--drain-timeout",
            self.template.drain_timeout,
            "--zone",
            "", // What a Kubernetes that knows none gives.
        ];
        cluster.launch(&format!("steading-{ordinal}"), &settings)
    }

    /// Starts what is missing and stops what is too much, all at once; the highest ordinals go.
    async fn scale(&mut self, replicas: usize) {
        let more = self.pods.len()..replicas;
        let mut created: Vec<Node> = more.map(|ordinal| self.create(ordinal)).collect();
        for pod in &mut created {
            is_ready(pod).await;
        }
        self.pods.append(&mut created);
        let gone = self.pods.split_off(replicas);
        futures::future::join_all(gone.iter().map(delete)).await;
    }

    /// Replaces each pod by one of this template: the highest ordinal first, the next once that one is ready.
    async fn roll(&mut self, template: Template) {
        self.template = template;
        for ordinal in (0..self.pods.len()).rev() {
            delete(&self.pods[ordinal]).await;
            self.recreate(ordinal).await;
        }
    }

    /// The same, where the pod of the highest ordinal does not stop within its grace.
    async fn roll_by_force(&mut self, template: Template, grace: impl Future<Output = ()>) {
        self.template = template;
        let highest = self.pods.len() - 1;
        let ended = self.pods[highest].stop(grace).await;
        assert_eq!(ended, None, "it ended though it could not");
        for ordinal in (0..=highest).rev() {
            if ordinal < highest {
                delete(&self.pods[ordinal]).await;
            }
            self.recreate(ordinal).await;
        }
    }

    async fn recreate(&mut self, ordinal: usize) {
        self.pods[ordinal] = self.create(ordinal);
        is_ready(&mut self.pods[ordinal]).await;
    }
}

/// What the kubelet waits for, before it tells that a pod is ready.
async fn is_ready(pod: &mut Node) {
    pod.listens().await;
    pod.is_ready().await;
}

/// Stops a pod as the kubelet does. It must not come to the kill.
async fn delete(pod: &Node) {
    let status = pod.stop(tokio::time::sleep(GRACE)).await;
    let code = status.and_then(|status| status.code());
    assert_eq!(code, Some(0), "{}: {}", pod.id(), pod.output());
}

/// The releases that live nodes tell, gates left out.
fn releases(cluster: &Value) -> BTreeSet<&str> {
    let nodes = cluster["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let nodes = nodes.iter().filter(|node| node["weight"] != 0.0);
    nodes
        .filter_map(|node| node["labels"]["release"].as_str())
        .collect()
}

#[tokio::test]
async fn n7_a_rolling_update_there_and_back_and_scaling_fail_no_call_and_lose_nothing() {
    let cluster = cluster("stateful-set").await;
    let mut set = StatefulSet::start(cluster.clone(), 3, FIRST).await;
    let gate = cluster.gate("gate").await;
    gate.is_spread(["steading-0", "steading-1", "steading-2"])
        .await;
    let load = Load::begin(&gate, "load", ALL).await;

    set.roll(NEXT).await;
    gate.sees("all nodes of the next release", |cluster| {
        releases(cluster) == BTreeSet::from(["next"])
    })
    .await;
    load.goes_round().await;

    set.scale(5).await;
    let five = [0, 1, 2, 3, 4].map(|ordinal| format!("steading-{ordinal}"));
    gate.is_spread(five.each_ref().map(String::as_str)).await;
    load.goes_round().await;
    set.scale(3).await;
    gate.is_spread(["steading-0", "steading-1", "steading-2"])
        .await;
    load.goes_round().await;

    // And back, with moves of the last step still under way, perhaps.
    set.roll(FIRST).await;
    gate.sees("all nodes of the first release", |cluster| {
        releases(cluster) == BTreeSet::from(["first"])
    })
    .await;
    load.goes_round().await;
    load.end_unharmed().await;
    set.scale(0).await;
    cluster.history().await.assert_single_owners();
}

/// Waits until all nodes are of the next release and every shard has an owner.
async fn is_next(gate: &Node) {
    gate.sees("all nodes of the next release", |cluster| {
        let shards = &cluster["shards"];
        releases(cluster) == BTreeSet::from(["next"]) && shards["owned"] == shards["total"]
    })
    .await;
}

#[tokio::test]
async fn n7_a_pod_that_hangs_is_killed_and_callers_wait_for_its_lease_and_not_for_its_grace() {
    let cluster = cluster("hanging-pod").await;
    let mut set = StatefulSet::start(cluster.clone(), 3, FIRST).await;
    let gate = cluster.gate("gate").await;
    gate.is_spread(["steading-0", "steading-1", "steading-2"])
        .await;
    let bystanders = owned_by(&gate, &["steading-0", "steading-1"]).await;
    let others = ALL.filter(|shard| !bystanders.contains(shard));
    // The first shard is that of the object which all callers share.
    let shards = bystanders.iter().copied().chain(others);
    let load = Load::begin(&gate, "load", shards).await;

    let hangs = set.pods[2]
        .supervised()
        .expect("it runs the node as its child");
    signals::freeze(hangs).await;
    // Its grace is over only when every caller has been answered again.
    set.roll_by_force(NEXT, load.goes_round()).await;
    is_next(&gate).await;
    load.goes_round().await;
    let called = load.end().await;
    assert_unharmed(&called, &bystanders, 1);
    let failed = called.iter().flat_map(|called| &called.failed);
    let failed: Vec<&String> = failed.collect();
    // It died, and did not leave: whoever waits for its last answers waits in vain.
    let late = failed
        .iter()
        .filter(|told| !told.contains("its lease ended"));
    assert_eq!(late.count(), 0, "{failed:#?}");
    // That it is in time is shown on a clock of its own, by
    // `s0_16_callers_of_a_node_that_hangs_wait_no_longer_than_for_one_that_crashed`: here others may be using the machine.
    let longest = called.iter().map(|called| called.longest).max();
    let (failed, goal) = (
        failed.len(),
        cluster.lease_ttl() + Duration::from_millis(600),
    );
    eprintln!(
        "{failed} calls failed, the longest wait was {longest:?}; on a machine of one's own, {goal:?} at most"
    );
    set.scale(0).await;
    cluster.history().await.assert_single_owners();
}

#[tokio::test]
async fn n8_a_pod_whose_turn_never_ends_is_killed_and_nobody_else_notices() {
    let cluster = cluster("held-pod").await;
    let patient = Template {
        drain_timeout: "10m",
        ..FIRST
    };
    let mut set = StatefulSet::start(cluster.clone(), 3, patient).await;
    let gate = cluster.gate("gate").await;
    gate.is_spread(["steading-0", "steading-1", "steading-2"])
        .await;
    let shard = gate.shards_of("steading-2").await[0];
    let held = gate.hold(shard).await;
    let load = Load::begin(&gate, "load", ALL.filter(|of| *of != shard)).await;
    // All else is handed over before the kill, and what was forwarded meanwhile is answered.
    let grace = async {
        has_only(&gate, "steading-2", shard).await;
        load.goes_round().await;
    };
    set.roll_by_force(NEXT, grace).await;
    is_next(&gate).await;
    load.goes_round().await;
    load.end_unharmed().await;
    let answered = held.await.expect("no panic");
    assert_ne!(answered, Some(200), "its turn has not ended");
    gate.let_go(shard).await; // The object answers, anew.
    set.scale(0).await;
    cluster.history().await.assert_single_owners();
}
