//! The cluster and its shards as HTTP shows them, made from one view.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use steading::ids::{NodeId, ShardId};
use steading::node::{NodeHealth, NodeLoad, NodeReport};
use steading::placement::{ClusterView, NodeRecord, NodeState};
use utoipa::ToSchema;

/// The cluster as the asked node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// A random name, given when the cluster was created.
    pub cluster_id: String,
    /// How many shards there are; fixed when the cluster was created.
    pub shard_count: u32,
    /// The node that plans; none while one is elected.
    pub leader: Option<String>,
    /// The leader's term; a later leader has a greater one.
    pub term: Option<u64>,
    /// Whether an operator paused balancing.
    pub paused: bool,
    /// The store's revision up to which the asked node knows everything.
    pub revision: u64,
    /// The live nodes, by ID.
    pub nodes: Vec<NodeInfo>,
    /// Counts of shards.
    pub shards: ShardTotals,
}

/// A live node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// Its stable name.
    pub id: String,
    /// This life of it.
    pub incarnation: u64,
    /// `joining`, `active` or `draining`.
    pub state: String,
    /// Whether an operator said that it should get no more shards.
    pub cordoned: bool,
    /// Its failure domain.
    pub zone: Option<String>,
    /// How much it takes beside others; 0 for a gate.
    pub weight: f64,
    /// Free names for operators.
    pub labels: BTreeMap<String, String>,
    /// The version of Steading it runs.
    pub version: String,
    /// The object types it can host.
    pub object_types: Vec<String>,
    /// Where it is reached.
    pub addresses: Addresses,
    /// Shards it owns.
    pub shards_owned: usize,
    /// Shards it should own.
    pub shards_targeted: usize,
    /// Its live objects; none if it did not answer in time.
    pub objects: Option<u64>,
    /// How busy it is; none if it did not answer in time or has run for less than a window.
    pub load: Option<NodeLoadInfo>,
    /// How it answers the asked node's probes; none for the asked node itself, and for one that it
    /// has not probed yet.
    pub health: Option<NodeHealthInfo>,
}

/// How a node answers the asked node's probes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeHealthInfo {
    /// Whether fewer probes in a row have failed than `health_failures` says. Its lease alone
    /// decides what it owns.
    pub healthy: bool,
    /// The mean round trip of probes, of which newer ones count more; none until one is answered.
    pub latency_seconds: Option<f64>,
    /// Connections for calls that are open from the asked node to it.
    pub connections: usize,
    /// Probes that have failed since the last one that was answered.
    pub consecutive_failures: u32,
    /// What part of the last 32 probes failed, 0 to 1.
    pub error_rate: f64,
    /// Why the last of this life's failed probes failed.
    pub last_error: Option<String>,
    /// How long ago that was.
    pub last_error_age_seconds: Option<f64>,
}

/// How busy a node was in its last window of load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeLoadInfo {
    /// How long the window was, in seconds.
    pub window_seconds: f64,
    /// How much of all its CPUs the process used, 0 to 1.
    pub cpu: f64,
    /// Bytes of memory that the process occupied.
    pub memory_bytes: u64,
    /// How many it may occupy; 0: not known.
    pub memory_max_bytes: u64,
    /// Turns per second.
    pub calls_per_second: f64,
    /// How many of them had to wait for others, 0 to 1: how full the mailboxes are.
    pub waits: f64,
    /// Calls refused because a mailbox was full.
    pub refusals: u64,
}

/// Where a node is reached, as `host:port`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Addresses {
    /// Its gRPC server.
    pub grpc: String,
    /// Its HTTP server, if it has one.
    pub http: Option<String>,
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
}

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
    /// Whether it has a live owner that answers the asked node's probes.
    pub healthy: bool,
    /// Its live objects; none if its owner did not answer in time.
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
    /// It killed its owners and is left alone.
    Quarantined,
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

/// What the nodes told that answered.
pub(crate) type Reports = BTreeMap<NodeId, NodeReport>;

impl Cluster {
    /// Reads the cluster off a view.
    pub(crate) fn of(view: &ClusterView, reports: &Reports) -> Self {
        let mut owned: BTreeMap<&NodeId, usize> = BTreeMap::new();
        let mut targeted: BTreeMap<&NodeId, usize> = BTreeMap::new();
        for shard in view.meta.shard_count.shards() {
            if let Some(owner) = view.live_owner(shard) {
                *owned.entry(&owner.node).or_default() += 1;
            }
            if let Some(node) = &view.targets.get(shard).node {
                *targeted.entry(node).or_default() += 1;
            }
        }
        let node = |(id, record): (&NodeId, &NodeRecord)| NodeInfo {
            shards_owned: owned.get(id).copied().unwrap_or_default(),
            shards_targeted: targeted.get(id).copied().unwrap_or_default(),
            cordoned: view.orders.cordoned.contains(id),
            objects: reports.get(id).map(|report| report.objects),
            load: reports
                .get(id)
                .and_then(|report| NodeLoadInfo::of(&report.load)),
            ..NodeInfo::of(id, record)
        };
        Self {
            cluster_id: view.meta.cluster_id.clone(),
            shard_count: view.meta.shard_count.get(),
            leader: view.leader.as_ref().map(|leader| leader.node.to_string()),
            term: view.leader.as_ref().map(|leader| leader.term.get()),
            paused: view.orders.paused,
            revision: view.revision.get(),
            nodes: view.nodes.iter().map(node).collect(),
            shards: ShardTotals::of(view),
        }
    }

