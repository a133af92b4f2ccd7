//! A Deployment's controller and a service, played with plain processes: gates are replaced one after the other, a new
//! one being ready before an old one is told to end. Callers keep their connections, and notice nothing.

use std::time::Duration;

use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::load::Load;
use steading_integration_tests::proxy::Proxy;
use steading_integration_tests::until;

use super::{ALL, cluster};

/// As many as `k8s/base` has.
const REPLICAS: usize = 2;

struct Deployment {
    cluster: Cluster,
    /// Leads new connections to what is ready, and leaves open ones where they are.
    service: Proxy,
    /// The oldest first.
    gates: Vec<Node>,
    made: usize,
}

impl Deployment {
    async fn start(cluster: Cluster) -> Self {
        let first = cluster.gate("gate-0").await;
        let mut deployment = Self {
            cluster,
            service: Proxy::start(first.http().to_owned()).await,
            gates: vec![first],
            made: 1,
        };
        while deployment.made < REPLICAS {
            deployment.surge().await;
        }
        deployment
    }

    /// Adds a gate, to which the service leads once it is ready.
    async fn surge(&mut self) {
        let gate = self.cluster.gate(&format!("gate-{}", self.made)).await;
        self.made += 1;
        self.gates.push(gate);
        self.serve();
    }

    /// Takes the oldest gate out of the service, as is done before it is told to end.
    fn retire(&mut self) -> Node {
        let oldest = self.gates.remove(0);
        self.serve();
        oldest
    }

    fn serve(&self) {
        self.service.lead_to(self.gates.iter().map(Node::http));
    }
}

/// Waits until nobody new is let in.
async fn is_closed(gate: &Node) {
    until(&format!("{} is closed", gate.id()), async || {
        match gate.get("/healthz").await {
            Err(error) if error.is_connect() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_rolling_update_of_gates_fails_no_call_and_lets_those_under_way_be_answered() {
    let cluster = cluster("gates").await;
    let [a, _b] = cluster.ready(["a", "b"]).await;
    let mut deployment = Deployment::start(cluster.clone()).await;
    a.is_spread(["a", "b"]).await;
    let service = deployment.service.address();
    let load = Load::begin_at(&service, "load", ALL, Duration::ZERO).await;

    // Each gate is replaced twice.
    for shard in 0..2 * u32::try_from(REPLICAS).expect("few") {
        deployment.surge().await;
        let old = deployment.retire();
        let held = old.hold(shard).await;
        load.goes_round().await;
        old.ask_to_end();
        is_closed(&old).await;
        load.goes_round().await;
        assert!(!held.is_finished(), "its turn has not ended");
        a.let_go(shard).await;
        assert_eq!(held.await.expect("no panic"), Some(200));
        assert_eq!(old.end().await.code(), Some(0), "{}", old.output());
        assert!(!old.output().contains("not answered"), "{}", old.output());
    }
    load.goes_round().await;
    let called = load.end_unharmed().await;
    let longest = called.iter().map(|called| called.longest).max();
    let answered: u64 = called.iter().map(|called| called.answered).sum();
    eprintln!("{answered} calls, the longest wait was {longest:?}");
    cluster.history().await.assert_single_owners();
}
