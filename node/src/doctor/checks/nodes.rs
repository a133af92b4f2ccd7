//! Whether nodes answer, are ready, and fit together.

use std::collections::{BTreeMap, BTreeSet};

use steading::text::shell_word;

use super::{or_ok, percent};
use crate::doctor::facts::{Facts, NodeFacts, Told};
use crate::doctor::finding::{Finding, Runbook};

/// How much longer than its drain timeout a node may take to leave, in seconds.
const LEAVING: f64 = 10.0;

/// From which difference on clocks are said to differ, in seconds. Dates have whole ones.
const CLOCKS_APART: f64 = 2.0;

/// From which part of its memory on a node has little left.
const MEMORY_FULL: f64 = 0.9;

/// From which part of the memory budget on requests are rejected, but for small ones.
const BUDGET_FULL: f64 = 0.7;

const DAY: f64 = 86_400.0;

/// How long before its end a certificate is said to run out: soon, and at once.
const CERTIFICATE_SOON: f64 = 14.0 * DAY;
const CERTIFICATE_NOW: f64 = 2.0 * DAY;

pub(super) fn answers(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "nodes_answer";
    let runbook = Runbook("node-down");
    let silent = facts.nodes.iter().filter_map(|node| {
        let why = node.told.as_ref().err()?;
        let what = format!("{} does not answer at {}", node.name, node.address);
        let behind = match &node.info {
            Some(_) => "It is registered, so it died within the life of a lease, hangs, or cannot be reached from here",
            None => "The cluster does not know it: it is down, or its lease has run out",
        };
        let finding = Finding::bad(CHECK, runbook, what).because(format!("{behind}. ({why})"));
        Some(finding.then("look at its log and at whether its process runs; kubectl describe pod NODE"))
    });
    let strangers = facts.told().filter_map(|(node, _)| {
        let is_known = node.info.is_some() || facts.cluster.is_none();
        (!is_known).then(|| {
            let what = format!(
                "{} answers, but is not registered in the cluster",
                node.name
            );
            Finding::bad(CHECK, Runbook("node-not-ready"), what)
                .because("It has lost its lease or has not joined yet; or it is of another cluster")
                .then(format!(
                    "curl -s {}",
                    shell_word(&format!("http://{}/ready", bare(&node.address)))
                ))
        })
    });
    let found: Vec<_> = silent.chain(strangers).collect();
    if found.is_empty() && facts.nodes.is_empty() {
        let finding = Finding::bad(CHECK, runbook, "no node is known");
        return vec![finding.then("steading doctor --address HOST:7480 --etcd URL")];
    }
    or_ok(
        found,
        CHECK,
        format!("all {} nodes answer", facts.nodes.len()),
    )
}

fn bare(address: &str) -> &str {
    address.trim_start_matches("http://").trim_end_matches('/')
}

pub(super) fn peers(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "peers";
    let nodes = facts.cluster.iter().flat_map(|cluster| &cluster.nodes);
    let unreached = nodes
        .clone()
        .filter(|node| !node.unreachable_from.is_empty());
    let unreached = unreached.map(|node| {
        let from = node.unreachable_from.join(", ");
        let what = format!("{} is unreachable from {from}", node.id);
        let why = format!(
            "Nothing answers as {} at its advertised address {}: closed port, wrong name, firewall",
            node.id, node.addresses.grpc
        );
        Finding::bad(CHECK, Runbook("node-not-ready"), what)
            .because(why)
            .then(format!("steading explain node {}", node.id))
    });
    let unanswered = nodes.filter(|node| node.unreachable_from.is_empty());
    let found = unanswered.filter_map(|node| {
        let health = node.health.as_ref().filter(|health| !health.healthy)?;
        let failures = health.consecutive_failures;
        let what = format!(
            "{} left {failures} probes of another node unanswered",
            node.id
        );
        let error = health.last_error.as_deref().unwrap_or("no reason is known");
        let finding = Finding::bad(CHECK, Runbook("slow-fan-out"), what);
        let why = format!(
            "It hangs, or nodes do not reach each other at {} ({error})",
            node.addresses.grpc
        );
        Some(
            finding
                .because(why)
                .then(format!("steading explain node {}", shell_word(&node.id))),
        )
    });
    or_ok(
        unreached.chain(found).collect(),
        CHECK,
        "nodes reach each other",
    )
}

pub(super) fn readiness(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "nodes_ready";
    let found = facts.told().filter_map(|(node, told)| {
        if !told.ready.ready {
            return Some(not_ready(node, told));
        }
        let mut conditions = told.ready.conditions.iter();
        let what = conditions.find_map(|condition| condition.waiting_for.as_deref());
        what.map(|what| ready_without_shards(node, what))
    });
    let answering = facts.told().count();
    or_ok(
        found.collect(),
        CHECK,
        format!("all {answering} nodes that answer are ready"),
    )
}

