//! Which work of a shard is new, while the shard is watched.
//!
//! A shard is watched once its last owner crashed (`probation`). New is the activation of an object,
//! and the first turn of each of its methods: most code that crashes a node does so the first time
//! it runs there. What ran once runs on unwatched, so a busy object pays for a few turns only.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fnv::{FnvBuildHasher, FnvHasher};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ids::ObjectKey;
use crate::probation::Watch;

/// Most pieces of work that are remembered of a watched shard. One with more has proven itself.
const SEEN_MAX: usize = 1 << 16;

/// Whether a shard is watched. An idle one costs a flag and an empty pointer.
#[derive(Debug, Default)]
pub(super) struct Watching {
    is_on: AtomicBool,
    watched: Mutex<Option<Box<Watched>>>,
}

#[derive(Debug)]
struct Watched {
    watch: Watch,
    limit: Duration,
    /// When the first new work began.
    first: Option<Instant>,
    /// Hashes of what ran. Two that collide are taken for one, which is then not watched.
    seen: HashSet<u64, FnvBuildHasher>,
}

impl Watching {
    /// Begins to watch, for `limit` from the first new work on.
    pub(super) fn begin(&self, watch: Watch, limit: Duration) {
        *self.watched.lock() = Some(Box::new(Watched {
            watch,
            limit,
            first: None,
            seen: HashSet::default(),
        }));
        self.is_on.store(true, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.is_on.store(false, Ordering::Release);
        *self.watched.lock() = None;
    }

    /// Whether work must be looked at. One relaxed load.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Returns how closely this work is to be watched; `None`: it is not new.
    #[cold]
    pub(super) fn new_work(&self, key: &ObjectKey, what: &'static str) -> Option<Watch> {
        let mut guard = self.watched.lock();
        let watched = guard.as_mut()?;
        let now = Instant::now();
        let first = *watched.first.get_or_insert(now);
        if now - first > watched.limit || watched.seen.len() >= SEEN_MAX {
            *guard = None;
            self.is_on.store(false, Ordering::Release);
            return None;
        }
        let mut hasher = FnvHasher::default();
        (key, what).hash(&mut hasher);
        watched
            .seen
            .insert(hasher.finish())
            .then_some(watched.watch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn work_is_new_once() {
        let watching = Watching::default();
        assert_eq!(watching.new_work(&key("a"), "add"), None, "not watched");
        watching.begin(Watch::TakenOver, LIMIT);
        assert_eq!(watching.new_work(&key("a"), "add"), Some(Watch::TakenOver));
        assert_eq!(watching.new_work(&key("a"), "add"), None);
        assert!(watching.new_work(&key("a"), "total").is_some());
        assert!(watching.new_work(&key("b"), "add").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_counts_from_the_first_work() {
        let watching = Watching::default();
        watching.begin(Watch::Prime, LIMIT);
        tokio::time::advance(LIMIT * 100).await;
        assert!(watching.new_work(&key("a"), "add").is_some());
        tokio::time::advance(LIMIT).await;
        assert!(watching.new_work(&key("b"), "add").is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(watching.is_on());
        assert_eq!(watching.new_work(&key("c"), "add"), None);
        assert!(!watching.is_on());
    }

    fn key(id: &str) -> ObjectKey {
        ObjectKey::new("Counter", id).expect("a good key")
    }
}
