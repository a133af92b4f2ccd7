//! The recorded history of who owned what: the witness that no shard ever had two owners.

use futures::StreamExt;
use steading::coordination::keys::Keys;
use steading::coordination::store::{Event, Op, Store, Txn};
use steading::ids::{Revision, ShardCount};
use steading::placement::{ClusterMeta, ClusterView, News};
use tokio::time::timeout;

use crate::LIMIT;

/// What a history told.
#[derive(Debug)]
pub struct History {
    /// How often a shard got another owner.
    pub changes: usize,
    /// Everything that must never be, in words.
    pub violations: Vec<String>,
}

impl History {
    /// Reads everything that happened under a cluster's prefix, from the first revision to now.
    ///
    /// # Panics
    ///
    /// If the store does not answer, or its history is compacted.
    pub async fn read(store: &dyn Store, prefix: &str, shard_count: ShardCount) -> Self {
        let keys = Keys::new(prefix);
        let end = format!("{}end-of-history", keys.prefix());
        let end_revision = mark(store, &end).await;
        let watch = store.watch(keys.prefix(), Revision::default()).await;
        let mut watch = watch.expect("the store runs");
        let mut auditor = Auditor::new(shard_count);
        loop {
            let batch = timeout(LIMIT, watch.next()).await.expect("in time");
            for event in batch
                .expect("no end without error")
                .expect("no error")
                .events
            {
                match key_of(&event) {
                    (key, at) if key == end && at == end_revision => return auditor.history,
                    (key, _) if key == end => continue, // The end of an earlier reading.
                    _ => {}
                }
                let news = keys.news(&event, shard_count).expect("only our keys");
                if let Some(news) = news {
                    auditor.take(news);
                }
            }
        }
    }

    /// Returns how often a shard got another owner.
    ///
    /// # Panics
    ///
    /// If something happened that must never be.
    #[track_caller]
    pub fn assert_single_owners(&self) -> usize {
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
        self.changes
    }
}

async fn mark(store: &dyn Store, key: &str) -> Revision {
    let put = Op::Put {
        key: key.into(),
        value: vec![],
        lease: None,
    };
    let txn = Txn {
        then: vec![put],
        ..Txn::default()
    };
    let reply = store.commit(txn).await.expect("the store runs");
    reply.revision
}

fn key_of(event: &Event) -> (&str, Revision) {
    match event {
        Event::Put(entry) => (&entry.key, entry.mod_revision),
        Event::Delete { key, revision } => (key, *revision),
    }
}

/// Follows a history news by news.
#[derive(Debug)]
struct Auditor {
    view: ClusterView,
    history: History,
}

impl Auditor {
    fn new(shard_count: ShardCount) -> Self {
        let meta = ClusterMeta::new(String::new(), shard_count);
        Self {
            view: ClusterView::empty(meta),
            history: History {
                changes: 0,
                violations: Vec::new(),
            },
        }
    }

    fn take(&mut self, news: News) {
        if let News::Owner(shard, record) = &news
            && let Some(owner) = &record.owner
        {
            let at = record.revision;
            // A release deletes the key first, a death the node's key, and only the owner itself
            // names the revision of its ownership: any other live owner has been robbed.
            let since = self.view.owners.get(*shard).revision;
            let handed_over = record.parcel.is_some_and(|parcel| parcel.revision == since);
            if let Some(before) = self.view.live_owner(*shard)
                && before != owner
                && !handed_over
            {
                let told = format!("shard {shard} went from live {before:?} to {owner:?} at {at}");
                self.history.violations.push(told);
            }
            if !self.view.is_live(owner) {
                let told = format!("shard {shard} went to {owner:?}, who is not live, at {at}");
                self.history.violations.push(told);
            }
            self.history.changes += 1;
        }
        self.view.apply(news);
    }
}

#[cfg(test)]
mod tests {
    use steading::coordination::MemoryStore;

    use super::*;

    /// Registers a node under a lease of its own, as nodes do.
    async fn register(store: &MemoryStore, node: &str) -> Revision {
        let lease = store.grant(LIMIT).await.expect("runs");
        let op = Op::Put {
            key: format!("/h/nodes/{node}"),
            value: format!(
                r#"{{"lease":{},"grpc":"a:1","weight":1000,"version":"0","object_types":[],
                    "state":"active","boot_id":""}}"#,
                lease.get()
            )
            .into(),
            lease: Some(lease),
        };
        commit(store, op).await
    }

    async fn put(store: &MemoryStore, key: &str, value: &str) -> Revision {
        let op = Op::Put {
            key: format!("/h/{key}"),
            value: value.into(),
            lease: None,
        };
        commit(store, op).await
    }

    async fn commit(store: &MemoryStore, op: Op) -> Revision {
        let txn = Txn {
            then: vec![op],
            ..Txn::default()
        };
        store.commit(txn).await.expect("runs").revision
    }

    fn owned(node: &str, life: Revision) -> String {
        format!(r#"{{"node":"{node}","incarnation":{life}}}"#)
    }

    async fn violations(store: &MemoryStore) -> Vec<String> {
        let count = ShardCount::new(4).expect("a power of two");
        History::read(store, "/h/", count).await.violations
    }

    #[tokio::test]
    async fn a_shard_taken_from_the_living_is_a_violation_and_from_the_dead_is_not() {
        let store = MemoryStore::new();
        let a = register(&store, "a").await;
        let b = register(&store, "b").await;
        put(&store, "owner/00001", &owned("a", a)).await;
        commit(&store, Op::Delete("/h/nodes/a".into())).await;
        put(&store, "owner/00001", &owned("b", b)).await;
        put(&store, "owner/00001", &owned("b", b)).await;
        assert!(violations(&store).await.is_empty());
        let again = register(&store, "a").await;
        put(&store, "owner/00001", &owned("a", again)).await;
        assert_eq!(violations(&store).await.len(), 1);
    }

    #[tokio::test]
    async fn what_the_living_hand_over_is_no_violation() {
        let store = MemoryStore::new();
        let a = register(&store, "a").await;
        let b = register(&store, "b").await;
        let since = put(&store, "owner/00001", &owned("a", a)).await;
        let parcel = |revision: u64| {
            let parcel = format!(
                r#""parcel":{{"revision":{revision},"attempt":"{:032x}"}}"#,
                1
            );
            format!(r#"{{"node":"b","incarnation":{b},{parcel}}}"#)
        };
        put(&store, "owner/00001", &parcel(since.get())).await;
        assert!(violations(&store).await.is_empty());
        put(&store, "owner/00001", &owned("a", a)).await;
        put(&store, "owner/00001", &parcel(since.get())).await;
        assert_eq!(
            violations(&store).await.len(),
            2,
            "that was handed over long ago"
        );
    }

    #[tokio::test]
    async fn an_owner_of_a_past_life_is_a_violation() {
        let store = MemoryStore::new();
        let a = register(&store, "a").await;
        put(
            &store,
            "owner/00001",
            &owned("a", Revision::new(a.get() - 1)),
        )
        .await;
        assert_eq!(violations(&store).await.len(), 1);
    }
}