/// Reports a node that is as ready as a directive or a rule lets it be.
fn ready_without_shards(node: &NodeFacts, what: &str) -> Finding {
    let found = format!("{} is ready, but gets no shards", node.name);
    Finding::warn("nodes_ready", Runbook("node-not-ready"), found)
        .because(format!("It waits for {what}."))
        .then(format!("steading explain node {}", node.name))
}

fn not_ready(node: &NodeFacts, told: &Told) -> Finding {
    const CHECK: &str = "nodes_ready";
    let missing = told
        .ready
        .conditions
        .iter()
        .filter(|condition| !condition.met);
    let missing: Vec<_> = missing
        .map(|of| (of.name.as_str(), of.since.as_str()))
        .collect();
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let since = missing.iter().map(|(_, since)| *since).min().unwrap_or("-");
    let what = format!(
        "{} is not ready since {since}: {}",
        node.name,
        names.join(", ")
    );
    let waits = told
        .ready
        .waiting_for
        .as_deref()
        .map(|what| format!(" It waits for {what}."));
    let (runbook, why) = match names.first() {
        Some(&("store_connected" | "lease_alive" | "not_fenced")) => (
            Runbook("etcd-down"),
            "It does not reach etcd, or etcd answers too late; it serves nothing meanwhile.",
        ),
        Some(&"view_caught_up") => (
            Runbook("watch-lag"),
            "It does not hear of changes, and cannot know who owns what.",
        ),
        Some(&"reached") => (
            Runbook("node-not-ready"),
            "Other nodes cannot connect to its advertised address, so it gets no shards.",
        ),
        Some(&"planned") => (
            Runbook("leader-absent"),
            "No plan has taken it in; only a leader makes plans.",
        ),
        Some(&"shards_claimed") => (
            Runbook("stuck-move"),
            "It has not claimed what it should own.",
        ),
        Some(&"accepting") => (
            Runbook("node-not-ready"),
            "It cannot accept connections: it may open no more files.",
        ),
        Some(&"storage_works") => (
            Runbook("storage"),
            "Its storage fails, so objects that are stored cannot be loaded or saved.",
        ),
        Some(&"not_draining") => {
            let draining = Finding::warn(CHECK, Runbook("stuck-roll-out"), what);
            let why = "It hands its shards over, then leaves.";
            return draining.because(format!("{why}{}", waits.unwrap_or_default()));
        }
        Some(_) | None => (
            Runbook("node-not-ready"),
            "A condition of being ready does not hold.",
        ),
    };
    Finding::bad(CHECK, runbook, what)
        .because(format!("{why}{}", waits.unwrap_or_default()))
        .then(format!("steading explain node {}", shell_word(&node.name)))
}

pub(super) fn versions(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "versions";
    let nodes = facts.nodes.iter().filter_map(|node| node.info.as_ref());
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut types: BTreeSet<&[String]> = BTreeSet::new();
    for info in nodes {
        versions.entry(&info.version).or_default().push(&info.id);
        if info.weight > 0.0 {
            types.insert(&info.object_types);
        }
    }
    let mut found = Vec::new();
    if versions.len() > 1 {
        let groups = versions
            .iter()
            .map(|(version, nodes)| format!("{version}: {}", nodes.join(", ")));
        let groups = groups.collect::<Vec<_>>().join("; ");
        found.push(
            Finding::warn(
                CHECK,
                Runbook("stuck-roll-out"),
                format!("versions differ ({groups})"),
            )
            .because("A roll-out is under way, or has stopped half-way")
            .then("kubectl rollout status statefulset/steading"),
        );
    }
    if types.len() > 1 {
        found.push(
            Finding::warn(
                CHECK,
                Runbook("stuck-roll-out"),
                "nodes host different types of objects",
            )
            .because("Nodes run different programs; a call fails where its type is not known")
            .then("steading nodes --json"),
        );
    }
    or_ok(found, CHECK, "all nodes run the same version")
}

pub(super) fn settings(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "settings_agree";
    let mut values: BTreeMap<String, BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    for (node, told) in facts.told() {
        for (setting, value) in told.metrics.after.by("steading_setting_seconds", "setting") {
            let of = values.entry(setting.into()).or_default();
            of.entry(format!("{value} s")).or_default().push(&node.name);
        }
    }
    let differing = values.iter().filter(|(_, of)| of.len() > 1);
    let found = differing.map(|(setting, of)| {
        let groups = of
            .iter()
            .map(|(value, nodes)| format!("{value}: {}", nodes.join(", ")));
        let what = format!(
            "{setting} differs ({})",
            groups.collect::<Vec<_>>().join("; ")
        );
        Finding::warn(CHECK, Runbook("stuck-roll-out"), what)
            .because("Nodes were started with different settings")
            .then(format!(
                "set {setting} to the same on all nodes, and restart them in order"
            ))
    });
    or_ok(found.collect(), CHECK, "nodes agree in their settings")
}

