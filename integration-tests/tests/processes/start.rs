//! Starting and stopping: ready when it should be, refused when it must be, gone in time.

use serde_json::Value;
use steading_integration_tests::cluster::{Cluster, Node, node_ids};
use steading_integration_tests::etcd::{Etcd, tls};
use steading_integration_tests::inspector::Inspector;
use steading_integration_tests::proxy::{Path, Proxy};
use steading_integration_tests::until;
use tokio::time::Instant;

use super::cluster;

/// Waits until a process ends that must not start, and returns what it said.
async fn refusal(node: &Node, exit_code: i32) -> String {
    let status = node.end().await;
    assert_eq!(status.code(), Some(exit_code), "{}", node.output());
    node.output()
}

#[tokio::test]
async fn three_nodes_of_8192_shards_start_cold() {
    let cluster = cluster("cold").await.shard_count(8192);
    let start = Instant::now();
    let nodes = cluster.ready(["a", "b", "c"]).await;
    println!(
        "cold start, debug build, 3 nodes, 8192 shards: {:?}",
        start.elapsed()
    );
    nodes[0].is_settled(["a", "b", "c"]).await;
    let owners = nodes[1].owners().await;
    for node in &nodes {
        let owned = owners.iter().flatten().filter(|owner| *owner == node.id());
        assert!((2730..=2731).contains(&owned.count()), "{}", node.id());
    }
    let claims = cluster.history().await.assert_single_owners();
    assert!(claims >= 8192, "{claims}");
}

#[tokio::test]
async fn an_inspector_that_is_early_says_what_it_lacks_and_warns_of_etcd_once_it_looks() {
    let warning = "known lease and stale-read bugs";
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "early");
    let inspector = Inspector::start(&cluster).await;
    let says = async |what: &str| {
        let output = inspector.output();
        if output.contains(what) {
            Ok(output)
        } else {
            Err(output)
        }
    };
    let early = until("it says what it lacks", async || {
        says("there is no cluster").await
    })
    .await;
    assert!(!early.contains(warning), "{early}");
    cluster.ready(["a"]).await;
    let looks = until("it looks", async || says("looks at the cluster").await).await;
    assert!(looks.matches(warning).count() <= 1, "{looks}");
}

#[tokio::test]
async fn v2_ready_is_told_apart_from_alive_and_m15_an_unreachable_etcd_is_visible() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::start(etcd.address()).await;
    proxy.set(Path::Broken).await;
    let cluster = Cluster::at(format!("http://{}", proxy.address()), "unreachable");
    let node = cluster.start("a").await;
    let unready = until("the node says what it waits for", async || {
        let ready = node
            .get("/ready")
            .await
            .map_err(|error| error.to_string())?;
        assert_eq!(ready.status, 503, "{ready:?}");
        match ready.body["waiting_for"].as_str() {
            Some(_) => Ok(ready.body),
            None => Err(ready.body.to_string()),
        }
    })
    .await;
    let told = unready["waiting_for"].as_str().unwrap_or_default();
    assert!(told.contains("store") || told.contains("etcd"), "{told}");
    let health = node.get("/healthz").await.expect("alive");
    assert_eq!(health.status, 200, "{health:?}");
    proxy.set(Path::Open).await;
    node.is_ready().await;
    assert_eq!(node.add_one("c").await, Ok(1));
}

#[tokio::test]
async fn v1_a_terminated_node_ends_in_time_and_hands_everything_on() {
    let cluster = cluster("terminated").await;
    let [a, b] = cluster.ready(["a", "b"]).await;
    for i in 0..50 {
        b.add_one(&i.to_string()).await.expect("served");
    }
    let start = Instant::now();
    let status = a.terminate().await;
    println!(
        "a node with half of 64 shards ends after {:?}",
        start.elapsed()
    );
    assert!(status.success(), "{status}: {}", a.output());
    b.is_settled(["b"]).await;
    for i in 0..50 {
        b.add_one(&i.to_string()).await.expect("served elsewhere");
    }
    cluster.history().await.assert_single_owners();
}

#[tokio::test]
async fn a_second_process_of_one_node_id_is_refused_while_the_first_lives() {
    let cluster = cluster("twins").await;
    let [first] = cluster.ready(["a"]).await;
    let before = first
        .sees("itself", |cluster| node_ids(cluster) == ["a"])
        .await;
    let second = cluster.launch("a", &[]);
    let said = refusal(&second, 4).await;
    assert!(
        said.contains("`a`") || said.contains(" a "),
        "the node is named: {said}"
    );
    let after = first
        .sees("itself", |cluster| node_ids(cluster) == ["a"])
        .await;
    let life = |cluster: &Value| cluster["nodes"][0]["incarnation"].clone();
    assert_eq!(life(&before), life(&after), "the first goes on");
    assert_eq!(first.add_one("c").await, Ok(1));
}

#[tokio::test]
async fn a_wrong_password_of_etcd_is_refused_in_words() {
    let etcd = Etcd::start().await;
    let mut admin = etcd.client().await;
    admin.user_add("root", "secret", None).await.expect("runs");
    admin.user_grant_role("root", "root").await.expect("runs");
    admin.auth_enable().await.expect("runs");
    let cluster = Cluster::new(&etcd, "password");
    let wrong = ["--etcd-user", "root", "--etcd-password", "wrong"];
    let said = refusal(&cluster.launch("a", &wrong), 4).await;
    assert!(said.contains("authentication failed"), "{said}");
    let mut right = cluster.launch("a", &["--etcd-user", "root", "--etcd-password", "secret"]);
    right.listens().await;
    right.is_ready().await;
}

#[tokio::test]
async fn an_etcd_behind_tls_is_reached_with_its_settings() {
    let etcd = Etcd::start_tls().await;
    let cluster = Cluster::new(&etcd, "tls");
    cluster.launch("a", &[]).says("UnknownIssuer").await;
    let file = |name| tls::file(name).display().to_string();
    let (ca, cert, key) = (file("ca"), file("client"), file("client-key"));
    let settings = ["--etcd-ca", &ca, "--etcd-cert", &cert, "--etcd-key", &key];
    let mut node = cluster.launch("a", &settings);
    node.listens().await;
    node.is_ready().await;
}

#[tokio::test]
async fn v4_a_prefix_of_another_shard_count_is_refused_in_words() {
    let cluster = cluster("counts").await;
    let [_a] = cluster.ready(["a"]).await;
    let other = cluster.clone().shard_count(128);
    let said = refusal(&other.launch("b", &[]), 4).await;
    assert!(said.contains("64") && said.contains("128"), "{said}");
}

#[tokio::test]
async fn v4_a_port_in_use_is_named_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let cluster = cluster("port").await;
    let said = refusal(&cluster.launch("a", &["--http-listen", &address]), 4).await;
    assert!(
        said.contains("http_listen") && said.contains(&address),
        "{said}"
    );
}
