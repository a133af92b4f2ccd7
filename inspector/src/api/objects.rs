//! Objects: found without being activated, and called if that changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use steading::ids::{NodeId, ObjectKey, Place};
use steading::node::{Observer, TypeInfo};
use steading::object::{ObjectInfo, ObjectOrder, ObjectQuery};
use steading_http::{Problem, shard_named};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::board::{Board, now_ms};

/// How many objects are listed if the request does not say.
const LIMIT_DEFAULT: usize = 100;

/// The most objects that one answer lists.
const LIMIT_MAX: usize = 1000;

/// How many nodes are asked at once.
const ASKED_AT_ONCE: usize = 8;

/// Which objects to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only of this type.
    #[serde(rename = "type")]
    object_type: Option<String>,
    /// Only with an ID that begins with this.
    prefix: Option<String>,
    /// Only of this shard.
    shard: Option<String>,
    /// Only on this node.
    node: Option<String>,
    /// Only after this one, `Type/id`.
    after: Option<String>,
    /// At most so many, 1 to 1000; 100 if it is absent.
    limit: Option<usize>,
    /// `id`, or `busiest`: those with most calls a second first, and no others.
    #[serde(default)]
    #[param(inline)]
    order: WantedOrder,
}

/// In which order objects are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum WantedOrder {
    /// By type and ID.
    #[default]
    Id,
    /// By calls a second.
    Busiest,
}

/// Live objects.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ObjectList {
    /// The objects.
    objects: Vec<ObjectItem>,
    /// What to give as `after` to see more.
    next: Option<String>,
    /// Nodes that did not answer in time, whose objects are therefore missing.
    silent: Vec<String>,
}

/// A live object.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ObjectItem {
    /// Its type.
    #[serde(rename = "type")]
    object_type: String,
    /// Its ID.
    id: String,
    /// Its shard; none if it is bound to its node.
    shard: Option<u32>,
    /// The node it lives on.
    node: String,
    /// Turns per second since it was last looked at here, a second or more ago; none if it was
    /// not within half a minute, or was activated anew since.
    calls_per_second: Option<f64>,
    /// Turns per second in the last ten to twenty seconds, as its node estimates it from those that
    /// it timed; none if it timed none lately.
    calls_per_second_estimated: Option<f64>,
    /// Calls that wait for their turn.
    waiting: usize,
    /// Milliseconds since its last turn ended; 0 while one runs.
    idle_ms: u64,
    /// When its last turn ended, in milliseconds since 1970; none while one runs.
    last_turn_at: Option<u64>,
    /// The method whose turn began last.
    method: String,
    /// Seconds that the last of its turns took that was timed; none if none was lately.
    took_seconds: Option<f64>,
    /// When that one ended, in milliseconds since 1970.
    timed_at: Option<u64>,
    /// Bytes of its state as last saved or loaded.
    state_bytes: u64,
}

/// Live objects by type, ID prefix, shard or node, in order of type and ID or the busiest first.
#[utoipa::path(
    get, path = "/api/objects", tag = "objects", params(Wanted),
    responses((status = 200, body = ObjectList))
)]
pub(super) async fn list(
    State(board): State<Arc<Board>>,
    Query(wanted): Query<Wanted>,
) -> Answer<ObjectList> {
    let observer = board.observer()?;
    let (query, nodes) = wanted.check(&observer)?;
    let (mut found, silent) = ask(&observer, &query, nodes).await;
    found.sort_by(|(_, a), (_, b)| match query.order {
        ObjectOrder::Key => a.key.cmp(&b.key),
        ObjectOrder::Busiest => most_first(estimate(a), estimate(b)),
    });
    found.truncate(query.limit);
    // A node with just as many may have more.
    let has_more = query.order == ObjectOrder::Key && found.len() == query.limit;
    let last = found.last().filter(|_| has_more);
    let next = last.map(|(_, object)| object.key.to_string());
    let (now, at) = (Instant::now(), now_ms());
    let mut rates = board.rates.lock();
    let objects = found.into_iter().map(|(node, object)| {
        let rate = rates.look(&object.key, &node, object.turns, now);
        item(&node, object, rate, at)
    });
    let mut objects: Vec<_> = objects.collect();
    drop(rates);
    if query.order == ObjectOrder::Busiest {
        // The nodes' estimates found them; what was counted since knows better.
        objects.sort_by(|a, b| most_first(a.rate(), b.rate()));
    }
    Ok(Json(ObjectList {
        objects,
        next,
        silent,
    }))
}

