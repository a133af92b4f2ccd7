//! etcd goes back to a snapshot, by the procedure of docs/runbooks/etcd-restore.md.

use std::sync::Arc;
use std::time::Duration;

use steading::coordination::store::{Op, Store as _, Txn};
use steading::ids::{NodeId, ShardCount};
use steading::storage::MemoryStorage;
use steading::{CallError, Node};
use steading_integration_tests::cluster::Cluster;
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::until;
use steading_node::samples::Counter;

const PREFIX: &str = "/restored/";

const COUNTERS: usize = 12;

/// How many revisions others use of the same etcd: more than a few starts of nodes take.
const REVISIONS: usize = 300;

/// Starts a node whose storage all nodes share, and waits until it is ready.
async fn node(etcd: &Etcd, storage: &MemoryStorage, id: &str) -> Node {
    let node = Node::builder()
        .id(NodeId::new(id).expect("a good name"))
        .etcd([etcd.endpoint()])
        .prefix(PREFIX)
        .shard_count(ShardCount::new(64).expect("a power of two"))
        .lease_ttl(Duration::from_secs(2))
        .storage(Arc::new(storage.clone()))
        .register::<Counter>()
        .start()
        .await
        .expect("it starts");
    until(&format!("{id} is ready"), async || {
        let readiness = node.readiness();
        if readiness.is_ready() {
            Ok(())
        } else {
            Err(format!("{readiness:?}"))
        }
    })
    .await;
    node
}

/// Adds one to every counter; returns what came of each.
async fn add_to_all(node: &Node) -> Vec<Result<i64, CallError>> {
    let mut totals = Vec::new();
    for n in 0..COUNTERS {
        let counter = node.object::<Counter>(&format!("c{n}"));
        totals.push(counter.add(1).await);
    }
    totals
}

/// Has etcd's revision grow, as others do who use the same etcd.
async fn use_revisions(cluster: &Cluster) {
    let store = cluster.store().await;
    for _ in 0..REVISIONS {
        let put = Op::Put {
            key: "/others/x".into(),
            value: Vec::new(),
            lease: None,
        };
        let txn = Txn {
            then: vec![put],
            ..Txn::default()
        };
        store.commit(txn).await.expect("it answers");
    }
}

fn totals(of: &[Result<i64, CallError>]) -> Vec<i64> {
    let total = |of: &Result<i64, CallError>| *of.as_ref().expect("acknowledged");
    of.iter().map(total).collect()
}

#[tokio::test]
async fn a_restored_etcd_serves_no_stale_owner_and_loses_no_acknowledged_write() {
    let mut etcd = Etcd::start().await;
    let storage = MemoryStorage::new();
    let cluster = Cluster::new(&etcd, "restored");
    let a = node(&etcd, &storage, "a").await;
    assert_eq!(totals(&add_to_all(&a).await), [1; COUNTERS]);
    let snapshot = etcd.snapshot();

    use_revisions(&cluster).await;
    // More work, which etcd will forget: shards go to another owner, under greater tokens.
    let b = node(&etcd, &storage, "b").await;
    until("b has its share", async || {
        let owned = b.readiness().claimed;
        if owned == 32 {
            Ok(())
        } else {
            Err(format!("{owned}"))
        }
    })
    .await;
    assert_eq!(totals(&add_to_all(&a).await), [2; COUNTERS]);

    // Against the procedure: a node runs on while etcd goes back. It ends by itself.
    b.stop().await;
    etcd.restore(&snapshot).await;
    until("a notices", async || match a.joined().await {
        Err(error) if error.evidence().is_some() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    a.stop().await;

    // And without the last step: what was stored under tokens that etcd has forgotten stays refused.
    let early = node(&etcd, &storage, "a").await;
    let outcomes = add_to_all(&early).await;
    let failed = outcomes.iter().filter(|of| of.is_err()).count();
    assert!(failed > 0, "nobody gets past a greater token");
    let mut expected: Vec<i64> = Vec::new();
    for outcome in &outcomes {
        // What was acknowledged counts, as little as it is.
        match outcome {
            Ok(total) => {
                assert_eq!(*total, 3, "nothing that was acknowledged is lost");
                expected.push(4);
            }
            Err(error) => {
                println!("refused: {error}");
                expected.push(3);
            }
        }
    }
    early.stop().await;

    // As the runbook says.
    let args = ["raise-tokens", "--etcd", cluster.etcd(), "--prefix", PREFIX];
    let (code, output) = cluster.command(&args).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("restore generation 1"), "{output}");
    let [a, b] = [
        node(&etcd, &storage, "a").await,
        node(&etcd, &storage, "b").await,
    ];
    assert_eq!(totals(&add_to_all(&b).await), expected);
    cluster.history().await.assert_single_owners();
    a.stop().await;
    b.stop().await;
}
