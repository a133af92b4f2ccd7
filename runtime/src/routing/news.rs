//! Owner news that calls and answers bring along, ahead of the watch.
//!
//! It goes to the one copy of the cluster that the process has, under the one rule for owner news,
//! and comes back as any other change of the view. Routing itself believes only its table.

use std::fmt;

use super::router::Inner;
use crate::ids::{Place, ShardId, Token};
use crate::placement::{ClusterView, Owner, OwnerRecord, Parcel};

/// Where news of owners goes: the process's copy of the cluster.
pub trait OwnerNews: fmt::Debug + Send + Sync + 'static {
    /// Takes news of a shard's owner in, if it is strictly newer than what is known. Must not
    /// block.
    fn learn_owner(&self, shard: ShardId, record: OwnerRecord);
}

/// Who owns a shard, as one node tells another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ownership {
    /// The number of the shard, as the sender counts.
    pub(super) shard: u32,
    /// The life that owns it.
    pub(super) owner: Owner,
    /// The token of the ownership.
    pub(super) token: Token,
    /// The state that came with the shard. Never left out: the owner itself may learn it here
    /// first, and what the watch says of the same revision later does not count any more.
    pub(super) parcel: Option<Parcel>,
}

impl Ownership {
    /// Returns what the view knows of a shard; `None`: it has no owner.
    fn of(view: &ClusterView, shard: ShardId) -> Option<Self> {
        let record = view.owners.get(shard);
        Some(Self {
            shard: shard.get(),
            owner: record.owner.clone()?,
            token: view.token(shard),
            parcel: record.parcel,
        })
    }
}

impl Inner {
    /// Returns the newest ownership of the shard at a place; `None`: it has no owner, or the place
    /// is no shard.
    pub(super) fn ownership(&self, place: &Place) -> Option<Ownership> {
        match place {
            Place::Shard(shard) => Ownership::of(&self.settings.view.borrow(), *shard),
            Place::Node(_) => None,
        }
    }

    /// Whether this life of this node owns the shard at a place, as of the newest view: the table
    /// may not have followed yet.
    pub(super) fn owns(&self, place: &Place) -> bool {
        match place {
            Place::Shard(shard) => {
                let view = self.settings.view.borrow();
                let owner = view.live_owner(*shard);
                owner.is_some_and(|owner| owner.node == self.settings.node)
            }
            Place::Node(node) => *node == self.settings.node,
        }
    }

    /// Takes in what another node said of the shard at a place. Old news costs no copy of the view.
    pub(super) fn learn(&self, place: &Place, news: &Ownership) {
        let Place::Shard(shard) = place else {
            return;
        };
        let view = self.settings.view.borrow();
        let comparable =
            news.shard == shard.get() && news.token.generation() == view.meta.restore_generation;
        let newer = news.token.revision() > view.owners.get(*shard).revision;
        drop(view); // Whoever learns it writes the view.
        if comparable && newer {
            self.settings.metrics.routing.links.owner_news.inc();
            let record = OwnerRecord {
                revision: news.token.revision(),
                owner: Some(news.owner.clone()),
                parcel: news.parcel,
            };
            self.settings.news.learn_owner(*shard, record);
        }
    }
}
