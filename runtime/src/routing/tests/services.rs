//! What the gRPC server refuses, and what it offers to others than nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use steading_proto::v1::admin_client::AdminClient;
use steading_proto::v1::objects_client::ObjectsClient;
use steading_proto::v1::peer_client::PeerClient;
use steading_proto::v1::{Batch, CallRequest, ListObjectsRequest, LocateRequest, ReportRequest};
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::super::channel;
use super::super::handshake::Greeting;
use super::super::testing::{World, node, shard};
use super::super::{NodeLoad, NodeReport, Reports, Vitals};
use crate::ids::Incarnation;
use crate::object::ShardLoad;
use crate::placement::{ReachState, ReachStates};

async fn connect(world: &World, to: &str) -> Channel {
    let port = world.network.port("stranger");
    channel::open(&*port, &world.at(to).address).await.unwrap()
}

fn greeting(to: &str) -> Greeting {
    Greeting {
        cluster_id: "test".into(),
        from: node("stranger"),
        to: node(to),
        incarnation: Incarnation::new(1),
    }
}

/// Opens a stream of one batch and returns how it ended.
async fn link(world: &World, greeting: &Greeting, frames: Bytes) -> Result<(), tonic::Status> {
    let mut client = PeerClient::new(connect(world, "b").await);
    let mut request = Request::new(tokio_stream::once(Batch { frames }));
    greeting.write(request.metadata_mut());
    let mut answers = client.link(request).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_its_own_connection_and_no_other() {
    let world = World::owned(&["a", "b"]).await;
    world.at("a").note("shard#3/x", 1).await.unwrap();
    let garbage = Bytes::from_static(&[9, 0, 0, 0, 1, 0xc1, 0xff]);
    let refused = link(&world, &greeting("b"), garbage).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(world.at("b").metrics.routing.links.malformed.get(), 1);
    world.at("a").note("shard#3/x", 2).await.unwrap();
    assert_eq!(world.at("a").metrics.routing.links.broken.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn frames_of_an_unknown_kind_are_counted_and_skipped() {
    let world = World::owned(&["a", "b"]).await;
    let newer = Bytes::from_static(&[3, 0, 0, 0, 99, 1, 2]);
    assert!(link(&world, &greeting("b"), newer).await.is_ok());
    assert_eq!(world.at("b").metrics.routing.links.unknown_frames.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_greeting_for_somebody_else_is_refused() {
    let world = World::owned(&["a", "b"]).await;
    let refused = link(&world, &greeting("c"), Bytes::new())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), "this is node b, not c");
}

#[tokio::test(start_paused = true)]
async fn a_call_to_an_address_that_another_node_took_never_runs_there() {
    let mut world = World::owned(&["a", "b"]).await;
    let address = world.at("b").address.clone();
    world.view.node_at("c", 9, &address).owner(3, "c", 9);
    world.publish_to("a").await;
    let error = world.at("a").note("shard#3/x", 1).await.unwrap_err();
    assert_eq!(error.code(), "unreachable");
    assert!(error.detail().contains("this is node b, not c"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_client_calls_in_json_through_any_node() {
    let world = World::owned(&["a", "b"]).await;
    let mut client = ObjectsClient::new(connect(&world, "a").await);
    let request = |method: &str, json: &str| CallRequest {
        r#type: "Probe".into(),
        id: "shard#3/ä/ö".into(),
        method: method.into(),
        json: json.to_owned().into(),
    };
    let reply = client.call(request("note", r#"{"n": 5}"#)).await.unwrap();
    assert_eq!(&reply.into_inner().json[..], b"1");
    let refused = client.call(request("nonsense", "")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(
        refused.metadata().get("steading-code").unwrap(),
        "unknown_method"
    );
    assert_eq!(
        refused.metadata().get("steading-outcome").unwrap(),
        "not_run"
    );
    let place = LocateRequest {
        r#type: "Probe".into(),
        id: "shard#3/ä/ö".into(),
    };
    let place = client.locate(place).await.unwrap().into_inner();
    assert_eq!((place.shard, place.owner.as_deref()), (Some(3), Some("b")));
}

#[tokio::test(start_paused = true)]
async fn g12_a_foreign_clients_deadline_holds() {
    let world = World::owned(&["a", "b"]).await;
    let mut client = ObjectsClient::new(connect(&world, "a").await);
    let mut request = Request::new(CallRequest {
        r#type: "Probe".into(),
        id: "x".into(),
        method: "nap".into(),
        json: json!({"ms": 5000, "n": 1}).to_string().into(),
    });
    request
        .metadata_mut()
        .insert("grpc-timeout", "500m".parse().unwrap());
    let start = tokio::time::Instant::now();
    let refused = client.call(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    assert!(
        start.elapsed() < Duration::from_millis(600),
        "{:?}",
        start.elapsed()
    );
}

/// What node b tells about itself.
#[derive(Debug)]
struct Told;

impl Reports for Told {
    fn report(&self) -> Option<NodeReport> {
        let load = ShardLoad {
            turns: 1,
            cpu: Duration::from_nanos(7),
            ..ShardLoad::default()
        };
        Some(NodeReport {
            node: node("b"),
            incarnation: Some(Incarnation::new(2)),
            objects: 1,
            by_shard: BTreeMap::from([(shard(3), 1)]),
            load: NodeLoad {
                number: 4,
                window: Duration::from_secs(10),
                ..NodeLoad::default()
            },
            shards: BTreeMap::from([(shard(3), load)]),
            arrivals: BTreeMap::new(),
            sent: BTreeMap::from([(node("a"), 5)]),
            fence_left: Some(Duration::from_millis(3500)),
        })
    }

    fn vitals(&self) -> Option<Vitals> {
        Some(Vitals {
            incarnation: Some(Incarnation::new(2)),
            fence_left: Some(Duration::from_millis(3500)),
            objects: 1,
            shards_cpus: Some(0.5),
        })
    }

    fn reach(&self) -> ReachStates {
        BTreeMap::from([(node("a"), (Incarnation::new(1), ReachState::Lost))])
    }
}

#[tokio::test(start_paused = true)]
async fn operators_see_what_a_node_hosts() {
    let world = World::owned(&["a", "b"]).await;
    world.at("a").note("shard#3/x", 1).await.unwrap();
    let mut client = AdminClient::new(connect(&world, "b").await);
    let early = client.report(ReportRequest {}).await.unwrap_err();
    assert_eq!(early.code(), Code::Unavailable, "nobody answers yet");
    world.at("b").router.report_from(Arc::new(Told));
    let report = client.report(ReportRequest {}).await.unwrap().into_inner();
    let load = report.load.unwrap();
    assert_eq!(
        (report.incarnation, load.number, load.window_ns),
        (2, 4, 10_000_000_000)
    );
    let shards = report.shards.iter();
    let shards = shards.map(|load| (load.shard, load.turns, load.cpu_ns));
    assert_eq!(shards.collect::<Vec<_>>(), [(3, 1, 7)]);
    assert_eq!((report.node.as_str(), report.objects), ("b", 1));
    assert_eq!(
        report.objects_by_shard.into_iter().collect::<Vec<_>>(),
        [(3, 1)]
    );
    let list = client
        .list_objects(ListObjectsRequest::default())
        .await
        .unwrap();
    let objects = list.into_inner().objects;
    assert_eq!(
        (objects[0].id.as_str(), objects[0].shard),
        ("shard#3/x", Some(3))
    );
    let bad = ListObjectsRequest {
        shard: Some(99),
        ..ListObjectsRequest::default()
    };
    assert_eq!(
        client.list_objects(bad).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}
