//! Shards: their list, the story of one, a number for each, and what they went through.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use steading::coordination::leader::Insight;
use steading::ids::{NodeId, ShardId};
use steading::object::ShardLoad;
use steading::placement::ClusterView;
use steading_http::{MoveInfo, Problem, shard_named};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::board::Board;
use crate::history::{Event, OwnerChange};
use crate::rows::{PINNED, Row};

/// Most moves of plans that a story repeats.
const MOVES_TOLD_MAX: usize = 50;

/// A shard in the list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShardInfo {
    /// Its number.
    shard: u32,
    /// The live node that owns it.
    owner: Option<String>,
    /// The node that should.
    target: Option<String>,
    /// `owned`, `moving`, `unowned` or `quarantined`.
    state: &'static str,
    /// Whether an operator fixed it to its target.
    pinned: bool,
    /// The fencing token of its newest ownership.
    token: Option<u64>,
}

impl ShardInfo {
    fn of(view: &ClusterView, shard: ShardId) -> Self {
        let row = Row::of(view, shard);
        let known = view.owners.get(shard).revision.get() > 0;
        Self {
            shard: shard.get(),
            owner: row.owner.map(NodeId::to_string),
            target: row.target.map(NodeId::to_string),
            state: row.state(),
            pinned: row.flags & PINNED != 0,
            token: known.then(|| view.token(shard).get()),
        }
    }
}

/// Every shard: owner, target, state.
#[utoipa::path(
    get, path = "/api/shards", tag = "shards", responses((status = 200, body = Vec<ShardInfo>))
)]
pub(super) async fn list(State(board): State<Arc<Board>>) -> Answer<Vec<ShardInfo>> {
    let view = board.view()?;
    let shards = view.meta.shard_count.shards();
    Ok(Json(
        shards.map(|shard| ShardInfo::of(&view, shard)).collect(),
    ))
}

/// Everything about one shard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Story {
    #[serde(flatten)]
    shard: ShardInfo,
    /// What gave it its target.
    because: Option<Because>,
    /// What happens next, and who does it.
    next: String,
    /// What that waits for.
    waits_for: Vec<String>,
    /// For how long it has been on its way, as the leader saw it.
    under_way_seconds: Option<f64>,
    /// Its live objects; none if its owner did not answer.
    objects: Option<u64>,
    /// Turns per second in its owner's last window of load.
    calls_per_second: Option<f64>,
    /// How many CPUs its turns kept busy in that window.
    cpu: Option<f64>,
    /// Bytes of its objects' state, as estimated.
    state_bytes: Option<u64>,
    /// The changes of its owner that the Inspector saw, newest first.
    owners: Vec<OwnerChange>,
    /// Its moves in the plans that are kept, newest first.
    moves: Vec<PlanMove>,
}

/// What gave a shard its target.
#[derive(Debug, Serialize, ToSchema)]
struct Because {
    /// The plan.
    plan: u64,
    /// Why the plan moved this shard.
    reason: &'static str,
    /// What set the plan off; none if the plan is kept no more.
    trigger: Option<String>,
    /// When, in milliseconds since 1970.
    at: u64,
}

/// A move of the shard in one plan.
#[derive(Debug, Serialize, ToSchema)]
struct PlanMove {
    /// The plan.
    plan: u64,
    /// What set it off.
    trigger: String,
    #[serde(flatten)]
    step: MoveInfo,
}

/// A shard's story: why here, why now, what next.
#[utoipa::path(
    get, path = "/api/shards/{shard}", tag = "shards", responses((status = 200, body = Story))
)]
pub(super) async fn story(
    State(board): State<Arc<Board>>,
    Path(text): Path<String>,
) -> Answer<Story> {
    let observer = board.observer()?;
    board.freshen().await;
    let view = observer.view();
    let shard = shard_named(&text, &view)?;
    let insight = observer.cluster().insight(Some(shard)).await.ok();
    let plans = observer.plans().borrow().clone();
    let cause = view.targets.get(shard).cause;
    let because = cause.map(|cause| Because {
        plan: cause.plan.get(),
        reason: cause.reason.as_str(),
        trigger: plans.get(&cause.plan).map(|plan| plan.trigger.clone()),
        at: u64::try_from(cause.at.as_millis()).unwrap_or(u64::MAX),
    });
    let moves = plans.values().rev().flat_map(|plan| {
        let steps = plan.moves.iter().filter(|step| step.shard == shard);
        steps.map(|step| PlanMove {
            plan: plan.id.get(),
            trigger: plan.trigger.clone(),
            step: MoveInfo::of(step),
        })
    });
    let info = ShardInfo::of(&view, shard);
    let load = load_of(&board, &view, shard);
    Ok(Json(Story {
        because,
        next: next(&info, &view, insight.as_ref()),
        waits_for: waits_for(&info, &view, insight.as_ref()),
        under_way_seconds: insight
            .as_ref()
            .and_then(|insight| insight.under_way)
            .map(|under_way| under_way.as_secs_f64()),
        objects: load.map(|load| load.objects),
        calls_per_second: load.map(|load| load.calls),
        cpu: load.map(|load| load.cpu),
        state_bytes: load.map(|load| load.state_bytes),
        owners: board.history.lock().of_shard(shard.get()),
        moves: moves.take(MOVES_TOLD_MAX).collect(),
        shard: info,
    }))
}

/// What a shard costs its owner.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    objects: u64,
    calls: f64,
    cpu: f64,
    state_bytes: u64,
}

