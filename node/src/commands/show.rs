//! `status`, `nodes`, `shards` and `objects`.

use steading::node::{Condition, NodeStatus};
use steading::text::shell_quoted;
use steading_http::AtRisk;

use crate::args::{AskArgs, ObjectsArgs, ShardsArgs};
use crate::client::{AskError, Client};
use crate::exit::Exit;
use crate::http::{Cluster, NodeHealthInfo, NodeInfo, Objects, Ready, ShardInfo, ShardState};
use crate::output::{self, Mood, Text, or_dash, painted, text};

/// Shows the cluster in a few lines.
pub(crate) async fn status(args: &AskArgs, json: bool) -> Result<Exit, AskError> {
    let client = Client::new(args)?;
    let cluster: Cluster = client.get(&["v1", "cluster"], &[]).await?;
    let cut_off = cut_off(&client.ready().await?);
    let unserved = cluster.shards.unowned + cluster.shards.at_risk;
    let exit = match (unserved, &cut_off) {
        (0, None) => Exit::Done,
        (0, Some(_)) | (1.., _) => Exit::Refused,
    };
    if json {
        output::json(&cluster);
        return Ok(exit);
    }
    if let Some(cut_off) = cut_off {
        output::line(text!("store     ", painted(cut_off, Mood::Bad)));
    }
    show_head(&cluster);
    show_shards(&cluster);
    show_at_risk(&cluster.nodes);
    show_objects(&cluster.nodes);
    Ok(exit)
}

fn show_head(cluster: &Cluster) {
    let Cluster {
        cluster_id,
        shard_count,
        revision,
        ..
    } = cluster;
    output::line(format_args!(
        "cluster   {cluster_id}, {shard_count} shards, revision {revision}"
    ));
    let term = cluster
        .term
        .map_or(String::new(), |term| format!(" (term {term})"));
    output::line(format_args!(
        "leader    {}{term}",
        or_dash(cluster.leader.as_ref())
    ));
    let gates = cluster
        .nodes
        .iter()
        .filter(|node| node.weight == 0.0)
        .count();
    let nodes = cluster.nodes.len() - gates;
    output::line(format_args!("nodes     {nodes}, and {gates} gates"));
}

fn show_shards(cluster: &Cluster) {
    let shards = &cluster.shards;
    let unowned = painted(
        format_args!("{} unowned", shards.unowned),
        if shards.unowned == 0 {
            Mood::Good
        } else {
            Mood::Bad
        },
    );
    let moving = painted(
        format_args!("{} moving", shards.moving),
        if shards.moving == 0 {
            Mood::Good
        } else {
            Mood::Busy
        },
    );
    let at_risk = match shards.at_risk {
        0 => text!(""),
        at_risk => painted(format_args!(", {at_risk} at risk"), Mood::Bad),
    };
    let owned = format!("shards    {} owned, ", shards.owned);
    output::line(text!(owned, moving, ", ", unowned, at_risk));
    if cluster.paused {
        let paused = painted("paused by an operator", Mood::Busy);
        output::line(text!("balancing ", paused));
    }
    for node in cluster.nodes.iter().filter(|node| node.cordoned) {
        let cordoned = painted(format_args!("{} by an operator", node.id), Mood::Busy);
        output::line(text!("cordoned  ", cordoned));
    }
}

/// Shows the nodes that are silent or fenced, with what that puts at risk.
fn show_at_risk(nodes: &[NodeInfo]) {
    for node in nodes {
        if let Some(risk) = &node.at_risk {
            let what = painted(unserved(node, risk), Mood::Bad);
            output::line(text!("at risk   ", what, ": ", &risk.next));
        }
    }
}

/// Returns what a silent or fenced node puts at risk, as a line.
fn unserved(node: &NodeInfo, risk: &AtRisk) -> String {
    let seen = risk.objects_last_seen;
    let seen = seen.map_or(String::new(), |seen| format!(", {seen} objects last seen"));
    let (id, state, shards) = (&node.id, &node.state, risk.shards);
    format!("{id} is {state}: {shards} shards may be unserved{seen}")
}

