//! Whether every shard is where it should be, and somebody sees to that.

use steading::text::shell_word;

use super::{or_ok, percent};
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Runbook};

/// From which standard deviation over mean on placement is uneven.
const UNEVEN: f64 = 0.2;

/// From which one on loads are, and how many CPUs the busiest node must use for it to matter.
const LOAD_UNEVEN: f64 = 0.5;
const LOAD_MATTERS: f64 = 0.5;

/// How long a move may take, in seconds.
const MOVE_SECONDS_MAX: f64 = 60.0;

/// How many of the newest plans are looked at.
const PLANS_LOOKED_AT: usize = 10;

/// Most shards that are named.
const NAMED_MAX: usize = 10;

pub(super) fn leader(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "leader";
    let runbook = Runbook("leader-absent");
    let Some(cluster) = &facts.cluster else {
        return vec![Finding::bad(CHECK, runbook, "nobody could tell who leads")];
    };
    let Some(leader) = &cluster.leader else {
        return vec![
            Finding::bad(CHECK, runbook, "no node leads")
                .because("One is elected within moments if any node reaches etcd: none does, or etcd has no quorum")
                .then("etcdctl endpoint health --cluster"),
        ];
    };
    let node = facts.nodes.iter().find(|node| node.name == *leader);
    match node.map(|node| &node.told) {
        Some(Err(_)) => vec![
            Finding::bad(
                CHECK,
                runbook,
                format!("{leader} leads, and does not answer"),
            )
            .because("It hangs or is cut off; another takes over when its lease runs out")
            .then(format!("if it stays so, end the process of {leader}")),
        ],
        Some(Ok(_)) | None => vec![Finding::ok(CHECK, format!("{leader} leads"))],
    }
}

pub(super) fn unowned(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "unowned_shards";
    let runbook = Runbook("unserved-shard");
    let Some(cluster) = &facts.cluster else {
        return vec![Finding::bad(
            CHECK,
            runbook,
            "nobody could tell who owns what",
        )];
    };
    let count = cluster
        .shards
        .unowned
        .saturating_sub(facts.quarantined.len());
    if count == 0 {
        let owned = cluster.shards.owned;
        return vec![Finding::ok(
            CHECK,
            format!("all {owned} shards have an owner"),
        )];
    }
    let metrics = facts.leaders_metrics();
    let oldest =
        metrics.and_then(|of| of.after.sum("steading_cluster_oldest_unowned_seconds", &[]));
    let since = oldest.map_or(String::new(), |oldest| {
        format!(", the first for {oldest:.0} s")
    });
    let mut finding = Finding::bad(
        CHECK,
        runbook,
        format!("{count} shards have no owner{since}"),
    );
    if let Some(first) = facts.unowned.first() {
        let waits = first
            .waits_for
            .iter()
            .map(|what| format!("; it waits for {what}"));
        let waits: String = waits.collect();
        let shard = first.shard.shard;
        finding = finding.because(format!("Shard {shard}: {}{waits}", first.next));
        finding = finding.then(format!("steading explain shard {shard}"));
    }
    let cordoned = cluster.nodes.iter().filter(|node| node.cordoned);
    for node in cordoned {
        finding = finding.then(format!("steading uncordon {}", shell_word(&node.id)));
    }
    vec![finding]
}

/// Names the nodes that own shards and do not serve them.
pub(super) fn served(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "shards_served";
    let nodes = facts.cluster.iter().flat_map(|cluster| &cluster.nodes);
    let at_risk = nodes.filter_map(|node| Some((node, node.at_risk.as_ref()?)));
    let found = at_risk.filter(|(_, risk)| risk.shards > 0);
    let found = found.map(|(node, risk)| {
        let (id, state, shards) = (&node.id, &node.state, risk.shards);
        let what = format!("{id} is {state}: its {shards} shards may be unserved");
        Finding::bad(CHECK, Runbook("unserved-shard"), what)
            .because(risk.next.clone())
            .then(format!("steading explain node {id}"))
    });
    or_ok(found.collect(), CHECK, "no owner is silent or fenced")
}

pub(super) fn quarantine(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "quarantine";
    if facts.quarantined.is_empty() {
        return vec![Finding::ok(CHECK, "no shard is in quarantine")];
    }
    let shards = facts.quarantined.iter().take(NAMED_MAX);
    let named = shards
        .clone()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let what = format!(
        "{} shards are in quarantine: {named}",
        facts.quarantined.len()
    );
    let finding = Finding::bad(CHECK, Runbook("quarantine"), what).because(
        "Their last owners crashed while they loaded, activated or first called an object there. They \
         are tried again by themselves, after longer and longer times",
    );
    let released = shards.map(|shard| format!("steading release {shard}"));
    vec![released.fold(finding, Finding::then)]
}

pub(super) fn pins(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "pins";
    let waiting = facts.unowned.iter().filter(|shard| shard.pinned);
    let found = waiting.map(|explained| {
        let (shard, target) = (explained.shard.shard, explained.shard.target.as_deref());
        let target = target.unwrap_or("a node");
        let what = format!("shard {shard} is pinned to {target} and has no owner");
        Finding::bad(CHECK, Runbook("unserved-shard"), what)
            .because(format!("{target} is not there, and pin_policy is `wait`"))
            .then(format!("start {target} again, or:"))
            .then(format!("steading unpin {shard}"))
    });
    or_ok(found.collect(), CHECK, "no pinned shard waits for its node")
}

