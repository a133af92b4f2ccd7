//! Why something is where it is, since when, and what comes next.
//!
//! Made of the asked node's view, the record of the plan that placed the shard, and what only the
//! leader knows. If the leader does not answer, the rest is told all the same.

use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use steading::CallError;
use steading::coordination::leader::Insight;
use steading::ids::{NodeId, Place, ShardId};
use steading::placement::ClusterView;
use steading_http::{AtRisk, Problem, shard_named, time};
use utoipa::ToSchema;

use super::calls::{bad_path, key};
use super::cluster::{Cluster, NodeInfo, ShardInfo, ShardState};
use super::handlers::Details;
use super::router::Served;

/// Why a shard is where it is, and what comes next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShardExplanation {
    /// Where it is, and since when.
    pub shard: ShardInfo,
    /// Whether an operator pinned it to its target.
    pub pinned: bool,
    /// What gave it its target; none if that is too long ago to be known.
    pub because: Option<Because>,
    /// What happens next, and who does it.
    pub next: String,
    /// What that waits for.
    pub waits_for: Vec<String>,
    /// For how long it has been on its way, in seconds, as the leader saw it.
    pub under_way_seconds: Option<f64>,
}

/// What gave a shard its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Because {
    /// The plan.
    pub plan: u64,
    /// Why the plan moved this shard, such as `join`.
    pub reason: String,
    /// What set the plan off, in words; none if the plan is kept no more.
    pub trigger: Option<String>,
    /// When (RFC 3339), by the clock of the leader of that time.
    pub at: String,
}

/// Where an object lives, and why there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ObjectExplanation {
    /// Its key.
    pub object: String,
    /// Its shard; none if its ID binds it to a node.
    pub shard: Option<ShardExplanation>,
    /// The node that its ID binds it to.
    pub node: Option<String>,
}

/// What a node is about, and what comes next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeExplanation {
    /// The node.
    pub node: NodeInfo,
    /// Whether it leads.
    pub leads: bool,
    /// Whether an operator said that it should get no more shards.
    pub cordoned: bool,
    /// What happens next.
    pub next: String,
    /// What keeps it from getting shards, if something does.
    pub waits_for: Vec<String>,
}

