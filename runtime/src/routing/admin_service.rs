//! What other nodes ask this one on behalf of operators.

use std::sync::Arc;

use steading_proto::v1::admin_server::Admin;
use steading_proto::v1::{
    ListObjectsReply, ListObjectsRequest, NodeReport, ObjectInfo, ReportRequest,
};
use tonic::{Request, Response, Status};

use super::Router;
use crate::ids::{ObjectKey, ShardId};
use crate::object::{self, ObjectQuery};

/// How many objects are listed if the request does not say.
const LIMIT_DEFAULT: usize = 100;

/// The most objects that one request lists.
const LIMIT_MAX: usize = 1000;

/// Serves operators.
#[derive(Debug)]
pub(super) struct AdminService(pub(super) Arc<Router>);

#[tonic::async_trait]
impl Admin for AdminService {
    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<NodeReport>, Status> {
        let settings = &self.0.inner.settings;
        let counts = settings.host.counts().into_iter();
        let by_shard = counts
            .map(|(shard, count)| (shard.get(), count as u64))
            .collect();
        Ok(Response::new(NodeReport {
            node: settings.node.to_string(),
            objects: settings.host.len() as u64,
            objects_by_shard: by_shard,
        }))
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
}

impl AdminService {
    fn query(&self, request: ListObjectsRequest) -> Result<ObjectQuery, Status> {
        let refuse = |text: String| Status::invalid_argument(text);
        let count = self.0.inner.table.count();
        let shard = request.shard.map(|number| ShardId::new(number, count));
        let after = request.after.map(|key| key.parse::<ObjectKey>());
        Ok(ObjectQuery {
            object_type: request.r#type,
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
        })
    }
}

fn info(found: &object::ObjectInfo, node: &str) -> ObjectInfo {
    ObjectInfo {
        r#type: found.key.object_type().into(),
        id: found.key.id().into(),
        shard: found.shard.map(ShardId::get),
        node: node.into(),
        waiting: u32::try_from(found.waiting).unwrap_or(u32::MAX),
        idle_ms: u64::try_from(found.idle.as_millis()).unwrap_or(u64::MAX),
    }
}
