//! Twenty thousand malformed inputs over every listener of real processes: none may die, none may
//! answer wrongly, and memory stays bounded.
//!
//! The inputs are a kept corpus (`fixtures/malformed`) and changes of it that a seed determines.
//! An input that broke something belongs into the corpus.

mod bytes;
mod grpc;
mod raw;
mod store;

use std::time::Duration;

use rustix::process::Pid;
use serde_json::Value;
use steading_integration_tests::certificates::{Authority, Validity};
use steading_integration_tests::client::Client;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::inspector::Inspector;
use steading_integration_tests::until;
use tokio::time::Instant;

use bytes::{Chance, corpus};
use grpc::Greeting;

const HTTP: &str = include_str!("../../fixtures/malformed/http.txt");
const ETCD: &str = include_str!("../../fixtures/malformed/etcd.txt");

/// Change it to try other inputs.
const SEED: u64 = 1;

/// Inputs at least, over all listeners.
const INPUTS_MIN: usize = 20_000;

/// The most memory that a process may ever have had, in KiB. Idle it has about 100 MiB.
const MEMORY_MAX_KIB: u64 = 700 << 10;

#[tokio::test]
async fn malformed_inputs_harm_no_process() {
    let began = Instant::now();
    let etcd = Etcd::start().await;
    // Longer leases: this test keeps both cores busy.
    let cluster = Cluster::new(&etcd, "malformed").with_lease_ttl(Duration::from_secs(10));
    let nodes = cluster.ready(["a", "b"]).await;
    let inspector = Inspector::start(&cluster).await;
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Authority::new().issue(folder.path(), Validity::Good);
    let encrypted = Cluster::new(&etcd, "malformed-tls").certified(&certificates);
    let encrypted = encrypted.with_lease_ttl(Duration::from_secs(10));
    let flags = certificates.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let [encrypted_node] = encrypted.ready_with(["t"], &flags).await;
    let before = counts(&nodes).await;

    let inputs = |seed, seeds: &[Vec<u8>], count| Chance::new(SEED + seed).inputs(seeds, count);
    let at = |address: &str| corpus(HTTP, address);
    let greeting = greeting(&nodes[0]).await;
    let (a, b) = (nodes[0].http(), nodes[1].http());
    let page = inspector.address();
    let hello = vec![
        b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03".to_vec(),
        b"\x16\x03\x01\xff\xff\x01\xff\xff\xff\x03\x03".to_vec(),
        b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x80\x2e\x01\x03\x01".to_vec(),
    ];
    let (to_a, to_b, to_page, to_grpc, calls, to_https, to_tls) = tokio::join!(
        raw::send_all(a, inputs(0, &at(a), 5000)),
        raw::send_all(b, inputs(1, &at(b), 3500)),
        raw::send_all(page, inputs(2, &at(page), 4000)),
        raw::send_all(nodes[0].grpc(), inputs(3, &grpc::frames(), 2000)),
        grpc::send_all(nodes[0].grpc(), &greeting, Chance::new(SEED + 4), 4500),
        raw::send_all(encrypted_node.http(), inputs(5, &hello, 500)),
        raw::send_all(encrypted_node.grpc(), inputs(6, &hello, 500)),
    );
    let prefix = cluster.prefix();
    let values = corpus(ETCD, "");
    let written = store::write_all(&etcd, prefix, &values, Chance::new(SEED + 7), 600).await;
    let sent = [
        to_a, to_b, to_page, to_grpc, calls, to_https, to_tls, written,
    ];
    let all: usize = sent.iter().sum();
    println!("{all} malformed inputs in {:?}: {sent:?}", began.elapsed());
    assert!(all >= INPUTS_MIN, "{sent:?}");

    undo_commands(&nodes[0]).await;
    for node in nodes.iter().chain([&encrypted_node]) {
        node.is_ready().await;
        unharmed(node.id(), node.pid(), &node.output());
    }
    nodes[0].is_settled(["a", "b"]).await;
    let after = counts(&nodes).await;
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before + 1, after);
    }
    let client = Client::plain(Duration::from_secs(30));
    let ready = client.get(&format!("http://{page}/ready")).await;
    assert_eq!(ready.expect("an answer").status, 200);
    unharmed("the Inspector", inspector.pid(), &inspector.output());
}

/// Adds 1 to counters in several shards by way of both nodes, and returns their totals.
async fn counts(nodes: &[Node]) -> Vec<i64> {
    let mut counts = Vec::new();
    for n in 0..16 {
        let id = format!("right-{n}");
        let node = &nodes[n % nodes.len()];
        counts.push(node.add_one(&id).await.expect("an answer"));
    }
    counts
}

/// What changed inputs may have ordered by chance.
async fn undo_commands(node: &Node) {
    for path in ["/v1/resume", "/v1/nodes/a/uncordon", "/v1/nodes/b/uncordon"] {
        until(path, async || {
            let answer = node
                .post(path, &Value::Object(serde_json::Map::new()))
                .await;
            let answer = answer.map_err(|error| error.to_string())?;
            let taken = matches!(answer.status, 200 | 404);
            taken.then_some(()).ok_or_else(|| answer.body.to_string())
        })
        .await;
    }
}

async fn greeting(node: &Node) -> Greeting {
    let cluster = node.get("/v1/cluster").await.expect("an answer").body;
    let nodes = cluster["nodes"].as_array().expect("nodes");
    let own = nodes.iter().find(|of| of["id"] == node.id());
    let incarnation = &own.expect("itself")["incarnation"];
    Greeting {
        cluster: cluster["cluster_id"].as_str().expect("text").into(),
        node: node.id().into(),
        incarnation: incarnation.to_string().replace('"', ""),
    }
}

/// Asserts that a process lives, never panicked and has not grown.
#[track_caller]
fn unharmed(name: &str, pid: Pid, output: &str) {
    let status = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(status).expect("it lives");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.expect("its peak").trim_end_matches("kB").trim();
    let peak: u64 = peak.parse().expect("a number");
    assert!(peak < MEMORY_MAX_KIB, "{name} had {peak} KiB");
    let panicked = output.lines().find(|line| line.contains("panicked"));
    assert_eq!(panicked, None, "{name}");
}
