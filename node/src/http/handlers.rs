//! Showing the cluster, its shards, and where an object lives.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use steading::CallError;
use steading::ids::{Place, ShardId};
use steading::placement::ClusterView;
use steading_http::{Problem, shard_named};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::calls::{bad_path, key};
use super::cluster::{Cluster, Heard, ShardInfo, ShardState};
use super::router::Served;

/// Where an object lives, whether it is active or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Location {
    /// Its shard; none if its ID binds it to a node.
    pub shard: Option<u32>,
    /// The live node that owns it.
    pub owner: Option<String>,
    /// The fencing token of the shard's newest ownership.
    pub token: Option<u64>,
    /// What is going on with the shard; none if the object is bound to a node.
    pub state: Option<ShardState>,
}

/// Shows the cluster as this node sees it.
#[utoipa::path(
    get, path = "/v1/cluster", tag = "cluster",
    responses((status = 200, body = Cluster))
)]
pub(super) async fn cluster(State(served): State<Served>) -> Json<Cluster> {
    let (view, heard) = asked(&served).await;
    Json(Cluster::of(&view, &heard).with_reach(&served.node.unreachable_from()))
}

/// Asks all nodes about themselves, for two seconds at most.
async fn asked(served: &Served) -> (Arc<ClusterView>, Heard) {
    let begun = Instant::now();
    let answers = served.node.reports().await;
    // The view after the answers: whoever went meanwhile is not a node that does not answer.
    let view = served.node.view();
    let (healths, is_followed) = (served.node.health(), served.node.is_followed());
    let times = (begun, Instant::now());
    let heard = Heard::of(&view, answers, healths, is_followed, times);
    (view, heard)
}

/// Lists every shard, in order.
#[utoipa::path(
    get, path = "/v1/shards", tag = "cluster",
    responses((status = 200, body = Vec<ShardInfo>))
)]
pub(super) async fn shards(State(served): State<Served>) -> Json<Vec<ShardInfo>> {
    let details = Details::of(&served).await;
    let shards = details.view.meta.shard_count.shards();
    Json(shards.map(|shard| details.info(shard)).collect())
}

/// Shows one shard.
#[utoipa::path(
    get, path = "/v1/shards/{shard}", tag = "cluster",
    params(("shard" = u32, Path, description = "Its number")),
    responses(
        (status = 200, body = ShardInfo),
        (status = 400, description = "It is no number",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The cluster has no such shard",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn shard(
    State(served): State<Served>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ShardInfo>, Problem> {
    let Path(text) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let shard = shard_named(&text, &served.node.view())?;
    Ok(Json(Details::of(&served).await.info(shard)))
}

/// Tells where an object lives, without activating it.
#[utoipa::path(
    get, path = "/v1/locate/{type}/{id}", tag = "objects",
    params(
        ("type" = String, Path, description = "The object's registered type name"),
        ("id" = String, Path, description = "The object's ID, percent-encoded"),
    ),
    responses(
        (status = 200, body = Location),
        (status = 400, description = "Code `invalid_id`",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn locate(
    State(served): State<Served>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Location>, Problem> {
    let Path((object_type, id)) = path.map_err(|error| bad_path(&error))?;
    let view = served.node.view();
    let place = key(object_type, id)?.place(&view.meta.layout());
    match place.map_err(|error| CallError::InvalidId(error.to_string()))? {
        Place::Shard(shard) => {
            let info = ShardInfo::of(&view, shard);
            Ok(Json(Location {
                shard: Some(info.shard),
                owner: info.owner,
                token: info.token,
                state: Some(info.state),
            }))
        }
        Place::Node(node) => Ok(Json(Location {
            shard: None,
            owner: view.nodes.contains_key(&node).then(|| node.to_string()),
            token: None,
            state: None,
        })),
    }
}

/// A view with what the nodes reported about their objects.
pub(super) struct Details<'a> {
    served: &'a Served,
    pub(super) view: Arc<ClusterView>,
    pub(super) heard: Heard,
}

impl<'a> Details<'a> {
    pub(super) async fn of(served: &'a Served) -> Self {
        let (view, heard) = asked(served).await;
        Self {
            served,
            view,
            heard,
        }
    }

    pub(super) fn info(&self, shard: ShardId) -> ShardInfo {
        let since = self.served.since.of(shard);
        ShardInfo {
            since: since.map(|at| humantime::format_rfc3339_millis(at).to_string()),
            ..ShardInfo::of(&self.view, shard).with(&self.view, shard, &self.heard)
        }
    }
}
