//! Small clusters for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use steading::ids::{Incarnation, LeaseId, NodeId, Revision, ShardCount, ShardId, Term};
use steading::placement::{
    ClusterMeta, ClusterView, Leader, NodeRecord, NodeState, Owner, OwnerRecord, Target, Weight,
};

/// 64 shards, all on `a`, beside which `b` has none; `a` leads.
pub(crate) fn view(revision: u64) -> Arc<ClusterView> {
    let mut view = ClusterView::empty(ClusterMeta {
        cluster_id: "test".into(),
        shard_count: ShardCount::new(64).expect("a power of two"),
        restore_generation: 0,
        regions: steading::ids::Regions::default(),
    });
    view.revision = Revision::new(revision);
    for name in ["a", "b"] {
        view.nodes.insert(id(name), record());
    }
    view.leader = Some(Leader {
        node: id("a"),
        term: Term::new(4),
    });
    for shard in view.meta.shard_count.shards() {
        let target = Target {
            node: Some(id("a")),
            ..Target::default()
        };
        view.targets.set(shard, target);
        view.owners.set(shard, owner("a", 1));
    }
    Arc::new(view)
}

/// The same with another owner of a shard, as of a revision.
pub(crate) fn owned_by(
    mut view: Arc<ClusterView>,
    number: u32,
    node: &str,
    revision: u64,
) -> Arc<ClusterView> {
    let shard = shard(&view, number);
    let changed = Arc::make_mut(&mut view);
    changed.owners.set(shard, owner(node, revision));
    changed.revision = Revision::new(revision);
    view
}

/// The same with something else about it.
pub(crate) fn with(
    mut view: Arc<ClusterView>,
    change: impl FnOnce(&mut ClusterView),
) -> Arc<ClusterView> {
    change(Arc::make_mut(&mut view));
    view
}

pub(crate) fn shard(view: &ClusterView, number: u32) -> ShardId {
    ShardId::new(number, view.meta.shard_count).expect("in range")
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

pub(crate) fn record() -> NodeRecord {
    NodeRecord {
        incarnation: Incarnation::new(1),
        lease: LeaseId::new(1),
        lease_ttl: std::time::Duration::from_secs(5),
        grpc: "127.0.0.1:1".into(),
        http: None,
        zone: None,
        weight: Weight::ONE,
        labels: BTreeMap::new(),
        version: "0.1.0".into(),
        object_types: Vec::new(),
        state: NodeState::Active,
        boot_id: String::new(),
    }
}

fn owner(node: &str, revision: u64) -> OwnerRecord {
    OwnerRecord {
        revision: Revision::new(revision),
        owner: Some(Owner {
            node: id(node),
            incarnation: Incarnation::new(1),
        }),
        parcel: None,
    }
}
