//! A node as HTTP shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use steading::ids::NodeId;
use steading::node::{NodeHealth, NodeLoad};
use steading::placement::{NodeRecord, NodeState};
use steading_http::AtRisk;
use utoipa::ToSchema;

use super::per_second;

/// A live node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// Its stable name.
    pub id: String,
    /// This life of it.
    pub incarnation: u64,
    /// `joining`, `active`, `draining`; or `fenced`: it answers, but serves nothing until etcd
    /// acknowledges a keep-alive; or `silent`: it is registered, but does not answer.
    pub state: String,
    /// What it registered: `joining`, `active` or `draining`.
    pub registered_state: String,
    /// What is at risk while it is silent or fenced; else none.
    pub at_risk: Option<AtRisk>,
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
    /// Its live objects; none if it does not answer.
    pub objects: Option<u64>,
    /// How busy it is; none if it does not answer or has run for less than a window.
    pub load: Option<NodeLoadInfo>,
    /// How it answers the asked node's probes; none for the asked node itself, and for one that it
    /// has not probed yet.
    pub health: Option<NodeHealthInfo>,
    /// The live nodes that do not reach it at its gRPC address, by what nodes told the asked one.
    /// While most do not, it gets no shards.
    #[serde(default)]
    pub unreachable_from: Vec<String>,
}

/// Where a node is reached, as `host:port`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Addresses {
    /// Its gRPC server.
    pub grpc: String,
    /// Its HTTP server, if it has one.
    pub http: Option<String>,
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

/// How a node answers the asked node's probes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeHealthInfo {
    /// Whether it answers now, and has left fewer probes in a row unanswered than `health_failures`
    /// says. Its lease alone decides what it owns.
    pub healthy: bool,
    /// The mean round trip of probes, of which newer ones count more; none until one is answered,
    /// and while the node does not answer.
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

impl NodeInfo {
    pub(super) fn of(id: &NodeId, record: &NodeRecord) -> Self {
        Self {
            id: id.to_string(),
            incarnation: record.incarnation.get(),
            state: state_name(record.state).into(),
            registered_state: state_name(record.state).into(),
            at_risk: None,
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
            unreachable_from: Vec::new(),
        }
    }
}

impl NodeLoadInfo {
    #[allow(
        clippy::cast_precision_loss,
        reason = "shown to people, who need no 53 bits"
    )]
    pub(super) fn of(load: &NodeLoad) -> Option<Self> {
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

impl NodeHealthInfo {
    /// Shows what probes found, and what the last question found: whether the node `answers`.
    pub(super) fn of(health: &NodeHealth, answers: bool) -> Self {
        let last = health.last_failure.as_ref();
        let latency = health.latency.filter(|_| answers);
        Self {
            healthy: health.healthy && answers,
            latency_seconds: latency.map(|latency| latency.as_secs_f64()),
            connections: health.connections,
            consecutive_failures: health.consecutive_failures,
            error_rate: health.error_rate,
            last_error: last.map(|failure| failure.reason.clone()),
            last_error_age_seconds: last.map(|failure| failure.age.as_secs_f64()),
        }
    }
}

fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Active => "active",
        NodeState::Draining => "draining",
    }
}
