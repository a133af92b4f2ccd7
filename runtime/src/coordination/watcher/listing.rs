//! What a list of the whole cluster tells. Pure.

use std::collections::BTreeSet;

use crate::coordination::keys::{BadEntry, Keys};
use crate::coordination::store::{Event, Listing};
use crate::ids::{NodeId, ShardId};
use crate::placement::{ClusterView, News, Orders, OwnerRecord, Target};

/// What of a list could be read.
pub(super) struct Read {
    /// Every key of the list, and a deletion for every key that a view has and the list has not.
    pub(super) news: Vec<News>,
    pub(super) bad: Vec<BadEntry>,
}

#[derive(Default)]
struct Found {
    leader: bool,
    orders: bool,
    nodes: BTreeSet<NodeId>,
    blocks: BTreeSet<u32>,
    owners: BTreeSet<ShardId>,
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
    for block in (0..view.meta.shard_count.blocks()).filter(|block| !found.blocks.contains(block)) {
        let known = view.targets.block(block);
        if known.iter().any(|target| *target != Target::default()) && gone(keys.target(block)) {
            let targets = vec![Target::default(); known.len()];
            news.push(News::Targets { block, targets });
        }
    }
    for (shard, known) in view.owners.iter() {
        let vanished = known.owner.is_some() && !found.owners.contains(&shard);
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
    Read { news, bad }
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
            News::Owner(shard, _) => {
                found.owners.insert(*shard);
            }
            News::Meta(_) => {}
        }
    }
    found.bad = bad.iter().map(|bad| bad.key.clone()).collect();
    found
}
