//! Nodes that others do not reach get no shards, and everything that is asked says so.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};
use steading::coordination::keys::{Keys, encode_node};
use steading::coordination::store::{Op, Store, Txn};
use steading::ids::{Incarnation, NodeId};
use steading::placement::NodeRecord;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::until;

/// Nodes that are registered and that nobody reaches.
const BLACK_HOLES: [&str; 4] = ["closed", "handmade", "nowhere", "silent"];

/// Takes connections, as far as the system goes, and never answers.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens");
    (listener, address)
}

/// Writes the key of a node that has no process. Its lease outlives the test.
async fn write_node(cluster: &Cluster, id: &str, address: SocketAddr) {
    let store = cluster.store().await;
    let lease = store
        .grant(Duration::from_mins(10))
        .await
        .expect("etcd runs");
    let record = NodeRecord {
        lease,
        grpc: address.to_string(),
        object_types: vec!["Counter".into()],
        ..NodeRecord::of(Incarnation::new(0))
    };
    let put = Op::Put {
        key: Keys::new(cluster.prefix()).node(&NodeId::new(id).expect("a good name")),
        value: encode_node(&record),
        lease: Some(lease),
    };
    let txn = Txn {
        then: vec![put],
        ..Txn::default()
    };
    store.commit(txn).await.expect("etcd runs");
}

fn node<'a>(cluster: &'a Value, id: &str) -> Option<&'a Value> {
    let nodes = cluster["nodes"].as_array()?;
    nodes.iter().find(|node| node["id"] == id)
}

/// Whether a node is known to be out of reach of both good ones, and has no shards.
fn is_left_out(cluster: &Value, id: &str) -> bool {
    node(cluster, id).is_some_and(|node| {
        node["unreachable_from"]
            .as_array()
            .is_some_and(|from| from.contains(&json!("a")) && from.contains(&json!("b")))
            && node["shards_owned"] == 0
            && node["shards_targeted"] == 0
    })
}

async fn all_counters_answer(at: &Node) {
    for n in 0..64 {
        at.add_one(&n.to_string()).await.expect("no call fails");
    }
}

#[tokio::test]
async fn nodes_that_others_do_not_reach_get_no_shards() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "reach");
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    let (silent, silent_at) = listener();
    let (closed, closed_at) = listener();
    drop(closed);
    let advertise = |id, address: &str| cluster.launch(id, &["--grpc-advertise", address]);
    let mut bad = [
        advertise("closed", &closed_at.to_string()),
        advertise("nowhere", "no-such-host.invalid:7400"),
        advertise("silent", &silent_at.to_string()),
    ];
    write_node(&cluster, "handmade", closed_at).await;
    for node in &mut bad {
        node.listens().await;
    }
    a.sees("that nobody reaches them", |cluster| {
        BLACK_HOLES.iter().all(|id| is_left_out(cluster, id))
    })
    .await;
    for node in &bad {
        until(&format!("{} says why", node.id()), async || {
            let answer = node
                .get("/ready")
                .await
                .map_err(|error| error.to_string())?;
            let why = answer.body["waiting_for"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let unmet = answer.body["conditions"]
                .as_array()
                .is_some_and(|conditions| {
                    conditions
                        .iter()
                        .any(|of| of["name"] == "reached" && of["met"] == false)
                });
            let named = why.contains("a, b") && answer.status == 503;
            (unmet && named)
                .then_some(())
                .ok_or_else(|| answer.body.to_string())
        })
        .await;
    }
    all_counters_answer(&a).await;
    all_counters_answer(&b).await;

    let (_, listed) = cluster.command(&["nodes", "--address", a.http()]).await;
    let doctor = [
        "doctor",
        "--json",
        "--measure",
        "100ms",
        "--address",
        a.http(),
    ];
    let (code, found) = cluster.command(&doctor).await;
    assert_eq!(code, Some(1), "{found}");
    for id in BLACK_HOLES {
        let line = listed.lines().find(|line| line.contains(id));
        assert!(
            line.is_some_and(|line| line.contains("unreachable from a")),
            "{listed}"
        );
        assert!(
            found.contains(&format!("{id} is unreachable from a, b")),
            "{found}"
        );
        let moves = json!({ "moves": [{ "shard": 0, "node": id }] });
        let refused = a.post("/v1/moves", &moves).await.expect("the node runs");
        assert!(refused.status >= 400, "{id}: {}", refused.body);
    }
    let view = a.get("/v1/cluster").await.expect("the node runs").body;
    assert!(
        BLACK_HOLES.iter().all(|id| is_left_out(&view, id)),
        "{view:#}"
    );
    drop(silent);
}

/// The first node leads and owns everything before anybody could tell that it is out of reach.
#[tokio::test]
async fn a_leader_that_nobody_reaches_gives_up_its_shards() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "unreached");
    let (closed, closed_at) = listener();
    drop(closed);
    let mut bad = cluster.launch("bad", &["--grpc-advertise", &closed_at.to_string()]);
    bad.listens().await;
    bad.is_ready().await;
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.sees("that the others own all", |cluster| {
        node(cluster, "bad").is_some_and(|bad| bad["shards_owned"] == 0)
            && cluster["shards"]["owned"] == cluster["shards"]["total"]
            && cluster["leader"] != "bad"
    })
    .await;
    all_counters_answer(&a).await;
    all_counters_answer(&b).await;
}
