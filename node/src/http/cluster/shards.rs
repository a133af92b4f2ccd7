//! A shard as HTTP shows it, and counts of shards.

use serde::{Deserialize, Serialize};
use steading::ids::ShardId;
use steading::node::NodeReport;
use steading::placement::ClusterView;
use utoipa::ToSchema;

use super::{Heard, per_second};

/// One shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShardInfo {
    /// Its number.
    pub shard: u32,
    /// The node that should own it.
    pub target: Option<String>,
    /// The live node that owns it.
    pub owner: Option<String>,
    /// The owner's life.
    pub incarnation: Option<u64>,
    /// The fencing token of the newest ownership.
    pub token: Option<u64>,
    /// What is going on with it.
    pub state: ShardState,
    /// The state of its owner, as of a node; none without one.
    pub owner_state: Option<String>,
    /// Whether it has an owner that answers, and is not fenced.
    pub healthy: bool,
    /// Its live objects; none if its owner does not answer.
    pub objects: Option<u64>,
    /// Turns per second in its owner's last window of load; none if the owner told none.
    pub calls_per_second: Option<f64>,
    /// How many CPUs its turns kept busy in that window, as estimated from a sample.
    pub cpu: Option<f64>,
    /// Since when it is owned, or unowned, as the asked node saw it (RFC 3339); none if it was so
    /// before that node joined.
    pub since: Option<String>,
}

/// What is going on with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ShardState {
    /// Its target owns it.
    Owned,
    /// Another node than its target owns it.
    Moving,
    /// No live node owns it.
    Unowned,
    /// It crashed its owners, and has none until its quarantine ends.
    Quarantined,
}

/// Counts of shards. Owned and unowned ones add up to the total.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShardTotals {
    /// All.
    pub total: usize,
    /// With a live owner.
    pub owned: usize,
    /// Without one; calls to their objects wait.
    pub unowned: usize,
    /// Owned by another node than they should be.
    pub moving: usize,
    /// Owned by a node that is silent or fenced; calls to their objects may wait or fail.
    pub at_risk: usize,
}

impl ShardState {
    /// Returns the state's stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owned => "owned",
            Self::Moving => "moving",
            Self::Unowned => "unowned",
            Self::Quarantined => "quarantined",
        }
    }

    /// Reads the state of a shard off a view.
    pub(crate) fn of(view: &ClusterView, shard: ShardId) -> Self {
        let target = view.targets.get(shard);
        match (view.live_owner(shard), &target.node) {
            (None, _) if target.quarantined => Self::Quarantined,
            (None, _) => Self::Unowned,
            (Some(owner), Some(target)) if owner.node != *target => Self::Moving,
            (Some(_), _) => Self::Owned,
        }
    }
}

impl ShardTotals {
    /// Counts the shards of a view.
    pub(crate) fn of(view: &ClusterView) -> Self {
        let mut totals = Self::default();
        for shard in view.meta.shard_count.shards() {
            totals.total += 1;
            match ShardState::of(view, shard) {
                ShardState::Owned => totals.owned += 1,
                ShardState::Moving => {
                    totals.owned += 1;
                    totals.moving += 1;
                }
                ShardState::Unowned | ShardState::Quarantined => totals.unowned += 1,
            }
        }
        totals
    }
}

impl ShardInfo {
    /// Reads a shard off a view.
    pub(crate) fn of(view: &ClusterView, shard: ShardId) -> Self {
        let owner = view.live_owner(shard);
        let target = view.targets.get(shard);
        let ever_owned = view.owners.get(shard).owner.is_some();
        Self {
            shard: shard.get(),
            target: target.node.as_ref().map(ToString::to_string),
            owner: owner.map(|owner| owner.node.to_string()),
            incarnation: owner.map(|owner| owner.incarnation.get()),
            token: ever_owned.then(|| view.token(shard).get()),
            state: ShardState::of(view, shard),
            owner_state: None,
            healthy: owner.is_some(),
            objects: None,
            calls_per_second: None,
            cpu: None,
            since: None,
        }
    }

    /// Adds how the shard's owner is, and what it reported.
    pub(crate) fn with(self, view: &ClusterView, shard: ShardId, heard: &Heard) -> Self {
        let Some(owner) = view.live_owner(shard) else {
            return self;
        };
        let record = view.nodes.get(&owner.node);
        let status = record.map(|record| heard.status(&owner.node, record));
        let health = heard.health(&owner.node);
        let with_owner = Self {
            owner_state: status.map(|status| status.as_str().into()),
            healthy: status.is_some_and(|status| !status.is_at_risk())
                && health.is_none_or(|(health, answers)| health.healthy && answers),
            ..self
        };
        match heard.reports.get(&owner.node) {
            Some(report) => with_owner.with_report(shard, report),
            None => with_owner,
        }
    }

    /// Adds what the shard's owner reported about it.
    fn with_report(self, shard: ShardId, report: &NodeReport) -> Self {
        let load = report.shards.get(&shard).copied().unwrap_or_default();
        let window = report.load.window;
        let told = report.load.number > 0;
        Self {
            objects: Some(report.by_shard.get(&shard).copied().unwrap_or_default()),
            calls_per_second: told.then(|| per_second(load.turns, window)),
            cpu: told.then(|| load.cpu.as_secs_f64() / window.as_secs_f64().max(f64::EPSILON)),
            ..self
        }
    }
}
