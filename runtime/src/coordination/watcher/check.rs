//! The comparison of the view with the store at one revision. Pure but for the time it takes.

use tokio::time::Instant;

use super::listing::{Correction, read_listing};
use crate::coordination::keys::Keys;
use crate::coordination::store::{Event, Listing, WatchBatch};
use crate::ids::Revision;
use crate::placement::{ClusterView, News};

/// A comparison under way.
///
/// The view goes on while the list is under way, so it is not the view that is compared but a
/// copy of it, which follows the same changes only up to the list's revision.
pub(super) struct Check {
    copy: ClusterView,
    /// Changes that the copy has not followed yet.
    waiting: Vec<Event>,
    /// Everything up to this revision was in the view or is among `waiting`.
    reached: Revision,
    listing: Option<(Listing, Instant)>,
}

/// What a comparison found.
pub(super) struct Verdict {
    /// What the store says and the view does not.
    pub(super) wrong: Vec<News>,
    /// Owner records of the view that were never in the store.
    pub(super) disproved: Vec<Correction>,
    /// Since when the list's reply was known.
    pub(super) listed: Instant,
}

impl Check {
    /// Begins with a copy of the view, before the list is asked for.
    pub(super) fn begin(view: &ClusterView) -> Self {
        Self {
            copy: view.clone(),
            waiting: Vec::new(),
            reached: view.revision,
            listing: None,
        }
    }

    pub(super) fn listed(&mut self, listing: Listing, now: Instant) {
        self.listing = Some((listing, now));
    }

    /// Notes what the watch brought.
    pub(super) fn follow(&mut self, batch: WatchBatch) {
        self.reached = self.reached.max(batch.revision);
        self.waiting.extend(batch.events);
    }

    /// Whether the list is there, and every change up to its revision.
    pub(super) fn is_ready(&self) -> bool {
        let listing = self.listing.as_ref();
        listing.is_some_and(|(listing, _)| listing.revision <= self.reached)
    }

    /// Compares; `None` if there is no list.
    pub(super) fn judge(mut self, keys: &Keys) -> Option<Verdict> {
        let (listing, listed) = self.listing?;
        let count = self.copy.meta.shard_count;
        for event in self.waiting {
            if revision_of(&event) <= listing.revision {
                // Unreadable keys were reported when they came.
                let news = keys.news(&event, count).ok().flatten();
                news.map(|news| self.copy.apply(news));
            }
        }
        let read = read_listing(listing, &self.copy, keys);
        let disproved = read.corrections(&self.copy, keys);
        let mut wrong = read.news;
        wrong.retain(|news| self.copy.apply(news.clone()));
        Some(Verdict {
            wrong,
            disproved,
            listed,
        })
    }
}

fn revision_of(event: &Event) -> Revision {
    match event {
        Event::Put(entry) => entry.mod_revision,
        Event::Delete { revision, .. } => *revision,
    }
}
