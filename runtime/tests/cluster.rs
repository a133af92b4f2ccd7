//! Whole clusters in one process: membership, placement, calls during changes.

#![allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use steading::coordination::keys::encode_targets;
use steading::coordination::store::{Op, Store, Txn};
use steading::ids::{NodeId, ObjectKey, ShardCount};
use steading::object::ObjectQuery;
use steading::placement::{ClusterView, NodeState, Target, Weight};
use steading::testing::TestCluster;
use steading::{CallError, Node, Object, Outcome, methods};
use tokio::time::{Instant, sleep};

/// Counts in stored state, so that nothing may be lost.
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

    /// As `add`, but takes half a second.
    async fn add_slowly(&mut self, n: i64) -> i64 {
        sleep(Duration::from_millis(500)).await;
        self.total += n;
        self.total
    }

    fn total(&self) -> i64 {
        self.total
    }
}

/// The lease of these clusters; the default.
const TTL: Duration = Duration::from_secs(5);

async fn cluster(nodes: usize) -> TestCluster {
    TestCluster::builder()
        .nodes(nodes)
        .register::<Counter>()
        .start()
        .await
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

fn key(id: &str) -> ObjectKey {
    ObjectKey::new("Counter", id).expect("a good key")
}

fn owned_by(view: &ClusterView, name: &str) -> usize {
    let owned = |(shard, _): &(_, &_)| {
        view.live_owner(*shard)
            .is_some_and(|owner| owner.node.as_str() == name)
    };
    view.owners.iter().filter(owned).count()
}

/// Finds an ID whose object lives on a node.
fn id_on(node: &Node, name: &str) -> String {
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
async fn finish(mut cluster: TestCluster) {
    cluster.stop_all().await;
    assert_eq!(cluster.history().violations(), []);
}

#[tokio::test(start_paused = true)]
async fn m1_m2_nodes_that_join_are_seen_by_all() {
    let mut cluster = cluster(1).await;
    cluster.add("n2").await;
    for name in ["n1", "n2"] {
        let mut view = cluster.node(name).subscribe();
        view.wait_for(|view| view.nodes.len() == 2)
            .await
            .expect("the node runs");
    }
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn m3_a_node_that_stops_is_gone_at_once() {
    let mut cluster = cluster(2).await;
    let began = Instant::now();
    cluster.stop("n2").await;
    cluster
        .wait_until("n2 is gone", |view| !view.nodes.contains_key(&id("n2")))
        .await;
    assert!(
        began.elapsed() < TTL,
        "it revoked its lease: {:?}",
        began.elapsed()
    );
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn m4_all_nodes_agree_on_one_leader() {
    let cluster = cluster(3).await;
    let leader = cluster.view().leader.clone();
    assert!(leader.is_some());
    for node in cluster.nodes() {
        assert_eq!(node.view().leader, leader);
    }
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn m5_another_leads_when_the_leader_stops_or_dies() {
    let mut cluster = cluster(3).await;
    for end in ["stop", "crash"] {
        let leader = cluster.view().leader.clone().expect("somebody leads");
        match end {
            "stop" => cluster.stop(leader.node.as_str()).await,
            _ => cluster.crash(leader.node.as_str()).await,
        }
        let goal = format!("another leads after a {end}");
        cluster
            .wait_until(&goal, |view| {
                view.leader.as_ref().is_some_and(|l| l.term > leader.term)
            })
            .await;
        cluster.settled().await;
    }
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn p1_p3_every_shard_is_targeted_and_owned_evenly() {
    let cluster = cluster(3).await;
    let view = cluster.view();
    let mut counts = ["n1", "n2", "n3"].map(|name| owned_by(&view, name));
    counts.sort_unstable();
    assert_eq!(counts, [21, 21, 22]);
    for node in cluster.nodes() {
        assert_eq!(
            node.view().targets,
            view.targets,
            "{} sees the same map",
            node.id()
        );
    }
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn p2_calls_do_not_fail_while_a_node_joins() {
    let mut cluster = cluster(2).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..64)
        .map(|i| {
            let node = cluster.node(if i % 2 == 0 { "n1" } else { "n2" }).clone();
            tokio::spawn(keep_adding(node, format!("c{i}"), stop.clone()))
        })
        .collect();
    cluster.add("n3").await;
    cluster
        .wait_until("n3 owns its share", |view| owned_by(view, "n3") >= 21)
        .await;
    cluster.settled().await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let (acknowledged, total) = caller.await.expect("no panic").expect("no call fails");
        assert_eq!(total, acknowledged, "each acknowledged call counts once");
    }
    finish(cluster).await;
}

/// Adds one at a time until told to stop; returns how many calls were acknowledged and the
/// object's total.
async fn keep_adding(
    node: Node,
    id: String,
    stop: Arc<AtomicBool>,
) -> Result<(i64, i64), CallError> {
    let counter = node.object::<Counter>(&id);
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        counter.add(1).await?;
        acknowledged += 1;
        sleep(Duration::from_millis(1)).await; // Steady load, not a wait for something.
    }
    Ok((acknowledged, counter.total().await?))
}

#[tokio::test(start_paused = true)]
async fn p6_objects_follow_their_shards_when_targets_change() {
    let mut cluster = cluster(2).await;
    let node = cluster.node("n1").clone();
    let swapped = [("n1", "n2"), ("n2", "n1")].map(|(from, to)| (id_on(&node, from), from, to));
    for (id, _, _) in &swapped {
        assert_eq!(node.object::<Counter>(id).add(1).await, Ok(1));
    }
    swap(&cluster, &swapped).await;
    let owner = |id: &str| node.locate(&key(id)).expect("a good key").owner;
    cluster
        .wait_until("both shards have changed sides", |view| {
            swapped.iter().all(|(id, _, to)| {
                let shard = node.locate(&key(id)).expect("a good key").shard;
                let owner = shard.and_then(|shard| view.live_owner(shard));
                owner.is_some_and(|owner| owner.node.as_str() == *to)
            })
        })
        .await;
    for (id, from, to) in &swapped {
        let left = cluster.node(from).host().objects(&ObjectQuery {
            limit: 10,
            ..ObjectQuery::default()
        });
        assert!(
            left.iter().all(|object| object.key != key(id)),
            "{id} is still on {from}: {left:?}"
        );
        assert_eq!(
            node.object::<Counter>(id).add(1).await,
            Ok(2),
            "its state came along"
        );
        assert_eq!(
            owner(id).map(|owner| owner.to_string()).as_deref(),
            Some(*to)
        );
    }
    finish(cluster).await;
}

/// Writes other targets for the shards of these objects: one each way, so that the shares stay even
/// and nobody plans anything else.
async fn swap(cluster: &TestCluster, swapped: &[(String, &str, &str)]) {
    let mut txn = Txn::default();
    for (id, from, to) in swapped {
        let place = cluster.node(from).locate(&key(id)).expect("a good key");
        let shard = place.shard.expect("bound to a shard");
        let target = Target {
            node: Some(self::id(to)),
            ..Target::default()
        };
        txn.then.push(Op::Put {
            key: cluster.keys().target(shard.get()), // 64 blocks, so one shard each.
            value: encode_targets(&[target]),
            lease: None,
        });
    }
    let done = cluster.store().commit(txn).await;
    done.expect("the store is there");
}

#[tokio::test(start_paused = true)]
async fn n1_calls_that_wait_for_a_closing_are_forwarded_in_order_to_the_new_owner() {
    let cluster = cluster(3).await;
    let (n1, n3) = (cluster.node("n1"), cluster.node("n3"));
    let swapped = [("n1", "n2"), ("n2", "n1")].map(|(from, to)| (id_on(n1, from), from, to));
    let counter = n3.object::<Counter>(&swapped[0].0);
    let slow = counter.add_slowly(1);
    let others = async {
        sleep(Duration::from_millis(100)).await;
        swap(&cluster, &swapped).await;
        sleep(Duration::from_millis(100)).await; // The slow turn holds the closing up.
        join_all((0..20).map(|_| counter.add(1))).await
    };
    let (slow, others) = tokio::join!(slow, others);
    assert_eq!(slow, Ok(1));
    let expected: Vec<_> = (2..22).map(Ok).collect();
    assert_eq!(others, expected);
    assert_eq!(n1.metrics().routing.links.forwarded.get(), 20);
    let owner = n1.locate(&key(&swapped[0].0)).expect("a good key").owner;
    assert_eq!(owner, Some(id("n2")));
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn m16_calls_reach_a_node_that_left_and_came_back() {
    let mut cluster = cluster(2).await;
    for _ in 0..3 {
        let on_n2 = id_on(cluster.node("n1"), "n2");
        let counter = cluster.node("n1").object::<Counter>(&on_n2);
        let total = counter.add(1).await.expect("n2 is reached");
        cluster.stop("n2").await;
        assert_eq!(counter.add(1).await, Ok(total + 1), "n1 serves it now");
        cluster.add("n2").await;
        cluster
            .wait_until("n2 has its half", |view| owned_by(view, "n2") == 32)
            .await;
        cluster.settled().await;
        let mut known = cluster.node("n1").subscribe();
        known
            .wait_for(|view| owned_by(view, "n2") == 32)
            .await
            .expect("n1 runs");
    }
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn p8_stored_state_survives_moves_stops_and_crashes() {
    let mut cluster = cluster(3).await;
    let ids: Vec<String> = (0..50).map(|i| format!("c{i}")).collect();
    let add_to_all = async |node: &Node, expected: i64| {
        let adds = ids
            .iter()
            .map(async |id| node.object::<Counter>(id).add(1).await);
        assert_eq!(join_all(adds).await, vec![Ok(expected); 50]);
    };
    add_to_all(cluster.node("n1"), 1).await;
    cluster.stop("n2").await;
    add_to_all(cluster.node("n1"), 2).await;
    cluster.crash("n3").await;
    add_to_all(cluster.node("n1"), 3).await;
    cluster.add("n4").await;
    cluster.settled().await;
    add_to_all(cluster.node("n4"), 4).await;
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn p17_all_nodes_agree_where_objects_live_and_all_are_used() {
    let cluster = cluster(3).await;
    let owners: Vec<_> = (0..120)
        .map(|i| {
            let places: Vec<_> = cluster
                .nodes()
                .map(|node| node.locate(&key(&format!("c{i}"))))
                .collect();
            assert!(
                places.windows(2).all(|pair| pair[0] == pair[1]),
                "{places:?}"
            );
            places[0]
                .clone()
                .expect("a good key")
                .owner
                .expect("settled")
        })
        .collect();
    assert!(
        ["n1", "n2", "n3"]
            .iter()
            .all(|name| owners.contains(&id(name)))
    );
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn p18_a_call_to_an_ownerless_shard_waits_for_the_next_owner() {
    let mut cluster = cluster(2).await;
    let on_n2 = id_on(cluster.node("n1"), "n2");
    let counter = cluster.node("n1").object::<Counter>(&on_n2);
    counter.add(1).await.expect("served");
    cluster.crash("n2").await;
    let began = Instant::now();
    let total = counter.with_timeout(TTL * 2).add(1).await;
    assert_eq!(total, Ok(2));
    let limit = TTL + Duration::from_millis(600);
    assert!(
        began.elapsed() <= limit,
        "crash to first good call took {:?}",
        began.elapsed()
    );
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn p18_a_call_that_finds_no_owner_in_time_surely_did_not_run() {
    let mut cluster = cluster(2).await;
    let on_n2 = id_on(cluster.node("n1"), "n2");
    cluster.crash("n2").await;
    let counter = cluster
        .node("n1")
        .object::<Counter>(&on_n2)
        .with_timeout(Duration::from_secs(1));
    let error = counter.add(1).await.expect_err("the lease still runs");
    assert_eq!(error.outcome(), Outcome::NotRun, "{error}");
    cluster
        .wait_until("n1 owns everything", |view| owned_by(view, "n1") == 64)
        .await;
    assert_eq!(counter.total().await, Ok(0));
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn n4_a_node_cut_from_the_store_stops_serving_before_others_claim() {
    let mut cluster = cluster(2).await;
    let on_n2 = id_on(cluster.node("n1"), "n2");
    let counter = cluster.node("n2").object::<Counter>(&on_n2);
    counter.add(1).await.expect("served");
    cluster.cut_from_store("n2");
    // Serves until its fence closes, then parks; the new owner's total shows nothing was lost.
    let (node, stop) = (cluster.node("n2").clone(), Arc::new(AtomicBool::new(false)));
    let told = stop.clone();
    let acknowledged = tokio::spawn(async move {
        let counter = node
            .object::<Counter>(&on_n2)
            .with_timeout(Duration::from_millis(100));
        let mut acknowledged = 1;
        while !told.load(Ordering::Relaxed) {
            acknowledged += i64::from(counter.add(1).await.is_ok());
            sleep(Duration::from_millis(10)).await;
        }
        acknowledged
    });
    cluster
        .wait_until("n1 owns everything", |view| owned_by(view, "n1") == 64)
        .await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = acknowledged.await.expect("no panic");
    let id = counter.key().expect("a good ID").id().to_owned();
    assert_eq!(
        cluster.node("n1").object::<Counter>(&id).total().await,
        Ok(acknowledged)
    );

    cluster.heal_store("n2");
    cluster.settled().await;
    cluster
        .wait_until("n2 is back with its share", |view| {
            owned_by(view, "n2") == 32
        })
        .await;
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_from_the_store_moves_nothing_and_fails_no_call() {
    let mut cluster = cluster(2).await;
    let changes = cluster.history().changes();
    let on_n2 = id_on(cluster.node("n1"), "n2");
    cluster.cut_from_store("n2");
    let counter = cluster.node("n1").object::<Counter>(&on_n2);
    for total in 1..=30 {
        assert_eq!(counter.add(1).await, Ok(total));
        sleep(Duration::from_millis(100)).await;
    }
    cluster.heal_store("n2");
    cluster.settled().await;
    assert_eq!(cluster.history().changes(), changes);
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn n9_gates_route_and_change_nothing() {
    let mut cluster = cluster(2).await;
    let (targets, changes) = (cluster.view().targets.clone(), cluster.history().changes());
    cluster
        .add_with("g1", |builder| builder.weight(Weight::GATE))
        .await;
    assert_eq!(
        cluster.node("g1").object::<Counter>("c").add(7).await,
        Ok(7)
    );
    assert!(
        cluster.node("g1").readiness().is_ready(),
        "{:?}",
        cluster.node("g1").readiness()
    );
    cluster.stop("g1").await;
    sleep(TTL * 2).await; // Nothing is to happen, for as long as anything could.
    assert_eq!(
        (&cluster.view().targets, cluster.history().changes()),
        (&targets, changes)
    );
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn weights_decide_the_shares() {
    let mut cluster = cluster(1).await;
    cluster
        .add_with("big", |builder| {
            builder.weight(Weight::from_thousandths(3000))
        })
        .await;
    cluster
        .wait_until("big has three quarters", |view| owned_by(view, "big") == 48)
        .await;
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn o16_bound_objects_live_where_their_id_says() {
    let cluster = cluster(3).await;
    let node = cluster.node("n1");
    let bound = node.object::<Counter>("node#n3/x");
    assert_eq!(bound.add(3).await, Ok(3));
    assert_eq!(
        bound.key().expect("a good ID").to_string(),
        "Counter/node#n3/x"
    );
    let place = node.locate(&key("shard#5/x")).expect("a good key");
    assert_eq!(place.shard.map(steading::ids::ShardId::get), Some(5));
    assert_eq!(node.object::<Counter>("shard#5/x").add(1).await, Ok(1));

    let nowhere = node
        .object::<Counter>("node#n9/x")
        .with_timeout(Duration::from_secs(1));
    let error = nowhere.add(1).await.expect_err("there is no n9");
    assert_eq!(error.outcome(), Outcome::NotRun, "{error}");
    let error = node
        .object::<Counter>("shard#64/x")
        .add(1)
        .await
        .expect_err("64 shards");
    assert!(matches!(error, CallError::InvalidId(_)), "{error}");
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn o1_o3_calls_create_objects_and_reach_the_same_one_from_everywhere() {
    let cluster = cluster(3).await;
    for (calls, node) in (1..).zip(cluster.nodes()) {
        assert_eq!(node.object::<Counter>("shared").add(1).await, Ok(calls));
    }
    let slashed = cluster.node("n2").object::<Counter>("a/b {c}");
    assert_eq!(slashed.add(1).await, Ok(1));
    let error = cluster
        .node("n1")
        .object::<Counter>("")
        .total()
        .await
        .expect_err("empty ID");
    assert!(matches!(error, CallError::InvalidId(_)), "{error}");
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn p20_each_nodes_gauge_tells_what_it_owns() {
    let cluster = cluster(3).await;
    let view = cluster.view();
    for node in cluster.nodes() {
        let metrics = node.metrics().encode().expect("metrics encode");
        let owned = owned_by(&view, node.id().as_str());
        let line = format!("steading_shards_owned {owned}");
        assert!(
            metrics.lines().any(|l| l == line),
            "no `{line}` in:\n{metrics}"
        );
    }
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn v2_a_node_is_ready_once_it_serves_and_no_more_when_it_stops() {
    let mut cluster = cluster(1).await;
    let node = cluster.launch("n2", |builder| builder).await;
    assert!(!node.readiness().is_ready(), "not joined yet");
    node.joined().await.expect("joins");
    cluster
        .wait_until("n2 owns its half", |view| owned_by(view, "n2") == 32)
        .await;
    assert!(node.readiness().is_ready(), "{:?}", node.readiness());
    node.stop().await;
    assert!(!node.readiness().is_ready());
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn n10_a_node_that_cannot_reach_the_store_says_so_and_joins_later() {
    let mut cluster = cluster(1).await;
    let store = cluster.store().client();
    store
        .faults()
        .cut(Some(steading::coordination::Cut::Refused));
    let faulty = store.clone();
    let node = cluster
        .launch("n2", move |builder| builder.store(Arc::new(faulty)))
        .await;
    sleep(TTL * 2).await; // Long enough to have joined.
    assert!(
        !cluster.view().nodes.contains_key(&id("n2")),
        "never half joined"
    );
    let readiness = node.readiness();
    assert!(
        !readiness.is_ready() && readiness.waiting_for.is_some(),
        "{readiness:?}"
    );
    store.faults().cut(None);
    node.joined().await.expect("joins");
    cluster
        .wait_until("n2 owns its half", |view| owned_by(view, "n2") == 32)
        .await;
    node.stop().await;
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_expects_another_shard_count_is_refused() {
    let cluster = cluster(1).await;
    let other = ShardCount::new(128).expect("a power of two");
    let node = cluster
        .launch("n2", |builder| builder.shard_count(other))
        .await;
    let error = node
        .joined()
        .await
        .expect_err("64 shards, not 128")
        .to_string();
    assert!(error.contains("64") && error.contains("128"), "{error}");
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_node_id_takes_its_shards_back() {
    let mut cluster = cluster(3).await;
    let before = cluster.view().targets.clone();
    cluster.crash("n2").await;
    cluster
        .add_with("n2", |b| {
            b.replace(steading::coordination::membership::Replace::Always)
        })
        .await;
    cluster.settled().await;
    assert_eq!(cluster.view().targets, before, "nothing was planned");
    assert!(owned_by(&cluster.view(), "n2") > 0);
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn two_live_nodes_with_one_id_are_refused() {
    let cluster = cluster(2).await;
    let twin = cluster.launch("n2", |builder| builder).await;
    let error = twin.joined().await.expect_err("n2 lives").to_string();
    assert!(error.contains("n2") && error.contains("in use"), "{error}");
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_node_is_emptied_while_it_serves() {
    let mut cluster = cluster(3).await;
    let on_n2 = id_on(cluster.node("n1"), "n2");
    let counter = cluster.node("n1").object::<Counter>(&on_n2);
    counter.add(1).await.expect("served");
    let leaving = cluster.node("n2").clone();
    let stopping = tokio::spawn(async move { leaving.stop().await });
    cluster
        .wait_until("n2 says that it drains", |view| {
            view.nodes
                .get(&id("n2"))
                .is_none_or(|n| n.state == NodeState::Draining)
        })
        .await;
    assert_eq!(counter.add(1).await, Ok(2));
    stopping.await.expect("no panic");
    assert_eq!(counter.add(1).await, Ok(3));
    finish(cluster).await;
}
