//! Since when each shard has its owner, as this process saw it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use steading::ids::ShardId;
use steading::placement::{ClusterView, Owner};
use tokio::sync::watch;

/// The moments at which shards changed between owners, or became unowned. A shard that has not
/// changed while this process watched has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Since {
    changed: Arc<Mutex<BTreeMap<ShardId, SystemTime>>>,
}

impl Since {
    /// Returns when a shard last changed.
    pub(crate) fn of(&self, shard: ShardId) -> Option<SystemTime> {
        self.changed.lock().get(&shard).copied()
    }

    /// Watches a node's view until the node is gone.
    pub(crate) async fn follow(self, mut views: watch::Receiver<Arc<ClusterView>>) {
        let mut before = views.borrow_and_update().clone();
        while views.changed().await.is_ok() {
            let now = views.borrow_and_update().clone();
            self.record(&before, &now, SystemTime::now());
            before = now;
        }
    }

    fn record(&self, before: &ClusterView, now: &ClusterView, at: SystemTime) {
        // The first view that is worth the name: what it shows began before anybody watched.
        if before.meta != now.meta || before.nodes.is_empty() {
            return;
        }
        let changed = changed_shards(before, now);
        if !changed.is_empty() {
            self.changed
                .lock()
                .extend(changed.into_iter().map(|shard| (shard, at)));
        }
    }
}

fn changed_shards(before: &ClusterView, now: &ClusterView) -> Vec<ShardId> {
    let owner = |view: &ClusterView, shard| -> Option<Owner> { view.live_owner(shard).cloned() };
    let differs = |shard: &ShardId| owner(before, *shard) != owner(now, *shard);
    let lives = |view: &ClusterView| -> Vec<_> {
        view.nodes
            .iter()
            .map(|(id, node)| (id.clone(), node.incarnation))
            .collect()
    };
    if lives(before) == lives(now) {
        now.owners
            .changed_since(&before.owners)
            .filter(differs)
            .collect()
    } else {
        now.meta.shard_count.shards().filter(differs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use steading::ids::{Incarnation, NodeId, Revision, ShardCount};
    use steading::placement::{ClusterMeta, News, NodeRecord, OwnerRecord};

    #[test]
    fn a_shard_changes_when_its_owner_dies() {
        let node = NodeId::new("a").expect("a good name");
        let incarnation = Incarnation::new(1);
        let count = ShardCount::new(2).expect("a power of two");
        let mut alive = ClusterView::empty(ClusterMeta::new("c", count));
        let record = NodeRecord::of(incarnation);
        alive.apply(News::Node(node.clone(), Some(record)));
        let [owned, never_owned]: [ShardId; 2] = count
            .shards()
            .collect::<Vec<_>>()
            .try_into()
            .expect("two shards");
        let owner = Some(Owner {
            node: node.clone(),
            incarnation,
        });
        let revision = Revision::new(2);
        alive.apply(News::Owner(
            owned,
            OwnerRecord {
                revision,
                owner,
                parcel: None,
            },
        ));
        let mut dead = alive.clone();
        dead.apply(News::Node(node, None));

        let since = Since::default();
        since.record(&alive, &dead, SystemTime::UNIX_EPOCH);
        assert_eq!(since.of(owned), Some(SystemTime::UNIX_EPOCH));
        assert_eq!(since.of(never_owned), None);
    }
}
