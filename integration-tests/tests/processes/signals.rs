//! What nodes and the Inspector do when they receive a signal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::inspector::Inspector;
use steading_integration_tests::programs::steading;
use steading_signals::{Effect, SIGNALS};

use super::cluster;

/// Nodes that are stopped at the same time.
const STOPPED_TOGETHER: usize = 8;

/// Objects whose updates are in memory only.
const OBJECTS: usize = 100;

/// Updates each object once, and checks that it has lost none since it was created.
async fn update_all(through: &Node, total: i64) {
    for n in 0..OBJECTS {
        assert_eq!(through.add_one(&n.to_string()).await, Ok(total), "{n}");
    }
}

fn numbers(effect: impl Fn(Effect) -> bool) -> Vec<i32> {
    let rows = SIGNALS.iter().filter(|row| effect(row.effect));
    rows.flat_map(|row| row.numbers.clone()).collect()
}

async fn joined(cluster: &Cluster, id: &str, more: &[&str]) -> Node {
    let mut node = cluster.launch(id, more);
    node.listens().await;
    node.is_ready().await;
    node
}

#[tokio::test]
async fn no_signal_that_ends_programs_loses_updates() {
    let cluster = cluster("signals").await;
    let [stays] = cluster.ready(["a"]).await;
    let stops = numbers(|effect| match effect {
        Effect::StopOrForce | Effect::Stop | Effect::StopUnlessFileLimit => true,
        Effect::Ignore | Effect::Pause | Effect::Die => false,
    });
    let mut total = 0;
    for together in stops.chunks(STOPPED_TOGETHER) {
        let mut nodes = Vec::new();
        for number in together {
            nodes.push(cluster.launch(&format!("signal-{number}"), &[]));
        }
        for node in &mut nodes {
            node.listens().await;
        }
        for node in &nodes {
            node.is_ready().await;
        }
        stays
            .sees("every node has shards", |seen| {
                let nodes = seen["nodes"].as_array().map_or(&[][..], Vec::as_slice);
                nodes.len() == together.len() + 1
                    && nodes.iter().all(|node| node["shards_owned"] != 0)
                    && seen["shards"]["moving"] == 0
            })
            .await;
        total += 1;
        update_all(&stays, total).await;
        for (node, number) in nodes.iter().zip(together) {
            node.signal_number(*number);
        }
        for (node, number) in nodes.iter().zip(together) {
            let status = node.end().await;
            let how = (status.code(), status.signal());
            assert_eq!(how, (Some(0), None), "signal {number}");
        }
        total += 1;
        update_all(&stays, total).await;
    }
    for number in numbers(|effect| effect == Effect::Ignore) {
        stays.signal_number(number);
    }
    update_all(&stays, total + 1).await;
    assert_eq!(stays.terminate().await.code(), Some(0));
}

/// A terminal and a service manager signal the supervisor and its child.
#[tokio::test]
async fn a_signal_to_both_processes_does_not_force() {
    let cluster = cluster("signal-to-both").await;
    let [stays] = cluster.ready(["a"]).await;
    let terminate = rustix::process::Signal::TERM.as_raw();
    let hang_up = rustix::process::Signal::HUP.as_raw();
    for (number, total) in [(terminate, 1), (hang_up, 3)] {
        let node = joined(&cluster, &format!("signal-{number}"), &["--supervise"]).await;
        stays.is_settled(["a", node.id()]).await;
        update_all(&stays, total).await;
        node.signal_number_to_both(number);
        assert_eq!(node.end().await.code(), Some(0), "signal {number}");
        let output = node.output();
        assert!(!output.contains("forced shutdown"), "{output}");
        update_all(&stays, total + 1).await;
    }
}

#[tokio::test]
async fn hangups_stay_ignored_under_nohup() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("nohup-steading");
    let program = steading().display();
    let text = format!("#!/bin/sh\ntrap '' HUP\nexec {program} \"$@\"\n");
    fs::write(&script, text).expect("it can be written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let cluster = cluster("nohup").await.program(&script);
    for (id, more) in [("alone", &[][..]), ("supervised", &["--supervise"][..])] {
        let node = joined(&cluster, id, more).await;
        node.signal_number(rustix::process::Signal::HUP.as_raw());
        assert_eq!(node.add_one(id).await, Ok(1));
        assert_eq!(node.terminate().await.code(), Some(0));
        let output = node.output();
        assert!(!output.contains("SIGHUP"), "{output}");
    }
}

#[tokio::test]
async fn the_inspector_ends_in_order_on_any_signal() {
    let cluster = cluster("signals-inspector").await;
    for number in numbers(|effect| matches!(effect, Effect::StopOrForce | Effect::Stop)) {
        if number > rustix::process::Signal::SYS.as_raw() + 4 {
            break; // A few real-time signals will do.
        }
        let inspector = Inspector::start(&cluster).await;
        let status = inspector.ends_on(number).await;
        let how = (status.code(), status.signal());
        assert_eq!(how, (Some(0), None), "signal {number}");
    }
}
