//! Supervisors that are the first process of a container, where everything is killed at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;
use steading_integration_tests::cluster::Node;
use steading_integration_tests::programs::steading;
use steading_integration_tests::until;

use super::cluster;

/// So long that no test would live to see a lease run out.
const LONG: Duration = Duration::from_mins(1);

/// Containers that are killed in each round, and rounds: 36 deaths.
const CONTAINERS: usize = 9;
const ROUNDS: usize = 4;

/// Processes that the first process of each container inherits, and that die with the node.
const ORPHANS: usize = 30;

/// Whether this process may make namespaces. Says so if not.
fn can_make_namespaces() -> bool {
    let made = Command::new("unshare")
        .args(["--pid", "--fork", "true"])
        .status();
    let can = made.is_ok_and(|status| status.success());
    if !can {
        eprintln!("SKIPPED: `unshare --pid` is not permitted; run as root");
    }
    can
}

/// Runs a shell command in the PID namespace of a process.
fn run_inside(process: Pid, command: &str) {
    let process = process.as_raw_nonzero().to_string();
    let run = Command::new("nsenter")
        .args(["--target", &process, "--pid", "--", "sh", "-c", command])
        .status();
    run.expect("`nsenter` is installed");
}

/// Leaves processes without a parent to the first process of its namespace.
async fn leave_orphans(first: Pid) {
    let leave = format!("for i in $(seq {ORPHANS}); do (sleep 1000 &) done");
    run_inside(first, &leave);
    until("the first process has inherited the orphans", async || {
        let pid = first.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let count = children.unwrap_or_default().split_whitespace().count();
        // The node itself is one of them.
        (count > ORPHANS).then_some(()).ok_or(count.to_string())
    })
    .await;
}

#[tokio::test]
async fn leases_end_when_whole_containers_are_killed() {
    if !can_make_namespaces() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("container");
    let program = steading().display();
    // The end of `unshare` ends the namespace too, so nothing is left if the test fails.
    let text = format!("#!/bin/sh\nexec unshare --pid --fork --kill-child {program} \"$@\"\n");
    fs::write(&script, text).expect("it can be written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");

    for round in 0..ROUNDS {
        // Each round has a cluster of its own, whose shards have seen no deaths before.
        let cluster = cluster(&format!("containers-{round}")).await;
        let cluster = cluster.with_lease_ttl(LONG);
        let [stays] = cluster.ready(["a"]).await;
        let contained = cluster.clone().program(&script);
        let mut nodes: Vec<Node> = (0..CONTAINERS)
            .map(|n| contained.launch(&format!("n{n}"), &["--supervise"]))
            .collect();
        for node in &mut nodes {
            node.listens().await;
        }
        for node in &nodes {
            node.is_ready().await;
        }
        for node in &nodes {
            let first = node.supervised().expect("`unshare` has one child");
            leave_orphans(first).await;
        }
        for node in &nodes {
            let first = node.supervised().expect("`unshare` has one child");
            // Everything but the first process of the namespace, at once.
            run_inside(first, "kill -9 -1");
        }
        for node in &nodes {
            let status = node.end().await;
            assert_eq!(status.code(), Some(128 + 9), "{}", node.output());
        }
        stays.is_settled(["a"]).await;
        cluster.history().await.assert_single_owners();
    }
}