fn load_of(board: &Board, view: &ClusterView, shard: ShardId) -> Option<Load> {
    let owner = view.live_owner(shard)?;
    let looks = board.looks();
    let report = looks.get(&owner.node)?.report();
    let load = report.shards.get(&shard).copied().unwrap_or_default();
    let objects = report.by_shard.get(&shard).copied().unwrap_or_default();
    Some(Load {
        objects,
        ..per_second(&load, report.load.window.as_secs_f64())
    })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "shown to people, who need no 53 bits"
)]
fn per_second(load: &ShardLoad, seconds: f64) -> Load {
    let seconds = if seconds > 0.0 {
        seconds
    } else {
        f64::INFINITY
    };
    Load {
        objects: load.objects,
        calls: load.turns as f64 / seconds,
        cpu: load.cpu.as_secs_f64() / seconds,
        state_bytes: load.state_bytes,
    }
}

fn next(shard: &ShardInfo, view: &ClusterView, insight: Option<&Insight>) -> String {
    let leader = view.live_leader().map(|leader| leader.node.as_str());
    let waiting = insight.and_then(|insight| insight.waiting.as_ref());
    match (shard.state, &shard.target, leader) {
        ("owned", _, _) => match waiting {
            Some(step) => {
                let reason = step.reason.as_str();
                format!("plan {} moves it to {} ({reason})", step.plan, step.to)
            }
            None => "nothing: it is where it should be".into(),
        },
        ("moving", Some(target), _) => {
            format!("its owner closes it and hands it over to {target} with its objects' state")
        }
        ("quarantined", _, _) => {
            "nothing: it crashed its last owners. The leader places it again when its quarantine ends, \
             and one node tries it"
                .into()
        }
        (_, Some(target), _) if view.nodes.keys().any(|node| node.as_str() == target) => {
            format!("{target} claims it")
        }
        (_, _, Some(leader)) => format!("the leader {leader} places it on a live node"),
        (_, _, None) => "a leader is elected, which places it".into(),
    }
}

fn waits_for(shard: &ShardInfo, view: &ClusterView, insight: Option<&Insight>) -> Vec<String> {
    let mut waits = Vec::new();
    if let Some(step) = insight.and_then(|insight| insight.waiting.as_ref()) {
        waits.push(if step.paused {
            "an operator, who paused balancing".into()
        } else {
            let before = step.before;
            format!("its wave: {before} moves begin before it, as others end")
        });
    }
    match shard.state {
        "moving" => waits.push("the end of its running turns".into()),
        "quarantined" => waits.push("the end of its quarantine, or an operator's release".into()),
        "unowned" if view.live_leader().is_none() => waits.push("an election".into()),
        _ => {}
    }
    waits
}

/// What the map is coloured by.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct By {
    /// `objects`, `calls` or `cpu`.
    by: String,
}

/// A number for each shard, in order of the shards.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Heat {
    /// As asked.
    by: String,
    /// What the numbers count.
    unit: &'static str,
    /// One of each shard, in order.
    values: Vec<f64>,
}

/// A number for each shard, for the map.
#[utoipa::path(
    get, path = "/api/heat", tag = "shards", params(By), responses((status = 200, body = Heat))
)]
pub(super) async fn heat(
    State(board): State<Arc<Board>>,
    Query(By { by }): Query<By>,
) -> Answer<Heat> {
    board.freshen().await;
    let view = board.view()?;
    let (unit, figure): (_, fn(&Load) -> f64) = match by.as_str() {
        "objects" => ("objects", |load| {
            f64::from(u32::try_from(load.objects).unwrap_or(u32::MAX))
        }),
        "calls" => ("calls/s", |load| load.calls),
        "cpu" => ("CPUs", |load| load.cpu),
        _ => return Err(Problem::bad_request("`by` is `objects`, `calls` or `cpu`")),
    };
    let mut values = vec![0.0; view.meta.shard_count.get() as usize];
    for (node, look) in board.looks() {
        let report = look.report();
        let seconds = report.load.window.as_secs_f64();
        let is_owner = |shard| {
            view.live_owner(shard)
                .is_some_and(|owner| owner.node == node)
        };
        let loads = report.shards.iter();
        let loads = loads.map(|(shard, load)| (*shard, per_second(load, seconds)));
        let mut known: std::collections::BTreeMap<ShardId, Load> = loads.collect();
        for (shard, objects) in &report.by_shard {
            known.entry(*shard).or_default().objects = *objects;
        }
        for (shard, load) in known {
            if let Some(value) = values.get_mut(shard.index()).filter(|_| is_owner(shard)) {
                *value = figure(&load);
            }
        }
    }
    Ok(Json(Heat { by, unit, values }))
}

/// From when on to tell.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct From {
    /// Milliseconds since 1970; absent: all that is kept.
    #[serde(default)]
    since: u64,
}

/// What happened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Happened {
    /// From when on every change of an owner is known, in milliseconds since 1970.
    since: u64,
    /// Oldest first.
    moves: Vec<OwnerChange>,
    /// Newest first.
    events: Vec<Event>,
}

/// Changes of owners since a moment, and all events.
#[utoipa::path(
    get, path = "/api/history", tag = "cluster", params(From),
    responses((status = 200, body = Happened))
)]
pub(super) async fn history(
    State(board): State<Arc<Board>>,
    Query(From { since }): Query<From>,
) -> Answer<Happened> {
    board.observer()?;
    let history = board.history.lock();
    Ok(Json(Happened {
        since: history.since(),
        moves: history.moves_since(since),
        events: history.events(),
    }))
}
