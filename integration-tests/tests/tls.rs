//! Mutual TLS between real processes: who belongs to the cluster works, and who does not is told why.

use std::path::Path;
use std::process::{Command, Output};

use steading_integration_tests::certificates::{Authority, Files, Validity};
use steading_integration_tests::cluster::{Cluster, Node, steading};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::until;

/// Runs a command that asks a node.
fn ask(address: &str, certificates: Option<&Files>, command: &[&str]) -> Output {
    let mut steading = Command::new(steading());
    steading.args(command).args(["--address", address]);
    steading.args(certificates.map(Files::flags).unwrap_or_default());
    steading.output().expect("it runs")
}

fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    out + &String::from_utf8_lossy(&output.stderr)
}

fn launch(cluster: &Cluster, id: &str, certificates: Option<&Files>) -> Node {
    let flags = certificates.map(Files::flags).unwrap_or_default();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    cluster.launch(id, &flags)
}

async fn works(address: &str, certificates: &Files) {
    until("calls reach their objects", async || {
        for n in 0..16 {
            let id = format!("c{n}");
            let call = ["call", "Counter", &id, "add", "n=1"];
            let output = ask(address, Some(certificates), &call);
            if !output.status.success() {
                return Err(said(&output));
            }
        }
        Ok(())
    })
    .await;
}

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
    let text = said(&ask(&address, Some(&one_sided), &["status"]));
    assert!(text.contains("refuses the certificate"), "{text}");

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
