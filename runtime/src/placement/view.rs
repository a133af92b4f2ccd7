//! One process's copy of the cluster as of a revision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::planner::Reason;
use super::{ActivityNote, ShardTable, Suspicion};
use crate::ids::{
    Incarnation, Layout, LeaseId, NodeId, PlanId, Regions, Revision, ShardCount, ShardId, Term,
    Token,
};

/// What is fixed when a cluster is created, and the restore generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMeta {
    /// A random name, so that two clusters are never taken for one.
    pub cluster_id: String,
    /// How many shards there are.
    pub shard_count: ShardCount,
    /// Which of them are kept for some keys.
    pub regions: Regions,
    /// The high bits of every token; see [`Token::of`].
    pub restore_generation: u16,
}

impl ClusterMeta {
    /// Describes a cluster without regions that was never restored from a snapshot.
    pub fn new(cluster_id: impl Into<String>, shard_count: ShardCount) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            shard_count,
            regions: Regions::default(),
            restore_generation: 0,
        }
    }

    /// Returns how keys map to shards.
    pub fn layout(&self) -> Layout {
        Layout::new(self.shard_count, self.regions.clone())
    }
}

/// Who plans now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The leading node.
    pub node: NodeId,
    /// Its reign.
    pub term: Term,
}

/// How much a node takes beside others, in thousandths. A gate has zero and hosts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// The weight of a node that asks for no other.
    pub const ONE: Self = Self(1000);
    /// The weight of a gate.
    pub const GATE: Self = Self(0);
    /// The greatest weight: a thousand nodes' worth.
    pub const MAX: Self = Self(1_000_000);

    /// Takes thousandths, at most those of [`Weight::MAX`].
    pub const fn from_thousandths(thousandths: u32) -> Self {
        if thousandths > Self::MAX.0 {
            Self::MAX
        } else {
            Self(thousandths)
        }
    }

    /// Returns thousandths.
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// Whether this is the weight of a gate.
    pub const fn is_gate(self) -> bool {
        self.0 == 0
    }
}

/// What a node says of its own life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// Registered, not yet able to serve; nothing is placed on it.
    Joining,
    /// Serves, and takes shards.
    Active,
    /// Serves, and gives its shards up.
    Draining,
}

/// A live node, as it registered itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// This life of the node.
    pub incarnation: Incarnation,
    /// The lease its key hangs on.
    pub lease: LeaseId,
    /// The time to live of that lease; zero: unknown.
    pub lease_ttl: Duration,
    /// `host:port` of its gRPC server.
    pub grpc: String,
    /// `host:port` of its HTTP server, if it has one.
    pub http: Option<String>,
    /// The failure domain it stands in.
    pub zone: Option<String>,
    /// How much it takes beside others.
    pub weight: Weight,
    /// Free names for operators.
    pub labels: BTreeMap<String, String>,
    /// The version of Steading it runs.
    pub version: String,
    /// The object types it can host, sorted.
    pub object_types: Vec<String>,
    /// What it says of its own life.
    pub state: NodeState,
    /// The boot ID of its machine, for the proof that a predecessor is gone.
    pub boot_id: String,
}

impl NodeRecord {
    /// Returns the record of an active node of weight one that tells nothing else of itself: to be
    /// completed, or for a cluster of values, where nobody calls the node.
    pub fn of(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            lease: LeaseId::new(0),
            lease_ttl: Duration::ZERO,
            grpc: String::new(),
            http: None,
            zone: None,
            weight: Weight::ONE,
            labels: BTreeMap::new(),
            version: String::new(),
            object_types: Vec::new(),
            state: NodeState::Active,
            boot_id: String::new(),
        }
    }
}

/// The life of a node that an owner key names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
}

/// The newest news of a shard's owner key. A deleted key leaves its revision behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerRecord {
    /// When the key was last written or deleted; zero: never.
    pub revision: Revision,
    /// What it said then; `None` after a deletion.
    pub owner: Option<Owner>,
    /// What came with the shard, be it empty, if the owner before wrote it: by a hand-over, or over
    /// itself. `None` if it was claimed or taken over.
    pub parcel: Option<Parcel>,
}

