//! Reports of load in whole clusters: what nodes tell each other, and what a dead one costs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use steading::ids::NodeId;
use steading::node::NodeReport;
use steading::testing::TestCluster;
use steading::{Object, methods};

/// What the default settings measure load by.
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage)]
struct Tally {
    total: i64,
}

#[methods]
impl Tally {
    fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }
}

async fn cluster(nodes: usize) -> TestCluster {
    let builder = TestCluster::builder().nodes(nodes);
    builder.register::<Tally>().start().await
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

#[tokio::test(start_paused = true)]
async fn s2_21_every_node_reports_its_shards_to_every_other() {
    let mut cluster = cluster(2).await;
    for i in 0..100 {
        let tally = cluster.node("n1").object::<Tally>(format!("t{i}"));
        tally.add(1).await.expect("it is served");
    }
    let mut seen = Vec::new();
    for _ in 0..2 {
        tokio::time::sleep(WINDOW).await;
        seen.push(turns(&cluster).await);
    }
    assert_eq!(seen, [100, 0], "each turn is told once, in its own window");
    cluster.stop_all().await;
}

/// Returns the turns that both nodes tell of in their last window, after checking the rest.
async fn turns(cluster: &TestCluster) -> u64 {
    let mut turns = 0;
    for asked in ["n1", "n2"] {
        let mut own = told(cluster, "n1", asked).await;
        let other = told(cluster, "n2", asked).await;
        own.load.age = other.load.age; // One of them was a little later.
        assert_eq!(own, other, "the same, whoever asks");
        assert!(own.incarnation.is_some());
        assert_eq!(own.load.window, WINDOW);
        let load = own.load;
        assert!(load.cpus > 0 && load.memory_bytes > 0, "{load:?}");
        let objects: u64 = own.shards.values().map(|load| load.objects).sum();
        assert_eq!(objects, own.objects);
        let stored = own.shards.values().all(|load| load.state_bytes > 0);
        assert!(stored, "all of it is stored");
        turns += load.turns;
    }
    turns
}

async fn told(cluster: &TestCluster, asking: &str, asked: &str) -> NodeReport {
    let report = cluster.node(asking).report(&id(asked)).await;
    report.expect("it answers")
}