/// Explains a shard.
#[utoipa::path(
    get, path = "/v1/explain/shard/{shard}", tag = "cluster",
    params(("shard" = u32, Path, description = "Its number")),
    responses(
        (status = 200, body = ShardExplanation),
        (status = 404, description = "The cluster has no such shard", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn shard(
    State(served): State<Served>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ShardExplanation>, Problem> {
    let Path(text) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let shard = shard_named(&text, &served.node.view())?;
    Ok(Json(explained(&served, shard).await))
}

/// Explains where an object lives. It is not activated.
#[utoipa::path(
    get, path = "/v1/explain/object/{type}/{id}", tag = "objects",
    params(
        ("type" = String, Path, description = "The object's registered type name"),
        ("id" = String, Path, description = "The object's ID, percent-encoded"),
    ),
    responses(
        (status = 200, body = ObjectExplanation),
        (status = 400, description = "Code `invalid_id`", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn object(
    State(served): State<Served>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<ObjectExplanation>, Problem> {
    let Path((object_type, id)) = path.map_err(|error| bad_path(&error))?;
    let key = key(object_type, id)?;
    let place = key.place(&served.node.view().meta.layout());
    let place = place.map_err(|error| CallError::InvalidId(error.to_string()))?;
    let (shard, node) = match place {
        Place::Shard(shard) => (Some(explained(&served, shard).await), None),
        Place::Node(node) => (None, Some(node.to_string())),
    };
    let object = key.to_string();
    Ok(Json(ObjectExplanation {
        object,
        shard,
        node,
    }))
}

/// Explains a node.
#[utoipa::path(
    get, path = "/v1/explain/node/{node}", tag = "cluster",
    params(("node" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = NodeExplanation),
        (status = 404, description = "No live node has this name", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn node(
    State(served): State<Served>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<NodeExplanation>, Problem> {
    let Path(name) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let id = NodeId::new(&name).map_err(|error| Problem::bad_request(error.to_string()))?;
    let details = Details::of(&served).await;
    let cluster = Cluster::of(&details.view, &details.heard);
    let cluster = cluster.with_reach(&served.node.unreachable_from());
    let leads = cluster.leader.as_deref() == Some(id.as_str());
    let Some(node) = cluster.nodes.into_iter().find(|node| node.id == name) else {
        return Err(Problem::not_found(format!(
            "no live node is called {id}; its shards are placed elsewhere as soon as its lease ends"
        )));
    };
    let cordoned = details.view.orders.cordoned.contains(&id);
    let insight = served.node.cluster().insight(None).await.ok();
    let excluded = insight.iter().flat_map(|insight| &insight.excluded);
    let mut waits_for: Vec<String> = excluded
        .filter(|excluded| excluded.node == id)
        .map(|excluded| {
            let left = excluded.left.as_secs();
            format!("{left} s more, since {}", excluded.why)
        })
        .collect();
    match served.node.shortfall_of(&id) {
        Some(shortfall) => waits_for.push(shortfall.to_string()),
        None if cordoned => waits_for.push("an operator, who cordoned it".into()),
        None => {}
    }
    if details.view.orders.paused {
        waits_for.push("an operator, who paused balancing".into());
    }
    Ok(Json(NodeExplanation {
        next: next_of_node(&node),
        leads,
        cordoned,
        waits_for,
        node,
    }))
}

async fn explained(served: &Served, shard: ShardId) -> ShardExplanation {
    let cluster = served.node.cluster();
    let (details, insight) = tokio::join!(Details::of(served), cluster.insight(Some(shard)));
    let info = details.info(shard);
    let owner = details.view.live_owner(shard).map(|owner| &owner.node);
    let record = owner.and_then(|owner| Some((owner, details.view.nodes.get(owner)?)));
    let at_risk = record.and_then(|(owner, record)| details.heard.at_risk(owner, record, 1));
    let target = details.view.targets.get(shard);
    let because = match target.cause {
        Some(cause) => {
            let plans = cluster.plans().await.unwrap_or_default();
            let plan = plans.iter().find(|plan| plan.id == cause.plan);
            Some(Because {
                plan: cause.plan.get(),
                reason: cause.reason.as_str().into(),
                trigger: plan.map(|plan| plan.trigger.clone()),
                at: time(UNIX_EPOCH + cause.at),
            })
        }
        None => None,
    };
    let insight = insight.ok();
    let mut waits_for = waits_for(&info, &details.view, insight.as_ref());
    if let Some(ends) = served.node.quarantine_ends(shard) {
        let ends = time(ends);
        waits_for.push(format!(
            "the end of its quarantine at {ends}, or an operator's release"
        ));
    }
    let under_way = insight.as_ref().and_then(|insight| insight.under_way);
    ShardExplanation {
        pinned: target.pinned,
        because,
        next: match at_risk {
            Some(risk) => next_of_unserved(&info, &risk),
            None => next_of_shard(&info, &details.view, insight.as_ref()),
        },
        waits_for,
        under_way_seconds: under_way.map(|age| age.as_secs_f64()),
        shard: info,
    }
}

/// Says what happens next with a shard whose owner is silent or fenced.
fn next_of_unserved(shard: &ShardInfo, risk: &AtRisk) -> String {
    let owner = shard.owner.as_deref().unwrap_or_default();
    let state = shard.owner_state.as_deref().unwrap_or_default();
    let next = &risk.next;
    format!("its owner {owner} is {state}, so calls to its objects may wait or fail: {next}")
}

/// Says what happens next with a shard, and who does it.
fn next_of_shard(shard: &ShardInfo, view: &ClusterView, insight: Option<&Insight>) -> String {
    let leader = view.live_leader().map(|leader| leader.node.as_str());
    let waiting = insight.and_then(|insight| insight.waiting.as_ref());
    match (shard.state, &shard.target, leader) {
        (ShardState::Owned, _, _) => match waiting {
            Some(step) => format!(
                "plan {} moves it to {} ({})",
                step.plan,
                step.to,
                step.reason.as_str()
            ),
            None => "nothing: it is where it should be".into(),
        },
        (ShardState::Moving, Some(target), _) => {
            format!("its owner closes it and hands it over to {target} with its objects' state")
        }
        (ShardState::Unowned, Some(target), _) if is_live(view, target) => {
            format!("{target} claims it")
        }
        (ShardState::Quarantined, _, _) => {
            "nothing: it crashed its last owners. The leader places it again when its quarantine ends, \
             and one node tries it"
                .into()
        }
        (ShardState::Unowned | ShardState::Moving, _, Some(leader)) => {
            format!("the leader {leader} places it on a live node")
        }
        (ShardState::Unowned | ShardState::Moving, _, None) => {
            "a leader is elected, which places it".into()
        }
    }
}

fn waits_for(shard: &ShardInfo, view: &ClusterView, insight: Option<&Insight>) -> Vec<String> {
    let mut waits = Vec::new();
    if let Some(step) = insight.and_then(|insight| insight.waiting.as_ref()) {
        if step.paused {
            waits.push("an operator, who paused balancing".into());
        } else {
            waits.push(format!(
                "its wave: {} moves begin before it, as others end",
                step.before
            ));
        }
    }
    match shard.state {
        ShardState::Owned => {}
        ShardState::Moving => waits.push(
            "the end of its running turns; its owner's metrics and log tell if one is stuck".into(),
        ),
        ShardState::Quarantined => {} // Only the node's settings say how long that lasts.
        ShardState::Unowned if view.live_leader().is_none() => waits.push("an election".into()),
        ShardState::Unowned => {
            let again = insight.and_then(|insight| insight.again_in);
            let again = again.filter(|again| *again > Duration::from_millis(1));
            waits.extend(again.map(|again| format!("the next plan, in {again:.1?}")));
            let is_placed = shard
                .target
                .as_deref()
                .is_some_and(|node| is_live(view, node));
            let advice = insight.map(|insight| insight.advice.as_slice());
            waits.extend(advice.filter(|_| !is_placed).into_iter().flatten().cloned());
        }
    }
    waits
}

fn is_live(view: &ClusterView, node: &str) -> bool {
    view.nodes.keys().any(|id| id.as_str() == node)
}

/// Says what happens next with a node.
fn next_of_node(node: &NodeInfo) -> String {
    if let Some(risk) = &node.at_risk {
        return risk.next.clone();
    }
    let (owned, targeted) = (node.shards_owned, node.shards_targeted);
    match node.state.as_str() {
        "joining" => "it gets shards as soon as it is active".into(),
        "draining" => format!("its {owned} shards move to other nodes, then it leaves"),
        _ if node.weight == 0.0 => "nothing: a gate owns no shards".into(),
        _ if owned == targeted => "nothing: it owns what it should".into(),
        _ => format!("from {owned} shards it goes to {targeted}"),
    }
}
