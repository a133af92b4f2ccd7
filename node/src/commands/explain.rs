//! `explain`: where something is, since when, and what comes next.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::show::{health, mood, node_mood, note_if_old};
use crate::args::{AskArgs, Subject};
use crate::client::{AskError, Client};
use crate::exit::Exit;
use crate::http::{NodeExplanation, ObjectExplanation, ShardExplanation};
use crate::output::{self, or_dash, painted, text};

/// Explains a shard, an object or a node.
pub(crate) async fn explain(subject: &Subject, json: bool) -> Result<Exit, AskError> {
    match subject {
        Subject::Shard { shard, ask } => {
            let path = ["v1", "explain", "shard", &shard.to_string()];
            show(ask, &path, json, print_shard).await
        }
        Subject::Object { key, ask } => {
            let path = ["v1", "explain", "object", key.object_type(), key.id()];
            show(ask, &path, json, print_object).await
        }
        Subject::Node { node, ask } => {
            let path = ["v1", "explain", "node", node.as_str()];
            show(ask, &path, json, print_node).await
        }
    }
}

async fn show<T: Serialize + DeserializeOwned>(
    ask: &AskArgs,
    path: &[&str],
    json: bool,
    print: impl Fn(&T),
) -> Result<Exit, AskError> {
    let client = Client::new(ask)?;
    note_if_old(&client).await?;
    let explained = client.get(path, &[]).await?;
    if json {
        output::json(&explained);
    } else {
        print(&explained);
    }
    Ok(Exit::Done)
}

fn print_object(explained: &ObjectExplanation) {
    let object = &explained.object;
    match (&explained.shard, &explained.node) {
        (Some(shard), _) => {
            let number = shard.shard.shard;
            output::line(format_args!("object {object} lives with shard {number}"));
            print_shard(shard);
        }
        (None, node) => output::line(format_args!(
            "object {object}: its ID binds it to {}, and it never moves",
            or_dash(node.as_ref())
        )),
    }
}

fn print_shard(explained: &ShardExplanation) {
    let shard = &explained.shard;
    let state = painted(shard.state.as_str(), mood(shard.state));
    output::line(text!(format_args!("shard {}: ", shard.shard), state));
    let owner_state = match &shard.owner_state {
        Some(state) if !shard.healthy => format!(", {state}"),
        Some(_) | None => String::new(),
    };
    match (&shard.owner, shard.incarnation, shard.token) {
        (Some(owner), Some(incarnation), Some(token)) => output::line(format_args!(
            "  owner   {owner}{owner_state} (incarnation {incarnation}), token {token}"
        )),
        (_, _, Some(token)) => {
            output::line(format_args!(
                "  owner   none; the last one had token {token}"
            ));
        }
        (_, _, None) => output::line("  owner   none, ever"),
    }
    let pinned = if explained.pinned { " (pinned)" } else { "" };
    output::line(format_args!(
        "  target  {}{pinned}",
        or_dash(shard.target.as_ref())
    ));
    match &explained.because {
        Some(because) => output::line(format_args!(
            "  because plan {} ({}) at {}: {}",
            because.plan,
            because.reason,
            because.at,
            or_dash(because.trigger.as_ref())
        )),
        None => output::line("  because of a plan too long ago to be known"),
    }
    let since = shard
        .since
        .as_deref()
        .unwrap_or("before the asked node joined");
    output::line(format_args!("  since   {since}"));
    output::line(format_args!("  objects {}", or_dash(shard.objects)));
    if let Some(seconds) = explained.under_way_seconds {
        output::line(format_args!("  moving  for {seconds:.1} s"));
    }
    output::line(format_args!("  next    {}", explained.next));
    for waits_for in &explained.waits_for {
        output::line(format_args!("  waits   for {waits_for}"));
    }
}

fn print_node(explained: &NodeExplanation) {
    let node = &explained.node;
    let state = painted(&node.state, node_mood(node));
    output::line(text!(format_args!("node {}: ", node.id), state));
    let role = match (explained.leads, node.weight == 0.0) {
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
    output::line(format_args!("  objects      {}", or_dash(node.objects)));
    if let Some(answers) = &node.health {
        output::line(format_args!("  answers      {}", health(answers)));
        if let (Some(error), Some(age)) = (&answers.last_error, answers.last_error_age_seconds) {
            output::line(format_args!("  last error   {error}, {age:.0} s ago"));
        }
    }
    output::line(format_args!("  next         {}", explained.next));
    for waits_for in &explained.waits_for {
        output::line(format_args!("  gets shards  after {waits_for}"));
    }
}
