//! Certificates that are replaced while processes run.

use std::path::Path;
use std::time::Duration;

use steading_integration_tests::certificates::{Authority, Files, Validity};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::load::Load;
use steading_integration_tests::until;

use super::{PROGRAM, ask, launch, ready, said, uses, works};

/// Who has certificates: each its own, also those who call.
const ALL: [&str; 5] = ["a", "b", "c", "gate", "callers"];

/// One shard for each caller, so that each makes a connection of its own for every second call.
const SHARDS: std::ops::Range<u32> = 0..8;

/// How long each caller pauses after a call.
const PAUSE: Duration = Duration::from_millis(20);

/// The year until which the first certificates are good. Later ones end in others, which tells who uses which.
const FIRST_END: i32 = 2050;

/// Three nodes, a gate before them, and what all of them have on disk.
struct World {
    folder: tempfile::TempDir,
    cluster: Cluster,
    nodes: Vec<Node>,
    gate: Node,
}

impl World {
    async fn start(etcd: &Etcd, authority: &Authority) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for who in ALL {
            issue(folder.path(), who, authority, &[authority], FIRST_END);
        }
        let files = |who: &str| Files::at(&folder.path().join(who));
        let cluster = Cluster::new(etcd, "replaced");
        let cluster = cluster.program(PROGRAM).certified(&files("callers"));
        let mut nodes = ["a", "b", "c"].map(|id| launch(&cluster, id, Some(&files(id))));
        for node in &mut nodes {
            node.listens().await;
        }
        let flags = files("gate").flags();
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let gate = cluster.gate_with("gate", &flags).await;
        gate.is_spread(["a", "b", "c"]).await;
        Self {
            folder,
            cluster,
            nodes: nodes.into(),
            gate,
        }
    }

    /// Replaces the certificates of some.
    fn issue(&self, to: &[&str], by: &Authority, trusted: &[&Authority], until: i32) {
        for who in to {
            issue(self.folder.path(), who, by, trusted, until);
        }
    }

    /// Waits until all processes use certificates that end when these years begin.
    async fn use_those_until(&self, authorities: i32, certificate: i32) {
        for node in self.nodes.iter().chain([&self.gate]) {
            uses(node, &[("tls_ca", authorities), ("tls_cert", certificate)]).await;
        }
    }

    /// Restarts a node, so that it and all others connect anew.
    async fn restart(&mut self, index: usize) {
        let node = &self.nodes[index];
        let id = node.id().to_owned();
        let status = node.terminate().await;
        assert_eq!(status.code(), Some(0), "{}", node.output());
        let files = Files::at(&self.folder.path().join(&id));
        self.nodes[index] = ready(&self.cluster, &id, &files).await;
        self.gate.is_spread(["a", "b", "c"]).await;
    }
}

fn issue(folder: &Path, who: &str, by: &Authority, trusted: &[&Authority], until: i32) {
    by.issue_trusting(&folder.join(who), Validity::Until(until), trusted);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_all_certificates_are_replaced_by_the_same_and_by_another_authority() {
    let (old, new) = (Authority::until(2071), Authority::until(2070));
    let etcd = Etcd::start().await;
    let mut world = World::start(&etcd, &old).await;
    world.use_those_until(2071, FIRST_END).await;
    let load = Load::paced(&world.gate, "load", SHARDS, PAUSE).await;

    // The same authority.
    world.issue(&ALL, &old, &[&old], 2051);
    world.use_those_until(2071, 2051).await;
    world.restart(1).await;

    // Another one: first all trust both, then certificates change, some before others.
    world.issue(&ALL, &old, &[&old, &new], 2052);
    world.use_those_until(2070, 2052).await;
    world.issue(&["a", "gate"], &new, &[&old, &new], 2053);
    world.restart(2).await;
    world.issue(&["b", "c", "callers"], &new, &[&old, &new], 2053);
    world.use_those_until(2070, 2053).await;
    load.goes_round().await;

    // At last nobody trusts the old one.
    world.issue(&ALL, &new, &[&new], 2054);
    world.use_those_until(2070, 2054).await;
    world.restart(0).await;
    load.goes_round().await;
    load.end_unharmed().await;

    let late = world.folder.path().join("late");
    let late = old.issue_trusting(&late, Validity::Good, &[&old, &new]);
    for node in world.nodes.iter().chain([&world.gate]) {
        let address = format!("https://{}", node.http());
        until("the old authority is gone", async || {
            let text = said(&ask(&address, Some(&late), &["status"]));
            let is_refused = text.contains("refuses the certificate");
            is_refused.then_some(()).ok_or(text)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_used_without_a_restart_and_garbage_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let here: &Path = folder.path();
    let (old, new) = (Authority::new(), Authority::new());
    let files = old.issue_trusting(&here.join("node"), Validity::Good, &[&old]);
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "renewed");
    let mut node = launch(&cluster, "a", Some(&files));
    node.listens().await;
    let address = format!("https://{}", node.http());
    works(&address, &files).await;

    std::fs::write(here.join("node/tls.crt"), "half a certi").expect("it can be written");
    node.says("new certificates cannot be used").await;
    let client = old.issue(&here.join("client"), Validity::Good);
    works(&address, &client).await;

    new.issue_trusting(&here.join("node"), Validity::Good, &[&new]);
    node.says("uses new certificates for new connections").await;
    let text = said(&ask(&address, Some(&client), &["status"]));
    assert!(
        text.contains("not in `tls_ca`"),
        "the old authority is gone: {text}"
    );
    works(&address, &new.issue(&here.join("client"), Validity::Good)).await;
}
