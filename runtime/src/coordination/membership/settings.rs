//! What the node says of itself, and how it lives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::JoinError;
use crate::coordination::keys::{InvalidRegistration, check_node};
use crate::ids::{Incarnation, LeaseId, NodeId};
use crate::placement::{NodeRecord, NodeState, Weight};

/// The shortest lease: etcd grants no shorter one.
pub const LEASE_TTL_MIN: Duration = Duration::from_secs(2);

/// The longest lease.
pub const LEASE_TTL_MAX: Duration = Duration::from_mins(1);

/// The least time between the fence's deadline and the end of the lease.
const FENCE_MARGIN_MIN: Duration = Duration::from_millis(500);

/// How a node lives in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipSettings {
    /// How long the store keeps the node after its last keep-alive: whole seconds, from
    /// [`LEASE_TTL_MIN`] to [`LEASE_TTL_MAX`]. Default: 5 s.
    ///
    /// Failover after a crash takes about this long; a pause longer than this costs every
    /// activation.
    pub lease_ttl: Duration,
    /// What to do about a predecessor of the same node ID. Default: [`Replace::Lock`].
    pub replace: Replace,
    /// The folder of the lock files that [`Replace::Lock`] needs; made if it is missing. `None`
    /// takes no lock, neither as proof nor to be seen by a successor. Default: `None`.
    pub lock_dir: Option<PathBuf>,
}

/// When a starting node may end the lease of a predecessor with its own node ID at once.
///
/// Without that right it waits until the lease ends, and refuses to start if the predecessor
/// turns out to be alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// If the predecessor ran on this very host and holds its lock file no more: then its process
    /// is gone.
    #[default]
    Lock,
    /// Always: something else, such as a StatefulSet, guarantees one process per node ID.
    Always,
    /// Never.
    Never,
}

impl Default for MembershipSettings {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(5),
            replace: Replace::default(),
            lock_dir: None,
        }
    }
}

impl MembershipSettings {
    /// Refuses a lease that is too short, too long, or of broken seconds.
    pub(super) fn check(&self) -> Result<(), JoinError> {
        let whole = self.lease_ttl.subsec_nanos() == 0;
        if whole && (LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(&self.lease_ttl) {
            Ok(())
        } else {
            Err(JoinError::LeaseTtl(self.lease_ttl))
        }
    }

    /// How long after the *sending* of an acknowledged keep-alive the node may serve: the time to
    /// live less a tenth of it, at least half a second less.
    pub(super) fn serving_time(&self) -> Duration {
        self.lease_ttl
            .saturating_sub((self.lease_ttl / 10).max(FENCE_MARGIN_MIN))
    }
}

/// What a node's key says, but for its lease and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The node's name.
    pub node: NodeId,
    /// `host:port` of its gRPC server, as others reach it.
    pub grpc: String,
    /// `host:port` of its HTTP server, if it has one.
    pub http: Option<String>,
    /// The failure domain it stands in.
    pub zone: Option<String>,
    /// How much it takes beside others.
    pub weight: Weight,
    /// Free names for operators.
    pub labels: BTreeMap<String, String>,
    /// The version of Steading it runs.
    pub version: String,
    /// The object types it can host, sorted.
    pub object_types: Vec<String>,
}

impl Registration {
    /// Checks the texts in it, as every reader of the node's key does.
    ///
    /// # Errors
    ///
    /// [`InvalidRegistration`] names the first that cannot be used.
    pub fn check(&self) -> Result<(), InvalidRegistration> {
        check_node(&self.record((LeaseId::new(0), Duration::ZERO), NodeState::Joining, ""))
    }

    /// Returns what the node's key should say in a life under `lease`.
    pub(super) fn record(
        &self,
        (lease, lease_ttl): (LeaseId, Duration),
        state: NodeState,
        boot_id: &str,
    ) -> NodeRecord {
        NodeRecord {
            incarnation: Incarnation::default(), // The store's to give.
            lease,
            lease_ttl,
            grpc: self.grpc.clone(),
            http: self.http.clone(),
            zone: self.zone.clone(),
            weight: self.weight,
            labels: self.labels.clone(),
            version: self.version.clone(),
            object_types: self.object_types.clone(),
            state,
            boot_id: boot_id.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(lease_ttl: Duration) -> MembershipSettings {
        MembershipSettings {
            lease_ttl,
            ..MembershipSettings::default()
        }
    }

    #[test]
    fn a_lease_has_whole_seconds_within_limits() {
        for good in [2, 5, 60] {
            assert!(settings(Duration::from_secs(good)).check().is_ok());
        }
        for bad in [0, 1_999, 2_500, 61_000] {
            assert!(settings(Duration::from_millis(bad)).check().is_err());
        }
    }

    #[test]
    fn the_node_stops_a_tenth_before_its_lease_but_at_least_half_a_second() {
        for (ttl, serving) in [(2, 1_500), (5, 4_500), (60, 54_000)] {
            let settings = settings(Duration::from_secs(ttl));
            assert_eq!(settings.serving_time(), Duration::from_millis(serving));
        }
    }
}
