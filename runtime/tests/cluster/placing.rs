//! Who has which shards, and where objects live.

use std::time::Duration;
use steading::placement::Weight;
use steading::{CallError, Outcome};
use tokio::time::sleep;

use crate::world::{Counter, TTL, cluster, finish, id, key, owned_by};

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