pub(super) fn grace(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "grace";
    let Some(grace) = facts.grace else {
        return vec![Finding::ok(
            CHECK,
            "not compared; --grace tells how long a stop may take",
        )];
    };
    let drains = facts.told().filter_map(|(_, told)| {
        told.metrics
            .after
            .sum("steading_setting_seconds", &["setting=\"drain_timeout\""])
    });
    let longest = drains.fold(0.0, f64::max);
    let (needed, given) = (longest + LEAVING, grace.as_secs_f64());
    if given >= needed {
        return vec![Finding::ok(
            CHECK,
            format!("{given} s are enough to drain in {longest} s"),
        )];
    }
    let what =
        format!("{given} s of grace are less than drain_timeout and leaving take: {needed} s");
    vec![
        Finding::bad(CHECK, Runbook("stuck-roll-out"), what)
            .because("Nodes are killed while they hand their shards over, and calls fail then")
            .then(format!(
                "set terminationGracePeriodSeconds (or TimeoutStopSec) to {needed}"
            )),
    ]
}

pub(super) fn clocks(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "clocks";
    let clocks = facts
        .told()
        .filter_map(|(node, told)| Some((told.clock_ahead?, &node.name)));
    let mut clocks: Vec<_> = clocks.collect();
    clocks.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (Some((least, behind)), Some((most, ahead))) = (clocks.first(), clocks.last()) else {
        return vec![Finding::ok(CHECK, "no node told its time")];
    };
    let apart = most - least;
    if apart < CLOCKS_APART {
        return vec![Finding::ok(
            CHECK,
            "the clocks of nodes agree within two seconds",
        )];
    }
    let what = format!("the clock of {ahead} is {apart:.0} s ahead of that of {behind}");
    vec![
        Finding::warn(CHECK, Runbook("fences"), what)
            .because(
                "Fences do not need clocks that agree; times in plans, logs and certificates do",
            )
            .then("timedatectl status"),
    ]
}

pub(super) fn memory(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "memory";
    let full = facts.told().filter_map(|(node, told)| {
        let metrics = &told.metrics.after;
        let used = metrics.sum("steading_process_resident_memory_bytes", &[])?;
        let max = metrics
            .sum("steading_process_memory_max_bytes", &[])
            .filter(|max| *max > 0.0)?;
        let part = used / max;
        (part > MEMORY_FULL).then(|| {
            let what = format!("{} uses {} of its memory", node.name, percent(part));
            Finding::warn(CHECK, Runbook("memory"), what)
                .because("Too many live objects, or too large ones; the kernel kills it at 100 %")
                .then(format!(
                    "steading objects --node {} --limit 20",
                    shell_word(&node.name)
                ))
        })
    });
    or_ok(full.collect(), CHECK, "every node has memory left")
}

/// Clients get three quarters of the budget.
pub(super) fn memory_budget(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "memory_budget";
    let full = facts.told().filter_map(|(node, told)| {
        let metrics = &told.metrics.after;
        let used = metrics.sum("steading_memory_budget_used_bytes", &[])?;
        let limit = metrics.sum("steading_memory_budget_limit_bytes", &[])?;
        (used > limit * BUDGET_FULL).then(|| {
            let part = percent(used / limit);
            let what = format!(
                "{} rejects requests or is about to: {part} of its memory budget are in use",
                node.name
            );
            Finding::bad(CHECK, Runbook("memory"), what)
                .because("Clients get three quarters of it: they send large bodies slowly, or many at a time")
                .then("raise `memory_budget`, or lower `body_timeout`")
        })
    });
    or_ok(full.collect(), CHECK, "every node has room for requests")
}

pub(super) fn certificates(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "certificates";
    let mut is_any = false;
    let mut found = Vec::new();
    for (node, told) in facts.told() {
        let ends = told
            .metrics
            .after
            .min("steading_certificate_expiry_timestamp_seconds");
        let Some(ends) = ends.filter(|ends| *ends > 0.0) else {
            continue;
        };
        is_any = true;
        let left = ends - facts.now;
        if left > CERTIFICATE_SOON {
            continue;
        }
        let runbook = Runbook("certificate-expiry");
        let what = match left {
            left if left <= 0.0 => format!("a certificate of {} has run out", node.name),
            left => format!(
                "a certificate of {} runs out in {:.0} days",
                node.name,
                left / DAY
            ),
        };
        let finding = if left < CERTIFICATE_NOW {
            Finding::bad(CHECK, runbook, what)
        } else {
            Finding::warn(CHECK, runbook, what)
        };
        found.push(
            finding
                .because("It was not renewed, or the new one did not get into the node's files")
                .then("put the new certificate into the same files: nodes read them anew by themselves"),
        );
    }
    let well = if is_any {
        "none runs out within two weeks"
    } else {
        "no node tells of one"
    };
    or_ok(found, CHECK, well)
}
