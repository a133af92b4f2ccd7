//! Why a node does not start.

use std::io;

use crate::coordination::cluster::ClusterError;
use crate::coordination::keys::InvalidRegistration;
use crate::coordination::membership::JoinError;
use crate::coordination::store::StoreError;
use crate::ids::{InvalidNodeId, NodeId};
use crate::tls::{Mistrust, TlsError};

/// Why a node cannot become part of its cluster. Trying again changes nothing until something
/// else does.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The machine's host name cannot name a node; set an ID.
    #[error("the host name cannot be the node's ID: {0}")]
    HostName(#[source] InvalidNodeId),
    /// The gRPC address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        reason: String,
        /// Its kind, such as `AddrInUse`.
        kind: io::ErrorKind,
    },
    /// The certificates cannot be used, or do not carry the address that others are told.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A node of the cluster and this one cannot talk, by their settings of TLS.
    #[error("cannot talk to node {node} at {address}: {why}")]
    Mistrust {
        /// The other node.
        node: NodeId,
        /// Where it listens.
        address: String,
        /// What keeps the two from talking.
        why: Mistrust,
    },
    /// The watchdog thread cannot be started.
    #[error("cannot start the fence's watchdog: {0}")]
    Watchdog(String),
    /// The store refuses the node, by its user and password for instance.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster was created with other settings.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// What the node says of itself would be rejected by the others, such as its labels.
    #[error(transparent)]
    Registration(#[from] InvalidRegistration),
    /// The node cannot be a member.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The node was stopped before it had joined.
    #[error("the node was stopped before it had joined")]
    Stopped,
}
