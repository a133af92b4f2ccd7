//! Compares what a cluster says of itself while something is broken with what callers experience.
//!
//! [`observe`] asks `/ready` of every node, `doctor`, `status` and `explain`, and calls an object on
//! every owner of shards, all at about one moment. [`contradictions`] is a pure function of that.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::cluster::{Answer, Cluster, Node};
use crate::until;

/// How long a sample call may take, in milliseconds.
const CALL_TIMEOUT_MS: &str = "900";

/// What was said and experienced at about one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// What each node's `/ready` says.
    pub ready: BTreeMap<String, Ready>,
    /// What `steading doctor` says.
    pub doctor: Doctor,
    /// What `steading status` says.
    pub status: Status,
    /// Sample calls, with what `steading explain` says of their shards.
    pub samples: Vec<Sample>,
}

/// What a node's `/ready` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// 200.
    Yes,
    /// 503, with the conditions that do not hold and what it waits for.
    No(String),
    /// It does not answer.
    Silent,
}

/// What `steading doctor` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doctor {
    /// Its exit code.
    pub code: Option<i32>,
    /// What is not well, each as `LEVEL CHECK: WHAT | WHY`.
    pub findings: Vec<String>,
}

/// What `steading status` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its exit code.
    pub code: Option<i32>,
    /// The state of each registered node.
    pub nodes: BTreeMap<String, String>,
    /// Shards without an owner.
    pub unowned: u64,
    /// Shards whose owner is silent or fenced.
    pub at_risk: u64,
}

/// A call of an object by way of a node, and what `steading explain` says of its shard there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The node whose HTTP server was asked.
    pub through: String,
    /// The shard.
    pub shard: u32,
    /// Its owner, as `explain` says.
    pub owner: Option<String>,
    /// Whether `explain` says that it is served.
    pub explained_healthy: bool,
    /// What happens next, as `explain` says.
    pub next: String,
    /// The answer: none if the object's method returned, else what failed.
    pub failed: Option<String>,
}

impl Sample {
    /// Whether the node that was asked rejected the call for want of memory. The doctor must name that;
    /// who owns the shard, and whether the node is ready, is another question.
    fn is_rejected(&self) -> bool {
        let failed = self.failed.as_deref();
        failed.is_some_and(|failed| failed.contains("overloaded"))
    }
}

/// Asks `nodes`, the first of which also answers `doctor`, `status` and `explain`, and calls an
/// object on every owner through the first, and on itself through each other.
pub async fn observe(cluster: &Cluster, nodes: &[&Node]) -> Observation {
    let asked = nodes[0];
    let (ready, doctor, status, samples) = tokio::join!(
        join_all(nodes.iter().map(|node| ready(node))),
        doctor(cluster, asked),
        status(cluster, asked),
        samples(cluster, nodes),
    );
    Observation {
        ready: ready.into_iter().collect(),
        doctor,
        status,
        samples,
    }
}

/// Waits until nothing that the cluster says contradicts what callers experience, and `wanted` holds
/// of it: the fault is seen. Returns the last observation.
///
/// Each source is asked at a slightly different moment, so one that changes may contradict another
/// once; what stays contradictory is a bug.
pub async fn agrees(
    cluster: &Cluster,
    nodes: &[&Node],
    goal: &str,
    wanted: impl Fn(&Observation) -> bool,
) -> Observation {
    until(&format!("all agree: {goal}"), async || {
        let seen = observe(cluster, nodes).await;
        match contradictions(&seen).as_slice() {
            [] if wanted(&seen) => Ok(seen),
            [] => Err(format!("not seen yet: {seen:#?}")),
            some => Err(format!("{some:#?} in {seen:#?}")),
        }
    })
    .await
}

/// Returns every contradiction between what was said and what was experienced.
pub fn contradictions(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    let failed: Vec<_> = seen
        .samples
        .iter()
        .filter(|call| call.failed.is_some())
        .collect();
    let unready = seen.ready.iter().filter(|(_, ready)| **ready != Ready::Yes);
    if seen.doctor.code == Some(0) {
        found.extend(failed.iter().map(|call| {
            let (through, shard) = (&call.through, call.shard);
            format!("doctor is content, but a call to shard {shard} through {through} failed")
        }));
        found.extend(
            unready.clone().map(|(node, ready)| {
                format!("doctor is content, but {node} is not ready: {ready:?}")
            }),
        );
    }
    for (node, _) in unready {
        let is_named = seen
            .doctor
            .findings
            .iter()
            .any(|finding| finding.contains(node));
        if !is_named {
            found.push(format!("doctor does not name {node}, which is not ready"));
        }
    }
    if seen.status.code == Some(0) {
        let unserved = failed.iter().filter(|call| !call.is_rejected());
        found.extend(unserved.map(|call| {
            let (through, shard) = (&call.through, call.shard);
            format!("status is content, but a call to shard {shard} through {through} failed")
        }));
    }
    for call in &seen.samples {
        found.extend(of_sample(call, seen));
    }
    for (node, state) in &seen.status.nodes {
        if state == "active" && seen.ready.get(node) == Some(&Ready::Silent) {
            found.push(format!(
                "status says that {node} is active, but it does not answer"
            ));
        }
    }
    found
}

