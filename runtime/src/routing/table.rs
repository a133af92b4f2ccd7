//! Shard → owner, for readers that never lock.
//!
//! Derived from the view by one writer. Each shard has one atomic word: which node, and the
//! revision of the owner key that says so. Reading is a hash, two loads and a comparison.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use tracing::error;

use crate::ids::{Incarnation, NodeId, Revision, ShardCount, ShardId, Token};
use crate::placement::{ClusterView, NodeRecord, Owner};

/// Who owns each shard, and a `P` (what one needs to reach it) for each other live node.
#[derive(Debug)]
pub(super) struct Table<P> {
    me: NodeId,
    count: ShardCount,
    restore_generation: AtomicU16,
    shards: Box<[AtomicU64]>,
    nodes: ArcSwap<Nodes<P>>,
}

/// What the table says of a shard. Two that are equal mean that nothing changed between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry(u64);

/// Who can serve a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination<P> {
    /// No live node owns it.
    Nobody,
    /// This node.
    Here,
    /// Another node.
    There(P),
}

/// The live nodes. A shard's word names one by its index here.
#[derive(Clone, Debug)]
struct Nodes<P> {
    /// A node that leaves frees its index only after no shard's word has it.
    by_index: Vec<Option<Life<P>>>,
    by_name: BTreeMap<NodeId, u16>,
}

/// One life of a node.
#[derive(Clone, Debug)]
struct Life<P> {
    node: NodeId,
    incarnation: Incarnation,
    address: String,
    peer: P,
}

/// What an update did.
#[derive(Debug)]
pub(super) struct Changes<P> {
    /// Shards that have another owner, or news of one.
    pub(super) shards: Vec<ShardId>,
    /// Whether nodes came or went.
    pub(super) nodes: bool,
    /// The peers of the nodes that went.
    pub(super) gone: Vec<P>,
}

/// The index of nobody.
const NOBODY: u16 = 0;

/// The index of this node.
const ME: u16 = 1;

/// Indices of other nodes begin here.
const FIRST_PEER: u16 = 2;

const REVISION_BITS: u32 = 48;

const REVISION_MASK: u64 = (1 << REVISION_BITS) - 1;

impl Entry {
    fn new(index: u16, revision: Revision) -> Self {
        // A revision of more bits would name another node.
        Self(u64::from(index) << REVISION_BITS | (revision.get() & REVISION_MASK))
    }

    fn index(self) -> u16 {
        u16::try_from(self.0 >> REVISION_BITS).expect("16 bits are left")
    }

    /// Returns the newest known revision of the shard's owner key.
    pub(super) fn revision(self) -> Revision {
        Revision::new(self.0 & REVISION_MASK)
    }

    /// Whether this node is the owner.
    pub(super) fn is_here(self) -> bool {
        self.index() == ME
    }
}

impl<P: Clone> Table<P> {
    /// Makes the table of a cluster in which nobody owns anything.
    pub(super) fn new(me: NodeId, count: ShardCount) -> Self {
        Self {
            me,
            count,
            restore_generation: AtomicU16::new(0),
            shards: count.shards().map(|_| AtomicU64::new(0)).collect(),
            nodes: ArcSwap::from_pointee(Nodes {
                by_index: vec![None; usize::from(FIRST_PEER)],
                by_name: BTreeMap::new(),
            }),
        }
    }

    /// Returns the number of shards.
    pub(super) fn count(&self) -> ShardCount {
        self.count
    }

    /// Returns what is known of a shard.
    pub(super) fn entry(&self, shard: ShardId) -> Entry {
        Entry(self.shards[shard.index()].load(Ordering::Acquire))
    }

    /// Returns who serves the shard that has this entry.
    pub(super) fn destination(&self, entry: Entry) -> Destination<P> {
        match entry.index() {
            NOBODY => Destination::Nobody,
            ME => Destination::Here,
            index => match &self.nodes.load().by_index.get(usize::from(index)) {
                Some(Some(life)) => Destination::There(life.peer.clone()),
                Some(None) | None => Destination::Nobody, // It went between the two loads.
            },
        }
    }

    /// Returns who serves the objects that are bound to a node.
    pub(super) fn destination_of_node(&self, node: &NodeId) -> Destination<P> {
        if *node == self.me {
            return Destination::Here;
        }
        let nodes = self.nodes.load();
        match nodes
            .by_name
            .get(node)
            .map(|i| &nodes.by_index[usize::from(*i)])
        {
            Some(Some(life)) => Destination::There(life.peer.clone()),
            Some(None) | None => Destination::Nobody,
        }
    }

    /// Returns a live peer, if the table has this very life of it.
    pub(super) fn peer(&self, owner: &Owner) -> Option<P> {
        let nodes = self.nodes.load();
        let index = nodes.by_name.get(&owner.node)?;
        let life = nodes.by_index.get(usize::from(*index))?.as_ref()?;
        (life.incarnation == owner.incarnation).then(|| life.peer.clone())
    }

