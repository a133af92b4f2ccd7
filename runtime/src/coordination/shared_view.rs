//! The process's one copy of the cluster, written by whoever has news, read by everybody.

use std::sync::Arc;

use tokio::sync::watch;

use super::watcher::Correction;
use crate::ids::Revision;
use crate::placement::{ClusterMeta, ClusterView, News};

/// The newest view that this process has.
///
/// Readers take a snapshot, which never changes, or subscribe and are woken by the next one.
/// Writers bring news in any order: [`ClusterView::apply`] has the rule for which of it counts.
#[derive(Debug)]
pub struct SharedView {
    sender: watch::Sender<Arc<ClusterView>>,
}

impl SharedView {
    /// Begins with an empty view of a cluster.
    pub fn new(meta: ClusterMeta) -> Self {
        ClusterView::empty(meta).into()
    }

    /// Returns the newest snapshot.
    pub fn current(&self) -> Arc<ClusterView> {
        self.sender.borrow().clone()
    }

    /// Returns a receiver that is woken by each new snapshot.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.sender.subscribe()
    }

    /// Sets what the cluster was created as, before anything else of it is known.
    ///
    /// # Panics
    ///
    /// If the shard count is another one than the view was made for: every table has that many
    /// entries, and `cluster::create_or_check` refuses such a cluster.
    pub fn begin(&self, meta: ClusterMeta) {
        self.sender.send_modify(|view| {
            assert_eq!(view.meta.shard_count, meta.shard_count, "another layout");
            Arc::make_mut(view).meta = meta;
        });
    }

    /// Takes in news that a watch or list brought: everything up to `revision` is then in the
    /// view. Wakes the subscribers if anything changed, be it only the revision.
    pub fn advance(&self, revision: Revision, news: impl IntoIterator<Item = News>) {
        self.sender.send_if_modified(|view| {
            let view = Arc::make_mut(view);
            let newer = revision > view.revision;
            view.revision = view.revision.max(revision);
            apply_all(view, news) || newer
        });
    }

    /// Replaces owner records that a list disproved, unless they have changed since. Wakes the
    /// subscribers if it changed anything.
    pub(crate) fn correct(&self, corrections: &[Correction]) {
        if corrections.is_empty() {
            return;
        }
        self.sender.send_if_modified(|view| {
            let view = Arc::make_mut(view);
            let mut changed = false;
            for Correction { shard, was, is } in corrections {
                if view.owners.get(*shard) == was {
                    view.owners.set(*shard, is.clone());
                    changed = true;
                }
            }
            changed
        });
    }

    /// Takes in news that came by another way, such as the reply to an own transaction. Wakes the
    /// subscribers if it changed anything.
    pub fn learn(&self, news: impl IntoIterator<Item = News>) {
        self.sender
            .send_if_modified(|view| apply_all(Arc::make_mut(view), news));
    }
}

impl From<ClusterView> for SharedView {
    fn from(view: ClusterView) -> Self {
        Self {
            sender: watch::Sender::new(Arc::new(view)),
        }
    }
}

fn apply_all(view: &mut ClusterView, news: impl IntoIterator<Item = News>) -> bool {
    // No `any`: it would stop at the first change.
    news.into_iter()
        .fold(false, |changed, news| changed | view.apply(news))
}
