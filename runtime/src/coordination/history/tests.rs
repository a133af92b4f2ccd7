//! A memory store that loses its data or is restored, under readers of all kinds.

use super::*;
use crate::clock::Clock;
use crate::coordination::MemoryStore;
use crate::coordination::keys::{encode_leader, encode_meta};
use crate::coordination::store::{Compare, Op};
use crate::ids::{NodeId, ShardCount};

const TTL: Duration = Duration::from_secs(5);

/// A store with a cluster in it, and a process that joined it.
struct Joined {
    store: MemoryStore,
    fence: Arc<Fence>,
    history: Arc<History>,
    verified: Verified,
}

fn keys() -> Keys {
    Keys::new("/t/")
}

fn meta(cluster_id: &str) -> ClusterMeta {
    ClusterMeta::new(cluster_id, ShardCount::new(8).expect("a power of two"))
}

fn put(key: &str, value: Vec<u8>) -> Txn {
    Txn {
        then: vec![Op::Put {
            key: key.into(),
            value,
            lease: None,
        }],
        ..Txn::default()
    }
}

async fn write(store: &MemoryStore, key: &str, value: Vec<u8>) -> Revision {
    store
        .commit(put(key, value))
        .await
        .expect("reached")
        .revision
}

async fn joined() -> Joined {
    let store = MemoryStore::new();
    write(&store, "/t/meta/cluster", encode_meta(&meta("c"))).await;
    let clock = Clock::tokio();
    let fence = Arc::new(Fence::new(clock));
    fence.open(clock.now().plus(TTL * 1000));
    let metrics = Arc::new(Metrics::new());
    let history = History::new(meta("c"), keys(), Some(fence.clone()), metrics);
    let history = Arc::new(history);
    Joined {
        verified: Verified::new(Arc::new(store.client()), history.clone()),
        store,
        fence,
        history,
    }
}

impl Joined {
    /// Sees the newest revision, as a node does by its watch.
    async fn see_all(&self) {
        self.verified.list("/t/").await.expect("nothing is wrong");
    }

    /// Checks that the proof is final, and that the fence stays closed.
    async fn is_condemned(&self, error: StoreError) -> Evidence {
        let StoreError::Replaced(evidence) = error else {
            panic!("no proof: {error}");
        };
        self.fence.open(self.fence.clock().now().plus(TTL));
        assert!(!self.fence.is_open());
        let before = self.store.list("").await.expect("reached").revision;
        let later = self.verified.commit(put("/t/x", Vec::new())).await;
        assert!(matches!(later, Err(StoreError::Replaced(_))), "{later:?}");
        let after = self.store.list("").await.expect("reached").revision;
        assert_eq!(before, after, "nothing was sent");
        assert_eq!(self.history.replaced().await, evidence);
        evidence
    }
}

