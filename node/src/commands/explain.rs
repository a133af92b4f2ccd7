//! `explain`: where something is, since when, and what comes next.

use serde_json::json;

use super::show::mood;
use crate::args::Subject;
use crate::client::{AskError, Client};
use crate::exit::Exit;
use crate::http::{Cluster, Location, NodeInfo, Problem, ShardInfo, ShardState};
use crate::output::{self, Mood, painted};

/// Explains a shard, an object or a node.
pub(crate) async fn explain(subject: &Subject, json: bool) -> Result<Exit, AskError> {
    match subject {
        Subject::Shard { shard, ask } => {
            let client = Client::new(&ask.address)?;
            let shard: ShardInfo = client
                .get(&["v1", "shards", &shard.to_string()], &[])
                .await?;
            let cluster: Cluster = client.get(&["v1", "cluster"], &[]).await?;
            let next = next_of_shard(&shard, &cluster);
            if json {
                output::json(&json!({ "shard": shard, "next": next }));
            } else {
                print_shard(&shard, &next);
            }
        }
        Subject::Object { key, ask } => {
            let client = Client::new(&ask.address)?;
            explain_object(&client, key.object_type(), key.id(), json).await?;
        }
        Subject::Node { node, ask } => {
            let client = Client::new(&ask.address)?;
            let cluster: Cluster = client.get(&["v1", "cluster"], &[]).await?;
            let Some(info) = cluster.nodes.iter().find(|info| info.id == node.as_str()) else {
                return Err(AskError::Problem(Box::new(Problem::not_found(format!(
                    "no live node is called {node}; its shards are placed elsewhere as soon as \
                     its lease ends"
                )))));
            };
            let next = next_of_node(info);
            if json {
                output::json(&json!({ "node": info, "next": next }));
            } else {
                print_node(info, &cluster, &next);
            }
        }
    }
    Ok(Exit::Done)
}

async fn explain_object(
    client: &Client,
    object_type: &str,
    id: &str,
    json: bool,
) -> Result<(), AskError> {
    let location: Location = client.get(&["v1", "locate", object_type, id], &[]).await?;
    let Some(shard) = location.shard else {
        let next = "it is bound to its node by its ID and never moves";
        if json {
            output::json(&json!({ "location": location, "next": next }));
        } else {
            output::line(format_args!("object {object_type}/{id}: {next}"));
        }
        return Ok(());
    };
    let shard: ShardInfo = client
        .get(&["v1", "shards", &shard.to_string()], &[])
        .await?;
    let cluster: Cluster = client.get(&["v1", "cluster"], &[]).await?;
    let next = next_of_shard(&shard, &cluster);
    if json {
        output::json(&json!({ "location": location, "shard": shard, "next": next }));
    } else {
        output::line(format_args!(
            "object {object_type}/{id} lives with shard {}",
            shard.shard
        ));
        print_shard(&shard, &next);
    }
    Ok(())
}

/// Says what happens next with a shard, and who does it.
fn next_of_shard(shard: &ShardInfo, cluster: &Cluster) -> String {
    let leader = cluster.leader.as_deref();
    match (shard.state, &shard.target, leader) {
        (ShardState::Owned, _, _) => "nothing: it is where it should be".into(),
        (ShardState::Moving, Some(target), _) => {
            format!("its owner closes and releases it, then {target} claims it")
        }
        (ShardState::Unowned, Some(target), _) if is_live(cluster, target) => {
            format!("{target} claims it")
        }
        (ShardState::Quarantined, _, _) => {
            "nothing: its last owners died of it, so it is left alone until an operator releases it"
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

fn is_live(cluster: &Cluster, node: &str) -> bool {
    cluster.nodes.iter().any(|info| info.id == node)
}

/// Says what happens next with a node.
fn next_of_node(node: &NodeInfo) -> String {
    let (owned, targeted) = (node.shards_owned, node.shards_targeted);
    match node.state.as_str() {
        "joining" => "it gets shards as soon as it is active".into(),
        "draining" => format!("its {owned} shards move to other nodes, then it leaves"),
        _ if node.weight == 0.0 => "nothing: a gate owns no shards".into(),
        _ if owned == targeted => "nothing: it owns what it should".into(),
        _ => format!("from {owned} shards it goes to {targeted}"),
    }
}

fn print_shard(shard: &ShardInfo, next: &str) {
    let state = painted(shard.state.as_str(), mood(shard.state));
    output::line(format_args!("shard {}: {state}", shard.shard));
    match (&shard.owner, shard.incarnation, shard.token) {
        (Some(owner), Some(incarnation), Some(token)) => output::line(format_args!(
            "  owner   {owner} (incarnation {incarnation}), token {token}"
        )),
        (_, _, Some(token)) => {
            output::line(format_args!(
                "  owner   none; the last one had token {token}"
            ));
        }
        (_, _, None) => output::line("  owner   none, ever"),
    }
    output::line(format_args!(
        "  target  {}",
        output::or_dash(shard.target.as_ref())
    ));
    let since = shard
        .since
        .as_deref()
        .unwrap_or("before the asked node joined");
    output::line(format_args!("  since   {since}"));
    output::line(format_args!("  objects {}", output::or_dash(shard.objects)));
    output::line(format_args!("  next    {next}"));
}

fn print_node(node: &NodeInfo, cluster: &Cluster, next: &str) {
    let mood = if node.state == "active" {
        Mood::Good
    } else {
        Mood::Busy
    };
    output::line(format_args!(
        "node {}: {}",
        node.id,
        painted(&node.state, mood)
    ));
    let leads = cluster.leader.as_deref() == Some(&node.id);
    let role = match (leads, node.weight == 0.0) {
        (true, _) => "leads, and hosts objects",
        (false, true) => "gate",
        (false, false) => "hosts objects",
    };
    output::line(format_args!("  role         {role}"));
    output::line(format_args!("  incarnation  {}", node.incarnation));
    output::line(format_args!(
        "  shards       {} owned, {} targeted",
        node.shards_owned, node.shards_targeted
    ));
    output::line(format_args!(
        "  objects      {}",
        output::or_dash(node.objects)
    ));
    output::line(format_args!("  next         {next}"));
}
