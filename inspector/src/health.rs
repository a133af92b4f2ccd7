//! What is wrong with the cluster, in words, with what to do: the worst first.
//!
//! A pure function of what is known, so that every sentence has a test.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use steading::ids::NodeId;
use steading::node::NodeStatus;
use steading::placement::{ClusterView, NodeState};
use utoipa::ToSchema;

use crate::figures::{ClusterFigures, NodeFigures};
use crate::history::Event;
use crate::rows::Row;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Calls fail or wait now.
    Trouble,
    /// It works, but not as it should.
    Warning,
    /// Worth knowing.
    Note,
}

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is so, in words.
    pub what: String,
    /// What to do about it.
    pub advice: String,
    /// Where the page shows more, such as `#/shard/7`.
    pub link: Option<String>,
}

/// What the findings are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// The cluster.
    pub view: &'a ClusterView,
    /// Whether the view follows the store.
    pub is_followed: bool,
    /// The nodes' figures.
    pub nodes: &'a [(NodeId, NodeFigures)],
    /// The cluster's figures.
    pub cluster: &'a ClusterFigures,
    /// Bad news of nodes in the last minute.
    pub bad_news: &'a [Event],
    /// Milliseconds since 1970.
    pub now: u64,
}

/// A move that takes longer than this is worth a word, in milliseconds.
const MOVE_LONG_MS: u64 = 10_000;

/// Less time than this before a fence is worth a word, in seconds.
const MARGIN_SHORT: f64 = 0.5;

/// An imbalance above this is worth a word.
const IMBALANCE_HIGH: f64 = 0.25;

/// A process that occupies more than this part of its memory is worth a word.
const MEMORY_HIGH: f64 = 0.9;

/// Returns what is wrong, the worst first; empty: all is well.
pub(crate) fn findings(known: Known<'_>) -> Vec<Finding> {
    let mut findings = Findings::default();
    store(known, &mut findings);
    silent(known, &mut findings);
    fenced(known, &mut findings);
    shards(known, &mut findings);
    states(known, &mut findings);
    figures(known, &mut findings);
    versions(known, &mut findings);
    news(known, &mut findings);
    calls(known, &mut findings);
    findings.0.sort_by_key(|finding| finding.severity);
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, what: String, advice: &str, link: Option<String>) {
        self.0.push(Finding {
            severity,
            what,
            advice: advice.into(),
            link,
        });
    }
}

fn store(known: Known<'_>, findings: &mut Findings) {
    if !known.is_followed {
        findings.add(
            Severity::Trouble,
            "The Inspector has lost the store: what it shows grows old".into(),
            "See whether etcd answers, and whether nodes complain of it in their logs. Nodes serve \
             until their leases end.",
            None,
        );
    }
    if known.view.nodes.is_empty() {
        findings.add(
            Severity::Trouble,
            "No node is registered".into(),
            "Start nodes with this etcd and prefix: `steading node`.",
            None,
        );
    } else if known.view.live_leader().is_none() {
        findings.add(
            Severity::Trouble,
            "No node leads: nothing is placed or moved".into(),
            "An election takes at most a lease. If it does not end, see the nodes' logs.",
            Some("#/nodes".into()),
        );
    }
    if known.view.orders.paused {
        findings.add(
            Severity::Note,
            "An operator paused balancing".into(),
            "Only what nobody serves, what drains and what operators order moves. Resume it when \
             the reason is gone.",
            Some("#/plans".into()),
        );
    }
}

fn shards(known: Known<'_>, findings: &mut Findings) {
    let (mut unowned, mut quarantined, mut slow) = (Vec::new(), Vec::new(), Vec::new());
    for shard in known.view.meta.shard_count.shards() {
        let row = Row::of(known.view, shard);
        match row.state() {
            "unowned" => unowned.push(shard.get()),
            "quarantined" => quarantined.push(shard.get()),
            "moving" if row.moved_at > 0 && row.moved_at + MOVE_LONG_MS < known.now => {
                slow.push(shard.get());
            }
            _ => {}
        }
    }
    let link = |shards: &[u32]| shards.first().map(|shard| format!("#/shard/{shard}"));
    if !unowned.is_empty() && !known.view.nodes.is_empty() {
        findings.add(
            Severity::Trouble,
            format!(
                "{}: calls to their objects wait",
                have_no_owner(unowned.len())
            ),
            "They are placed by themselves within about a second once a node can take them. If \
             that takes longer, ask why at one of them.",
            link(&unowned),
        );
    }
    if !quarantined.is_empty() {
        findings.add(
            Severity::Trouble,
            format!(
                "{} crashed their owners and {} quarantined",
                several(quarantined.len()),
                are(quarantined.len())
            ),
            "Find out what in their objects ends the process. They are tried again by themselves, or \
             when you release them.",
            link(&quarantined),
        );
    }
    if !slow.is_empty() {
        findings.add(
            Severity::Warning,
            format!(
                "{} {} been moving for more than 10 s",
                several(slow.len()),
                have(slow.len())
            ),
            "Their owners wait for running turns to end. See the shard's story for what is stuck.",
            link(&slow),
        );
    }
}

