//! Clusters of nodes that host a counter.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use steading::ids::{NodeId, ObjectKey};
use steading::placement::ClusterView;
use steading::testing::TestCluster;
use steading::{Node, Object, methods};
use tokio::time::sleep;

/// Counts in stored state, so that nothing may be lost.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage)]
pub(crate) struct Counter {
    total: i64,
}

#[methods]
impl Counter {
    pub(crate) fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }

    /// As `add`, but takes half a second.
    pub(crate) async fn add_slowly(&mut self, n: i64) -> i64 {
        sleep(Duration::from_millis(500)).await;
        self.total += n;
        self.total
    }

    pub(crate) fn total(&self) -> i64 {
        self.total
    }
}

/// The lease of these clusters; the default.
pub(crate) const TTL: Duration = Duration::from_secs(5);

pub(crate) async fn cluster(nodes: usize) -> TestCluster {
    TestCluster::builder()
        .nodes(nodes)
        .register::<Counter>()
        .start()
        .await
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

pub(crate) fn key(id: &str) -> ObjectKey {
    ObjectKey::new("Counter", id).expect("a good key")
}

pub(crate) fn owned_by(view: &ClusterView, name: &str) -> usize {
    let owned = |(shard, _): &(_, &_)| {
        view.live_owner(*shard)
            .is_some_and(|owner| owner.node.as_str() == name)
    };
    view.owners.iter().filter(owned).count()
}

/// Finds an ID whose object lives on a node.
pub(crate) fn id_on(node: &Node, name: &str) -> String {
    let lives_there = |id: &String| {
        let place = node.locate(&key(id)).expect("a good key");
        place.owner.is_some_and(|owner| owner.as_str() == name)
    };
    (0..10_000)
        .map(|i| format!("c{i}"))
        .find(lives_there)
        .expect("every node owns shards")
}

/// Ends a test: no owner ever took a shard from a live one.
pub(crate) async fn finish(mut cluster: TestCluster) {
    cluster.stop_all().await;
    assert_eq!(cluster.history().violations(), []);
}