#[tokio::test(start_paused = true)]
async fn every_request_notices_a_store_without_data() {
    for request in 0..5 {
        let joined = joined().await;
        let lease = joined.verified.grant(TTL).await.expect("granted");
        joined.see_all().await;
        joined.store.lose_data();
        let verified = &joined.verified;
        let error = match request {
            0 => verified.list("/t/nodes/").await.err(),
            1 => verified.commit(Txn::default()).await.err(),
            2 => verified.grant(TTL).await.err(),
            3 => verified.watch("/t/", Revision::new(3)).await.err(),
            _ => {
                // The new store may know a lease of this number.
                joined.store.grant(TTL).await.expect("granted");
                verified.keep_alive(lease).await.err()
            }
        };
        let evidence = joined.is_condemned(error.expect("refused")).await;
        let went_back = matches!(evidence, Evidence::WentBack { .. });
        assert!(went_back, "request {request}: {evidence}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_cluster_of_a_greater_revision_is_noticed() {
    let joined = joined().await;
    joined.see_all().await;
    joined.store.lose_data();
    for _ in 0..9 {
        write(&joined.store, "/t/meta/cluster", encode_meta(&meta("d"))).await;
    }
    let error = joined.verified.grant(TTL).await.expect_err("refused");
    let evidence = joined.is_condemned(error).await;
    assert!(
        matches!(evidence, Evidence::OtherCluster { .. }),
        "{evidence}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restored_store_of_a_greater_revision_is_noticed() {
    let joined = joined().await;
    write(&joined.store, "/t/a", b"1".to_vec()).await;
    let snapshot = joined.store.snapshot();
    write(&joined.store, "/t/a", b"2".to_vec()).await;
    joined.see_all().await;
    joined.store.restore(&snapshot);
    for _ in 0..9 {
        write(&joined.store, "/t/b", b"3".to_vec()).await;
    }
    let error = joined.verified.list("/t/").await.expect_err("refused");
    let evidence = joined.is_condemned(error).await;
    let of_a = matches!(&evidence, Evidence::KeyWentBack { key, .. } if key == "/t/a");
    assert!(of_a, "{evidence}");
}

#[tokio::test(start_paused = true)]
async fn raised_tokens_end_a_running_process() {
    let joined = joined().await;
    let mut stream = joined
        .verified
        .watch("/t/", Revision::new(3))
        .await
        .expect("open");
    let raised = ClusterMeta {
        restore_generation: 1,
        ..meta("c")
    };
    write(&joined.store, "/t/meta/cluster", encode_meta(&raised)).await;
    let error = stream.next().await.expect("a batch").expect_err("refused");
    let evidence = joined.is_condemned(error).await;
    assert!(matches!(evidence, Evidence::Restored { .. }), "{evidence}");
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_description_are_rejected_and_reported() {
    let joined = joined().await;
    let count = ShardCount::new(16).expect("a power of two");
    let other_count = encode_meta(&ClusterMeta {
        shard_count: count,
        ..meta("c")
    });
    for value in [other_count, b"garbage".to_vec(), b"{}".to_vec()] {
        write(&joined.store, "/t/meta/cluster", value).await;
        joined.see_all().await;
        assert!(joined.history.altered().is_some());
    }
    write(&joined.store, "/t/meta/cluster", encode_meta(&meta("c"))).await;
    joined.see_all().await;
    assert_eq!(joined.history.altered(), None);
    let delete = Txn {
        then: vec![Op::Delete("/t/meta/cluster".into())],
        ..Txn::default()
    };
    joined.store.commit(delete).await.expect("reached");
    joined.see_all().await;
    assert_eq!(joined.history.altered().as_deref(), Some("it was deleted"));
    assert!(joined.history.evidence().is_none() && joined.fence.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_key_may_be_deleted_and_written_again() {
    let joined = joined().await;
    let leader = encode_leader(&NodeId::new("n").expect("a good name"));
    for _ in 0..3 {
        write(&joined.store, "/t/leader", leader.clone()).await;
        joined.see_all().await;
        let delete = Txn {
            compares: vec![Compare::Modified("/t/x".into(), Revision::new(0))],
            then: vec![Op::Delete("/t/leader".into())],
            ..Txn::default()
        };
        joined.verified.commit(delete).await.expect("reached");
        joined.see_all().await;
    }
    assert!(joined.history.evidence().is_none());
}

/// Answers as members of etcd do that lag: with old revisions, by keep-alives alone.
#[test]
fn an_older_answer_to_an_older_request_proves_nothing() {
    let mut seen = Seen::default();
    let entry = |revision| Entry {
        key: "k".into(),
        value: Vec::new(),
        create_revision: Revision::new(1),
        mod_revision: Revision::new(revision),
        lease: None,
    };
    let floor = Revision::new(5);
    assert_eq!(seen.take_in(floor, Revision::new(9), [&entry(9)]), None);
    assert_eq!(seen.take_in(floor, Revision::new(7), [&entry(6)]), None);
    assert_eq!(seen.revision, Revision::new(9));
    let later = seen.take_in(Revision::new(9), Revision::new(9), [&entry(6)]);
    assert!(later.is_some());
}