fn show_objects(nodes: &[NodeInfo]) {
    let objects: u64 = nodes.iter().filter_map(|node| node.objects).sum();
    let silent = nodes.iter().filter(|node| node.objects.is_none()).count();
    let silent = match silent {
        0 => String::new(),
        1 => "; 1 node did not answer".to_owned(),
        2.. => format!("; {silent} nodes did not answer"),
    };
    output::line(format_args!("objects   {objects} live{silent}"));
}

/// Says on the error output, if it is so, that what the asked node tells may be old.
pub(super) async fn note_if_old(client: &Client) -> Result<(), AskError> {
    if let Some(cut_off) = cut_off(&client.ready().await?) {
        output::note(painted(format_args!("the store: {cut_off}"), Mood::Bad));
    }
    Ok(())
}

/// Says, if it is so, that the asked node does not follow the store: what it knows of the cluster
/// is then old, and it serves nothing once its fence has closed.
fn cut_off(ready: &Ready) -> Option<String> {
    let follows = [Condition::NotFenced, Condition::ViewCaughtUp].map(Condition::as_str);
    let unmet = ready
        .conditions
        .iter()
        .filter(|condition| !condition.met && follows.contains(&condition.name.as_str()));
    let since = unmet.map(|condition| condition.since.as_str()).min()?;
    let why = ready.waiting_for.as_deref();
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let node = &ready.node;
    Some(format!(
        "{node} does not follow it since {since}, so what it tells may be old{why}"
    ))
}

/// Lists the nodes.
pub(crate) async fn nodes(args: &AskArgs, json: bool) -> Result<Exit, AskError> {
    let client = Client::new(args)?;
    note_if_old(&client).await?;
    let cluster: Cluster = client.get(&["v1", "cluster"], &[]).await?;
    if json {
        output::json(&cluster.nodes);
        return Ok(Exit::Done);
    }
    let leader = cluster.leader.as_deref();
    output::table(
        &[
            "node", "state", "health", "zone", "weight", "shards", "target", "objects", "calls/s",
            "cpu", "memory", "grpc", "http",
        ],
        cluster
            .nodes
            .iter()
            .map(|node| node_row(node, leader == Some(&node.id))),
    );
    show_at_risk(&cluster.nodes);
    Ok(Exit::Done)
}

fn node_row(node: &NodeInfo, leads: bool) -> Vec<Text> {
    let role = match (leads, node.weight == 0.0) {
        (true, _) => " (leader)",
        (false, true) => " (gate)",
        (false, false) => "",
    };
    let load = node.load.as_ref();
    let state = match (&node.at_risk, node.cordoned) {
        (Some(_), _) => painted(&node.state, Mood::Bad),
        (None, true) => format!("{}, cordoned", node.state).into(),
        (None, false) => (&node.state).into(),
    };
    vec![
        format!("{}{role}", node.id).into(),
        text!(state, unreachable(node)),
        or_dash(node.health.as_ref().map(health)).into(),
        or_dash(node.zone.as_ref()).into(),
        node.weight.to_string().into(),
        node.shards_owned.to_string().into(),
        node.shards_targeted.to_string().into(),
        or_dash(node.objects).into(),
        or_dash(load.map(|load| format!("{:.1}", load.calls_per_second))).into(),
        or_dash(load.map(|load| format!("{:.0} %", load.cpu * 100.0))).into(),
        or_dash(load.map(|load| format!("{} MiB", load.memory_bytes >> 20))).into(),
        node.addresses.grpc.clone().into(),
        or_dash(node.addresses.http.as_ref()).into(),
    ]
}

/// Returns how good the state of a node is.
pub(super) fn node_mood(node: &NodeInfo) -> Mood {
    match (&node.at_risk, node.state == NodeStatus::Active.as_str()) {
        (Some(_), _) => Mood::Bad,
        (None, true) => Mood::Good,
        (None, false) => Mood::Busy,
    }
}

/// Names the nodes that do not reach a node.
fn unreachable(node: &NodeInfo) -> String {
    match &node.unreachable_from[..] {
        [] => String::new(),
        from => format!(", unreachable from {}", from.join(" ")),
    }
}

/// Says in a few words how a node answers.
pub(super) fn health(health: &NodeHealthInfo) -> String {
    let latency = health
        .latency_seconds
        .map_or("never answered".into(), |latency| {
            format!("{:.1} ms", latency * 1000.0)
        });
    match (health.healthy, health.consecutive_failures) {
        (true, 0) => format!("ok, {latency}"),
        (true, failures) => format!("{failures} failed, {latency}"),
        (false, failures) => format!("silent, {failures} failed"),
    }
}

