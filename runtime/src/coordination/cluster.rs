//! Creates the cluster's description, or checks that we can be part of it.
//!
//! `meta/cluster` is written once, by whoever comes first, and fixes what can never change: how
//! many shards there are and how keys map to them. A node that believes otherwise would look for
//! objects in the wrong places, so it must not join.

use tracing::warn;

use super::keys::{ABSENT, BadEntry, Keys, decode_meta, encode_meta};
use super::overlap::other_cluster;
use super::store::{Compare, Op, Store, StoreError, Txn};
use crate::ids::{Regions, Revision, ShardCount};
use crate::placement::ClusterMeta;

/// Why this node cannot be part of the cluster.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The cluster was created with another shard count.
    #[error("the cluster at `{prefix}` has {cluster} shards, but {wanted} are configured")]
    OtherShardCount {
        /// The cluster's prefix in the store.
        prefix: String,
        /// How many it has.
        cluster: ShardCount,
        /// How many this node was told.
        wanted: ShardCount,
    },
    /// The cluster was created with other regions.
    #[error("the cluster at `{prefix}` has {cluster}, but {wanted} configured")]
    OtherRegions {
        /// The cluster's prefix in the store.
        prefix: String,
        /// Which it has, in words.
        cluster: String,
        /// Which this node was told, in words.
        wanted: String,
    },
    /// Another cluster's keys would lie among ours, or ours among its.
    #[error("the prefix `{prefix}` overlaps with the cluster at `{other}`: choose another one")]
    Overlap {
        /// The prefix of this node.
        prefix: String,
        /// The prefix of the other cluster.
        other: String,
    },
    /// The cluster has another format or hash than this program, or its description cannot be
    /// read; the message names both.
    #[error(transparent)]
    Incompatible(#[from] BadEntry),
    /// The store did not do what was asked; [`StoreError::is_transient`] tells whether trying
    /// again may help.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns the cluster's description, after creating it as `fresh` if there is none.
///
/// Trying again is safe after every error, an unknown outcome included, and tells what became of
/// the earlier try.
///
/// # Errors
///
/// [`ClusterError`], also if the cluster has another shard count or other regions than `fresh`.
pub async fn create_or_check(
    store: &dyn Store,
    keys: &Keys,
    fresh: &ClusterMeta,
) -> Result<ClusterMeta, ClusterError> {
    refuse_overlap(store, keys).await?;
    let key = keys.meta();
    let reply = store
        .commit(Txn {
            compares: vec![Compare::Created(key.clone(), ABSENT)],
            then: vec![Op::Put {
                key: key.clone(),
                value: encode_meta(fresh),
                lease: None,
            }],
            otherwise: vec![Op::Get(key)],
        })
        .await?;
    // Nothing was read: it was created just now.
    let Some(entry) = reply.reads.into_iter().flatten().next() else {
        // Two clusters that are created at the same moment see each other now, if not before.
        if let Err(error) = refuse_overlap(store, keys).await {
            withdraw(store, keys, reply.revision).await;
            return Err(error);
        }
        return Ok(fresh.clone());
    };
    let meta = decode_meta(&entry)?;
    if meta.shard_count != fresh.shard_count {
        return Err(ClusterError::OtherShardCount {
            prefix: keys.prefix().into(),
            cluster: meta.shard_count,
            wanted: fresh.shard_count,
        });
    }
    if meta.regions != fresh.regions {
        return Err(ClusterError::OtherRegions {
            prefix: keys.prefix().into(),
            cluster: format!("the regions {}", listed(&meta.regions)),
            wanted: format!("{} are", listed(&fresh.regions)),
        });
    }
    Ok(meta)
}

async fn refuse_overlap(store: &dyn Store, keys: &Keys) -> Result<(), ClusterError> {
    match other_cluster(store, keys).await? {
        None => Ok(()),
        Some(other) => Err(ClusterError::Overlap {
            prefix: keys.prefix().into(),
            other,
        }),
    }
}

/// Deletes a description that was created at `revision` and has not been written since, so that it
/// does not keep the nodes of the other cluster from starting.
async fn withdraw(store: &dyn Store, keys: &Keys, revision: Revision) {
    let txn = Txn {
        compares: vec![Compare::Modified(keys.meta(), revision)],
        then: vec![Op::Delete(keys.meta())],
        otherwise: Vec::new(),
    };
    if let Err(error) = store.commit(txn).await {
        warn!(%error, key = keys.meta(), "cannot delete the description that overlaps; delete it by hand");
    }
}

fn listed(regions: &Regions) -> String {
    let texts: Vec<_> = regions.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        "(none)".into()
    } else {
        format!("`{}`", texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::{CommitFault, MemoryStore};

    fn meta(cluster_id: &str, shards: u32) -> ClusterMeta {
        ClusterMeta::new(cluster_id, ShardCount::new(shards).expect("a power of two"))
    }

    async fn join(store: &MemoryStore, fresh: &ClusterMeta) -> Result<ClusterMeta, ClusterError> {
        create_or_check(store, &Keys::new("/t/"), fresh).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_node_creates_and_all_others_find_the_same() {
        let store = MemoryStore::new();
        for fresh in [meta("first", 8), meta("second", 8)] {
            assert_eq!(join(&store, &fresh).await.expect("fits"), meta("first", 8));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_of_another_shard_count_is_refused_and_both_are_named() {
        let store = MemoryStore::new();
        join(&store, &meta("first", 8)).await.expect("created");
        let error = join(&store, &meta("second", 16))
            .await
            .expect_err("refused");
        assert!(matches!(error, ClusterError::OtherShardCount { .. }));
        let text = error.to_string();
        assert!(
            text.contains("has 8 shards") && text.contains("16 are"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_of_other_regions_is_refused_and_both_are_named() {
        let store = MemoryStore::new();
        join(&store, &meta("first", 8)).await.expect("created");
        let region = "type:Word=0-3".parse().expect("a region");
        let second = meta("second", 8);
        let regions = Regions::new(vec![region], second.shard_count).expect("it fits");
        let refused = join(&store, &ClusterMeta { regions, ..second }).await;
        let text = refused.expect_err("refused").to_string();
        assert!(
            text.contains("has the regions (none), but `type:Word=0-3` are"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn overlapping_prefixes_are_refused() {
        for (first, second) in [
            ("/a/", "/a/b/"),
            ("/a/b/", "/a/"),
            ("/a/", "/a/nodes/"),
            ("/", "/a/b/c/"),
        ] {
            let store = MemoryStore::new();
            let create = async |prefix, id| {
                let keys = Keys::new(prefix);
                create_or_check(&store, &keys, &meta(id, 8)).await
            };
            create(first, "one").await.expect("alone");
            let error = create(second, "two").await.expect_err("refused");
            let text = error.to_string();
            assert!(text.contains(&format!("`{first}`")), "{text}");
            assert!(text.contains(&format!("`{second}`")), "{text}");
            let listing = store.list(&Keys::new(second).meta()).await.expect("listed");
            assert!(listing.entries.is_empty(), "nothing was written");
            create(first, "one").await.expect("still alone");
        }
        let store = MemoryStore::new();
        for prefix in ["/a/", "/ab/", "/b/a/"] {
            let keys = Keys::new(prefix);
            let created = create_or_check(&store, &keys, &meta("c", 8)).await;
            created.expect("next to each other");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_of_another_format_is_refused() {
        let store = MemoryStore::new();
        let value = br#"{"format":99,"cluster_id":"c","shard_count":8,"hash":"h",
            "layout_generation":1,"restore_generation":0}"#;
        let put = Op::Put {
            key: Keys::new("/t/").meta(),
            value: value.to_vec(),
            lease: None,
        };
        let txn = Txn {
            then: vec![put],
            ..Txn::default()
        };
        store.commit(txn).await.expect("written");
        let error = join(&store, &meta("second", 8)).await.expect_err("refused");
        assert!(
            error
                .to_string()
                .contains("has format 99, this program 1 or 2")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn trying_again_after_an_unknown_outcome_finds_the_own_cluster() {
        for fault in [CommitFault::LoseReply, CommitFault::Fail] {
            let store = MemoryStore::new();
            store.faults().on_commit(1, fault);
            join(&store, &meta("own", 8)).await.expect_err("no answer");
            let found = join(&store, &meta("own", 8)).await;
            assert_eq!(found.expect("fits"), meta("own", 8));
        }
    }
}