pub(super) fn moves(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "moves";
    let metrics = facts.leaders_metrics();
    let oldest = metrics.and_then(|of| of.after.sum("steading_cluster_oldest_move_seconds", &[]));
    let given_up = facts.growth("steading_moves_given_up_total", &[]);
    match oldest {
        Some(oldest) if oldest > MOVE_SECONDS_MAX || given_up > 0.0 => {
            let what = format!("the oldest move has been going on for {oldest:.0} s");
            let finding = Finding::warn(CHECK, Runbook("stuck-move"), what);
            let finding = finding.then("steading shards --state moving");
            vec![finding.because(slow_stage(facts))]
        }
        Some(_) => vec![Finding::ok(CHECK, "no move takes long")],
        None => vec![Finding::ok(CHECK, "no leader told of moves")],
    }
}

/// Says which node is longest in which phase of giving or taking a shard.
fn slow_stage(facts: &Facts) -> String {
    let stages = facts.told().flat_map(|(node, told)| {
        let phases = told
            .metrics
            .after
            .by("steading_oldest_in_phase_seconds", "phase");
        phases.map(move |(phase, age)| (age, phase, node.name.as_str()))
    });
    let longest = stages.max_by(|(one, ..), (other, ..)| one.total_cmp(other));
    match longest {
        Some((age, "close", node)) => {
            format!("{node} has waited {age:.0} s for running turns to end")
        }
        Some((age, phase, node)) => {
            format!("{node} has been in the phase `{phase}` for {age:.0} s")
        }
        None => "no node tells of one".into(),
    }
}

pub(super) fn plans(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "plans";
    let newest = facts.plans.iter().take(PLANS_LOOKED_AT);
    let failed: Vec<_> = newest.filter(|plan| plan.outcome == "failed").collect();
    let Some(last) = failed.first() else {
        return vec![Finding::ok(CHECK, "none of the newest plans failed")];
    };
    let why = last
        .events
        .last()
        .map_or_else(|| last.trigger.clone(), |event| event.text.clone());
    let what = format!(
        "{} of the newest {PLANS_LOOKED_AT} plans failed; the last is {}",
        failed.len(),
        last.id
    );
    vec![
        Finding::warn(CHECK, Runbook("stuck-move"), what)
            .because(why)
            .then(format!("steading plan {}", last.id)),
    ]
}

pub(super) fn evenness(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "evenness";
    let runbook = Runbook("uneven-placement");
    let mut found = Vec::new();
    let variation = facts.cluster.as_ref().map_or(0.0, |cluster| {
        let takers = cluster.nodes.iter().filter(|node| {
            node.registered_state == "active" && node.weight > 0.0 && !node.cordoned
        });
        let shares: Vec<_> = takers
            .map(|node| count(node.shards_owned) / node.weight)
            .collect();
        variation(&shares)
    });
    let paused = facts.cluster.as_ref().is_some_and(|cluster| cluster.paused);
    if variation > UNEVEN {
        let what = format!(
            "nodes have unequal numbers of shards: they vary by {}",
            percent(variation)
        );
        let finding = Finding::warn(CHECK, runbook, what);
        found.push(if paused {
            finding
                .because("Balancing is paused")
                .then("steading resume")
        } else {
            finding
                .because("Nodes have just come or gone; or rules, pins or cordons hold shards")
                .then("steading rebalance --dry-run")
        });
    }
    if let Some(metrics) = facts.leaders_metrics() {
        let load = metrics
            .after
            .sum("steading_cluster_load_variation", &[])
            .unwrap_or_default();
        let most = metrics
            .after
            .sum("steading_cluster_load_per_node", &["of=\"max\""]);
        if load > LOAD_UNEVEN && most.unwrap_or_default() > LOAD_MATTERS {
            let what = format!("nodes have unequal loads: they vary by {}", percent(load));
            found.push(
                Finding::warn(CHECK, runbook, what)
                    .because("Few objects do most of the work, or loads have just changed")
                    .then("steading nodes"),
            );
        }
    }
    or_ok(
        found,
        CHECK,
        format!("shards are even: they vary by {}", percent(variation)),
    )
}

fn variation(shares: &[f64]) -> f64 {
    let mean = shares.iter().sum::<f64>() / count(shares.len().max(1));
    let squares = shares
        .iter()
        .map(|share| (share - mean).powi(2))
        .sum::<f64>();
    if mean > 0.0 {
        (squares / count(shares.len())).sqrt() / mean
    } else {
        0.0
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "shown to people, who need no 53 bits"
)]
fn count(of: usize) -> f64 {
    of as f64
}

pub(super) fn orders(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "orders";
    let runbook = Runbook("uneven-placement");
    let Some(cluster) = &facts.cluster else {
        return vec![Finding::ok(
            CHECK,
            "nobody could tell what operators ordered",
        )];
    };
    let mut found = Vec::new();
    if cluster.paused {
        found.push(
            Finding::warn(CHECK, runbook, "balancing is paused")
                .because("An operator paused it: new nodes get nothing")
                .then("steading resume"),
        );
    }
    for node in cluster.nodes.iter().filter(|node| node.cordoned) {
        found.push(
            Finding::warn(CHECK, runbook, format!("{} is cordoned", node.id))
                .because(
                    "An operator ordered it: it gets no more shards, not even those of dead nodes",
                )
                .then(format!("steading uncordon {}", shell_word(&node.id))),
        );
    }
    for node in cluster
        .nodes
        .iter()
        .filter(|node| node.registered_state == "draining")
    {
        let what = format!(
            "{} drains, and has {} shards left",
            node.id, node.shards_owned
        );
        found.push(Finding::warn(CHECK, Runbook("stuck-roll-out"), what));
    }
    or_ok(found, CHECK, "nothing is paused, cordoned or draining")
}
