//! Listing the live objects of the cluster.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use steading::CallError;
use steading::ids::{NodeId, ObjectKey, ShardId};
use steading::object::{ObjectInfo, ObjectOrder, ObjectQuery};
use steading_http::{Problem, shard_named};
use utoipa::{IntoParams, ToSchema};

use super::router::Served;

/// How many objects are listed if the request does not say.
const LIMIT_DEFAULT: usize = 100;

/// The most objects that one answer lists.
const LIMIT_MAX: usize = 1000;

/// Live objects, in order of type and ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Objects {
    /// The objects.
    pub objects: Vec<ObjectItem>,
    /// What to give as `after` to see more; none if this is all.
    pub next: Option<String>,
    /// Nodes that did not answer in time, whose objects are therefore missing.
    pub silent: Vec<String>,
}

/// A live object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectItem {
    /// Its type.
    #[serde(rename = "type")]
    pub object_type: String,
    /// Its ID.
    pub id: String,
    /// Its shard; none if it is bound to its node.
    pub shard: Option<u32>,
    /// The node it lives on.
    pub node: String,
    /// Calls that wait for their turn.
    pub waiting: usize,
    /// Milliseconds since its last turn ended; 0 while one runs.
    pub idle_ms: u64,
}

/// Which objects to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only objects of this type.
    #[serde(rename = "type")]
    object_type: Option<String>,
    /// Only objects of this shard.
    shard: Option<String>,
    /// Only objects on this node.
    node: Option<String>,
    /// At most this many, 1 to 1000; 100 if absent.
    limit: Option<usize>,
    /// Only objects after this one, written `Type/id`, in order of type and ID.
    after: Option<String>,
}

/// Lists live objects of the whole cluster, in order of type and ID.
#[utoipa::path(
    get, path = "/v1/objects", tag = "objects",
    params(Wanted),
    responses(
        (status = 200, body = Objects),
        (status = 400, description = "A part of the query is malformed",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such shard or node",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(served): State<Served>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Objects>, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::bad_request(error.body_text()))?;
    let (query, node) = wanted.check(&served)?;
    let view = served.node.view();
    let asked: Vec<_> = match &node {
        Some(node) => vec![node],
        None => view.nodes.keys().collect(),
    };
    let answers = asked.into_iter().map(async |node| {
        let objects = served.node.objects(&query, Some(node)).await;
        objects.map_err(|_| node.to_string())
    });
    Ok(Json(merged(join_all(answers).await, query.limit)))
}

/// Puts the answers of several nodes together, and names the nodes without one.
fn merged(answers: Vec<Result<Vec<(NodeId, ObjectInfo)>, String>>, limit: usize) -> Objects {
    let (mut objects, mut silent) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(some) => objects.extend(some),
            Err(node) => silent.push(node),
        }
    }
    objects.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
    objects.truncate(limit);
    // A node with just as many may have more.
    let full = objects.len() == limit;
    let next = objects
        .last()
        .filter(|_| full)
        .map(|(_, object)| object.key.to_string());
    let objects = objects
        .into_iter()
        .map(|(node, object)| item(&node, &object))
        .collect();
    Objects {
        objects,
        next,
        silent,
    }
}

fn item(node: &NodeId, object: &ObjectInfo) -> ObjectItem {
    ObjectItem {
        object_type: object.key.object_type().into(),
        id: object.key.id().into(),
        shard: object.shard.map(ShardId::get),
        node: node.to_string(),
        waiting: object.waiting,
        idle_ms: u64::try_from(object.idle.as_millis()).unwrap_or(u64::MAX),
    }
}

impl Wanted {
    fn check(self, served: &Served) -> Result<(ObjectQuery, Option<NodeId>), Problem> {
        let view = served.node.view();
        let shard = self
            .shard
            .map(|text| shard_named(&text, &view))
            .transpose()?;
        let node = self.node.map(|text| text.parse::<NodeId>()).transpose();
        let node = node.map_err(|error| Problem::bad_request(error.to_string()))?;
        if let Some(node) = &node
            && !view.nodes.contains_key(node)
        {
            return Err(Problem::not_found(format!("no live node is called {node}")));
        }
        let after = self.after.map(|text| text.parse::<ObjectKey>()).transpose();
        let after = after.map_err(|error| CallError::InvalidId(error.to_string()))?;
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            let detail = format!("`limit` must be from 1 to {LIMIT_MAX}");
            return Err(Problem::bad_request(detail));
        }
        let object_type = self.object_type;
        Ok((
            ObjectQuery {
                object_type,
                shard,
                limit,
                after,
                prefix: None,
                order: ObjectOrder::Key,
            },
            node,
        ))
    }
}