    /// Adds how nodes answer the asked node's probes.
    pub(crate) fn with_health(mut self, healths: &BTreeMap<NodeId, NodeHealth>) -> Self {
        for node in &mut self.nodes {
            let health = healths.iter().find(|(id, _)| id.as_str() == node.id);
            node.health = health.map(|(_, health)| NodeHealthInfo::of(health));
        }
        self
    }
}

impl NodeInfo {
    fn of(id: &NodeId, record: &NodeRecord) -> Self {
        Self {
            id: id.to_string(),
            incarnation: record.incarnation.get(),
            state: state_name(record.state).into(),
            cordoned: false,
            zone: record.zone.clone(),
            weight: f64::from(record.weight.thousandths()) / 1000.0,
            labels: record.labels.clone(),
            version: record.version.clone(),
            object_types: record.object_types.clone(),
            addresses: Addresses {
                grpc: record.grpc.clone(),
                http: record.http.clone(),
            },
            shards_owned: 0,
            shards_targeted: 0,
            objects: None,
            load: None,
            health: None,
        }
    }
}

impl NodeHealthInfo {
    fn of(health: &NodeHealth) -> Self {
        let last = health.last_failure.as_ref();
        Self {
            healthy: health.healthy,
            latency_seconds: health.latency.map(|latency| latency.as_secs_f64()),
            connections: health.connections,
            consecutive_failures: health.consecutive_failures,
            error_rate: health.error_rate,
            last_error: last.map(|failure| failure.reason.clone()),
            last_error_age_seconds: last.map(|failure| failure.age.as_secs_f64()),
        }
    }
}

impl NodeLoadInfo {
    #[allow(
        clippy::cast_precision_loss,
        reason = "shown to people, who need no 53 bits"
    )]
    fn of(load: &NodeLoad) -> Option<Self> {
        (load.number > 0).then(|| Self {
            window_seconds: load.window.as_secs_f64(),
            cpu: load.cpu_permille() as f64 / 1000.0,
            memory_bytes: load.memory_bytes,
            memory_max_bytes: load.memory_max_bytes,
            calls_per_second: per_second(load.turns, load.window),
            waits: load.waits_permille() as f64 / 1000.0,
            refusals: load.refusals,
        })
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "shown to people, who need no 53 bits"
)]
fn per_second(count: u64, window: Duration) -> f64 {
    if window.is_zero() {
        0.0
    } else {
        count as f64 / window.as_secs_f64()
    }
}

fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Active => "active",
        NodeState::Draining => "draining",
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
            healthy: owner.is_some(),
            objects: None,
            calls_per_second: None,
            cpu: None,
            since: None,
        }
    }

    /// Adds how the shard's owner answers the asked node's probes.
    pub(crate) fn with_health(
        self,
        view: &ClusterView,
        shard: ShardId,
        healths: &BTreeMap<NodeId, NodeHealth>,
    ) -> Self {
        let owner = view.live_owner(shard);
        let health = owner.and_then(|owner| healths.get(&owner.node));
        Self {
            healthy: owner.is_some() && health.is_none_or(|health| health.healthy),
            ..self
        }
    }

    /// Adds what the shard's owner told about it.
    pub(crate) fn with_report(self, shard: ShardId, report: &NodeReport) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;
    use steading::ids::{Incarnation, LeaseId, Revision, ShardCount};
    use steading::node::LastFailure;
    use steading::object::ShardLoad;
    use steading::placement::{ClusterMeta, Leader, News, Owner, OwnerRecord, Target, Weight};

    fn record(incarnation: u64) -> NodeRecord {
        NodeRecord {
            incarnation: Incarnation::new(incarnation),
            lease: LeaseId::new(1),
            grpc: "127.0.0.1:1".into(),
            http: None,
            zone: None,
            weight: Weight::ONE,
            labels: BTreeMap::new(),
            version: "0.1.0".into(),
            object_types: vec!["Counter".into()],
            state: NodeState::Active,
            boot_id: String::new(),
        }
    }

    fn id(name: &str) -> NodeId {
        NodeId::new(name).expect("a good name")
    }

    /// Four shards: 0 owned by its target, 1 moving from a to b, 2 of a dead life, 3 quarantined.
    fn view() -> ClusterView {
        let count = ShardCount::new(4).expect("a power of two");
        let mut view = ClusterView::empty(ClusterMeta {
            cluster_id: "c".into(),
            shard_count: count,
            restore_generation: 0,
            regions: steading::ids::Regions::default(),
        });
        view.apply(News::Node(id("a"), Some(record(1))));
        view.apply(News::Node(id("b"), Some(record(2))));
        let term = steading::ids::Term::new(9);
        view.apply(News::Leader(Some(Leader {
            node: id("b"),
            term,
        })));
        let owners = [("a", 1), ("a", 1), ("a", 0)];
        for (shard, (node, incarnation)) in count.shards().zip(owners) {
            let owner = Owner {
                node: id(node),
                incarnation: Incarnation::new(incarnation),
            };
            let revision = Revision::new(5);
            view.apply(News::Owner(
                shard,
                OwnerRecord {
                    revision,
                    owner: Some(owner),
                    parcel: None,
                },
            ));
        }
        for (block, (node, quarantined)) in
            (0..).zip([("a", false), ("b", false), ("a", false), ("a", true)])
        {
            let target = Target {
                node: Some(id(node)),
                quarantined,
                ..Target::default()
            };
            view.apply(News::Targets {
                block,
                targets: vec![target],
            });
        }
        view
    }

    #[test]
    fn s0_17_the_cluster_counts_owned_unowned_and_moving_shards() {
        let cluster = Cluster::of(&view(), &BTreeMap::from([(id("a"), report())]));
        let totals = ShardTotals {
            total: 4,
            owned: 2,
            unowned: 2,
            moving: 1,
        };
        assert_eq!(cluster.shards, totals);
        assert_eq!(
            (cluster.leader.as_deref(), cluster.term),
            (Some("b"), Some(9))
        );
        let shards = |node: &NodeInfo| (node.shards_owned, node.shards_targeted, node.objects);
        let nodes: Vec<_> = cluster.nodes.iter().map(shards).collect();
        assert_eq!(nodes, [(2, 3, Some(7)), (0, 1, None)]);
    }

    /// Of node a: five seconds of one of two CPUs in ten seconds, and 7 objects, 3 in shard 1.
    fn report() -> NodeReport {
        let shard = ShardId::new(1, view().meta.shard_count).expect("in range");
        let load = ShardLoad {
            turns: 25,
            cpu: Duration::from_millis(2500),
            ..ShardLoad::default()
        };
        NodeReport {
            node: id("a"),
            incarnation: None,
            objects: 7,
            by_shard: BTreeMap::from([(shard, 3)]),
            load: NodeLoad {
                number: 1,
                window: Duration::from_secs(10),
                cpu: Duration::from_secs(5),
                cpus: 2,
                turns: 100,
                ..NodeLoad::default()
            },
            shards: BTreeMap::from([(shard, load)]),
            arrivals: BTreeMap::new(),
            sent: BTreeMap::new(),
            fence_left: Some(Duration::from_secs(3)),
        }
    }

    #[test]
    fn s2_44_nodes_and_shards_show_their_load() {
        let view = view();
        let cluster = Cluster::of(&view, &BTreeMap::from([(id("a"), report())]));
        let load = cluster.nodes[0].load.as_ref().expect("it reported");
        assert_eq!((load.cpu, load.calls_per_second), (0.25, 10.0));
        assert_eq!(cluster.nodes[1].load, None, "it did not answer");
        let shard = ShardId::new(1, view.meta.shard_count).expect("in range");
        let info = ShardInfo::of(&view, shard).with_report(shard, &report());
        assert_eq!(
            (info.objects, info.calls_per_second, info.cpu),
            (Some(3), Some(2.5), Some(0.25))
        );
    }

    #[test]
    fn s0_15_nodes_and_shards_show_how_they_answer() {
        let silent = NodeHealth {
            healthy: false,
            latency: Some(Duration::from_millis(2)),
            connections: 1,
            consecutive_failures: 3,
            error_rate: 0.5,
            last_failure: Some(LastFailure {
                reason: "no answer".into(),
                age: Duration::from_secs(4),
            }),
        };
        let healths = BTreeMap::from([(id("a"), silent)]);
        let cluster = Cluster::of(&view(), &BTreeMap::new()).with_health(&healths);
        let shown = NodeHealthInfo {
            healthy: false,
            latency_seconds: Some(0.002),
            connections: 1,
            consecutive_failures: 3,
            error_rate: 0.5,
            last_error: Some("no answer".into()),
            last_error_age_seconds: Some(4.0),
        };
        let health: Vec<_> = cluster.nodes.into_iter().map(|node| node.health).collect();
        assert_eq!(health, [Some(shown), None]);
        let healthy = |shard| {
            let info = ShardInfo::of(&view(), shard);
            info.with_health(&view(), shard, &healths).healthy
        };
        let count = view().meta.shard_count;
        assert!(!count.shards().any(healthy), "owned by a, or by nobody");
    }

    #[test]
    fn s0_18_a_shard_of_a_dead_life_is_unowned_and_keeps_its_token() {
        let view = view();
        let shard = ShardId::new(2, view.meta.shard_count).expect("in range");
        let info = ShardInfo::of(&view, shard);
        assert_eq!((info.owner, info.token), (None, Some(5)));
        assert_eq!(info.state, ShardState::Unowned);
    }
}
