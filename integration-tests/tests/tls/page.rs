//! The Inspector's page over TLS: to whoever comes, for browsers have no certificates.

use std::time::Duration;

use serde_json::{Value, json};
use steading_integration_tests::certificates::{Authority, Files, Validity, begin_of};
use steading_integration_tests::client::{Answer, Client};
use steading_integration_tests::cluster::Cluster;
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::inspector::{Inspector, TOKEN};
use steading_integration_tests::until;

use super::end_of;

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks an Inspector's page for something until it has it.
async fn shows(client: &Client, address: &str, path: &str) -> Value {
    until(&format!("the page shows {path}"), async || {
        let client = client.renewed();
        let answer = client.get(&client.url(address, path)).await;
        match answer.map_err(|error| error.to_string())? {
            Answer { status: 200, body } => Ok(body),
            Answer { status, body } => Err(format!("{status} {body}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_encrypted_and_its_certificate_is_replaced_while_it_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (old, new) = (Authority::new(), Authority::new());
    let files = old.issue(&at("page"), Validity::Good);
    // What browsers trust.
    let trusted = old.issue(&at("browser"), Validity::Good);
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "page");
    let [node] = cluster.ready(["a"]).await;
    let inspector = Inspector::start_with(&cluster, &files.page_flags()).await;
    let browser = Client::anonymous(&trusted, PATIENCE);
    let page = shows(&browser, inspector.address(), "/").await;
    assert!(page.as_str().is_some_and(|page| page.contains("<html")));
    let nodes = shows(&browser, inspector.address(), "/api/nodes").await;
    assert_eq!(nodes[0]["id"], "a", "{nodes}");

    // Who may act is as it was.
    let url = browser.url(inspector.address(), "/api/shards/3/pin");
    let (body, token) = (json!({}), [("x-steading-token", TOKEN)]);
    let refused = browser.post(&url, &body, &[]).await.expect("it answers");
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (403, &json!("bad_token"))
    );
    let pinned = browser.post(&url, &body, &token).await.expect("it answers");
    assert_eq!(pinned.status, 200, "{pinned:?}");
    assert!(inspector.output().contains("somebody from 127.0.0.1"));

    // Whoever speaks no TLS is told to.
    let plain = Client::plain(PATIENCE);
    let answer = plain.get(&plain.url(inspector.address(), "/")).await;
    let answer = answer.expect("it answers");
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (400, &json!("tls_required"))
    );

    new.issue(&at("page"), Validity::Good);
    new.issue(&at("browser"), Validity::Good);
    shows(&browser, inspector.address(), "/api/nodes").await;
    assert_eq!(node.add_one("c1").await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_own_inspector_is_encrypted_and_tells_when_its_certificate_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = Authority::new().issue(folder.path(), Validity::Until(2060));
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "own-page");
    let mut flags = files.page_flags();
    flags.push("--inspector-listen=127.0.0.1:0".into());
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let [node] = cluster.ready_with(["a"], &flags).await;
    let events = node.output();
    let mut events = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let address = events.find_map(|event| Some(event["inspector"].as_str()?.to_owned()));
    let address = address.expect("it listens");
    let browser = Client::anonymous(&files, PATIENCE);
    let nodes = shows(&browser, &address, "/api/nodes").await;
    assert_eq!(nodes[0]["id"], "a", "{nodes}");
    let end = until("the end is told", async || {
        end_of(&node, "inspector_tls_cert")
            .await
            .ok_or("not yet".into())
    });
    assert_eq!(end.await, begin_of(2060).to_string());
    let (status, said) = refused(&cluster, &files).await;
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("`inspector_tls_key` is not set"), "{said}");
}

/// What a node says that is given a certificate without its key.
async fn refused(cluster: &Cluster, files: &Files) -> (Option<i32>, String) {
    let flags = files.page_flags();
    let cert = flags.iter().find(|flag| flag.contains("cert"));
    let node = cluster.launch("b", &[cert.expect("there is one")]);
    (node.end().await.code(), node.output())
}
