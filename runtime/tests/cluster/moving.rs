//! Calls and state while shards change their owners.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use steading::coordination::keys::encode_targets;
use steading::coordination::store::{Op, Store, Txn};
use steading::object::ObjectQuery;
use steading::placement::Target;
use steading::testing::TestCluster;
use steading::{CallError, Node};
use tokio::time::sleep;

use crate::world::{Counter, cluster, finish, id, id_on, key, owned_by};

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