/// Names the state of one shard's objects, as one attempt to hand the shard over sent it ahead.
///
/// The receiver stages what it is sent under this name, and takes it in only if the owner key
/// repeats the name; so state of an attempt that came to nothing is never taken for the newest.
/// Attempts are random, so that only the sender and the receiver know the name until the owner key
/// repeats it: a third node cannot have its own bytes taken in. Zero is an empty parcel, of which
/// nothing is staged anywhere: it only says over which ownership the owner key was written, and so
/// that the owner did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parcel {
    /// The revision of the sender's ownership, which no other ownership of any shard shares
    /// unless one transaction wrote both.
    pub revision: Revision,
    /// Tells the attempt from every other, and cannot be guessed.
    pub attempt: u128,
}

impl Parcel {
    /// Names nothing, sent by the owner of this revision.
    pub const fn empty(revision: Revision) -> Self {
        Self {
            revision,
            attempt: 0,
        }
    }

    /// Whether nothing was sent under this name.
    pub const fn is_empty(self) -> bool {
        self.attempt == 0
    }
}

/// What operators ordered that outlives a plan. The leader writes it, proving its term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Nodes that keep what they have and get nothing more.
    pub cordoned: BTreeSet<NodeId>,
    /// Whether moves that nobody's absence asks for wait until an operator resumes them.
    pub paused: bool,
}

/// The leader's wish for a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The node that should own it; `None`: not placed yet.
    pub node: Option<NodeId>,
    /// An operator fixed it there.
    pub pinned: bool,
    /// It crashed its owners, and has none until its quarantine ends.
    pub quarantined: bool,
    /// What is held against it, if its last owners crashed.
    pub suspicion: Option<Suspicion>,
    /// What made it so; `None` if that is too long ago to be known. Nothing is decided by it.
    pub cause: Option<Cause>,
}

/// Why a shard has the target that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cause {
    /// The plan that set it.
    pub plan: PlanId,
    /// Why that plan did.
    pub reason: Reason,
    /// When, by the leader's wall clock: whole milliseconds since 1970 in UTC.
    pub at: Duration,
}

/// One change of the cluster, as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A node's key was written, or (`None`) deleted.
    Node(NodeId, Option<NodeRecord>),
    /// The leader's key was written, or (`None`) deleted.
    Leader(Option<Leader>),
    /// A block of targets was written.
    Targets {
        /// Which block.
        block: u32,
        /// The targets of its shards, in order.
        targets: Vec<Target>,
    },
    /// A shard's owner key was written or deleted.
    Owner(ShardId, OwnerRecord),
    /// The orders of operators were written, or (as none at all) deleted.
    Orders(Orders),
    /// An incarnation's activity note was written, or (`None`) deleted.
    Activity(Incarnation, Option<ActivityNote>),
}

/// The cluster as of a revision. A copy is cheap: tables share their blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    /// Everything up to this revision is in the view; owners may be newer.
    pub revision: Revision,
    /// What the cluster was created as. Never changes while a process runs: every table has its
    /// shard count, and every token its restore generation.
    pub meta: ClusterMeta,
    /// Who plans.
    pub leader: Option<Leader>,
    /// The live nodes.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// What operators ordered.
    pub orders: Orders,
    /// What incarnations wrote about watched shards; dead ones too, until the leader has judged that.
    pub activity: BTreeMap<Incarnation, ActivityNote>,
    /// The leader's wishes.
    pub targets: ShardTable<Target>,
    /// The newest news of each owner key.
    pub owners: ShardTable<OwnerRecord>,
}

impl ClusterView {
    /// Returns the view of a cluster of which nothing is known but its description.
    pub fn empty(meta: ClusterMeta) -> Self {
        let count = meta.shard_count;
        Self {
            revision: Revision::default(),
            meta,
            leader: None,
            nodes: BTreeMap::new(),
            orders: Orders::default(),
            activity: BTreeMap::new(),
            targets: ShardTable::filled(count, Target::default()),
            owners: ShardTable::filled(count, OwnerRecord::default()),
        }
    }

