//! The last step of restoring the store from a snapshot.
//!
//! A snapshot turns revisions back, and tokens are made of revisions: what was stored under the lost
//! ones has greater tokens than any new owner would get, so storage would refuse them all, or worse,
//! take an owner of before for one of after. The restore generation stands above the revision in
//! each token; raising it makes every later token greater than every earlier one.

use super::keys::{BadEntry, Keys, decode_meta, encode_meta};
use super::store::{Compare, Op, Store, StoreError, Txn};
use crate::placement::ClusterMeta;

/// Why tokens were not raised.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RaiseError {
    /// The store does not answer. After [`StoreError::Unknown`] the tokens may be raised; to raise
    /// them once more does no harm.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
    /// Nobody has created a cluster there.
    #[error("there is no cluster at `{0}`")]
    NoCluster(String),
    /// Nodes are registered. They run, or their leases have not run out yet.
    #[error("still registered: {}; stop every node first, and wait until its lease has run out", .0.join(", "))]
    Registered(Vec<String>),
    /// The cluster's description cannot be read.
    #[error(transparent)]
    Unreadable(#[from] BadEntry),
    /// The description changed meanwhile. Nothing was written.
    #[error("somebody else changed the cluster's description; look again")]
    Changed,
    /// The generation cannot grow any more.
    #[error("the cluster was restored as often as it can be")]
    Exhausted,
}

/// Makes every token given from now on greater than all before, and returns the new generation.
///
/// For a store that was restored from a snapshot, while no node runs: one that does would go on with
/// tokens of the old generation.
///
/// # Errors
///
/// [`RaiseError`]; [`RaiseError::Registered`] also if a node joined at the same moment, and then the
/// tokens are raised, but that node must start anew. Not cancel safe: the write may have happened.
pub async fn raise_tokens(store: &dyn Store, prefix: &str) -> Result<u16, RaiseError> {
    let keys = Keys::new(prefix);
    no_node_is_registered(store, &keys).await?;
    let listing = store.list(&keys.meta()).await?;
    let Some(entry) = listing.entries.first() else {
        return Err(RaiseError::NoCluster(keys.prefix().to_owned()));
    };
    let meta = decode_meta(entry)?;
    let generation = meta.restore_generation.checked_add(1);
    let generation = generation.ok_or(RaiseError::Exhausted)?;
    let raised = ClusterMeta {
        restore_generation: generation,
        ..meta
    };
    let reply = store
        .commit(Txn {
            compares: vec![Compare::Modified(keys.meta(), entry.mod_revision)],
            then: vec![Op::Put {
                key: keys.meta(),
                value: encode_meta(&raised),
                lease: None,
            }],
            otherwise: Vec::new(),
        })
        .await?;
    if !reply.succeeded {
        return Err(RaiseError::Changed);
    }
    no_node_is_registered(store, &keys).await?;
    Ok(generation)
}

async fn no_node_is_registered(store: &dyn Store, keys: &Keys) -> Result<(), RaiseError> {
    let folder = format!("{}nodes/", keys.prefix());
    let listing = store.list(&folder).await?;
    let names = listing.entries.iter();
    let names = names.filter_map(|entry| entry.key.strip_prefix(&folder));
    let names: Vec<_> = names.map(str::to_owned).collect();
    if names.is_empty() {
        Ok(())
    } else {
        Err(RaiseError::Registered(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::MemoryStore;
    use crate::ids::{Revision, ShardCount, Token};

    const PREFIX: &str = "/steading/";

    async fn put(store: &MemoryStore, key: &str, value: Vec<u8>) {
        let put = Op::Put {
            key: key.into(),
            value,
            lease: None,
        };
        let txn = Txn {
            then: vec![put],
            ..Txn::default()
        };
        store.commit(txn).await.expect("it answers");
    }

    async fn created() -> MemoryStore {
        let store = MemoryStore::default();
        let meta = ClusterMeta::new("test", ShardCount::DEFAULT);
        put(&store, "/steading/meta/cluster", encode_meta(&meta)).await;
        store
    }

    #[tokio::test]
    async fn tokens_of_the_next_generation_are_greater_than_all_before() {
        let store = created().await;
        for generation in [1, 2] {
            let raised = raise_tokens(&store, PREFIX).await.expect("no node runs");
            assert_eq!(raised, generation);
            let before = Token::of(generation - 1, Revision::new(u64::MAX >> 16));
            assert!(Token::of(raised, Revision::new(1)) > before);
        }
    }

    #[tokio::test]
    async fn tokens_are_not_raised_under_a_registered_node() {
        let store = created().await;
        put(&store, "/steading/nodes/n1", b"{}".to_vec()).await;
        let refused = raise_tokens(&store, PREFIX).await;
        assert!(
            matches!(&refused, Err(RaiseError::Registered(names)) if names == &["n1"]),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn nothing_is_raised_where_there_is_no_cluster() {
        let refused = raise_tokens(&MemoryStore::default(), PREFIX).await;
        assert!(
            matches!(refused, Err(RaiseError::NoCluster(_))),
            "{refused:?}"
        );
    }
}
