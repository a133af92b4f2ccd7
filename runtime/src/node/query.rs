//! What a node can tell about all nodes: it asks them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use hyper_util::rt::TokioIo;
use steading_proto::v1::admin_client::AdminClient;
use steading_proto::v1::objects_client::ObjectsClient;
use steading_proto::v1::{
    self as proto, CallRequest, ListObjectsRequest, ListTypesRequest, MetricsRequest, ProbeRequest,
    ReportRequest,
};
use tonic::transport::{Channel, Endpoint};

use super::Node;
use crate::ids::{Incarnation, InvalidNodeId, NodeId, ObjectKey, Revision, ShardCount, ShardId};
use crate::object::{MethodTimes, ObjectInfo, ObjectOrder, ObjectQuery, ShardLoad, TimedTurns};
use crate::placement::{Arrival, ReachState, ReachStates};
use crate::routing::network::Network;
use crate::routing::{NodeLoad, NodeReport, Vitals, why};

/// How long another node may take to answer a question about itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The most nodes of which another one may tell whether it reaches them.
const REACH_MAX: usize = 10_000;

/// Why a node does not tell what it hosts.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// There is no live node of this name.
    #[error("there is no live node {0}")]
    NoSuchNode(NodeId),
    /// It does not answer, or not in time.
    #[error("{address} does not answer: {reason}")]
    NoAnswer {
        /// Where it was asked.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// The call that it was to make failed.
    #[error("the call failed: {0}")]
    CallFailed(String),
    /// It answered something that this version does not understand.
    #[error("{address} answers nonsense: {reason}")]
    Nonsense {
        /// Where it was asked.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl Node {
    /// Asks every live node what it hosts, all at once; each has two seconds to answer. Dropping the
    /// future changes nothing, as for all questions here.
    pub async fn reports(&self) -> BTreeMap<NodeId, Result<NodeReport, QueryError>> {
        let view = self.view();
        let asked = view
            .nodes
            .keys()
            .map(async |node| (node.clone(), self.report(node).await));
        join_all(asked).await.into_iter().collect()
    }

    /// Asks one node what it hosts.
    ///
    /// # Errors
    ///
    /// [`QueryError`] if it is not there or does not answer within two seconds.
    pub async fn report(&self, node: &NodeId) -> Result<NodeReport, QueryError> {
        if node == self.id() {
            return Ok(self.shared.report());
        }
        let count = self.shared.host.layout().count();
        self.admin(node)?.report(count).await
    }

    /// Lists live objects of all nodes, or of one, in order of type and ID, with the node that
    /// hosts each. Nodes that do not answer within two seconds are left out of a list of all.
    ///
    /// # Errors
    ///
    /// [`QueryError`] if the one node is not there or does not answer.
    pub async fn objects(
        &self,
        query: &ObjectQuery,
        node: Option<&NodeId>,
    ) -> Result<Vec<(NodeId, ObjectInfo)>, QueryError> {
        if let Some(node) = node {
            return self.objects_of(node, query).await;
        }
        let view = self.view();
        let asked = view.nodes.keys().map(|node| self.objects_of(node, query));
        let answers = join_all(asked).await;
        let mut objects: Vec<_> = answers.into_iter().flatten().flatten().collect();
        objects.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
        objects.truncate(query.limit);
        Ok(objects)
    }

    async fn objects_of(
        &self,
        node: &NodeId,
        query: &ObjectQuery,
    ) -> Result<Vec<(NodeId, ObjectInfo)>, QueryError> {
        let objects = if node == self.id() {
            self.shared.host.objects(query)
        } else {
            let count = self.shared.host.layout().count();
            self.admin(node)?.objects(query, count).await?
        };
        Ok(objects
            .into_iter()
            .map(|object| (node.clone(), object))
            .collect())
    }

    fn admin(&self, node: &NodeId) -> Result<PeerAdmin, QueryError> {
        let view = self.view();
        let record = view
            .nodes
            .get(node)
            .ok_or_else(|| QueryError::NoSuchNode(node.clone()))?;
        Ok(PeerAdmin::new(
            self.shared.network.clone(),
            record.grpc.clone(),
        ))
    }
}

/// A type that a node hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// Its registered name.
    pub name: String,
    /// Its methods, by name.
    pub methods: Vec<MethodInfo>,
}

/// A method of a type that a node hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodInfo {
    /// Its name.
    pub name: String,
    /// The names of its arguments, in order.
    pub arguments: Vec<String>,
    /// Whether it leaves the state as it is.
    pub read_only: bool,
    /// What its turns took that this node timed.
    pub times: MethodTimes,
}