/// Asks nodes for objects. Returns them in no order, and the nodes that did not answer.
async fn ask(
    observer: &Observer,
    query: &ObjectQuery,
    nodes: Vec<NodeId>,
) -> (Vec<(NodeId, ObjectInfo)>, Vec<String>) {
    let asked = nodes.into_iter().map(|node| async move {
        let objects = observer.objects(&node, query).await;
        (node, objects)
    });
    let answers = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    for (node, objects) in answers.collect::<Vec<_>>().await {
        match objects {
            Ok(objects) => found.extend(objects.into_iter().map(|object| (node.clone(), object))),
            Err(_) => silent.push(node.to_string()),
        }
    }
    silent.sort();
    (found, silent)
}

fn estimate(object: &ObjectInfo) -> f64 {
    object.timed.map_or(0.0, |timed| timed.per_second)
}

fn most_first(a: f64, b: f64) -> std::cmp::Ordering {
    b.total_cmp(&a)
}

impl ObjectItem {
    /// How often it is called, as well as that is known.
    fn rate(&self) -> f64 {
        let known = self.calls_per_second.or(self.calls_per_second_estimated);
        known.unwrap_or_default()
    }
}

fn item(node: &NodeId, object: ObjectInfo, calls_per_second: Option<f64>, at: u64) -> ObjectItem {
    let idle_ms = u64::try_from(object.idle.as_millis()).unwrap_or(u64::MAX);
    ObjectItem {
        object_type: object.key.object_type().into(),
        id: object.key.id().into(),
        shard: object.shard.map(steading::ids::ShardId::get),
        node: node.to_string(),
        calls_per_second,
        calls_per_second_estimated: object.timed.map(|timed| timed.per_second),
        waiting: object.waiting,
        idle_ms,
        last_turn_at: (idle_ms > 0).then(|| at.saturating_sub(idle_ms)),
        method: object.method,
        took_seconds: object.timed.map(|timed| timed.took.as_secs_f64()),
        timed_at: object.timed.map(|timed| {
            let ago = u64::try_from(timed.ago.as_millis()).unwrap_or(u64::MAX);
            at.saturating_sub(ago)
        }),
        state_bytes: object.state_bytes,
    }
}

impl Wanted {
    fn check(self, observer: &Observer) -> Result<(ObjectQuery, Vec<NodeId>), Problem> {
        let view = observer.view();
        let shard = self.shard.filter(|text| !text.is_empty());
        let shard = shard.map(|text| shard_named(&text, &view)).transpose()?;
        let owner = shard.and_then(|shard| view.live_owner(shard));
        let nodes = match (self.node.filter(|text| !text.is_empty()), owner) {
            (Some(name), _) => {
                let known = view.nodes.keys().find(|node| node.as_str() == name);
                let none = || Problem::not_found(format!("no live node is called {name}"));
                vec![known.ok_or_else(none)?.clone()]
            }
            (None, Some(owner)) => vec![owner.node.clone()],
            (None, None) if shard.is_some() => Vec::new(),
            (None, None) => view.nodes.keys().cloned().collect(),
        };
        let after = self.after.map(|text| text.parse::<ObjectKey>()).transpose();
        let after = after.map_err(|error| Problem::bad_request(error.to_string()))?;
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            let detail = format!("`limit` must be from 1 to {LIMIT_MAX}");
            return Err(Problem::bad_request(detail));
        }
        let order = match self.order {
            WantedOrder::Id => ObjectOrder::Key,
            WantedOrder::Busiest if after.is_some() => {
                let detail = "`after` goes with the order by type and ID alone";
                return Err(Problem::bad_request(detail));
            }
            WantedOrder::Busiest => ObjectOrder::Busiest,
        };
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let query = ObjectQuery {
            object_type: filled(self.object_type),
            prefix: filled(self.prefix),
            shard,
            limit,
            after,
            order,
        };
        Ok((query, nodes))
    }
}

/// A type with its methods, over all nodes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TypeItem {
    /// Its registered name.
    name: String,
    /// The nodes that host it.
    nodes: Vec<String>,
    /// Its methods.
    methods: Vec<MethodItem>,
}

