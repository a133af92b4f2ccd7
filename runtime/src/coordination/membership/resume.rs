//! The proof that a suspended life still stands.

use tokio::time::timeout;
use tracing::warn;

use super::MembershipState;
use super::life::{Life, Lost};
use crate::coordination::store::{Event, Listing};
use crate::placement::{ClusterView, News, OwnerRecord};

impl Life<'_> {
    /// Serves again, if the store shows that this life still stands. To be called after an
    /// acknowledged keep-alive, so that the read is sent after it.
    pub(super) async fn resume(&self) -> Result<(), Lost> {
        let parts = &self.shared.parts;
        let limit = self.period() * 2; // The next ping must not wait for long.
        let listing = match timeout(limit, parts.store.list(parts.keys.prefix())).await {
            Ok(Ok(listing)) => listing,
            Ok(Err(error)) => {
                self.shared
                    .set_trouble(format!("cannot resume yet: {error}"));
                return Ok(());
            }
            Err(_) => {
                self.shared
                    .set_trouble(format!("cannot resume yet: no answer within {limit:?}"));
                return Ok(());
            }
        };
        if !self.stands_in(&listing) {
            return Err(Lost::KeyGone);
        }
        let news = self.owner_news(&listing, &parts.view.current());
        parts.view.learn(news);
        if parts.fence.resume() {
            self.shared.clear_trouble();
            self.shared
                .publish(MembershipState::Active(self.identity.clone()));
        }
        Ok(())
    }

    /// Whether a listing shows this life's node key.
    fn stands_in(&self, listing: &Listing) -> bool {
        let key = self.shared.node_key();
        listing.entries.iter().any(|entry| {
            entry.key == key
                && entry.create_revision.get() == self.identity.incarnation.get()
                && entry.lease == Some(self.identity.lease)
        })
    }

    /// What a listing tells about owners, deletions included. The view decides which of it counts.
    fn owner_news(&self, listing: &Listing, view: &ClusterView) -> Vec<News> {
        let (keys, count) = (&self.shared.parts.keys, view.meta.shard_count);
        let mut gone = vec![true; count.get() as usize];
        let mut news = Vec::new();
        let owners = keys.owners();
        for entry in listing
            .entries
            .iter()
            .filter(|entry| entry.key.starts_with(&owners))
        {
            match keys.news(&Event::Put(entry.clone()), count) {
                Ok(Some(News::Owner(shard, record))) => {
                    gone[shard.index()] = false;
                    news.push(News::Owner(shard, record));
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "skipping an owner key"),
            }
        }
        let tombstones = count
            .shards()
            .filter(|shard| gone[shard.index()] && view.owners.get(*shard).owner.is_some())
            .map(|shard| {
                let deleted = OwnerRecord {
                    revision: listing.revision,
                    owner: None,
                    parcel: None,
                };
                News::Owner(shard, deleted)
            });
        news.extend(tombstones);
        news
    }
}
