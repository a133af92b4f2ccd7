//! What this node tells about itself, to itself and to others.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::coordination::membership::MembershipState;
use crate::ids::Incarnation;
use crate::placement::ReachStates;
use crate::routing::{NodeLoad, NodeReport, Reports, Vitals};

/// Answers for a node while it exists.
#[derive(Debug)]
pub(super) struct Reporter(pub(super) Weak<Shared>);

impl Reports for Reporter {
    fn report(&self) -> Option<NodeReport> {
        Some(self.0.upgrade()?.report())
    }

    fn vitals(&self) -> Option<Vitals> {
        Some(self.0.upgrade()?.vitals())
    }

    fn reach(&self) -> ReachStates {
        let shared = self.0.upgrade();
        shared
            .map(|shared| shared.reach_states())
            .unwrap_or_default()
    }
}

impl Shared {
    /// Returns the present incarnation, even if it is suspended: it is still registered.
    fn incarnation(&self) -> Option<Incarnation> {
        match self.taking.get()?.membership.state() {
            MembershipState::Active(identity) | MembershipState::Suspended(identity) => {
                Some(identity.incarnation)
            }
            MembershipState::Joining | MembershipState::Lost | MembershipState::Stopped => None,
        }
    }

    /// Says how the node is now.
    pub(super) fn vitals(&self) -> Vitals {
        let load = self.host.load();
        let cpu: Duration = load.shards.values().map(|shard| shard.cpu).sum();
        let is_known = load.number > 0 && !load.window.is_zero();
        Vitals {
            incarnation: self.incarnation(),
            fence_left: Some(self.fence.margin()),
            objects: self.host.len() as u64,
            shards_cpus: is_known.then(|| cpu.as_secs_f64() / load.window.as_secs_f64()),
        }
    }

    /// Tells how things are now.
    pub(super) fn report(&self) -> NodeReport {
        let counts = self.host.counts().into_iter();
        let by_shard: BTreeMap<_, _> = counts.map(|(shard, count)| (shard, count as u64)).collect();
        let incarnation = self.incarnation();
        let load = self.host.load();
        let process = self.process.last();
        let shards = load.shards.values().chain([&load.node_bound]);
        NodeReport {
            node: self.id.clone(),
            incarnation,
            objects: self.host.len() as u64,
            by_shard,
            load: NodeLoad {
                number: load.number,
                window: load.window,
                age: Instant::now() - load.ended,
                cpu: process.cpu,
                cpus: process.cpus,
                memory_bytes: process.memory_bytes,
                memory_max_bytes: process.memory_max_bytes,
                turns: shards.map(|shard| shard.turns).sum(),
                waits: load.waits,
                refusals: load.refusals,
            },
            shards: load.shards.clone(),
            arrivals: self.host.arrivals(),
            sent: self.router.sent(),
            fence_left: Some(self.fence.margin()),
        }
    }
}
