//! Whoever asks: every command, the Inspector, a gate's callers, probes.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use steading_integration_tests::certificates::{Authority, Files, Validity, begin_of};
use steading_integration_tests::client::{Answer, Client};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::inspector::{Inspector, TOKEN};
use steading_integration_tests::programs::steading;
use steading_integration_tests::until;

use super::{ask, end_of, ready, said};

const PATIENCE: Duration = Duration::from_secs(30);

/// Two nodes and a gate, each with the same certificate.
async fn world(etcd: &Etcd, name: &str, files: &Files) -> (Cluster, [Node; 2], Node) {
    let cluster = Cluster::new(etcd, name).certified(files);
    let nodes = [
        ready(&cluster, "a", files).await,
        ready(&cluster, "b", files).await,
    ];
    let flags = files.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let gate = cluster.gate_with("gate", &flags).await;
    gate.is_spread(["a", "b"]).await;
    (cluster, nodes, gate)
}

/// Stands for the number of a plan that is kept and has ended.
const PLAN: &str = "PLAN";

/// Commands that ask a node, in an order in which each is right.
const COMMANDS: &[&[&str]] = &[
    &["call", "Counter", "c1", "add", "n=1"],
    &["status"],
    &["nodes"],
    &["shards"],
    &["shards", "3"],
    &["objects"],
    &["explain", "shard", "3"],
    &["explain", "object", "Counter/c1"],
    &["explain", "node", "a"],
    &["plans"],
    &["plan", PLAN],
    &["abort", PLAN],
    &["move", "b", "3", "--wait"],
    &["pin", "3", "--wait"],
    &["unpin", "3"],
    &["release", "3"],
    &["cordon", "a"],
    &["uncordon", "a"],
    &["pause"],
    &["resume"],
    &["rebalance", "--dry-run"],
    &["doctor", "--measure", "100ms"],
    &["simulate", "--pattern", "{n}", "--count", "100"],
    &["undrain", "a"],
    &["drain", "b", "--wait"],
];

/// Those that ask none, or only etcd.
const OTHERS: [&str; 7] = [
    "dev",
    "node",
    "gate",
    "bench",
    "raise-tokens",
    "completions",
    "help",
];

