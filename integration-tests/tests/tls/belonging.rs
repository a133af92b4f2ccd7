//! Who belongs to the cluster works, and who does not is told why.

use std::path::Path;
use std::process::Command;

use steading_integration_tests::certificates::{Authority, Files, Validity};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::until;

use super::{ask, launch, ready, said, works};

async fn refused(node: &Node, why: &str) {
    let status = node.end().await;
    assert_ne!(status.code(), Some(0));
    assert!(node.output().contains(why), "{why}: {}", node.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_clusters_certificates_belongs_to_it_and_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (authority, foreign) = (Authority::new(), Authority::new());
    let good = authority.issue(&at("good"), Validity::Good);
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "tls");
    let mut nodes = ["a", "b", "c"].map(|id| launch(&cluster, id, Some(&good)));
    for node in &mut nodes {
        node.listens().await;
    }
    for node in &nodes {
        works(&format!("https://{}", node.http()), &good).await;
    }
    let address = format!("https://{}", nodes[0].http());

    let plain = ask(&format!("http://{}", nodes[0].http()), None, &["status"]);
    assert_eq!(plain.status.code(), Some(1), "{}", said(&plain));
    assert!(said(&plain).contains("tls_required"), "{}", said(&plain));
    let none = ask(&address, None, &["status"]);
    assert!(said(&none).contains("tls_ca"), "{}", said(&none));
    let strange = foreign.issue(&at("foreign"), Validity::Good);
    let strangers = ask(&address, Some(&strange), &["status"]);
    let text = said(&strangers);
    assert!(
        text.contains("is of an authority that is not in `tls_ca`"),
        "{text}"
    );
    // It knows the cluster's authority, but is not known by it.
    let one_sided =
        foreign.issue_trusting(&at("one-sided"), Validity::Good, &[&authority, &foreign]);
    // Where the server is gone before the client reads, that is all the client sees.
    until("the refusal is told in words", async || {
        let text = said(&ask(&address, Some(&one_sided), &["status"]));
        let is_told = text.contains("refuses the certificate");
        is_told.then_some(()).ok_or(text)
    })
    .await;

    refused(&launch(&cluster, "plain", None), "it speaks TLS only").await;
    refused(
        &launch(&cluster, "foreign", Some(&strange)),
        "not in `tls_ca`",
    )
    .await;
    refused(
        &launch(&cluster, "one-sided", Some(&one_sided)),
        "refuses the certificate",
    )
    .await;
    let expired = authority.issue(&at("expired"), Validity::Expired);
    refused(&launch(&cluster, "expired", Some(&expired)), "has expired").await;
    works(&address, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_script_makes_is_good_for_a_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let script = root.expect("a member").join("scripts/dev-certificates");
    let made = Command::new(script)
        .arg(folder.path())
        .arg("steading")
        .output();
    let made = made.expect("it runs");
    assert!(made.status.success(), "{}", said(&made));
    let files = Files::at(folder.path());
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "script").certified(&files);
    let node = ready(&cluster, "a", &files).await;
    works(&format!("https://{}", node.http()), &files).await;
    works(&format!("https://localhost:{}", port(&node)), &files).await;
    // The one for clients goes into the names that commands are given here.
    let client = tempfile::tempdir().expect("a folder");
    for (made, name) in [
        ("ca.crt", "ca.crt"),
        ("client.crt", "tls.crt"),
        ("client.key", "tls.key"),
    ] {
        let copied = std::fs::copy(folder.path().join(made), client.path().join(name));
        copied.expect("the script made it");
    }
    let client = Files::at(client.path());
    works(&format!("https://{}", node.http()), &client).await;
    refused(
        &launch(&cluster, "client", Some(&client)),
        "a node needs one",
    )
    .await;
}

fn port(node: &Node) -> &str {
    node.http().rsplit_once(':').expect("an address").1
}