    /// Returns the live owner of a shard and the token of its ownership.
    pub(super) fn owner(&self, shard: ShardId) -> Option<(NodeId, Token)> {
        let entry = self.entry(shard);
        let node = match entry.index() {
            NOBODY => return None,
            ME => self.me.clone(),
            index => life(&self.nodes.load(), index)?.node.clone(),
        };
        let generation = self.restore_generation.load(Ordering::Relaxed);
        Some((node, Token::of(generation, entry.revision())))
    }

    /// Whether a node lives, as far as is known here.
    pub(super) fn is_live(&self, node: &NodeId) -> bool {
        *node == self.me || self.nodes.load().by_name.contains_key(node)
    }

    /// Takes in a view. `earlier` is the one before, `None` at first. Must not be called by two
    /// at once. `connect` makes what one needs to reach a life of a node at an address.
    pub(super) fn update(
        &self,
        view: &ClusterView,
        earlier: Option<&ClusterView>,
        connect: impl FnMut(&NodeId, Incarnation, &str) -> P,
    ) -> Changes<P> {
        self.restore_generation
            .store(view.meta.restore_generation, Ordering::Relaxed);
        let same_lives = earlier.is_some_and(|earlier| same_lives(earlier, view));
        let gone = if same_lives {
            Vec::new()
        } else {
            self.update_nodes(view, connect)
        };
        let nodes = self.nodes.load();
        let renewed = |shard: &ShardId| self.renew(view, &nodes, *shard);
        let shards = match earlier {
            Some(earlier) if same_lives => view
                .owners
                .changed_since(&earlier.owners)
                .filter(renewed)
                .collect(),
            // Whoever came or went may own any of them.
            Some(_) | None => self.count.shards().filter(renewed).collect(),
        };
        drop(nodes);
        self.forget(&gone);
        Changes {
            shards,
            nodes: !same_lives,
            gone: gone.into_iter().map(|(_, peer)| peer).collect(),
        }
    }

    /// Returns the live peers.
    pub(super) fn peers(&self) -> Vec<P> {
        let nodes = self.nodes.load();
        let lives = nodes.by_index.iter().flatten();
        lives.map(|life| life.peer.clone()).collect()
    }

    /// Writes a shard's word and returns whether it changed.
    fn renew(&self, view: &ClusterView, nodes: &Nodes<P>, shard: ShardId) -> bool {
        let index = view
            .live_owner(shard)
            .map_or(NOBODY, |owner| self.index_of(nodes, owner));
        let entry = Entry::new(index, view.owners.get(shard).revision);
        self.shards[shard.index()].swap(entry.0, Ordering::AcqRel) != entry.0
    }

    fn index_of(&self, nodes: &Nodes<P>, owner: &Owner) -> u16 {
        if owner.node == self.me {
            return ME;
        }
        nodes.by_name.get(&owner.node).copied().unwrap_or(NOBODY)
    }

    /// Gives each new life of a node an index, and returns the lives that went. Those keep their
    /// index until [`Table::forget`].
    fn update_nodes(
        &self,
        view: &ClusterView,
        mut connect: impl FnMut(&NodeId, Incarnation, &str) -> P,
    ) -> Vec<(u16, P)> {
        let mut nodes = Nodes::clone(&self.nodes.load());
        let stays = |life: &Life<P>| {
            let now = view.nodes.get(&life.node);
            now.is_some_and(|now| now.incarnation == life.incarnation && now.grpc == life.address)
        };
        let gone: Vec<_> = (0..)
            .zip(&nodes.by_index)
            .filter_map(|(i, life)| {
                life.as_ref()
                    .filter(|l| !stays(l))
                    .map(|l| (i, l.peer.clone()))
            })
            .collect();
        nodes
            .by_name
            .retain(|_, index| gone.iter().all(|(i, _)| i != index));
        for (node, record) in &view.nodes {
            if *node == self.me || nodes.by_name.contains_key(node) {
                continue;
            }
            let Some(index) = free_index(&mut nodes.by_index) else {
                error!(%node, "more live nodes than routing can name; its objects are out of reach");
                continue;
            };
            nodes.by_index[usize::from(index)] = Some(Life {
                node: node.clone(),
                incarnation: record.incarnation,
                address: record.grpc.clone(),
                peer: connect(node, record.incarnation, &record.grpc),
            });
            nodes.by_name.insert(node.clone(), index);
        }
        self.nodes.store(Arc::new(nodes));
        gone
    }

