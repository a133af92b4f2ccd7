//! A StatefulSet's controller, played with plain processes: it rolls nodes to another program and other settings
//! from the highest ordinal on, one after the other, and scales them. Under load, callers notice nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::load::Load;

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
}

const FIRST: Template = Template {
    program: PROGRAM,
    release: "release=first",
};

const NEXT: Template = Template {
    program: NEXT_PROGRAM,
    release: "release=next",
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
            self.pods[ordinal] = self.create(ordinal);
            is_ready(&mut self.pods[ordinal]).await;
        }
    }
}

/// What the kubelet waits for, before it tells that a pod is ready.
async fn is_ready(pod: &mut Node) {
    pod.listens().await;
    pod.is_ready().await;
}

/// Stops a pod as the kubelet does. It must not come to the kill.
async fn delete(pod: &Node) {
    let status = pod.stop(GRACE).await;
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
