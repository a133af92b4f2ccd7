//! Why a node does not start.

use std::io;

use crate::coordination::Evidence;
use crate::coordination::cluster::ClusterError;
use crate::coordination::keys::InvalidRegistration;
use crate::coordination::membership::JoinError;
use crate::coordination::store::StoreError;
use crate::ids::{InvalidNodeId, NodeId};
use crate::object::PAYLOAD_LEN_LIMIT;
use crate::tls::{Mistrust, TlsError};

/// Why a node cannot become part of its cluster. Trying again changes nothing until something
/// else does.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The machine's host name cannot name a node; set an ID.
    #[error("the host name cannot be the node's ID: {0}")]
    HostName(#[source] InvalidNodeId),
    /// [`NodeBuilder::payload_max`](crate::NodeBuilder::payload_max) is larger than nodes can exchange.
    #[error("`payload_max` is {0} bytes, and {PAYLOAD_LEN_LIMIT} are the most")]
    PayloadMax(usize),
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
    /// The store is not, or no longer, the one that the node joined. A new process joins what is
    /// there now.
    #[error("the store is not the one that the node joined: {0}")]
    Replaced(Evidence),
    /// The node was stopped before it had joined.
    #[error("the node was stopped before it had joined")]
    Stopped,
}

impl StartError {
    /// Returns the proof that the store is not the one that the node joined, if that is why.
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::Replaced(evidence)
            | Self::Store(StoreError::Replaced(evidence))
            | Self::Cluster(ClusterError::Store(StoreError::Replaced(evidence)))
            | Self::Join(JoinError::Store(StoreError::Replaced(evidence))) => Some(evidence),
            Self::HostName(_)
            | Self::PayloadMax(_)
            | Self::Listen { .. }
            | Self::Tls(_)
            | Self::Mistrust { .. }
            | Self::Registration(_)
            | Self::Watchdog(_)
            | Self::Store(_)
            | Self::Cluster(_)
            | Self::Join(_)
            | Self::Stopped => None,
        }
    }
}
