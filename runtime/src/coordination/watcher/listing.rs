//! What a list of the whole cluster tells. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordination::keys::{BadEntry, Keys};
use crate::coordination::store::{Event, Listing};
use crate::ids::{Incarnation, NodeId, Revision, ShardId};
use crate::placement::{ClusterView, News, Orders, OwnerRecord, Target};

/// What of a list could be read.
pub(super) struct Read {
    /// Every key of the list, and a deletion for every key that a view has and the list has not.
    pub(super) news: Vec<News>,
    found: Found,
    revision: Revision,
}

/// An owner record of a view that a list disproves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Correction {
    pub(crate) shard: ShardId,
    /// What the view has.
    pub(crate) was: OwnerRecord,
    /// What the store has.
    pub(crate) is: OwnerRecord,
}

#[derive(Default)]
struct Found {
    leader: bool,
    orders: bool,
    nodes: BTreeSet<NodeId>,
    blocks: BTreeSet<u32>,
    owners: BTreeMap<ShardId, OwnerRecord>,
    activity: BTreeSet<Incarnation>,
    bad: BTreeSet<String>,
}

/// Reads a list, as news to `view`. A key that cannot be read is no deletion.
pub(super) fn read_listing(listing: Listing, view: &ClusterView, keys: &Keys) -> Read {
    let revision = listing.revision;
    let (mut news, mut bad) = (Vec::with_capacity(listing.entries.len()), Vec::new());
    for entry in listing.entries {
        match keys.news(&Event::Put(entry), view.meta.shard_count) {
            Ok(told) => news.extend(told),
            Err(error) => bad.push(error),
        }
    }
    let found = found(&news, &bad);
    let gone = |key: String| !found.bad.contains(&key);

    if view.leader.is_some() && !found.leader && gone(keys.leader()) {
        news.push(News::Leader(None));
    }
    if view.orders != Orders::default() && !found.orders && gone(keys.orders()) {
        news.push(News::Orders(Orders::default()));
    }
    for node in view
        .nodes
        .keys()
        .filter(|node| !found.nodes.contains(*node))
    {
        if gone(keys.node(node)) {
            news.push(News::Node(node.clone(), None));
        }
    }
    for incarnation in view.activity.keys() {
        if !found.activity.contains(incarnation) && gone(keys.activity(*incarnation)) {
            news.push(News::Activity(*incarnation, None));
        }
    }
    for block in (0..view.meta.shard_count.blocks()).filter(|block| !found.blocks.contains(block)) {
        let known = view.targets.block(block);
        if known.iter().any(|target| *target != Target::default()) && gone(keys.target(block)) {
            let targets = vec![Target::default(); known.len()];
            news.push(News::Targets { block, targets });
        }
    }
    for (shard, known) in view.owners.iter() {
        let vanished = known.owner.is_some() && !found.owners.contains_key(&shard);
        // An own reply may have told of an ownership that is younger than the list.
        if vanished && known.revision <= revision && gone(keys.owner(shard)) {
            let owner = None;
            news.push(News::Owner(
                shard,
                OwnerRecord {
                    revision,
                    owner,
                    parcel: None,
                },
            ));
        }
    }
    Read {
        news,
        found,
        revision,
    }
}

impl Read {
    /// Returns the owner records of `before` that the list disproves.
    ///
    /// `before` must be a view from before the list was asked for. The list is linearizable, so
    /// everything that was true then is in it: a record of a greater revision than the list's, or
    /// one that the list does not have although it is no newer, was never in the store. The rule
    /// for owner news alone would keep a false record with a great revision forever.
    pub(super) fn corrections(&self, before: &ClusterView, keys: &Keys) -> Vec<Correction> {
        let absent = |known: &OwnerRecord| OwnerRecord {
            revision: known.revision.min(self.revision),
            owner: None,
            parcel: None,
        };
        let owners = before.owners.iter();
        let wrong = owners.filter_map(|(shard, was)| {
            let is = match self.found.owners.get(&shard) {
                // An older record is not false: the list itself is news of the newer one.
                Some(listed) if was.revision < listed.revision => return None,
                Some(listed) => listed.clone(),
                // A deletion at the list's revision is news of it.
                None if was.revision < self.revision => return None,
                None => absent(was),
            };
            let readable = !self.found.bad.contains(&keys.owner(shard));
            (readable && is != *was).then(|| Correction {
                shard,
                was: was.clone(),
                is,
            })
        });
        wrong.collect()
    }
}

fn found(news: &[News], bad: &[BadEntry]) -> Found {
    let mut found = Found::default();
    for told in news {
        match told {
            News::Node(node, _) => {
                found.nodes.insert(node.clone());
            }
            News::Leader(_) => found.leader = true,
            News::Orders(_) => found.orders = true,
            News::Targets { block, .. } => {
                found.blocks.insert(*block);
            }
            News::Owner(shard, record) => {
                found.owners.insert(*shard, record.clone());
            }
            News::Activity(incarnation, _) => {
                found.activity.insert(*incarnation);
            }
        }
    }
    found.bad = bad.iter().map(|bad| bad.key.clone()).collect();
    found
}
