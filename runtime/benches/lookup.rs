//! How long it takes to find an object's owner: the hash of its key and the table of owners.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use steading::Tasks;
use steading::clock::Clock;
use steading::coordination::{OwnerChecks, SharedView};
use steading::fence::Fence;
use steading::ids::{Incarnation, NodeId, ObjectKey, Revision, ShardCount};
use steading::object::{Host, HostSettings, PAYLOAD_LEN_MAX, Registry};
use steading::placement::{ClusterMeta, ClusterView, News, NodeRecord, Owner, OwnerRecord};
use steading::routing::network::TcpNetwork;
use steading::routing::{Router, RouterSettings};
use steading::storage::MemoryStorage;
use steading::telemetry::Metrics;

fn lookup(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _context = runtime.enter();
    let router = router(view());
    let id = "0123456789abcdef"; // 16 bytes.
    let key = ObjectKey::new("Counter", id).expect("a good key");
    criterion.bench_function("lookup of a 16-byte ID", |bencher| {
        bencher.iter(|| router.locate(black_box(&key)));
    });
}

/// A cluster of three nodes that own 8192 shards in turns.
fn view() -> ClusterView {
    let mut view = ClusterView::empty(ClusterMeta::new("bench", ShardCount::DEFAULT));
    for name in ["a", "b", "c"] {
        view.apply(News::Node(node(name), Some(record())));
    }
    for shard in ShardCount::DEFAULT.shards() {
        let owner = Owner {
            node: node(["a", "b", "c"][shard.index() % 3]),
            incarnation: Incarnation::new(1),
        };
        let revision = Revision::new(u64::from(shard.get()) + 1);
        let owner = Some(owner);
        view.apply(News::Owner(
            shard,
            OwnerRecord {
                revision,
                owner,
                parcel: None,
            },
        ));
    }
    view
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

fn record() -> NodeRecord {
    NodeRecord {
        grpc: "127.0.0.1:1".into(),
        version: "bench".into(),
        ..NodeRecord::of(Incarnation::new(1))
    }
}

fn router(view: ClusterView) -> Arc<Router> {
    let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new()));
    let host = Host::new(HostSettings {
        node: node("a"),
        layout: view.meta.layout(),
        fence: Arc::new(Fence::new(Clock::Boot)),
        storage: Arc::new(MemoryStorage::new()),
        registry: Registry::default(),
        payload_max: PAYLOAD_LEN_MAX,
        budget: steading::memory_budget::MemoryBudget::new(512 << 20),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
    });
    let shared = Arc::new(SharedView::from(view));
    Router::start(RouterSettings {
        node: node("a"),
        host,
        view: shared.subscribe(),
        claims: Arc::new(OwnerChecks::new(shared, metrics.clone())),
        network: Arc::new(TcpNetwork),
        tasks,
        metrics,
        payload_max: PAYLOAD_LEN_MAX,
    })
}

criterion_group!(benches, lookup);
criterion_main!(benches);
