//! A simulation's report for people.

use super::SimulateArgs;
use crate::output::{self, Mood, or_dash, painted, text};
use crate::simulate::{Level, Report, written_bytes};

/// So many nodes are listed; JSON has all.
const NODES_SHOWN: usize = 20;

/// Prints a report.
pub(super) fn report(report: &Report, args: &SimulateArgs) {
    keys(report);
    nodes(report);
    balancing(report);
    hot_shards(report);
    changes(report);
    capacity(report, args);
    lints(report);
}

fn keys(report: &Report) {
    let Some(keys) = &report.keys else { return };
    output::line(format_args!(
        "keys      {} in {} shards, {:.0} calls/s",
        keys.keys, report.shard_count, keys.calls_per_s
    ));
    if keys.bound_to_nodes > 0 {
        output::line(format_args!(
            "          {} of them name a node themselves, and are left out below",
            keys.bound_to_nodes
        ));
    }
    let shards = &keys.per_shard;
    output::line(format_args!(
        "a shard   {:.1} keys, at most {:.0} ({:.2} × the mean), p99 {:.0}, variation {:.2} \
         (chance alone: {:.2}), {} empty",
        shards.mean,
        shards.max,
        shards.max_over_mean,
        shards.p99,
        shards.variation,
        keys.chance,
        shards.empty
    ));
    let nodes = &keys.per_node;
    output::line(format_args!(
        "a node    {:.1} keys, at most {:.0} ({:.2} × the mean), variation {:.2}, {} empty",
        nodes.mean, nodes.max, nodes.max_over_mean, nodes.variation, nodes.empty
    ));
    heading("Hottest objects");
    output::table(
        &["object", "shard", "calls/s", "of all"],
        keys.hot_keys.iter().map(|key| {
            vec![
                key.key.clone(),
                or_dash(key.shard),
                format!("{:.1}", key.calls_per_s),
                percent(key.of_all),
            ]
        }),
    );
}

fn nodes(report: &Report) {
    heading("Nodes, with loads balanced");
    let shown = report.nodes.iter().take(NODES_SHOWN);
    output::table(
        &[
            "node",
            "zone",
            "weight",
            "shards",
            "keys",
            "calls/s",
            "cpu",
            "memory",
            "of its share",
            "before",
        ],
        shown.map(|node| {
            vec![
                node.node.clone(),
                or_dash(node.zone.as_ref()),
                node.weight.to_string(),
                node.shards.to_string(),
                node.keys.to_string(),
                format!("{:.1}", node.calls_per_s),
                percent(node.cpu),
                percent(node.memory),
                percent(node.of_share),
                percent(node.of_share_before),
            ]
        }),
    );
    if report.nodes.len() > NODES_SHOWN {
        let rest = report.nodes.len() - NODES_SHOWN;
        output::line(format_args!("… and {rest} more (--json shows all)"));
    }
}

fn balancing(report: &Report) {
    let balancing = &report.balancing;
    output::line(match balancing.moves {
        0 => "No shard would be moved for its load.".to_owned(),
        moves => format!(
            "{moves} moves would take the busiest node from {} to {} of its share.",
            percent(balancing.before.max),
            percent(balancing.after.max)
        ),
    });
    for advice in &balancing.advice {
        output::line(text!(painted("the planner:", Mood::Busy), " ", advice));
    }
}

fn hot_shards(report: &Report) {
    if report.hot_shards.is_empty() {
        return;
    }
    heading("Hottest shards");
    output::table(
        &["shard", "node", "keys", "calls/s", "of a node's share"],
        report.hot_shards.iter().map(|shard| {
            vec![
                shard.shard.to_string(),
                or_dash(shard.node.as_ref()),
                shard.keys.to_string(),
                format!("{:.1}", shard.calls_per_s),
                percent(shard.of_node_share),
            ]
        }),
    );
}

fn changes(report: &Report) {
    heading("If");
    output::table(
        &[
            "change",
            "moves",
            "fewest",
            "no room",
            "then busiest",
            "cpu",
            "memory",
        ],
        report.changes.iter().map(|change| {
            vec![
                change.change.clone(),
                change.moves.to_string(),
                change.fewest.to_string(),
                change.unplaced.to_string(),
                or_dash(change.busiest.as_ref()),
                percent(change.cpu),
                percent(change.memory),
            ]
        }),
    );
}

fn capacity(report: &Report, args: &SimulateArgs) {
    heading(&format!(
        "Do nodes of {} CPUs and {} suffice?",
        args.cpus,
        written_bytes(args.memory)
    ));
    output::table(
        &[
            "growth",
            "calls/s",
            "objects",
            "cpu",
            "after a loss",
            "memory",
            "after a loss",
            "nodes needed",
            "",
        ],
        report.capacity.iter().map(|grown| {
            let verdict = match grown.short_of.as_slice() {
                [] => painted("yes", Mood::Good),
                short_of => painted(
                    format_args!("too little: {}", short_of.join(", ")),
                    Mood::Bad,
                ),
            };
            vec![
                format_args!("{} ×", grown.growth).into(),
                format_args!("{:.0}", grown.calls_per_s).into(),
                written_bytes(grown.memory_bytes).into(),
                percent(grown.cpu).into(),
                percent(grown.cpu_after_loss).into(),
                percent(grown.memory).into(),
                percent(grown.memory_after_loss).into(),
                grown.nodes_needed.into(),
                verdict,
            ]
        }),
    );
}

fn lints(report: &Report) {
    if report.keys.is_none() {
        return;
    }
    heading("IDs");
    if report.lints.is_empty() {
        output::line(painted("nothing speaks against them", Mood::Good));
    }
    for lint in &report.lints {
        let (level, mood) = match lint.level {
            Level::Warning => ("warning", Mood::Bad),
            Level::Note => ("note", Mood::Busy),
        };
        let says = format!(": {}: {}", lint.name, lint.says);
        output::line(text!(painted(level, mood), says));
        output::line(format_args!("  such as {}", lint.examples.join(", ")));
    }
}

fn heading(text: &str) {
    output::line("");
    output::line(text);
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}
