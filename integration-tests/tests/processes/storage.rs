//! Nodes whose stored state is damaged, lost, or on a disk that is full.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use steading::ids::{ObjectKey, Token};
use steading::storage::{EmbeddedStorage, Storage};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::programs::steading;
use steading_integration_tests::until;
use tempfile::TempDir;

use super::cluster;

/// The code of a server that ended by an error.
const FAILED: Option<i32> = Some(4);

fn embedded(folder: &TempDir) -> String {
    format!("embedded:{}", folder.path().display())
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("objects.redb")
}

async fn started(cluster: &Cluster, id: &str, folder: &TempDir) -> Node {
    let storage = embedded(folder);
    let mut node = cluster.launch(id, &["--storage", &storage]);
    node.listens().await;
    node.is_ready().await;
    node
}

/// Waits until `/ready` refuses because of the storage.
async fn reports_its_storage(node: &Node) {
    until("the node is unready because of its storage", async || {
        let ready = node
            .get("/ready")
            .await
            .map_err(|error| error.to_string())?;
        let conditions = ready.body["conditions"].as_array().cloned();
        let fails = |condition: &Value| {
            condition["name"] == "storage_works" && condition["met"] == json!(false)
        };
        let reports = ready.status == 503 && conditions.unwrap_or_default().iter().any(fails);
        reports.then_some(()).ok_or(ready.body.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_node_ends_when_its_file_is_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster("storage-deleted").await;
    let [stays] = cluster.ready(["a"]).await;
    let node = started(&cluster, "b", &folder).await;
    stays.is_settled(["a", "b"]).await;
    for n in 0..20 {
        assert_eq!(stays.add_one(&n.to_string()).await, Ok(1));
    }
    fs::remove_file(file(&folder)).expect("it is there");
    // Nothing is asked of it: it notices by itself, hands over what it has, and ends.
    let status = node.end().await;
    assert_eq!(status.code(), FAILED, "{}", node.output());
    let output = node.output();
    assert!(output.contains("was deleted while in use"), "{output}");
    assert!(output.contains("ERROR"), "{output}");
    stays.is_settled(["a"]).await;
    for n in 0..20 {
        assert_eq!(stays.add_one(&n.to_string()).await, Ok(2), "{n}");
    }
}

#[tokio::test]
async fn a_damaged_object_fails_and_others_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster("storage-damaged").await;
    let node = started(&cluster, "a", &folder).await;
    for n in 0..20 {
        let id = format!("object-{n:04}");
        assert_eq!(node.add_one(&id).await, Ok(1));
    }
    assert_eq!(node.terminate().await.code(), Some(0));

    damage(&file(&folder), "object-0019").await;
    let node = started(&cluster, "a", &folder).await;
    let error = node.add_one("object-0019").await.expect_err("damaged");
    assert!(error.contains("activation_failed"), "{error}");
    assert!(error.contains("damaged: Counter/object-0019"), "{error}");
    node.says("a stored object is damaged").await;
    for n in 0..19 {
        assert_eq!(node.add_one(&format!("object-{n:04}")).await, Ok(2));
    }
    node.is_ready().await;
}

/// Flips a bit of the last ID where it matters, so that the object is not found any more. It becomes
/// greater, so that it stays the last. Old pages may have it too.
async fn damage(path: &Path, id: &str) {
    let key = ObjectKey::new("Counter", id).expect("a good key");
    let whole = fs::read(path).expect("it is there");
    let places = (0..whole.len() - id.len()).filter(|at| whole[*at..].starts_with(id.as_bytes()));
    for place in places {
        let mut content = whole.clone();
        content[place + id.len() - 1] ^= 2;
        let copy = tempfile::tempdir().expect("a folder");
        fs::write(file(&copy), &content).expect("written");
        let storage = EmbeddedStorage::open(copy.path()).await;
        let found = storage
            .expect("it opens")
            .load(&key, Token::default())
            .await;
        if found.is_err() {
            return fs::write(path, content).expect("written");
        }
    }
    panic!("{id} is not in the file");
}

#[tokio::test]
async fn empty_files_stop_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(file(&folder), b"").expect("written");
    let cluster = cluster("storage-empty").await;
    let node = cluster.launch("a", &["--storage", &embedded(&folder)]);
    assert_eq!(node.end().await.code(), FAILED);
    let output = node.output();
    assert!(output.contains("empty (0 bytes)"), "{output}");
    assert_eq!(fs::read(file(&folder)).expect("it is there"), b"");
}

/// The kernel sends SIGXFSZ for each write beyond the limit, which must not end the node.
#[tokio::test]
async fn a_node_at_its_file_size_limit_reports_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("limited");
    let program = steading().display();
    // 2 MiB in blocks of 512 bytes, which is little more than an empty file.
    let text = format!("#!/bin/sh\nulimit -f 4096\nexec {program} \"$@\"\n");
    fs::write(&script, text).expect("it can be written");
    make_executable(&script);
    let cluster = cluster("storage-limited").await.program(&script);
    let node = started(&cluster, "a", &folder).await;
    let mut failed = None;
    for n in 0..10_000 {
        // Long IDs fill the file soon.
        let id = format!("{n}-{}", "x".repeat(180));
        if let Err(error) = node.add_one(&id).await {
            failed = Some(error);
            break;
        }
    }
    let failed = failed.expect("the limit is reached");
    assert!(failed.contains("not_stored") || failed.contains("activation_failed"));
    reports_its_storage(&node).await;
    assert!(node.get("/healthz").await.is_ok(), "it runs");
}

pub(super) fn make_executable(script: &Path) {
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("it is ours");
}