/// Lists shards.
pub(crate) async fn shards(args: &ShardsArgs, json: bool) -> Result<Exit, AskError> {
    let client = Client::new(&args.ask)?;
    note_if_old(&client).await?;
    let all = match args.shard {
        Some(shard) => vec![
            client
                .get(&["v1", "shards", &shard.to_string()], &[])
                .await?,
        ],
        None => client.get::<Vec<ShardInfo>>(&["v1", "shards"], &[]).await?,
    };
    let node = args.node.as_ref().map(|node| Some(node.as_str()));
    let wanted: Vec<_> = all
        .into_iter()
        .filter(|shard| args.state.is_none_or(|state| shard.state == state))
        .filter(|shard| {
            node.is_none_or(|node| {
                shard.owner.as_deref() == node || shard.target.as_deref() == node
            })
        })
        .collect();
    let limit = if args.limit == 0 {
        wanted.len()
    } else {
        args.limit
    };
    let shown = &wanted[..limit.min(wanted.len())];
    if json {
        output::json(&shown);
        return Ok(Exit::Done);
    }
    output::table(
        &[
            "shard", "state", "owner", "target", "token", "objects", "calls/s", "cpu", "since",
        ],
        shown.iter().map(shard_row),
    );
    if wanted.is_empty() {
        let note = match &args.node {
            Some(node) => {
                format!("no such shard is on {node} or meant for it; `nodes` lists nodes")
            }
            None => "no shard is in that state".to_owned(),
        };
        output::note(note);
    }
    if shown.len() < wanted.len() {
        let rest = wanted.len() - shown.len();
        output::line(format_args!("… and {rest} more (--limit 0 shows all)"));
    }
    Ok(Exit::Done)
}

fn shard_row(shard: &ShardInfo) -> Vec<String> {
    vec![
        shard.shard.to_string(),
        shard.state.as_str().to_owned(),
        or_dash(shard.owner.as_ref()),
        or_dash(shard.target.as_ref()),
        or_dash(shard.token),
        or_dash(shard.objects),
        or_dash(shard.calls_per_second.map(|rate| format!("{rate:.1}"))),
        or_dash(shard.cpu.map(|cpu| format!("{:.2} %", cpu * 100.0))),
        or_dash(shard.since.as_ref()),
    ]
}

/// Returns how good the state of a shard is.
pub(super) fn mood(state: ShardState) -> Mood {
    match state {
        ShardState::Owned => Mood::Good,
        ShardState::Moving => Mood::Busy,
        ShardState::Unowned | ShardState::Quarantined => Mood::Bad,
    }
}

/// Lists live objects.
pub(crate) async fn objects(args: &ObjectsArgs, json: bool) -> Result<Exit, AskError> {
    let client = Client::new(&args.ask)?;
    note_if_old(&client).await?;
    let mut query = vec![("limit", args.limit.to_string())];
    let filters = [
        ("type", args.object_type.clone()),
        ("shard", args.shard.map(|shard| shard.to_string())),
        ("node", args.node.as_ref().map(ToString::to_string)),
        ("after", args.after.as_ref().map(ToString::to_string)),
    ];
    query.extend(
        filters
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let objects: Objects = client.get(&["v1", "objects"], &query).await?;
    if json {
        output::json(&objects);
        return Ok(Exit::Done);
    }
    output::table(
        &["type", "id", "shard", "node", "waiting", "idle"],
        objects.objects.iter().map(|object| {
            vec![
                object.object_type.clone(),
                object.id.clone(),
                or_dash(object.shard),
                object.node.clone(),
                object.waiting.to_string(),
                humantime::format_duration(std::time::Duration::from_secs(object.idle_ms / 1000))
                    .to_string(),
            ]
        }),
    );
    if objects.objects.is_empty() && objects.silent.is_empty() {
        output::note(
            "no such object is live: objects live from their first call until they are idle",
        );
    }
    if let Some(next) = &objects.next {
        output::line(format_args!("… and more (--after {})", shell_quoted(next)));
    }
    if !objects.silent.is_empty() {
        output::line(format_args!("no answer from {}", objects.silent.join(", ")));
    }
    Ok(Exit::Done)
}
