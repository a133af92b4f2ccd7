//! The placement as the page gets it: one row a shard, and what changed between two views.

use serde::Serialize;
use serde::ser::{SerializeTuple, Serializer};
use steading::ids::{NodeId, ShardId};
use steading::placement::{ClusterView, NodeState};

/// Set in [`Row::flags`] if an operator fixed the shard to its target.
pub(crate) const PINNED: u8 = 1;

/// Set in [`Row::flags`] if the shard killed its owners and is left alone.
pub(crate) const QUARANTINED: u8 = 2;

/// A shard as the page draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// The live node that owns it.
    pub owner: Option<&'a NodeId>,
    /// The node that should.
    pub target: Option<&'a NodeId>,
    /// [`PINNED`] and [`QUARANTINED`].
    pub flags: u8,
    /// When its target was set, in milliseconds since 1970; zero: not known.
    pub moved_at: u64,
}

impl<'a> Row<'a> {
    /// Reads a shard off a view.
    pub(crate) fn of(view: &'a ClusterView, shard: ShardId) -> Self {
        let target = view.targets.get(shard);
        let pinned = if target.pinned { PINNED } else { 0 };
        let quarantined = if target.quarantined { QUARANTINED } else { 0 };
        let at = target.cause.map_or(0, |cause| cause.at.as_millis());
        Self {
            owner: view.live_owner(shard).map(|owner| &owner.node),
            target: target.node.as_ref(),
            flags: pinned | quarantined,
            moved_at: u64::try_from(at).unwrap_or_default(),
        }
    }

    /// What is going on with it: the word that the page, the map and the API use.
    pub(crate) fn state(&self) -> &'static str {
        match (self.owner, self.target) {
            (None, _) if self.flags & QUARANTINED != 0 => "quarantined",
            (None, _) => "unowned",
            (Some(owner), Some(target)) if owner != target => "moving",
            (Some(_), _) => "owned",
        }
    }
}

/// A shard whose row changed: `[shard, owner, target, flags, moved_at]` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed<'a> {
    /// Which shard.
    pub shard: ShardId,
    /// Its row now.
    pub row: Row<'a>,
}

impl Serialize for Changed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(5)?;
        tuple.serialize_element(&self.shard.get())?;
        tuple.serialize_element(&self.row.owner.map(NodeId::as_str))?;
        tuple.serialize_element(&self.row.target.map(NodeId::as_str))?;
        tuple.serialize_element(&self.row.flags)?;
        tuple.serialize_element(&self.row.moved_at)?;
        tuple.end()
    }
}

/// Returns the shards whose rows differ between two views of one cluster.
pub(crate) fn changed<'a>(before: &ClusterView, now: &'a ClusterView) -> Vec<Changed<'a>> {
    let changed = |shard: ShardId| {
        let row = Row::of(now, shard);
        (Row::of(before, shard) != row).then_some(Changed { shard, row })
    };
    if same_lives(before, now) {
        let owners = now.owners.changed_since(&before.owners);
        let targets = now.targets.changed_since(&before.targets);
        let mut shards: Vec<_> = owners.chain(targets).collect();
        shards.sort_unstable();
        shards.dedup();
        return shards.into_iter().filter_map(changed).collect();
    }
    // Whoever came or went may have owned any of them.
    now.meta.shard_count.shards().filter_map(changed).collect()
}

fn same_lives(before: &ClusterView, now: &ClusterView) -> bool {
    let lives = |view: &ClusterView| -> Vec<_> {
        let lives = view.nodes.iter();
        lives
            .map(|(node, record)| (node.clone(), record.incarnation))
            .collect()
    };
    before.nodes.len() == now.nodes.len() && lives(before) == lives(now)
}

/// Returns the stable name of a node's state.
pub(crate) fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Active => "active",
        NodeState::Draining => "draining",
    }
}