    /// Frees the indices of lives that no shard's word names any more. A reader that took a word
    /// before may still meet a newcomer under the old index: that one answers `NotOwner`.
    fn forget(&self, gone: &[(u16, P)]) {
        if gone.is_empty() {
            return;
        }
        let mut nodes = Nodes::clone(&self.nodes.load());
        for (index, _) in gone {
            nodes.by_index[usize::from(*index)] = None;
        }
        self.nodes.store(Arc::new(nodes));
    }
}

fn life<P>(nodes: &Guard<Arc<Nodes<P>>>, index: u16) -> Option<&Life<P>> {
    nodes.by_index.get(usize::from(index))?.as_ref()
}

fn free_index<P>(by_index: &mut Vec<Option<P>>) -> Option<u16> {
    let peers = by_index.iter().skip(usize::from(FIRST_PEER));
    let free = peers.take_while(|life| life.is_some()).count() + usize::from(FIRST_PEER);
    if free == by_index.len() {
        by_index.push(None);
    }
    u16::try_from(free).ok()
}

/// Whether the same lives of nodes are at the same addresses.
fn same_lives(earlier: &ClusterView, now: &ClusterView) -> bool {
    let same = |(a, b): ((&NodeId, &NodeRecord), (&NodeId, &NodeRecord))| {
        a.0 == b.0 && a.1.incarnation == b.1.incarnation && a.1.grpc == b.1.grpc
    };
    earlier.nodes.len() == now.nodes.len() && earlier.nodes.iter().zip(&now.nodes).all(same)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ViewBuilder, node, shard};
    use super::*;

    const COUNT: u32 = 8;

    /// A table of node `a`, and the view it last took in.
    struct World {
        table: Table<String>,
        view: ViewBuilder,
        earlier: Option<ClusterView>,
    }

    impl World {
        fn new() -> Self {
            let view = ViewBuilder::new(COUNT);
            Self {
                table: Table::new(node("a"), view.count()),
                view,
                earlier: None,
            }
        }

        fn update(&mut self) -> Changes<String> {
            let view = self.view.view().clone();
            let connect = |node: &NodeId, life, address: &str| format!("{node}@{life} {address}");
            let changes = self.table.update(&view, self.earlier.as_ref(), connect);
            self.earlier = Some(view);
            changes
        }

        fn destination(&self, number: u32) -> Destination<String> {
            self.table.destination(self.table.entry(shard(number)))
        }
    }

    #[test]
    fn owners_are_found_here_and_elsewhere() {
        let mut world = World::new();
        world
            .view
            .node("a", 1)
            .node("b", 2)
            .owner(0, "a", 1)
            .owner(1, "b", 2);
        let changes = world.update();
        assert_eq!(changes.shards, [shard(0), shard(1)]);
        assert_eq!(world.destination(0), Destination::Here);
        assert_eq!(world.destination(1), Destination::There("b@2 b:2".into()));
        assert_eq!(world.destination(2), Destination::Nobody);
        let (owner, token) = world.table.owner(shard(1)).unwrap();
        assert_eq!(
            (owner, token),
            (node("b"), world.view.view().token(shard(1)))
        );
        assert_eq!(
            world.table.destination_of_node(&node("b")),
            Destination::There("b@2 b:2".into())
        );
        assert_eq!(
            world.table.destination_of_node(&node("c")),
            Destination::Nobody
        );
    }

    #[test]
    fn only_changed_shards_are_reported() {
        let mut world = World::new();
        world
            .view
            .node("a", 1)
            .node("b", 2)
            .owner(0, "a", 1)
            .owner(1, "b", 2);
        world.update();
        world.view.owner(1, "a", 1);
        let changes = world.update();
        assert_eq!((changes.shards, changes.nodes), (vec![shard(1)], false));
        assert_eq!(world.destination(1), Destination::Here);
    }

    #[test]
    fn a_dead_node_owns_nothing_and_its_return_is_another_life() {
        let mut world = World::new();
        world.view.node("b", 2).owner(1, "b", 2);
        world.update();
        world.view.gone("b");
        let changes = world.update();
        assert_eq!(
            (changes.gone, changes.shards),
            (vec!["b@2 b:2".into()], vec![shard(1)])
        );
        assert_eq!(world.destination(1), Destination::Nobody);
        world.view.node("b", 7);
        world.update();
        assert_eq!(
            world.destination(1),
            Destination::Nobody,
            "owned by the old life"
        );
        world.view.owner(1, "b", 7);
        world.update();
        assert_eq!(world.destination(1), Destination::There("b@7 b:7".into()));
    }

    #[test]
    fn a_node_that_leaves_makes_room_for_another() {
        let mut world = World::new();
        for life in 2..200 {
            world
                .view
                .gone("b")
                .gone("c")
                .node(["b", "c"][life % 2], life as u64);
            world.update();
        }
        assert_eq!(world.table.nodes.load().by_index.len(), 4);
        assert_eq!(world.table.nodes.load().by_name.len(), 1);
    }
}
