//! A node that lacks what it works with: its storage, file descriptors, memory.

use futures::FutureExt;
use rustix::process::{Resource, Rlimit, prlimit};
use steading_integration_tests::agreement::{Observation, agrees};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::faults::{finds, is_served, two};

#[tokio::test]
async fn a_node_whose_storage_is_deleted_leaves_and_the_rest_is_served() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "deleted");
    let [a] = cluster.ready(["a"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let storage = format!("embedded:{}", folder.path().display());
    let [b] = cluster.ready_with(["b"], &["--storage", &storage]).await;
    a.is_spread(["a", "b"]).await;
    std::fs::remove_file(folder.path().join("objects.redb")).expect("it is there");
    assert_eq!(b.end().await.code(), Some(4), "{}", b.output());
    agrees(&cluster, &[&a], "a serves everything", |seen| {
        is_served(seen) && seen.status.unowned == 0
    })
    .await;
}

/// It takes no new connection, and goes on with those that other nodes have to it.
#[tokio::test]
async fn a_node_without_file_descriptors_is_reported_and_calls_through_others_are_served() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "descriptors");
    let [a, b] = two(&cluster).await;
    agrees(&cluster, &[&a, &b], "all is well", is_served).await;
    let limit = |current| {
        let maximum = Some(1024);
        let limit = Rlimit { current, maximum };
        prlimit(Some(b.pid()), Resource::Nofile, limit).expect("we may")
    };
    limit(Some(3));
    agrees(&cluster, &[&a], "b is reported", |seen| {
        finds(seen, "bad nodes_answer", "b ") && is_served(seen)
    })
    .await;
    limit(Some(1024));
    agrees(&cluster, &[&a, &b], "all is well again", is_served).await;
}

#[tokio::test]
async fn a_node_without_memory_for_requests_is_reported() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "memory");
    let more = ["--memory-budget=64MiB", "--body-timeout=1m"];
    let [a, b] = cluster.ready_with(["a", "b"], &more).await;
    a.is_spread(["a", "b"]).await;
    let mut held = Vec::new();
    for len in [4 << 20, 64 << 10, 1 << 10, 2] {
        while let Some(body) = unfinished(&b, len).await {
            held.push(body);
        }
    }
    let overloaded = |seen: &Observation| {
        let calls = seen
            .samples
            .iter()
            .filter_map(|call| call.failed.as_deref());
        calls.filter(|failed| failed.contains("overloaded")).count() > 0
            && finds(seen, "bad memory_budget", "b ")
    };
    agrees(&cluster, &[&a, &b], "b is reported", overloaded).await;
    drop(held);
    agrees(&cluster, &[&a, &b], "all is well again", is_served).await;
}

/// Sends a body but for its last byte, and waits until the node holds it, or `None`: rejects it.
async fn unfinished(node: &Node, len: usize) -> Option<TcpStream> {
    let address = node.http();
    let before = in_use(node).await;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let head = format!(
        "POST /v1/objects/Counter/c/add HTTP/1.1\r\nHost: {address}\r\nContent-Type: \
         application/json\r\nContent-Length: {len}\r\n\r\n"
    );
    let part = [head.into_bytes(), vec![b' '; len - 1]].concat();
    // An error means that it is rejected, and so it ends.
    let _ = stream.write_all(&part).await;
    let is_held = until("the body is held or rejected", async || {
        if stream.read(&mut [0]).now_or_never().is_some() {
            return Ok(false);
        }
        let grown = in_use(node).await.saturating_sub(before);
        let all = grown >= len - 1;
        all.then_some(true).ok_or(format!("{grown} bytes are held"))
    })
    .await;
    is_held.then_some(stream)
}

/// Returns how many bytes of its budget a node uses.
async fn in_use(node: &Node) -> usize {
    let metrics = node.get("/metrics").await.expect("it runs").body;
    let mut lines = metrics.as_str().expect("text").lines();
    let used = lines.find_map(|line| line.strip_prefix("steading_memory_budget_used_bytes "));
    used.expect("it is there").parse().expect("a number")
}
