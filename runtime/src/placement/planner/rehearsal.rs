//! What the planner would make of a cluster of values: for simulations and measurements.

use std::collections::BTreeMap;

use super::{LoadReport, Loads, Memory, Plan, PlanSettings, Planning, plan};
use crate::clock::Moment;
use crate::ids::{Revision, ShardId};
use crate::placement::{ClusterView, Owner, OwnerRecord};

/// A cluster of values, where whatever is planned is done at once: nothing is ever under way, and
/// no operator orders anything but what its view says.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The cluster.
    pub view: ClusterView,
    /// How its leader plans.
    pub settings: PlanSettings,
    /// What its nodes have reported.
    pub loads: Loads,
    /// What its leader remembers.
    pub memory: Memory,
}

impl Rehearsal {
    /// Begins with a cluster of which no loads are known.
    pub fn new(view: ClusterView, settings: PlanSettings) -> Self {
        Self {
            view,
            settings,
            loads: Loads::default(),
            memory: Memory::default(),
        }
    }

    /// Returns what the leader would plan now. Changes nothing, and costs what [`plan`] does.
    pub fn plan(&self, now: Moment) -> Plan {
        plan(Planning {
            view: &self.view,
            changed: &BTreeMap::new(),
            loads: &self.loads,
            in_flight: &[],
            commands: &BTreeMap::new(),
            memory: &self.memory,
            settings: &self.settings,
            now,
        })
    }

    /// Takes in what nodes report at the end of a window of load.
    pub fn report<'a>(&mut self, reports: impl IntoIterator<Item = &'a LoadReport>, now: Moment) {
        for report in reports {
            self.loads.absorb(report, now);
        }
        self.memory
            .see(&self.view, &self.loads, &self.settings, now);
    }

    /// Writes a plan's targets, and lets each own its shards.
    pub fn carry_out(&mut self, plan: &Plan) {
        for (shard, target) in &plan.targets {
            self.view.targets.set(*shard, target.clone());
        }
        self.own();
    }

    /// Lets every target that lives own its shards. Those of others, and of none, have no owner.
    pub fn own(&mut self) {
        let shards: Vec<ShardId> = self.view.meta.shard_count.shards().collect();
        for shard in shards {
            let node = self.view.targets.get(shard).node.clone();
            let owner = node.and_then(|node| {
                let incarnation = self.view.nodes.get(&node)?.incarnation;
                Some(Owner { node, incarnation })
            });
            let record = OwnerRecord {
                revision: Revision::new(1),
                owner,
                parcel: None,
            };
            if *self.view.owners.get(shard) != record {
                self.view.owners.set(shard, record);
            }
        }
    }
}
