//! Mutual TLS between real processes: who belongs, what happens when certificates are replaced, handshakes that
//! stall, and every program that asks a node.

mod asking;
mod belonging;
mod crossing;
mod etcd;
mod page;
mod refusing;
mod replacing;
mod roles;
mod stalling;

use std::process::{Command, Output};

use steading_integration_tests::certificates::{Files, begin_of};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::programs::steading;
use steading_integration_tests::until;

/// The program of the nodes where objects of a load live: the stock one, with more objects.
const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

/// The metric that tells when certificates end.
const EXPIRY: &str = "steading_certificate_expiry_timestamp_seconds";

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

/// Starts a node and waits until it takes calls.
async fn ready(cluster: &Cluster, id: &str, certificates: &Files) -> Node {
    let mut node = launch(cluster, id, Some(certificates));
    node.listens().await;
    node.is_ready().await;
    node
}

/// Returns when a certificate that a node uses ends, if it tells that: `tls_ca`, `etcd_cert` and so on.
async fn end_of(node: &Node, certificate: &str) -> Option<String> {
    let text = node.get("/metrics").await.ok()?.body;
    let series = format!("{EXPIRY}{{certificate=\"{certificate}\"}} ");
    let mut lines = text.as_str()?.lines();
    let end = lines.find_map(|line| line.strip_prefix(&series))?;
    Some(end.to_owned())
}

/// Waits until a node uses certificates that end when these years begin.
async fn uses(node: &Node, ends: &[(&str, i32)]) {
    until(&format!("{} uses {ends:?}", node.id()), async || {
        for (certificate, year) in ends {
            let end = end_of(node, certificate).await;
            if end.as_deref() != Some(&begin_of(*year).to_string()) {
                return Err(format!("{certificate} ends at {end:?}"));
            }
        }
        Ok(())
    })
    .await;
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
