//! Clients that send more than fits into memory.

use std::fs;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use rustix::process::Pid;
use steading_integration_tests::LIMIT;
use steading_integration_tests::cluster::Node;
use steading_integration_tests::programs::steading;
use steading_integration_tests::until;
use steading_proto::v1::Batch;
use steading_proto::v1::peer_client::PeerClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Request;

use super::cluster;
use super::storage::make_executable;

const BUDGET: &str = "--memory-budget=64MiB";

/// What a node may take on top of its budget: buffers of connections, and what the allocator keeps.
const MARGIN_KIB: u64 = 160 << 10;

/// Returns a figure of `/proc/PID/status` in KiB.
fn kibibytes(process: Pid, figure: &str) -> u64 {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(figure));
    let number = line.and_then(|line| line.trim_start_matches(':').trim().split(' ').next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// Checks that a node never took more than its budget and a margin on top of `before`.
fn assert_bounded(node: &Node, before: u64) {
    let (peak, now) = (
        kibibytes(node.pid(), "VmHWM"),
        kibibytes(node.pid(), "VmRSS"),
    );
    eprintln!("{before} KiB before, at most {peak} KiB, {now} KiB after");
    let bound = before + (64 << 10) + MARGIN_KIB;
    assert!(
        peak < bound,
        "{peak} KiB were in use, {bound} KiB are the bound"
    );
}

/// Waits until a node has given back what it had in flight.
async fn gives_back(node: &Node) {
    until("nothing is in flight", async || {
        let metrics = node
            .get("/metrics")
            .await
            .map_err(|error| error.to_string())?;
        let text = metrics.body.as_str().unwrap_or_default();
        let mut lines = text.lines();
        let used = lines.find_map(|line| line.strip_prefix("steading_memory_budget_used_bytes "));
        match used {
            Some("0") => Ok(()),
            used => Err(format!("{used:?} bytes")),
        }
    })
    .await;
}

/// Sends all but the last byte of a body, and returns what is answered while it is not complete.
async fn unfinished(address: String) -> (TcpStream, String) {
    const LEN: usize = 4 << 20;
    let mut stream = TcpStream::connect(&address).await.expect("it listens");
    let head = format!(
        "POST /v1/objects/Counter/c/add HTTP/1.1\r\nHost: {address}\r\nContent-Type: \
         application/json\r\nX-Steading-Command: 1\r\nContent-Length: {LEN}\r\n\r\n"
    );
    let part = vec![b' '; LEN - 1];
    let mut answer = vec![0; 4096];
    let (mut read, mut write) = stream.split();
    let sending = async {
        write.write_all(head.as_bytes()).await?;
        write.write_all(&part).await
    };
    let len = tokio::select! {
        biased;
        len = read.read(&mut answer) => len.unwrap_or(0),
        // An error means that it was answered and closed.
        _ = sending => 0,
    };
    answer.truncate(len);
    (stream, String::from_utf8_lossy(&answer).into_owned())
}

/// 400 unfinished bodies of 4 MiB took 2.1 GiB.
#[tokio::test]
async fn unfinished_bodies_stay_within_the_budget() {
    let cluster = cluster("bodies").await;
    let [node] = cluster.ready_with(["a"], &[BUDGET]).await;
    let before = kibibytes(node.pid(), "VmRSS");
    let sent = join_all((0..400).map(|_| unfinished(node.http().to_owned())));
    let held = timeout(LIMIT, sent)
        .await
        .expect("they are sent or refused");
    let refused = held
        .iter()
        .filter(|(_, answer)| answer.contains("\"overloaded\""));
    let refused: Vec<_> = refused.map(|(_, answer)| answer.as_str()).collect();
    assert!(refused.len() >= 300, "{} are refused", refused.len());
    let one = refused[0];
    assert!(one.starts_with("HTTP/1.1 503"), "{one}");
    assert!(one.contains("\"outcome\":\"not_run\""), "{one}");
    assert_bounded(&node, before);
    drop(held);
    gives_back(&node).await;
    assert_eq!(node.add_one("c").await, Ok(1));
}

/// glibc kept 433 of 463 MiB.
#[tokio::test]
async fn memory_is_given_back_after_a_load_peak() {
    let cluster = cluster("peak").await;
    let [node] = cluster.ready_with(["a"], &["--memory-budget=512MiB"]).await;
    let before = kibibytes(node.pid(), "VmRSS");
    let sent = join_all((0..100).map(|_| unfinished(node.http().to_owned())));
    let held = timeout(LIMIT, sent)
        .await
        .expect("they are sent or refused");
    let peak = kibibytes(node.pid(), "VmHWM") - before;
    assert!(peak > 256 << 10, "{peak} KiB are a peak");
    drop(held);
    gives_back(&node).await;
    until("most of it is given back", async || {
        let kept = kibibytes(node.pid(), "VmRSS").saturating_sub(before);
        let text = format!("{before} KiB before, {peak} KiB more at the peak, {kept} KiB more now");
        if kept < peak / 4 {
            eprintln!("{text}");
            return Ok(());
        }
        Err(text)
    })
    .await;
}

/// A control group of memory, of either version. It can go once its processes have.
struct Group(PathBuf);

impl Group {
    /// Makes one with a limit; `None` where groups cannot be made.
    fn new(bytes: u64) -> Option<Self> {
        let versions = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        let name = format!("steading-test-{}", std::process::id());
        versions.into_iter().find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            // Without the controller of memory the group has no such file.
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Group {
    /// Waits until its processes have left it, and removes it.
    async fn goes(self) {
        until("the group is empty", async || {
            fs::remove_dir(&self.0).map_err(|error| error.to_string())
        })
        .await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is gone already, unless the test failed.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Without a budget, so many bodies take 1.6 GiB.
#[tokio::test]
async fn a_node_in_a_limited_control_group_is_not_killed_for_its_clients_bodies() {
    const LIMIT_MIB: u64 = 320;
    let Some(group) = Group::new(LIMIT_MIB << 20) else {
        println!("not shown: no control group of memory can be made here");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("limited");
    let (program, tasks) = (steading().display(), group.0.join("cgroup.procs"));
    let text = format!(
        "#!/bin/sh\necho $$ > {}\nexec {program} \"$@\"\n",
        tasks.display()
    );
    fs::write(&script, text).expect("written");
    make_executable(&script);
    let cluster = cluster("control-group").await.program(&script);
    let [node] = cluster.ready(["a"]).await;
    let metrics = node.get("/metrics").await.expect("it runs").body;
    let budget = format!(
        "steading_memory_budget_limit_bytes {}\n",
        (LIMIT_MIB << 20) / 4
    );
    assert!(
        metrics.as_str().is_some_and(|text| text.contains(&budget)),
        "{metrics}"
    );
    let sent = join_all((0..400).map(|_| unfinished(node.http().to_owned())));
    let held = timeout(LIMIT, sent)
        .await
        .expect("they are sent or refused");
    let refused = held
        .iter()
        .filter(|(_, answer)| answer.contains("overloaded"));
    assert!(refused.count() >= 300, "most are refused");
    drop(held);
    gives_back(&node).await;
    assert_eq!(node.add_one("c").await, Ok(1), "it lives");
    assert!(node.terminate().await.success(), "{}", node.output());
    group.goes().await;
}

/// Six links with a batch of 200 MiB each took 1.2 GiB; three are enough to see it.
#[tokio::test]
async fn oversized_batches_of_nodes_are_refused() {
    let cluster = cluster("batches").await;
    let [node] = cluster.ready_with(["a"], &[BUDGET]).await;
    let seen = node
        .sees("itself", |cluster| !cluster["nodes"][0].is_null())
        .await;
    let text = |value: &serde_json::Value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    };
    let (id, incarnation) = (
        text(&seen["cluster_id"]),
        text(&seen["nodes"][0]["incarnation"]),
    );
    let before = kibibytes(node.pid(), "VmRSS");
    for len in [200 << 20, 12 << 20] {
        let links = (0..3).map(|_| async {
            let mut client = PeerClient::connect(format!("http://{}", node.grpc())).await;
            let client = client.as_mut().expect("it listens");
            let batch = Batch {
                frames: vec![0; len].into(),
            };
            let mut request = Request::new(futures::stream::iter([batch]));
            for (name, value) in [
                ("steading-wire", "1"),
                ("steading-cluster", &id),
                ("steading-node", "b"),
                ("steading-to", "a"),
                ("steading-incarnation", &incarnation),
            ] {
                let value = value.parse().expect("a good value");
                request.metadata_mut().insert(name, value);
            }
            let mut answers = client.link(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<_, tonic::Status>(())
        });
        let ended = timeout(LIMIT, join_all(links)).await.expect("they end");
        for end in ended {
            let status = end.expect_err("no batch is like that");
            assert!(!status.message().contains("cluster"), "{status}");
        }
    }
    assert_bounded(&node, before);
    gives_back(&node).await;
    assert_eq!(node.add_one("c").await, Ok(1));
}
