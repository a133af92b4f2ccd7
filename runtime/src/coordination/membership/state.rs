//! Where a node's life stands.

use std::time::Duration;

use super::settings::{LEASE_TTL_MAX, LEASE_TTL_MIN};
use crate::coordination::keys::BadEntry;
use crate::coordination::store::StoreError;
use crate::ids::{Incarnation, LeaseId, NodeId};

/// One life of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// This life: the revision at which its node key was created.
    pub incarnation: Incarnation,
    /// The lease of this life; the node key hangs on it, and the leader key may.
    pub lease: LeaseId,
}

/// Where a node's membership stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipState {
    /// Not yet registered in its first life.
    Joining,
    /// Registered. The node serves while its fence is open.
    Active(Identity),
    /// The fence's deadline passed; the lease may be alive. Nothing is served and nothing dropped.
    Suspended(Identity),
    /// The lease is lost and every activation dropped; another life will begin.
    Lost,
    /// There will be no other life.
    Stopped,
}

impl MembershipState {
    /// Returns the present life if the node may claim, release and plan in it; its fence must be
    /// open as well.
    pub fn active(&self) -> Option<&Identity> {
        match self {
            Self::Active(identity) => Some(identity),
            Self::Joining | Self::Suspended(_) | Self::Lost | Self::Stopped => None,
        }
    }
}

/// Why a node cannot be a member.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Another live process has this node ID.
    #[error("node ID {node} is in use by the process at {address}")]
    NodeIdInUse {
        /// The name.
        node: NodeId,
        /// Where the other process is registered.
        address: String,
    },
    /// The lease is too short, too long, or of broken seconds.
    #[error(
        "a lease of {0:?} is not possible: use whole seconds from {LEASE_TTL_MIN:?} to {LEASE_TTL_MAX:?}"
    )]
    LeaseTtl(Duration),
    /// The node was stopped before it joined.
    #[error("the node was stopped before it joined")]
    Stopped,
    /// The node's key in the store cannot be read.
    #[error(transparent)]
    BadEntry(#[from] BadEntry),
    /// The store refuses, and trying again will not help.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl JoinError {
    /// Whether trying again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            // Another lease will do.
            Self::Store(StoreError::LeaseGone(_)) => true,
            Self::Store(error) => error.is_transient(),
            Self::NodeIdInUse { .. } | Self::LeaseTtl(_) | Self::Stopped | Self::BadEntry(_) => {
                false
            }
        }
    }
}
