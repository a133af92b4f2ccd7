//! The whole cluster as the page begins with it, and the changes that follow.

use std::collections::BTreeMap;

use serde::Serialize;
use steading::ids::NodeId;
use steading::placement::{ClusterView, NodeRecord};
use utoipa::ToSchema;

use crate::rows::{Changed, Row, changed, state_name};

/// What is true of the cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ClusterInfo {
    /// A random name, given when the cluster was created.
    pub id: String,
    /// How many shards there are; fixed when the cluster was created.
    pub shard_count: u32,
    /// The node that plans; none while one is elected.
    pub leader: Option<String>,
    /// The leader's term; a later leader has a greater one.
    pub term: Option<u64>,
    /// Whether an operator paused balancing.
    pub paused: bool,
}

/// A live node, as it registered itself.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct NodeInfo {
    /// Its stable name.
    pub id: String,
    /// This life of it.
    pub incarnation: u64,
    /// `joining`, `active` or `draining`.
    pub state: &'static str,
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
    /// `host:port` of its gRPC server.
    pub grpc: String,
    /// `host:port` of its HTTP server, if it has one.
    pub http: Option<String>,
    /// The object types it can host.
    pub object_types: Vec<String>,
}

/// The whole cluster. Shards are columns, in order of the shards; nodes in them are places in
/// `names`, -1 is none.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Snapshot {
    /// The store's revision up to which everything is in it.
    revision: u64,
    /// Milliseconds since 1970.
    at: u64,
    /// What is true of all.
    cluster: ClusterInfo,
    /// The live nodes.
    nodes: Vec<NodeInfo>,
    /// The names that the columns mean.
    names: Vec<String>,
    /// Who owns each shard.
    owners: Vec<i32>,
    /// Who should.
    targets: Vec<i32>,
    /// 1 pinned, 2 quarantined, or their sum.
    flags: Vec<u8>,
    /// The moments that the next column means, in milliseconds since 1970.
    moments: Vec<u64>,
    /// When each shard's target was set, as a place in `moments`; -1: not known.
    moved_at: Vec<i32>,
}

/// What changed; parts that did not are left out.
#[derive(Debug, Serialize)]
pub(crate) struct Delta<'a> {
    revision: u64,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<NodeInfo>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shards: Vec<Changed<'a>>,
}

impl ClusterInfo {
    /// Reads it off a view.
    pub(crate) fn of(view: &ClusterView) -> Self {
        Self {
            id: view.meta.cluster_id.clone(),
            shard_count: view.meta.shard_count.get(),
            leader: view.live_leader().map(|leader| leader.node.to_string()),
            term: view.live_leader().map(|leader| leader.term.get()),
            paused: view.orders.paused,
        }
    }
}

impl NodeInfo {
    /// Reads the nodes off a view, in order of their names.
    pub(crate) fn all(view: &ClusterView) -> Vec<Self> {
        let nodes = view.nodes.iter();
        nodes
            .map(|(id, record)| Self::of(view, id, record))
            .collect()
    }

    fn of(view: &ClusterView, id: &NodeId, record: &NodeRecord) -> Self {
        Self {
            id: id.to_string(),
            incarnation: record.incarnation.get(),
            state: state_name(record.state),
            cordoned: view.orders.cordoned.contains(id),
            zone: record.zone.clone(),
            weight: f64::from(record.weight.thousandths()) / 1000.0,
            labels: record.labels.clone(),
            version: record.version.clone(),
            grpc: record.grpc.clone(),
            http: record.http.clone(),
            object_types: record.object_types.clone(),
        }
    }
}

impl Snapshot {
    /// Writes a view down as of `at`, in milliseconds since 1970.
    pub(crate) fn of(view: &ClusterView, at: u64) -> Self {
        let mut places: BTreeMap<&NodeId, i32> = BTreeMap::new();
        let mut names = Vec::new();
        let (mut moments, mut known) = (Vec::new(), BTreeMap::new());
        let mut moment = |at| match at {
            0 => -1,
            at => *known.entry(at).or_insert_with(|| {
                moments.push(at);
                last_place(&moments)
            }),
        };
        let mut place = |node| match node {
            None => -1,
            Some(node) => *places.entry(node).or_insert_with(|| {
                names.push(node.to_string());
                last_place(&names)
            }),
        };
        let count = view.meta.shard_count;
        let (mut owners, mut targets) = (Vec::new(), Vec::new());
        let (mut flags, mut moved_at) = (Vec::new(), Vec::new());
        for shard in count.shards() {
            let row = Row::of(view, shard);
            owners.push(place(row.owner));
            targets.push(place(row.target));
            flags.push(row.flags);
            moved_at.push(moment(row.moved_at));
        }
        Self {
            revision: view.revision.get(),
            at,
            cluster: ClusterInfo::of(view),
            nodes: NodeInfo::all(view),
            names,
            owners,
            targets,
            flags,
            moments,
            moved_at,
        }
    }
}

fn last_place<T>(list: &[T]) -> i32 {
    i32::try_from(list.len()).unwrap_or(i32::MAX) - 1
}

impl<'a> Delta<'a> {
    /// Returns what changed between two views of one cluster; `None`: nothing that is shown.
    pub(crate) fn between(before: &ClusterView, now: &'a ClusterView, at: u64) -> Option<Self> {
        let cluster = ClusterInfo::of(now);
        let cluster = (cluster != ClusterInfo::of(before)).then_some(cluster);
        let nodes_changed = before.nodes != now.nodes || before.orders != now.orders;
        let nodes = nodes_changed.then(|| NodeInfo::all(now));
        let shards = changed(before, now);
        let something = cluster.is_some() || nodes.is_some() || !shards.is_empty();
        something.then_some(Self {
            revision: now.revision.get(),
            at,
            cluster,
            nodes,
            shards,
        })
    }
}

#[cfg(test)]
mod tests;
