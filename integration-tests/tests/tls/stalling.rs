//! Clients that connect and then stall.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use steading_integration_tests::certificates::{Authority, Validity};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::{LIMIT, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{ready, works};

/// How many clients stall at once. Fewer than a server shakes hands with, so that each must be ended by time; and fewer
/// than any system keeps for a busy server: one that was never kept may believe to be connected, and wait for ever.
const STALLING: usize = 100;

/// What they say before they fall silent: nothing, and the begin of a TLS record of which the rest never comes.
const BEGINNINGS: [&[u8]; 3] = [
    &[],
    &[22],
    &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 0, 0, 0, 0, 0, 0, 0],
];

/// Clients that stall, and come back as soon as they are let go.
struct Stalling {
    stop: Arc<AtomicBool>,
    /// How often one of them was let go.
    let_go: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Stalling {
    fn begin(address: &str) -> Self {
        let (stop, let_go) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = JoinSet::new();
        for client in 0..STALLING {
            let (address, stop, let_go) = (address.to_owned(), stop.clone(), let_go.clone());
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    stall(&address, BEGINNINGS[client % BEGINNINGS.len()]).await;
                    let_go.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            stop,
            let_go,
            clients,
        }
    }

    /// Waits until each has been let go: all that are under way now, and as many again.
    async fn are_let_go(&self) {
        let before = self.let_go.load(Ordering::Relaxed);
        until("those that stall are let go", async || {
            let now = self.let_go.load(Ordering::Relaxed);
            let all = now >= before + 2 * STALLING;
            all.then_some(())
                .ok_or_else(|| format!("{now} after {before}"))
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
    }
}

/// Connects, says the begin of something, and waits until the server closes.
async fn stall(address: &str, begin: &[u8]) {
    let mut server = TcpStream::connect(address).await.expect("it listens");
    server.write_all(begin).await.expect("it is open");
    let mut answer = Vec::new();
    let end = timeout(LIMIT, server.read_to_end(&mut answer)).await;
    // A reset is an end as good as any.
    drop(end.expect("the server lets go of it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stall_are_let_go_in_time_and_hold_up_nobody_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = Authority::new().issue(folder.path(), Validity::Good);
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "stalling").certified(&files);
    let node = ready(&cluster, "a", &files).await;
    let address = format!("https://{}", node.http());

    let at_http = Stalling::begin(node.http());
    works(&address, &files).await;
    at_http.are_let_go().await;
    works(&address, &files).await;
    at_http.end().await;

    let grpc = grpc_of(&node).await;
    let at_grpc = Stalling::begin(&grpc);
    // Each of the two must shake hands with the other before objects of both can be called.
    let other = ready(&cluster, "b", &files).await;
    other.is_settled(["a", "b"]).await;
    works(&format!("https://{}", other.http()), &files).await;
    at_grpc.are_let_go().await;
    at_grpc.end().await;

    let late = node.metric("steading_tls_handshakes_total", "late").await;
    assert!(late >= 1.0, "they were let go because of the time");
    let crowded = node
        .metric("steading_tls_handshakes_total", "crowded")
        .await;
    assert!(crowded < 1.0, "nobody had to make room");
}

/// Returns where other nodes reach a node.
async fn grpc_of(node: &Node) -> String {
    let cluster = node.get("/v1/cluster").await.expect("it runs").body;
    let address = cluster["nodes"][0]["addresses"]["grpc"].as_str();
    address.expect("an address").to_owned()
}