/// Names the nodes that are registered and do not answer, with what that puts at risk.
fn silent(known: Known<'_>, findings: &mut Findings) {
    let silent = in_state(known, NodeStatus::Silent);
    let Some((first, figures)) = silent.first() else {
        return;
    };
    let risks = || {
        silent
            .iter()
            .filter_map(|(_, figures)| figures.at_risk.as_ref())
    };
    let shards: usize = risks().map(|risk| risk.shards).sum();
    let objects: u64 = risks().filter_map(|risk| risk.objects_last_seen).sum();
    let severity = if shards > 0 {
        Severity::Trouble
    } else {
        Severity::Warning
    };
    let what = match (shards, objects) {
        (0, _) => "no shards at risk".into(),
        (_, 0) => format!("{} may be unserved", several(shards)),
        (_, _) => format!(
            "{} may be unserved, {objects} objects last seen",
            several(shards)
        ),
    };
    let next = risks().next().map_or("", |risk| risk.next.as_str());
    let error = figures.error.as_deref().unwrap_or("no answer yet");
    findings.add(
        severity,
        format!("{}: {what}", nodes(silent.len(), "silent")),
        &format!("{first} ({error}): {next}."),
        Some(format!("#/nodes/{first}")),
    );
}

/// Names the nodes that answer, and say that they serve nothing.
fn fenced(known: Known<'_>, findings: &mut Findings) {
    let fenced = in_state(known, NodeStatus::Fenced);
    let risks = fenced
        .iter()
        .filter_map(|(_, figures)| figures.at_risk.as_ref());
    let shards: usize = risks.map(|risk| risk.shards).sum();
    let link = match fenced.as_slice() {
        [] => return,
        [(one, _)] => format!("#/nodes/{one}"),
        [..] => "#/nodes".into(),
    };
    findings.add(
        Severity::Trouble,
        format!(
            "{}: {} unserved, etcd has not acknowledged keep-alives in time",
            nodes(fenced.len(), "fenced"),
            several(shards)
        ),
        "Their calls wait. They go on by themselves once etcd answers, if their leases still live; \
         otherwise others take their shards over. See etcd, and the network between.",
        Some(link),
    );
}

fn in_state(known: Known<'_>, status: NodeStatus) -> Vec<&(NodeId, NodeFigures)> {
    let nodes = known.nodes.iter();
    let nodes = nodes.filter(|(_, figures)| figures.state == status.as_str());
    nodes.collect()
}

/// Names the nodes that drain or are cordoned.
fn states(known: Known<'_>, findings: &mut Findings) {
    for (id, record) in &known.view.nodes {
        let link = Some(format!("#/nodes/{id}"));
        if record.state == NodeState::Draining {
            findings.add(
                Severity::Note,
                format!("{id} drains: its shards move to other nodes, then it leaves"),
                "Nothing to do; it may be taken back until it begins to leave.",
                link.clone(),
            );
        }
        if known.view.orders.cordoned.contains(id) {
            findings.add(
                Severity::Note,
                format!("{id} is cordoned: it keeps what it has and gets nothing more"),
                "Let it get shards again when the reason is gone.",
                link,
            );
        }
    }
}

/// Names the nodes whose figures come near a limit.
fn figures(known: Known<'_>, findings: &mut Findings) {
    for (id, figures) in known.nodes {
        let link = Some(format!("#/nodes/{id}"));
        if figures
            .fence_margin_seconds
            .is_some_and(|margin| margin < MARGIN_SHORT)
        {
            findings.add(
                Severity::Warning,
                format!("{id} renews its lease late: it stops serving when its fence passes"),
                "See whether etcd is slow (`steading_keep_alive_seconds`) or the node has no CPU.",
                link.clone(),
            );
        }
        let full = figures.memory_max_bytes.unwrap_or_default() / 10 * 9;
        if full > 0 && figures.memory_bytes.is_some_and(|bytes| bytes > full) {
            findings.add(
                Severity::Warning,
                format!(
                    "{id} occupies more than {:.0} % of its memory",
                    MEMORY_HIGH * 100.0
                ),
                "Add nodes or memory, or let objects go idle sooner.",
                link,
            );
        }
    }
}

