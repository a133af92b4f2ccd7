//! A running cluster as a simulation takes it over.

use std::collections::BTreeSet;

use steading::ids::{NodeId, ShardCount, ShardId};
use steading::placement::planner::{CAPACITY_LABEL, PlanSettings, ShardRates};
use steading::placement::{NodeRecord, NodeState, Target, Weight};

use crate::args::AskArgs;
use crate::client::{AskError, Client};
use crate::http::{Cluster, NodeInfo, ShardInfo, ShardState};
use crate::simulate::{Machine, NodeSpec, OBJECT_BYTES, World, rounded};

/// What a node says of its cluster.
pub(super) struct Running {
    cluster: Cluster,
    shards: Vec<ShardInfo>,
}

/// Asks a node.
pub(super) async fn look(ask: &AskArgs) -> Result<Running, AskError> {
    let client = Client::new(ask)?;
    Ok(Running {
        cluster: client.get(&["v1", "cluster"], &[]).await?,
        shards: client.get(&["v1", "shards"], &[]).await?,
    })
}

impl Running {
    pub(super) fn shard_count(&self) -> Result<ShardCount, AskError> {
        let count = ShardCount::new(self.cluster.shard_count);
        count.map_err(|error| AskError::Simulation(error.to_string()))
    }

    /// Returns its nodes with the shards they should own. Which shards are pinned is not said.
    pub(super) fn world(&self, settings: PlanSettings, machine: Machine) -> World {
        let nodes = self.cluster.nodes.iter().filter_map(|node| {
            let (id, record) = (NodeId::new(&node.id).ok()?, record(node)?);
            Some((id, record))
        });
        let count = ShardCount::new(self.cluster.shard_count).unwrap_or_default();
        let mut world = World::new(nodes.collect(), count, settings, machine);
        for shard in &self.shards {
            let Ok(id) = ShardId::new(shard.shard, count) else {
                continue;
            };
            let target = Target {
                node: shard
                    .target
                    .as_ref()
                    .and_then(|node| NodeId::new(node).ok()),
                quarantined: shard.state == ShardState::Quarantined,
                ..Target::default()
            };
            world.put(id, target);
        }
        let cordoned = self.cluster.nodes.iter().filter(|node| node.cordoned);
        let cordoned = cordoned.filter_map(|node| NodeId::new(&node.id).ok());
        world.cordon(cordoned.collect::<BTreeSet<_>>());
        world
    }

    /// Returns what each shard does, with its calls a second.
    pub(super) fn loads(&self, count: ShardCount) -> Vec<(ShardRates, f64)> {
        let mut loads = vec![(ShardRates::default(), 0.0); count.get() as usize];
        for shard in &self.shards {
            let Some(load) = loads.get_mut(shard.shard as usize) else {
                continue;
            };
            let calls = shard.calls_per_second.unwrap_or(0.0);
            let cpu = shard.cpu.unwrap_or(0.0);
            let rates = ShardRates {
                cpu_micros_per_s: rounded(cpu * 1e6),
                calls_per_s: rounded(calls),
                objects: shard.objects.unwrap_or(0),
                state_bytes: shard.objects.unwrap_or(0) * OBJECT_BYTES,
            };
            *load = (rates, calls);
        }
        loads
    }
}

fn record(node: &NodeInfo) -> Option<NodeRecord> {
    let weight = u32::try_from(rounded(node.weight * 1000.0)).unwrap_or(u32::MAX);
    let spec = NodeSpec {
        node: NodeId::new(&node.id).ok()?,
        zone: node.zone.clone(),
        weight: Weight::from_thousandths(weight),
        capacity: node.labels.get(CAPACITY_LABEL).and_then(|c| c.parse().ok()),
    };
    let state = match node.registered_state.as_str() {
        "active" => NodeState::Active,
        "draining" => NodeState::Draining,
        _ => NodeState::Joining,
    };
    Some(NodeRecord {
        state,
        ..spec.record()
    })
}