/// A method, and what its timed turns took on all nodes.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct MethodItem {
    /// Its name.
    name: String,
    /// The names of its arguments.
    arguments: Vec<String>,
    /// Whether it cannot change the object.
    read_only: bool,
    /// Turns that were timed: one in 1024 of each shard, and the first of each second.
    timed: u64,
    /// What they took on average; none if none was timed.
    mean_seconds: Option<f64>,
    /// What the longest of them took.
    longest_seconds: Option<f64>,
    #[serde(skip)]
    total_seconds: f64,
}

/// The object types with their methods, and what their turns take.
#[utoipa::path(
    get, path = "/api/types", tag = "objects", responses((status = 200, body = Vec<TypeItem>))
)]
pub(super) async fn types(State(board): State<Arc<Board>>) -> Answer<Vec<TypeItem>> {
    let observer = board.observer()?;
    let view = observer.view();
    let (asking, nodes) = (&observer, view.nodes.keys().cloned().collect::<Vec<_>>());
    let asked = nodes.into_iter().map(|node| async move {
        let types = asking.types(&node).await;
        (node, types)
    });
    let answers: Vec<_> = stream::iter(asked)
        .buffer_unordered(ASKED_AT_ONCE)
        .collect()
        .await;
    let mut merged: BTreeMap<String, (Vec<String>, BTreeMap<String, MethodItem>)> = BTreeMap::new();
    for (node, types) in answers {
        for hosted in types.into_iter().flatten() {
            let (nodes, methods) = merged.entry(hosted.name.clone()).or_default();
            nodes.push(node.to_string());
            add_methods(methods, hosted);
        }
    }
    let types = merged.into_iter().map(|(name, (mut nodes, methods))| {
        nodes.sort();
        TypeItem {
            name,
            nodes,
            methods: methods.into_values().collect(),
        }
    });
    Ok(Json(types.collect()))
}

fn add_methods(methods: &mut BTreeMap<String, MethodItem>, hosted: TypeInfo) {
    for method in hosted.methods {
        let item = methods.entry(method.name.clone()).or_default();
        item.name = method.name;
        item.arguments = method.arguments;
        item.read_only = method.read_only;
        item.timed += method.times.timed;
        item.total_seconds += method.times.total.as_secs_f64();
        if method.times.timed > 0 {
            let longest = method.times.longest.as_secs_f64();
            item.longest_seconds = Some(item.longest_seconds.unwrap_or_default().max(longest));
            let timed = u32::try_from(item.timed).unwrap_or(u32::MAX);
            item.mean_seconds = Some(item.total_seconds / f64::from(timed));
        }
    }
}

/// Where an object lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Location {
    /// Its key.
    object: String,
    /// Its shard; none if its ID binds it to a node.
    shard: Option<u32>,
    /// The live node that has it.
    node: Option<String>,
}

/// The shard and owner of an object, which is not activated.
#[utoipa::path(
    get, path = "/api/locate/{type}/{id}", tag = "objects", responses((status = 200, body = Location))
)]
pub(super) async fn locate(
    State(board): State<Arc<Board>>,
    Path((object_type, id)): Path<(String, String)>,
) -> Answer<Location> {
    let observer = board.observer()?;
    let key = key(object_type, id)?;
    let (shard, node) = place(&observer, &key)?;
    Ok(Json(Location {
        object: key.to_string(),
        shard,
        node: node.map(|node| node.to_string()),
    }))
}

/// Reads an object's key.
pub(super) fn key(object_type: String, id: String) -> Result<ObjectKey, Problem> {
    ObjectKey::new(object_type, id).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Returns the shard of an object, if it is in one, and the live node that has it.
pub(super) fn place(
    observer: &Observer,
    key: &ObjectKey,
) -> Result<(Option<u32>, Option<NodeId>), Problem> {
    let view = observer.view();
    let place = key.place(&view.meta.layout());
    let place = place.map_err(|error| Problem::bad_request(error.to_string()))?;
    Ok(match place {
        Place::Shard(shard) => {
            let owner = view.live_owner(shard).map(|owner| owner.node.clone());
            (Some(shard.get()), owner)
        }
        Place::Node(node) => (None, view.nodes.contains_key(&node).then_some(node)),
    })
}