/// Every command that the program tells of.
fn all_commands() -> BTreeSet<String> {
    let help = Command::new(steading()).arg("--help").output();
    let help = said(&help.expect("it runs"));
    let list = help.split("Commands:").nth(1).expect("a list");
    let list = list.split("Options:").next().expect("its end");
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let names = list.lines().filter(is_name);
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_asks_with_certificates_and_says_what_it_lacks_without() {
    let tried = COMMANDS.iter().map(|command| command[0]).chain(OTHERS);
    let tried: BTreeSet<String> = tried.map(str::to_owned).collect();
    assert_eq!(tried, all_commands());

    let folder = tempfile::tempdir().expect("a folder");
    let files = Authority::new().issue(folder.path(), Validity::Good);
    let etcd = Etcd::start().await;
    let (_cluster, nodes, gate) = world(&etcd, "commands", &files).await;
    let plan = ended_plan(&gate).await;
    for (number, command) in COMMANDS.iter().enumerate() {
        let words = command
            .iter()
            .map(|word| if *word == PLAN { &plan } else { *word });
        let command: Vec<&str> = words.collect();
        // Through the gate and through a node.
        let asked = if number % 2 == 0 { &gate } else { &nodes[0] };
        let address = format!("https://{}", asked.http());
        let without = ask(&address, None, &command);
        let text = said(&without);
        assert_eq!(without.status.code(), Some(2), "{command:?}: {text}");
        assert!(text.contains("STEADING_TLS_CA"), "{command:?}: {text}");
        let with = ask(&address, Some(&files), &command);
        let text = said(&with);
        assert_eq!(with.status.code(), Some(0), "{command:?}: {text}");
    }
}

/// Returns the number of a plan that has ended.
async fn ended_plan(node: &Node) -> String {
    until("a plan has ended", async || {
        let answer = node.get("/v1/plans").await;
        let plans = answer.map_err(|error| error.to_string())?.body;
        let mut all = plans.as_array().into_iter().flatten();
        let ended = all.find(|plan| plan["outcome"] != "running");
        let number = ended.and_then(|plan| plan["id"].as_u64());
        number
            .map(|number| number.to_string())
            .ok_or_else(|| plans.to_string())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inspector_sees_and_moves_a_cluster_with_certificates_and_none_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (authority, foreign) = (Authority::new(), Authority::new());
    let files = authority.issue(&at("good"), Validity::Good);
    let etcd = Etcd::start().await;
    let (cluster, nodes, gate) = world(&etcd, "inspected", &files).await;
    let strange = foreign.issue(&at("foreign"), Validity::Good).flags();
    let inspector = Inspector::start_with(&cluster, &files.flags()).await;
    tells(&inspector, |figures| {
        figures["age_ms"].is_u64() && figures["error"].is_null()
    })
    .await;

    let shard = nodes[0].shards_of("a").await[0];
    let client = Client::plain(PATIENCE);
    let url = client.url(inspector.address(), &format!("/api/shards/{shard}/move"));
    let token = [("x-steading-token", TOKEN)];
    let moved = client.post(&url, &json!({ "node": "b" }), &token).await;
    assert_eq!(moved.expect("it answers").status, 200);
    until("the shard is moved", async || {
        let of_b = gate.shards_of("b").await;
        of_b.contains(&shard).then_some(()).ok_or("not yet".into())
    })
    .await;

    let foreign = Inspector::start_with(&cluster, &strange).await;
    tells(&foreign, |figures| {
        let error = figures["error"].as_str();
        error.is_some_and(|error| error.contains("not in `tls_ca`")) && figures["age_ms"].is_null()
    })
    .await;
}

/// Waits until an Inspector tells this of each of three nodes.
async fn tells(inspector: &Inspector, wished: impl Fn(&Value) -> bool) {
    let client = Client::plain(PATIENCE);
    until("the Inspector tells of its nodes", async || {
        let url = client.url(inspector.address(), "/api/nodes");
        let answer = client.get(&url).await;
        let Answer { body, .. } = answer.map_err(|error| error.to_string())?;
        let nodes = body.as_array().map_or(&[][..], Vec::as_slice);
        let is_so = nodes.len() == 3 && nodes.iter().all(|node| wished(&node["figures"]));
        is_so.then_some(()).ok_or_else(|| body.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_only_probes_and_metrics_are_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::until(2070);
    let files = authority.issue(folder.path(), Validity::Until(2060));
    let etcd = Etcd::start().await;
    let (_cluster, nodes, gate) = world(&etcd, "open", &files).await;
    let nobody = Client::anonymous(&files, PATIENCE);
    for node in [&nodes[0], &gate] {
        for path in ["/healthz", "/ready", "/metrics"] {
            let answer = nobody.get(&nobody.url(node.http(), path)).await;
            assert_eq!(answer.expect("it answers").status, 200, "{path}");
        }
        for path in [
            "/v1/cluster",
            "/v1/shards",
            "/",
            "/healthz/",
            "/ready/x",
            "/nothing",
        ] {
            let answer = nobody.get(&nobody.url(node.http(), path)).await;
            refused(path, &answer.expect("it answers"));
        }
        let path = "/v1/objects/Counter/c1/add";
        let url = nobody.url(node.http(), path);
        let answer = nobody.post(&url, &json!({ "n": 1 }), &[]).await;
        refused(path, &answer.expect("it answers"));
    }
    assert_eq!(gate.add_one("c1").await, Ok(1), "nobody else has called it");
    for (certificate, year) in [("tls_ca", 2070), ("tls_cert", 2060)] {
        let end = end_of(&gate, certificate).await;
        assert_eq!(end, Some(begin_of(year).to_string()), "{certificate}");
    }
}

#[track_caller]
fn refused(path: &str, answer: &Answer) {
    let code = answer.body["code"].as_str();
    assert_eq!(
        (answer.status, code),
        (401, Some("certificate_required")),
        "{path}"
    );
}