fn versions(known: Known<'_>, findings: &mut Findings) {
    let nodes = known.view.nodes.values();
    let versions: BTreeSet<_> = nodes.map(|node| &node.version).collect();
    if versions.len() > 1 {
        findings.add(
            Severity::Note,
            format!("Nodes run {} versions", versions.len()),
            "Fine while you upgrade; end it soon.",
            Some("#/nodes".into()),
        );
    }
}

/// Names the nodes that went lately, apart from those that are back.
fn news(known: Known<'_>, findings: &mut Findings) {
    let (mut back, mut gone) = (BTreeMap::new(), BTreeMap::new());
    for event in known.bad_news.iter().rev() {
        let Some(node) = &event.node else { continue };
        let is_back = known.view.nodes.keys().any(|id| id.as_str() == node);
        let these = if is_back { &mut back } else { &mut gone };
        these.insert(node.as_str(), event.text.as_str());
    }
    let link = || Some("#/plans".to_owned());
    match gone.values().copied().collect::<Vec<_>>().as_slice() {
        [] => {}
        [one] => findings.add(
            Severity::Warning,
            (*one).into(),
            "Others take its shards over. See its log for why it went, and start it again.",
            link(),
        ),
        [..] => findings.add(
            Severity::Warning,
            format!("{} nodes are gone: {}", gone.len(), listed(&gone)),
            "Others take their shards over. See what they have in common (machine, zone, network), \
             then their logs.",
            link(),
        ),
    }
    match back.keys().copied().collect::<Vec<_>>().as_slice() {
        [] => {}
        [one] => findings.add(
            Severity::Warning,
            format!("{one} was gone within the last minute, and is back"),
            "See its log for why it went. What its objects had in memory alone is lost.",
            link(),
        ),
        [..] => findings.add(
            Severity::Warning,
            format!(
                "{} nodes were gone within the last minute, and are back: {}",
                back.len(),
                listed(&back)
            ),
            "If all went at once, see etcd and the network. What their objects had in memory alone \
             is lost.",
            link(),
        ),
    }
}

/// The first few names.
fn listed(nodes: &BTreeMap<&str, &str>) -> String {
    const NAMED_MAX: usize = 4;
    let named: Vec<_> = nodes.keys().take(NAMED_MAX).copied().collect();
    let more = if nodes.len() > NAMED_MAX { ", …" } else { "" };
    format!("{}{more}", named.join(", "))
}

fn calls(known: Known<'_>, findings: &mut Findings) {
    let cluster = known.cluster;
    if let Some(parked) = cluster.parked.filter(|parked| *parked > 0) {
        findings.add(
            Severity::Warning,
            format!("{parked} calls wait for an owner of their shard"),
            "They go on by themselves when the shard is open again, or fail at their deadline.",
            Some("#/map".into()),
        );
    }
    if cluster.failed_calls_per_second.unwrap_or_default() >= 1.0 {
        findings.add(
            Severity::Warning,
            format!(
                "{:.0} calls a second fail",
                cluster.failed_calls_per_second.unwrap_or_default()
            ),
            "`steading_routed_calls_failed` tells the codes of the errors, by node.",
            Some("#/nodes".into()),
        );
    }
    if cluster.refusals_per_second.unwrap_or_default() >= 1.0 {
        findings.add(
            Severity::Warning,
            "Mailboxes are full: objects get calls faster than they run them".into(),
            "Look for the busiest objects, and split them or slow their callers down.",
            Some("#/objects?order=busiest".into()),
        );
    }
    if let Some(imbalance) = cluster.imbalance.filter(|part| *part > IMBALANCE_HIGH) {
        findings.add(
            Severity::Note,
            format!(
                "The busiest node has {:.0} % more calls than the mean",
                imbalance * 100.0
            ),
            "The leader evens that out by itself where moving shards can. A dry run shows what it \
             would move now.",
            Some("#/plans".into()),
        );
    }
}

fn nodes(count: usize, state: &str) -> String {
    let noun = if count == 1 { "node" } else { "nodes" };
    format!("{count} {noun} {state}")
}

fn several(count: usize) -> String {
    if count == 1 {
        "1 shard".into()
    } else {
        format!("{count} shards")
    }
}

fn have(count: usize) -> &'static str {
    if count == 1 { "has" } else { "have" }
}

fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn have_no_owner(count: usize) -> String {
    format!("{} {} no owner", several(count), have(count))
}

#[cfg(test)]
mod tests;
