//! What other nodes ask this one on behalf of operators.

use std::sync::Arc;
use std::time::Duration;

use steading_proto::v1::admin_server::Admin;
use steading_proto::v1::{
    self as proto, ListObjectsReply, ListObjectsRequest, ListTypesReply, ListTypesRequest,
    MetricsReply, MetricsRequest, ObjectInfo, ProbeReply, ProbeRequest, ReportRequest,
};
use tonic::{Request, Response, Status};

use super::{NodeLoad, NodeReport, Router};
use crate::ids::{Incarnation, NodeId, ObjectKey, ShardId};
use crate::object::{self, ObjectOrder, ObjectQuery, ShardLoad};
use crate::placement::{Arrival, ReachState};

/// How many objects are listed if the request does not say.
const LIMIT_DEFAULT: usize = 100;

/// The most objects that one request lists.
const LIMIT_MAX: usize = 1000;

/// Serves operators.
#[derive(Debug)]
pub(super) struct AdminService(pub(super) Arc<Router>);

#[tonic::async_trait]
impl Admin for AdminService {
    async fn report(
        &self,
        _: Request<ReportRequest>,
    ) -> Result<Response<proto::NodeReport>, Status> {
        let reports = self.0.inner.reports.get();
        match reports.and_then(|reports| reports.report()) {
            Some(report) => Ok(Response::new(written(&report))),
            None => Err(Status::unavailable("this node is not up")),
        }
    }

    async fn list_objects(
        &self,
        request: Request<ListObjectsRequest>,
    ) -> Result<Response<ListObjectsReply>, Status> {
        let settings = &self.0.inner.settings;
        let query = self.query(request.into_inner())?;
        let objects = settings.host.objects(&query);
        let node = settings.node.as_str();
        let objects = objects.iter().map(|found| info(found, node)).collect();
        Ok(Response::new(ListObjectsReply { objects }))
    }

    async fn metrics(&self, _: Request<MetricsRequest>) -> Result<Response<MetricsReply>, Status> {
        let text = self.0.inner.settings.metrics.encode();
        let text = text.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(MetricsReply { text }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        let node = self.0.inner.settings.node.to_string();
        let reports = self.0.inner.reports.get();
        let reach = reports.map(|reports| reports.reach()).unwrap_or_default();
        let vitals = reports.and_then(|reports| reports.vitals());
        let vitals = vitals.unwrap_or_default();
        Ok(Response::new(ProbeReply {
            node,
            incarnation: vitals.incarnation.map_or(0, Incarnation::get),
            fence_left_ms: vitals.fence_left.map(millis),
            objects: vitals.objects,
            shards_cpus: vitals.shards_cpus,
            reach: reach.iter().map(written_reach).collect(),
        }))
    }

    async fn list_types(
        &self,
        _: Request<ListTypesRequest>,
    ) -> Result<Response<ListTypesReply>, Status> {
        let types = self.0.inner.settings.host.types().into_iter();
        let types = types.map(|(name, methods)| proto::TypeInfo {
            name: name.into(),
            methods: methods.into_iter().map(written_method).collect(),
        });
        Ok(Response::new(ListTypesReply {
            types: types.collect(),
        }))
    }
}

fn written_reach((node, (life, state)): (&NodeId, &(Incarnation, ReachState))) -> proto::Reach {
    use proto::reach::State;
    let state = match state {
        ReachState::Never => State::Never,
        ReachState::Reached => State::Reached,
        ReachState::Lost => State::Lost,
    };
    proto::Reach {
        node: node.to_string(),
        incarnation: life.get(),
        state: state.into(),
    }
}

impl AdminService {
    fn query(&self, request: ListObjectsRequest) -> Result<ObjectQuery, Status> {
        let refuse = |text: String| Status::invalid_argument(text);
        let count = self.0.inner.table.count();
        let shard = request.shard.map(|number| ShardId::new(number, count));
        let after = request.after.map(|key| key.parse::<ObjectKey>());
        Ok(ObjectQuery {
            object_type: request.r#type,
            prefix: request.prefix,
            shard: shard
                .transpose()
                .map_err(|error| refuse(error.to_string()))?,
            limit: match request.limit as usize {
                0 => LIMIT_DEFAULT,
                limit => limit.min(LIMIT_MAX),
            },
            after: after
                .transpose()
                .map_err(|error| refuse(error.to_string()))?,
            order: if request.busiest {
                ObjectOrder::Busiest
            } else {
                ObjectOrder::Key
            },
        })
    }
}

fn written(report: &NodeReport) -> proto::NodeReport {
    let by_shard = report.by_shard.iter();
    let shards = report.shards.iter();
    proto::NodeReport {
        node: report.node.to_string(),
        objects: report.objects,
        objects_by_shard: by_shard
            .map(|(shard, count)| (shard.get(), *count))
            .collect(),
        incarnation: report.incarnation.map_or(0, Incarnation::get),
        load: Some(written_load(&report.load)),
        shards: shards
            .map(|(shard, load)| written_shard(*shard, load))
            .collect(),
        arrivals: report
            .arrivals
            .iter()
            .map(|(shard, arrival)| written_arrival(*shard, arrival))
            .collect(),
        sent: report
            .sent
            .iter()
            .map(|(node, calls)| proto::PeerCalls {
                node: node.to_string(),
                calls: *calls,
            })
            .collect(),
        fence_left_ms: report.fence_left.map(millis),
    }
}

fn written_method(method: object::MethodFacts) -> proto::MethodInfo {
    proto::MethodInfo {
        name: method.name.into(),
        arguments: method.arguments.iter().map(ToString::to_string).collect(),
        read_only: method.access == object::Access::Shared,
        timed: method.times.timed,
        timed_ns: nanos(method.times.total),
        longest_ns: nanos(method.times.longest),
    }
}

fn written_load(load: &NodeLoad) -> proto::NodeLoad {
    proto::NodeLoad {
        number: load.number,
        window_ns: nanos(load.window),
        age_ns: nanos(load.age),
        cpu_ns: nanos(load.cpu),
        cpus: load.cpus,
        memory_bytes: load.memory_bytes,
        memory_max_bytes: load.memory_max_bytes,
        turns: load.turns,
        waits: load.waits,
        refusals: load.refusals,
    }
}

fn written_shard(shard: ShardId, load: &ShardLoad) -> proto::ShardLoad {
    proto::ShardLoad {
        shard: shard.get(),
        turns: load.turns,
        cpu_ns: nanos(load.cpu),
        objects: load.objects,
        state_bytes: load.state_bytes,
    }
}

fn written_arrival(shard: ShardId, arrival: &Arrival) -> proto::Arrival {
    proto::Arrival {
        shard: shard.get(),
        revision: arrival.revision.get(),
        sent: arrival.sent,
        taken: arrival.taken,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn info(found: &object::ObjectInfo, node: &str) -> ObjectInfo {
    ObjectInfo {
        r#type: found.key.object_type().into(),
        id: found.key.id().into(),
        shard: found.shard.map(ShardId::get),
        node: node.into(),
        waiting: u32::try_from(found.waiting).unwrap_or(u32::MAX),
        idle_ms: millis(found.idle),
        method: found.method.clone(),
        state_bytes: found.state_bytes,
        turns: found.turns,
        timed: found.timed.map(|timed| proto::TimedTurns {
            per_second: timed.per_second,
            took_ns: nanos(timed.took),
            ago_ms: millis(timed.ago),
        }),
    }
}
