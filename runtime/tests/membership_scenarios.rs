//! What a cluster does as nodes come, go and are cut off, on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use steading::coordination::membership::{JoinError, Replace};
use steading::coordination::{Cut, MemoryStore};
use steading::ids::{Incarnation, NodeId};
use steading::testing::TestCluster;
use steading::{Node, Object, StartError, methods};
use tokio::time::{Instant, sleep};

const TTL: Duration = Duration::from_secs(5);

#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage)]
struct Counter {
    total: i64,
}

#[methods]
impl Counter {
    fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }
}

async fn cluster(nodes: usize) -> TestCluster {
    TestCluster::builder()
        .nodes(nodes)
        .register::<Counter>()
        .start()
        .await
}

fn names(node: &Node) -> Vec<String> {
    node.view().nodes.keys().map(ToString::to_string).collect()
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

fn incarnation(cluster: &TestCluster, name: &str) -> Option<Incarnation> {
    let view = cluster.view();
    view.nodes.get(&id(name)).map(|record| record.incarnation)
}

/// Waits until a node knows what the observer knows. Before that it may send a call to a life that
/// is over, whose outcome is then rightly unknown.
async fn caught_up(cluster: &TestCluster, name: &str) {
    while cluster.node(name).view().revision < cluster.view().revision {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Adds to `count` counters and checks that none lost what was added in `round`s before.
async fn add_everywhere(node: &Node, count: usize, round: i64) {
    for i in 0..count {
        let counter = node.object::<Counter>(format!("c{i}"));
        assert_eq!(counter.add(1).await, Ok(round), "counter {i}");
    }
}

#[tokio::test(start_paused = true)]
async fn m1_two_nodes_list_both() {
    let cluster = cluster(2).await;
    for node in cluster.nodes() {
        assert_eq!(names(node), ["n1", "n2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn m2_a_running_node_sees_another_join() {
    let mut cluster = cluster(1).await;
    let began = Instant::now();
    cluster.add("n2").await;
    while names(cluster.node("n1")) != ["n1", "n2"] {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn m3_a_node_that_stops_is_no_longer_listed() {
    let mut cluster = cluster(2).await;
    cluster.stop("n2").await;
    let stopped = Instant::now();
    assert_eq!(
        incarnation(&cluster, "n2"),
        None,
        "its key is gone when it has stopped"
    );
    while names(cluster.node("n1")) != ["n1"] {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(stopped.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn m12_m13_a_cluster_whose_store_was_away_finds_itself_again() {
    let mut cluster = cluster(3).await;
    add_everywhere(cluster.node("n1"), 20, 1).await;
    let before = incarnation(&cluster, "n2");
    for name in ["n1", "n2", "n3"] {
        cluster.cut_from_store(name);
    }
    sleep(Duration::from_secs(20)).await;
    for name in ["n1", "n2", "n3"] {
        cluster.heal_store(name);
    }
    let healed = Instant::now();
    cluster
        .wait_until("all are registered again", |view| view.nodes.len() == 3)
        .await;
    assert!(
        healed.elapsed() < Duration::from_secs(10),
        "{:?}",
        healed.elapsed()
    );
    assert!(incarnation(&cluster, "n2") > before, "another life");
    cluster.settled().await;
    caught_up(&cluster, "n1").await;
    add_everywhere(cluster.node("n1"), 20, 2).await;
    cluster.add("n4").await;
    while names(cluster.node("n1")).len() < 4 {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn m14_a_broken_watch_goes_on_where_it_ended() {
    let mut cluster = cluster(1).await;
    let client = cluster.store().client();
    let store = Arc::new(client.clone());
    cluster.add_with("n2", |builder| builder.store(store)).await;
    for _ in 0..3 {
        client.faults().break_watches();
        cluster.add("n3").await;
        let added = Instant::now();
        while names(cluster.node("n2")).len() < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(added.elapsed() < Duration::from_secs(2));
        cluster.stop("n3").await;
    }
}

#[tokio::test(start_paused = true)]
async fn n4_a_node_cut_off_from_the_store_stops_serving_before_others_claim() {
    let mut cluster = cluster(3).await;
    add_everywhere(cluster.node("n1"), 30, 1).await;
    let old = incarnation(&cluster, "n2").expect("registered");
    cluster.cut_from_store("n2");
    let cut = Instant::now();
    let node = cluster.node("n2").clone();
    while node
        .readiness()
        .conditions
        .iter()
        .all(|condition| condition.met)
    {
        sleep(Duration::from_millis(1)).await;
    }
    let silent_after = cut.elapsed();
    assert!(
        silent_after < TTL,
        "it stopped by itself after {silent_after:?}"
    );
    assert_eq!(
        incarnation(&cluster, "n2"),
        Some(old),
        "before its lease ended"
    );
    cluster
        .wait_until("the others own everything", |view| {
            view.owners.iter().all(|(_, record)| {
                record
                    .owner
                    .as_ref()
                    .is_some_and(|owner| owner.node != id("n2"))
            })
        })
        .await;
    assert!(cut.elapsed() > silent_after);
    caught_up(&cluster, "n1").await;
    add_everywhere(cluster.node("n1"), 30, 2).await;
    assert_eq!(cluster.history().violations(), []);
}

#[tokio::test(start_paused = true)]
async fn n6_a_short_absence_of_the_store_moves_nothing() {
    let mut cluster = cluster(3).await;
    add_everywhere(cluster.node("n1"), 30, 1).await;
    let owners = cluster.view().owners.clone();
    for name in ["n1", "n2", "n3"] {
        cluster.cut_from_store(name);
    }
    // Within the safety limit nobody notices, and no call fails.
    sleep(Duration::from_secs(3)).await;
    add_everywhere(cluster.node("n1"), 30, 2).await;
    for name in ["n1", "n2", "n3"] {
        cluster.heal_store(name);
    }
    sleep(TTL * 4).await;
    add_everywhere(cluster.node("n1"), 30, 3).await;
    assert_eq!(cluster.view().owners, owners);
    cluster.settled().await;
}

#[tokio::test(start_paused = true)]
async fn n10_a_node_whose_store_is_away_at_the_start_joins_when_it_returns() {
    let mut cluster = cluster(2).await;
    let client: MemoryStore = cluster.store().client();
    client.faults().cut(Some(Cut::Refused));
    let store = Arc::new(client.clone());
    let node = cluster.launch("n3", |builder| builder.store(store)).await;
    sleep(Duration::from_secs(30)).await;
    assert!(!node.readiness().is_ready());
    assert_eq!(incarnation(&cluster, "n3"), None, "never half joined");
    client.faults().cut(None);
    node.joined().await.expect("joins");
    cluster
        .wait_until("it takes part", |view| {
            view.targets
                .iter()
                .any(|(_, target)| target.node == Some(id("n3")))
        })
        .await;
    node.stop().await;
    cluster.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn two_live_processes_with_one_node_id_are_refused() {
    let mut cluster = cluster(2).await;
    let before = incarnation(&cluster, "n2");
    let network = cluster.network().port("n2-double");
    let double = cluster
        .launch("n2", |builder| {
            builder.replace(Replace::Never).network(network)
        })
        .await;
    let error = double.joined().await.expect_err("refused");
    assert!(
        matches!(error, StartError::Join(JoinError::NodeIdInUse { .. })),
        "{error}"
    );
    assert_eq!(
        incarnation(&cluster, "n2"),
        before,
        "the first one is left alone"
    );
    add_everywhere(cluster.node("n1"), 10, 1).await;
    cluster.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn payloads_larger_than_nodes_can_exchange_are_refused_at_the_start() {
    let largest = steading::object::PAYLOAD_LEN_LIMIT;
    let started = Node::builder().payload_max(largest + 1).start().await;
    let error = started.expect_err("too large");
    assert!(matches!(error, StartError::PayloadMax(_)), "{error}");
    let mut cluster = cluster(1).await;
    let grown = cluster
        .launch("n2", |builder| builder.payload_max(largest))
        .await;
    assert!(grown.joined().await.is_ok());
    grown.stop().await;
    cluster.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_returns_under_its_name_waits_for_no_lease_if_it_may_replace() {
    let mut cluster = cluster(3).await;
    add_everywhere(cluster.node("n1"), 30, 1).await;
    cluster.crash("n2").await;
    let crashed = Instant::now();
    cluster
        .add_with("n2", |builder| builder.replace(Replace::Always))
        .await;
    cluster.settled().await;
    assert!(
        crashed.elapsed() < Duration::from_secs(1),
        "{:?}",
        crashed.elapsed()
    );
    caught_up(&cluster, "n1").await;
    add_everywhere(cluster.node("n1"), 30, 2).await;
}
