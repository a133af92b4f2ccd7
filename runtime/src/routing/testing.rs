//! What the tests of routing share.

use std::collections::BTreeMap;

use crate::ids::{Incarnation, LeaseId, NodeId, Revision, ShardCount, ShardId};
use crate::placement::{
    ClusterMeta, ClusterView, News, NodeRecord, NodeState, Owner, OwnerRecord, Weight,
};

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

pub(super) fn shard(number: u32) -> ShardId {
    ShardId::new(number, ShardCount::DEFAULT).expect("in range")
}

/// A view made by hand. Every step has a revision of its own.
#[derive(Debug)]
pub(super) struct ViewBuilder {
    view: ClusterView,
}

impl ViewBuilder {
    pub(super) fn new(shard_count: u32) -> Self {
        let meta = ClusterMeta {
            cluster_id: "test".into(),
            shard_count: ShardCount::new(shard_count).expect("a power of two"),
            restore_generation: 0,
        };
        let view = ClusterView::empty(meta);
        Self { view }
    }

    pub(super) fn count(&self) -> ShardCount {
        self.view.meta.shard_count
    }

    pub(super) fn view(&self) -> &ClusterView {
        &self.view
    }

    /// A node lives, at the address `name:life`.
    pub(super) fn node(&mut self, name: &str, life: u64) -> &mut Self {
        self.node_at(name, life, &format!("{name}:{life}"))
    }

    pub(super) fn node_at(&mut self, name: &str, life: u64, address: &str) -> &mut Self {
        let record = NodeRecord {
            incarnation: Incarnation::new(life),
            lease: LeaseId::new(1),
            grpc: address.into(),
            http: None,
            zone: None,
            weight: Weight::ONE,
            labels: BTreeMap::new(),
            version: "test".into(),
            object_types: vec![],
            state: NodeState::Active,
            boot_id: String::new(),
        };
        self.step(News::Node(node(name), Some(record)))
    }

    /// A node's key is gone.
    pub(super) fn gone(&mut self, name: &str) -> &mut Self {
        self.step(News::Node(node(name), None))
    }

    /// A life of a node claims a shard.
    pub(super) fn owner(&mut self, number: u32, name: &str, life: u64) -> &mut Self {
        let owner = Owner {
            node: node(name),
            incarnation: Incarnation::new(life),
        };
        self.owner_key(number, Some(owner))
    }

    /// A shard is released.
    pub(super) fn released(&mut self, number: u32) -> &mut Self {
        self.owner_key(number, None)
    }

    fn owner_key(&mut self, number: u32, owner: Option<Owner>) -> &mut Self {
        let revision = Revision::new(self.view.revision.get() + 1);
        self.step(News::Owner(shard(number), OwnerRecord { revision, owner }))
    }

    fn step(&mut self, news: News) -> &mut Self {
        self.view.revision = Revision::new(self.view.revision.get() + 1);
        self.view.apply(news);
        self
    }
}
