//! The Inspector asked over HTTP, without a network.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use steading::ids::{Incarnation, LeaseId, NodeId, Revision, ShardCount, Term};
use steading::placement::{
    ClusterMeta, ClusterView, Leader, NodeRecord, NodeState, Owner, OwnerRecord, Target, Weight,
};
use tokio::sync::watch;
use tower::ServiceExt;

#[tokio::test]
async fn the_page_shows_nodes_leader_and_trouble() {
    let page = text(get("/", view()).await).await;
    for part in [
        "5 of 128 shards have no owner",
        "counter-0",
        "draining",
        "shards 0–1: counter-0 2",
        "shards 60–61: counter-0 1 (1 moving), counter-1 1",
        "shards 124–125: 2 without owner",
    ] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
}

#[tokio::test]
async fn the_json_says_what_the_page_says() {
    let answer: Value =
        serde_json::from_str(&text(get("/api/view", view()).await).await).expect("JSON");
    assert_eq!(
        answer["shards"],
        json!({"total": 128, "owned": 123, "unowned": 5, "moving": 1})
    );
    assert_eq!(answer["leader"], json!({"node": "counter-0", "term": 4}));
    assert_eq!(answer["nodes"][0]["shards_owned"], 61);
    assert_eq!(answer["nodes"][0]["shards_targeted"], 60);
    assert_eq!(answer["nodes"][1]["state"], "draining");
    assert_eq!(
        answer["blocks"][30]["owned"],
        json!({"counter-0": 1, "counter-1": 1})
    );
}

#[tokio::test]
async fn names_from_the_cluster_are_escaped() {
    let mut view = view();
    view.meta.cluster_id = "<script>alert(1)</script>".into();
    let page = text(get("/", view).await).await;
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
}

#[tokio::test]
async fn an_empty_cluster_has_a_page_too() {
    let page = text(get("/", ClusterView::empty(meta())).await).await;
    assert!(page.contains("no node is registered"), "{page}");
}

#[tokio::test]
async fn the_page_may_load_only_from_where_it_came() {
    for path in ["/", "/style.css", "/renew.js", "/api/view"] {
        let answer = get(path, view()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .expect("text");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(
            !text(answer).await.contains("http://"),
            "{path} refers to another place"
        );
    }
}

async fn get(path: &str, view: ClusterView) -> Response {
    let (_sender, receiver) = watch::channel(Arc::new(view));
    let request = Request::get(path)
        .body(Body::empty())
        .expect("a good request");
    steading_inspector::router(receiver)
        .oneshot(request)
        .await
        .expect("infallible")
}

async fn text(answer: Response) -> String {
    let body = to_bytes(answer.into_body(), 1 << 20)
        .await
        .expect("a short body");
    String::from_utf8(body.into()).expect("UTF-8")
}

/// 128 shards, first half of them on `counter-0`, the rest on `counter-1`, which drains; the last
/// five have no live owner, and shard 60 is on its way to `counter-1`.
fn view() -> ClusterView {
    let mut view = ClusterView::empty(meta());
    let names = ["counter-0", "counter-1"].map(id);
    let states = [NodeState::Active, NodeState::Draining];
    view.nodes = names.iter().cloned().zip(states.map(record)).collect();
    view.leader = Some(Leader {
        node: names[0].clone(),
        term: Term::new(4),
    });
    for shard in meta().shard_count.shards() {
        let node = names[usize::from(shard.get() > 60)].clone();
        let target = if shard.get() == 60 {
            names[1].clone()
        } else {
            node.clone()
        };
        let target = Target {
            node: Some(target),
            ..Target::default()
        };
        view.targets.set(shard, target);
        let incarnation = Incarnation::new(if shard.get() < 123 { 1 } else { 9 });
        let owner = Some(Owner { node, incarnation });
        view.owners.set(
            shard,
            OwnerRecord {
                revision: Revision::new(2),
                owner,
                parcel: None,
            },
        );
    }
    view
}

fn meta() -> ClusterMeta {
    ClusterMeta {
        cluster_id: "test".into(),
        shard_count: ShardCount::new(128).expect("a power of two"),
        restore_generation: 0,
        regions: steading::ids::Regions::default(),
    }
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

fn record(state: NodeState) -> NodeRecord {
    NodeRecord {
        incarnation: Incarnation::new(1),
        lease: LeaseId::new(1),
        grpc: "127.0.0.1:7400".into(),
        http: None,
        zone: None,
        weight: Weight::ONE,
        labels: BTreeMap::new(),
        version: "0.1.0".into(),
        object_types: Vec::new(),
        state,
        boot_id: String::new(),
    }
}