    /// Takes in one piece of news and returns whether it changed anything.
    ///
    /// Owner news counts only if its revision is strictly greater than the greatest known for
    /// that shard, whatever brought it: a list, a watch, the reply to an own transaction or a
    /// forwarded call. All other news comes from the one watch, in order.
    pub fn apply(&mut self, news: News) -> bool {
        match news {
            News::Node(node, Some(record)) => {
                self.nodes.insert(node, record.clone()).as_ref() != Some(&record)
            }
            News::Node(node, None) => self.nodes.remove(&node).is_some(),
            News::Leader(leader) => replace(&mut self.leader, leader),
            News::Targets { block, targets } => self.apply_targets(block, &targets),
            News::Owner(shard, record) => self.apply_owner(shard, record),
            News::Orders(orders) => replace(&mut self.orders, orders),
            News::Activity(incarnation, Some(note)) => {
                self.activity.insert(incarnation, note.clone()).as_ref() != Some(&note)
            }
            News::Activity(incarnation, None) => self.activity.remove(&incarnation).is_some(),
        }
    }

    fn apply_targets(&mut self, block: u32, targets: &[Target]) -> bool {
        if self.targets.block(block) == targets {
            return false;
        }
        let shards: Vec<_> = self.targets.shards_of_block(block).collect();
        for (shard, target) in shards.into_iter().zip(targets) {
            if self.targets.get(shard) != target {
                self.targets.set(shard, target.clone());
            }
        }
        true
    }

    fn apply_owner(&mut self, shard: ShardId, record: OwnerRecord) -> bool {
        let newer = record.revision > self.owners.get(shard).revision;
        if newer {
            self.owners.set(shard, record);
        }
        newer
    }

    /// Whether this life of this node is the one that is registered now.
    pub fn is_live(&self, owner: &Owner) -> bool {
        self.nodes
            .get(&owner.node)
            .is_some_and(|node| node.incarnation == owner.incarnation)
    }

    /// Returns who plans. A leader key that names no live node leads nobody: it was written by hand, or
    /// restored.
    pub fn live_leader(&self) -> Option<&Leader> {
        let leader = self.leader.as_ref();
        leader.filter(|leader| self.nodes.contains_key(&leader.node))
    }

    /// Returns the owner of a shard if that is proven: the owner key names a life of a node, and
    /// that life is registered.
    pub fn live_owner(&self, shard: ShardId) -> Option<&Owner> {
        self.owners
            .get(shard)
            .owner
            .as_ref()
            .filter(|owner| self.is_live(owner))
    }

    /// Returns the fencing token of the newest ownership of a shard.
    pub fn token(&self, shard: ShardId) -> Token {
        Token::of(
            self.meta.restore_generation,
            self.owners.get(shard).revision,
        )
    }
}

fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> ClusterView {
        ClusterView::empty(ClusterMeta::new(
            "test",
            ShardCount::new(4).expect("a power of two"),
        ))
    }

    fn owner(node: &str, revision: u64) -> OwnerRecord {
        let node = NodeId::new(node).expect("a good name");
        let owner = Owner {
            node,
            incarnation: Incarnation::new(1),
        };
        OwnerRecord {
            revision: Revision::new(revision),
            owner: Some(owner),
            parcel: None,
        }
    }

    #[test]
    fn owner_news_counts_only_if_strictly_newer() {
        let (mut view, shard) = (
            view(),
            ShardId::new(1, ShardCount::DEFAULT).expect("in range"),
        );
        assert!(view.apply(News::Owner(shard, owner("b", 7))));
        assert!(!view.apply(News::Owner(shard, owner("a", 7))), "equal");
        assert!(!view.apply(News::Owner(shard, owner("a", 6))), "older");
        assert_eq!(view.owners.get(shard), &owner("b", 7));
    }

    #[test]
    fn a_deleted_owner_key_leaves_its_revision_behind() {
        let (mut view, shard) = (
            view(),
            ShardId::new(1, ShardCount::DEFAULT).expect("in range"),
        );
        let deleted = OwnerRecord {
            revision: Revision::new(9),
            owner: None,
            parcel: None,
        };
        assert!(view.apply(News::Owner(shard, deleted)));
        assert!(
            !view.apply(News::Owner(shard, owner("a", 8))),
            "a lagging write"
        );
        assert_eq!(view.live_owner(shard), None);
    }

    #[test]
    fn an_owner_of_another_life_is_no_live_owner() {
        let (mut view, shard) = (
            view(),
            ShardId::new(1, ShardCount::DEFAULT).expect("in range"),
        );
        view.apply(News::Owner(shard, owner("a", 5)));
        assert_eq!(view.live_owner(shard), None, "not registered");
    }
}