/// Who answered a probe, and what it said of itself.
pub(super) struct Probed {
    pub(super) node: NodeId,
    pub(super) vitals: Vitals,
    /// How it reaches others.
    pub(super) reach: ReachStates,
}

/// Another node's admin service.
pub(super) struct PeerAdmin {
    client: AdminClient<Channel>,
    channel: Channel,
    address: String,
}

/// Returns a channel to the node at `address`, which connects when it is used and again when it
/// broke.
pub(super) fn channel_to(network: Arc<dyn Network>, address: &str) -> Channel {
    let target = address.to_owned();
    let connector = tower::service_fn(move |_| {
        let (network, target) = (network.clone(), target.clone());
        async move { network.connect(&target).await.map(TokioIo::new) }
    });
    // The connector alone decides where to; the address here is only the `:authority`.
    let endpoint = Endpoint::from_static("http://peer")
        .connect_timeout(ANSWER_TIMEOUT)
        .timeout(ANSWER_TIMEOUT);
    endpoint.connect_with_connector_lazy(connector)
}

impl PeerAdmin {
    /// Connects for one question: nodes ask each other rarely.
    pub(super) fn new(network: Arc<dyn Network>, address: String) -> Self {
        Self::over(channel_to(network, &address), address)
    }

    /// Asks over a channel that is kept.
    pub(super) fn over(channel: Channel, address: String) -> Self {
        Self {
            client: AdminClient::new(channel.clone()),
            channel,
            address,
        }
    }

    /// Asks what the node hosts. What it says about shards that the cluster does not have is left
    /// out: tables of shards are indexed by what is returned here.
    pub(super) async fn report(mut self, count: ShardCount) -> Result<NodeReport, QueryError> {
        let answer = self.client.report(ReportRequest {}).await;
        let report = answer
            .map_err(|status| self.no_answer(&status))?
            .into_inner();
        let node = NodeId::new(&report.node)
            .map_err(|error: InvalidNodeId| self.nonsense(error.to_string()))?;
        let by_shard = report.objects_by_shard.into_iter();
        let by_shard = by_shard
            .filter_map(|(shard, objects)| Some((ShardId::new(shard, count).ok()?, objects)));
        let shards = report.shards.into_iter();
        let arrivals = report.arrivals.iter();
        let incarnation = (report.incarnation != 0).then_some(report.incarnation);
        Ok(NodeReport {
            node,
            incarnation: incarnation.map(Incarnation::new),
            objects: report.objects,
            by_shard: by_shard.collect(),
            load: report.load.map(read_load).unwrap_or_default(),
            shards: shards.filter_map(|load| read_shard(load, count)).collect(),
            arrivals: arrivals
                .filter_map(|arrival| read_arrival(arrival, count))
                .collect(),
            sent: report.sent.iter().filter_map(read_sent).collect(),
            fence_left: report.fence_left_ms.map(Duration::from_millis),
        })
    }

    pub(super) async fn metrics(mut self) -> Result<String, QueryError> {
        let answer = self.client.metrics(MetricsRequest {}).await;
        let reply = answer.map_err(|status| self.no_answer(&status))?;
        Ok(reply.into_inner().text)
    }

    /// Asks who answers there, and how it is.
    pub(super) async fn probe(mut self) -> Result<Probed, QueryError> {
        let answer = self.client.probe(ProbeRequest {}).await;
        let reply = answer
            .map_err(|status| self.no_answer(&status))?
            .into_inner();
        let node = NodeId::new(&reply.node).map_err(|error| self.nonsense(error.to_string()))?;
        let incarnation = (reply.incarnation != 0).then_some(reply.incarnation);
        Ok(Probed {
            node,
            vitals: Vitals {
                incarnation: incarnation.map(Incarnation::new),
                fence_left: reply.fence_left_ms.map(Duration::from_millis),
                objects: reply.objects,
                shards_cpus: reply.shards_cpus.filter(|cpus| cpus.is_finite()),
            },
            reach: reply
                .reach
                .iter()
                .take(REACH_MAX)
                .filter_map(read_reach)
                .collect(),
        })
    }

    pub(super) async fn types(mut self) -> Result<Vec<TypeInfo>, QueryError> {
        let answer = self.client.list_types(ListTypesRequest {}).await;
        let reply = answer.map_err(|status| self.no_answer(&status))?;
        let types = reply.into_inner().types.into_iter();
        Ok(types.map(read_type).collect())
    }

