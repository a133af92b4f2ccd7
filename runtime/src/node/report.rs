//! What this node tells about itself, to itself and to others.

use std::collections::BTreeMap;
use std::sync::Weak;

use tokio::time::Instant;

use super::Shared;
use crate::coordination::membership::MembershipState;
use crate::routing::{NodeLoad, NodeReport, Reports};

/// Answers for a node while it exists.
#[derive(Debug)]
pub(super) struct Reporter(pub(super) Weak<Shared>);

impl Reports for Reporter {
    fn report(&self) -> Option<NodeReport> {
        Some(self.0.upgrade()?.report())
    }
}

impl Shared {
    /// Tells how things are now.
    pub(super) fn report(&self) -> NodeReport {
        let counts = self.host.counts().into_iter();
        let by_shard: BTreeMap<_, _> = counts.map(|(shard, count)| (shard, count as u64)).collect();
        let taking = self.taking.get();
        let state = taking.map(|taking| taking.membership.state());
        let identity = state.as_ref().and_then(MembershipState::active);
        let load = self.host.load();
        let process = self.process.last();
        let shards = load.shards.values().chain([&load.node_bound]);
        NodeReport {
            node: self.id.clone(),
            incarnation: identity.map(|identity| identity.incarnation),
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
