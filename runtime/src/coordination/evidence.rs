//! What proves that a store is not the one that this process joined.

use crate::ids::Revision;

/// Proof that answers come from another store, or from a past of the same one.
///
/// Views, owner records and fencing tokens compare revisions, which mean nothing across two
/// histories: whoever holds such a proof must stop serving and begin anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Evidence {
    /// A linearizable answer is older than one before it.
    #[error("its revision went back from {seen} to {found}: it lost data or was restored")]
    WentBack {
        /// The greatest revision that was seen before the request was sent.
        seen: Revision,
        /// The revision of the answer.
        found: Revision,
    },
    /// A key has an older revision than was seen of it.
    #[error(
        "key {key:?} was last written at revision {found}, after {seen} had been seen: it was restored"
    )]
    KeyWentBack {
        /// The full key.
        key: String,
        /// The revision that was seen of it.
        seen: Revision,
        /// The revision that it has now.
        found: Revision,
    },
    /// `meta/cluster` names another cluster.
    #[error("it has cluster {found:?}, this process joined {joined:?}")]
    OtherCluster {
        /// The cluster ID that was joined.
        joined: String,
        /// The cluster ID there now.
        found: String,
    },
    /// Tokens were raised after a restore, so ours are of before.
    #[error("its restore generation is {found}, this process joined at {joined}")]
    Restored {
        /// The generation that was joined.
        joined: u16,
        /// The generation there now.
        found: u16,
    },
    /// Every endpoint belongs to another etcd cluster than before.
    #[error("etcd at {endpoint} has cluster ID {found:x}, before it was {joined:x}")]
    OtherEtcd {
        /// The endpoint that answered last.
        endpoint: String,
        /// etcd's cluster ID when this process connected.
        joined: u64,
        /// etcd's cluster ID now.
        found: u64,
    },
}