    pub(super) async fn call(
        self,
        key: &ObjectKey,
        method: &str,
        json: Bytes,
    ) -> Result<Bytes, QueryError> {
        let request = CallRequest {
            r#type: key.object_type().into(),
            id: key.id().into(),
            method: method.into(),
            json,
        };
        let answer = ObjectsClient::new(self.channel.clone()).call(request).await;
        let reply = answer.map_err(|status| QueryError::CallFailed(why(&status)))?;
        Ok(reply.into_inner().json)
    }

    pub(super) async fn objects(
        mut self,
        query: &ObjectQuery,
        count: ShardCount,
    ) -> Result<Vec<ObjectInfo>, QueryError> {
        let request = ListObjectsRequest {
            r#type: query.object_type.clone(),
            shard: query.shard.map(ShardId::get),
            limit: u32::try_from(query.limit).unwrap_or(u32::MAX),
            after: query.after.as_ref().map(ToString::to_string),
            prefix: query.prefix.clone(),
            busiest: query.order == ObjectOrder::Busiest,
        };
        let answer = self.client.list_objects(request).await;
        let reply = answer
            .map_err(|status| self.no_answer(&status))?
            .into_inner();
        let read = |object: steading_proto::v1::ObjectInfo| {
            let key = crate::ids::ObjectKey::new(object.r#type, object.id)
                .map_err(|error| self.nonsense(error.to_string()))?;
            Ok(ObjectInfo {
                key,
                shard: object
                    .shard
                    .and_then(|shard| ShardId::new(shard, count).ok()),
                waiting: object.waiting as usize,
                idle: Duration::from_millis(object.idle_ms),
                method: object.method,
                state_bytes: object.state_bytes,
                turns: object.turns,
                timed: object.timed.map(read_timed),
            })
        };
        reply.objects.into_iter().map(read).collect()
    }

    fn no_answer(&self, status: &tonic::Status) -> QueryError {
        QueryError::NoAnswer {
            address: self.address.clone(),
            reason: why(status),
        }
    }

    fn nonsense(&self, reason: String) -> QueryError {
        QueryError::Nonsense {
            address: self.address.clone(),
            reason,
        }
    }
}

fn read_reach(told: &proto::Reach) -> Option<(NodeId, (Incarnation, ReachState))> {
    use proto::reach::State;
    let state = match State::try_from(told.state).ok()? {
        State::Never => ReachState::Never,
        State::Reached => ReachState::Reached,
        State::Lost => ReachState::Lost,
    };
    let life = Incarnation::new(told.incarnation);
    Some((NodeId::new(&told.node).ok()?, (life, state)))
}

fn read_sent(sent: &proto::PeerCalls) -> Option<(NodeId, u64)> {
    Some((NodeId::new(&sent.node).ok()?, sent.calls))
}

fn read_timed(timed: proto::TimedTurns) -> TimedTurns {
    TimedTurns {
        per_second: timed.per_second,
        took: Duration::from_nanos(timed.took_ns),
        ago: Duration::from_millis(timed.ago_ms),
    }
}

fn read_type(hosted: proto::TypeInfo) -> TypeInfo {
    let methods = hosted.methods.into_iter().map(|method| MethodInfo {
        name: method.name,
        arguments: method.arguments,
        read_only: method.read_only,
        times: MethodTimes {
            timed: method.timed,
            total: Duration::from_nanos(method.timed_ns),
            longest: Duration::from_nanos(method.longest_ns),
        },
    });
    TypeInfo {
        name: hosted.name,
        methods: methods.collect(),
    }
}

fn read_load(load: proto::NodeLoad) -> NodeLoad {
    NodeLoad {
        number: load.number,
        window: Duration::from_nanos(load.window_ns),
        age: Duration::from_nanos(load.age_ns),
        cpu: Duration::from_nanos(load.cpu_ns),
        cpus: load.cpus,
        memory_bytes: load.memory_bytes,
        memory_max_bytes: load.memory_max_bytes,
        turns: load.turns,
        waits: load.waits,
        refusals: load.refusals,
    }
}

fn read_arrival(arrival: &proto::Arrival, count: ShardCount) -> Option<(ShardId, Arrival)> {
    let read = Arrival {
        revision: Revision::new(arrival.revision),
        sent: arrival.sent,
        taken: arrival.taken,
    };
    Some((ShardId::new(arrival.shard, count).ok()?, read))
}

fn read_shard(load: proto::ShardLoad, count: ShardCount) -> Option<(ShardId, ShardLoad)> {
    let read = ShardLoad {
        turns: load.turns,
        cpu: Duration::from_nanos(load.cpu_ns),
        objects: load.objects,
        state_bytes: load.state_bytes,
    };
    Some((ShardId::new(load.shard, count).ok()?, read))
}