fn of_sample(call: &Sample, seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    if call.is_rejected() {
        return found;
    }
    let (through, shard) = (&call.through, call.shard);
    let owner = call.owner.as_deref();
    // That it may be unserved is all that is said of such a shard.
    let silent = owner.is_some_and(|owner| {
        seen.status
            .nodes
            .get(owner)
            .is_some_and(|is| is == "silent")
    });
    if call.failed.is_some() && call.explained_healthy {
        found.push(format!(
            "explain says that shard {shard} is served, but a call through {through} failed"
        ));
    }
    if call.failed.is_some() && call.next.starts_with("nothing: it is where it should be") {
        found.push(format!(
            "explain says that nothing is to happen to shard {shard}, which fails"
        ));
    }
    if call.failed.is_none() && owner.is_some() && !silent && !call.explained_healthy {
        found.push(format!(
            "explain says that shard {shard} is not served, but it is"
        ));
    }
    let own = owner == Some(through.as_str());
    if own && call.failed.is_some() && seen.ready.get(through) == Some(&Ready::Yes) {
        found.push(format!(
            "{through} is ready, but a call to its own shard {shard} failed"
        ));
    }
    found
}

async fn ready(node: &Node) -> (String, Ready) {
    let patient = node.get("/ready");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(2), patient).await;
    let ready = match answer {
        Ok(Ok(Answer { status: 200, .. })) => Ready::Yes,
        Ok(Ok(Answer { body, .. })) => {
            let conditions = body["conditions"].as_array().cloned().unwrap_or_default();
            let unmet = conditions
                .iter()
                .filter(|condition| condition["met"] == false);
            let unmet: Vec<_> = unmet
                .filter_map(|condition| condition["name"].as_str())
                .collect();
            Ready::No(format!("{}; {}", unmet.join(", "), body["waiting_for"]))
        }
        Ok(Err(_)) | Err(_) => Ready::Silent,
    };
    (node.id().to_owned(), ready)
}

async fn doctor(cluster: &Cluster, asked: &Node) -> Doctor {
    let args = [
        "doctor",
        "--json",
        "--measure",
        "100ms",
        "--address",
        asked.http(),
    ];
    let (code, output) = cluster.command(&args).await;
    let report: Value = serde_json::from_str(&output).unwrap_or_default();
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let unwell = findings.iter().filter(|of| of["level"] != "ok").map(|of| {
        let (level, check) = (text(&of["level"]), text(&of["check"]));
        format!(
            "{level} {check}: {} | {}",
            text(&of["what"]),
            text(&of["why"])
        )
    });
    Doctor {
        code,
        findings: unwell.collect(),
    }
}

async fn status(cluster: &Cluster, asked: &Node) -> Status {
    let args = ["status", "--json", "--address", asked.http()];
    let (code, output) = cluster.command(&args).await;
    let told: Value = serde_json::from_str(&output).unwrap_or_default();
    let nodes = told["nodes"].as_array().cloned().unwrap_or_default();
    let states = nodes.iter().filter_map(|node| {
        let state = node["state"].as_str()?;
        Some((node["id"].as_str()?.to_owned(), state.to_owned()))
    });
    let count = |name: &str| told["shards"][name].as_u64().unwrap_or_default();
    Status {
        code,
        nodes: states.collect(),
        unowned: count("unowned"),
        at_risk: count("at_risk"),
    }
}

/// Calls a shard of every owner, and one without an owner, through the first node; and a shard of
/// each other node through that node itself.
async fn samples(cluster: &Cluster, nodes: &[&Node]) -> Vec<Sample> {
    let Some(owners) = owners(nodes[0]).await else {
        return Vec::new();
    };
    let mut first: BTreeMap<Option<String>, u32> = BTreeMap::new();
    for (shard, owner) in (0..).zip(owners) {
        first.entry(owner).or_insert(shard);
    }
    let through_first = first.values().map(|shard| (nodes[0], *shard));
    let names: BTreeSet<_> = nodes.iter().skip(1).map(|node| node.id()).collect();
    let through_others = nodes.iter().skip(1).filter_map(|node| {
        let shard = first.get(&Some(node.id().to_owned()))?;
        names.contains(node.id()).then_some((*node, *shard))
    });
    let calls = through_first.chain(through_others);
    let called = calls.map(|(node, shard)| sample(cluster, node, shard));
    join_all(called).await.into_iter().flatten().collect()
}

async fn owners(node: &Node) -> Option<Vec<Option<String>>> {
    let answer = node.get("/v1/shards").await.ok()?;
    let shards = answer.body.as_array()?.clone();
    let owner = |shard: Value| shard["owner"].as_str().map(str::to_owned);
    Some(shards.into_iter().map(owner).collect())
}

/// Calls an object of a shard and explains the shard through the same node. `None`: the node does
/// not answer, so nothing is said or experienced through it.
async fn sample(cluster: &Cluster, node: &Node, shard: u32) -> Option<Sample> {
    let url = format!(
        "http://{}/v1/objects/Counter/shard%23{shard}%2Fsample/total",
        node.http()
    );
    let headers = [("x-steading-timeout-ms", CALL_TIMEOUT_MS)];
    let number = shard.to_string();
    let explain = [
        "explain",
        "shard",
        &number,
        "--json",
        "--address",
        node.http(),
    ];
    let arguments = json!({});
    let call = node.client().post(&url, &arguments, &headers);
    let call = tokio::time::timeout(std::time::Duration::from_secs(3), call);
    let (called, (_, explained)) = tokio::join!(call, cluster.command(&explain));
    let explained: Value = serde_json::from_str(&explained).ok()?;
    let failed = match called {
        Ok(Ok(Answer { status: 200, .. })) => None,
        Ok(Ok(Answer { status, body })) => Some(format!("{status} {}", body["code"])),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer".into()),
    };
    Some(Sample {
        through: node.id().into(),
        shard,
        owner: explained["shard"]["owner"].as_str().map(str::to_owned),
        explained_healthy: explained["shard"]["healthy"] == true,
        next: explained["next"].as_str().unwrap_or_default().to_owned(),
        failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes that serve.
    fn well() -> Observation {
        let names = ["a", "b"].map(str::to_owned);
        Observation {
            ready: names.clone().map(|node| (node, Ready::Yes)).into(),
            doctor: Doctor {
                code: Some(0),
                findings: Vec::new(),
            },
            status: Status {
                code: Some(0),
                nodes: names.map(|node| (node, "active".into())).into(),
                ..Status::default()
            },
            samples: vec![Sample {
                through: "a".into(),
                shard: 7,
                owner: Some("b".into()),
                explained_healthy: true,
                next: "nothing: it is where it should be".into(),
                failed: None,
            }],
        }
    }

    fn failing() -> Observation {
        let mut seen = well();
        seen.samples[0].failed = Some("503 no_owner".into());
        seen
    }

    #[test]
    fn what_is_well_contradicts_nothing() {
        assert_eq!(contradictions(&well()), Vec::<String>::new());
    }

    #[test]
    fn a_failed_call_contradicts_all_that_are_content() {
        let found = contradictions(&failing());
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].starts_with("doctor is content"));
        assert!(found[1].starts_with("status is content"));
        assert!(found[2].contains("is served, but a call"));
        assert!(found[3].contains("nothing is to happen"));
    }

    #[test]
    fn a_failed_call_that_all_report_is_no_contradiction() {
        let mut seen = failing();
        (seen.doctor.code, seen.status.code) = (Some(1), Some(1));
        seen.samples[0].explained_healthy = false;
        seen.samples[0].next = "its owner b is silent".into();
        assert_eq!(contradictions(&seen), Vec::<String>::new());
    }

    #[test]
    fn a_call_that_is_rejected_for_want_of_memory_is_the_doctors_to_name() {
        let mut seen = failing();
        seen.samples[0].failed = Some("503 \"overloaded\"".into());
        let found = contradictions(&seen);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with("doctor is content"));
    }

    #[test]
    fn a_shard_of_a_silent_owner_may_be_served_or_not() {
        let mut seen = well();
        seen.samples[0].explained_healthy = false;
        seen.status.nodes.insert("b".into(), "silent".into());
        assert_eq!(contradictions(&seen), Vec::<String>::new());
    }

    #[test]
    fn a_served_shard_must_not_be_reported_as_unserved() {
        let mut seen = well();
        seen.samples[0].explained_healthy = false;
        assert_eq!(contradictions(&seen).len(), 1);
    }

    #[test]
    fn a_ready_node_serves_its_own_shards() {
        let mut seen = failing();
        (seen.doctor.code, seen.status.code) = (Some(1), Some(1));
        seen.samples[0] = Sample {
            through: "b".into(),
            explained_healthy: false,
            next: String::new(),
            ..seen.samples[0].clone()
        };
        let found = contradictions(&seen);
        assert_eq!(found, ["b is ready, but a call to its own shard 7 failed"]);
    }

    #[test]
    fn a_silent_node_is_neither_active_nor_unnamed() {
        let mut seen = well();
        seen.ready.insert("b".into(), Ready::Silent);
        seen.samples.clear();
        let found = contradictions(&seen);
        assert_eq!(found.len(), 3, "{found:#?}");
        seen.doctor = Doctor {
            code: Some(1),
            findings: vec!["bad nodes_answer: b does not answer".into()],
        };
        seen.status.nodes.insert("b".into(), "silent".into());
        assert_eq!(contradictions(&seen), Vec::<String>::new());
    }
}
