//! Traces of calls.

use serde_json::json;
use steading_integration_tests::cluster::Node;
use steading_integration_tests::otlp::{Got, Receiver, Span};
use steading_integration_tests::until;
use steading_proto::v1::CallRequest;
use steading_proto::v1::objects_client::ObjectsClient;
use tonic::Code;

use super::{cluster, object_on};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const GRPC_METHOD: &str = "steading.v1.Objects/Call";
const ROUTE: &str = "/v1/objects/{type}/{id}/{method}";

/// Calls from `a` an object on `b` that calls an object on `a`.
async fn call_there_and_back(a: &Node, b: &Node, traceparent: &str) {
    let relay = object_on(b, "Relay", a).await;
    let tally = object_on(a, "Tally", a).await;
    let arguments = json!({"to": tally, "n": 1});
    let object = format!("Relay/{relay}");
    let answer = a
        .call_traced(&object, "pass", &arguments, traceparent)
        .await;
    let answer = answer.expect("the node runs");
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

/// Waits for the spans of the call there and back that came in by this door, and returns them from
/// the door inwards: each is the only child of the one before.
async fn the_spans_behind(receiver: &Receiver, door: &str) -> Vec<Span> {
    let all = |got: &Got| Some(got.trace(TRACE)).filter(|spans| spans.len() >= 7);
    let spans = receiver.gets("every span of the trace", all).await;
    let mut parent = CALLER.to_owned();
    let mut chain = Vec::new();
    for expected in [
        ("a", door, "server"),
        ("a", "Relay/pass", "client"),
        ("b", "Relay/pass", "server"),
        ("b", "Relay/pass", "internal"),
        ("b", "Tally/add", "client"),
        ("a", "Tally/add", "server"),
        ("a", "Tally/add", "internal"),
    ] {
        let children: Vec<_> = spans.iter().filter(|span| span.parent == parent).collect();
        let [span] = children[..] else {
            panic!("{parent} has not one child: {spans:#?}");
        };
        assert_eq!(outline(span), expected);
        assert!(!span.failed, "{span:?}");
        if span.kind == "client" {
            assert_eq!(span.events, ["steading.sent"]);
        }
        if span.name != door {
            assert_eq!(span.attributes["rpc.system.name"], "steading");
            assert_eq!(span.attributes["rpc.method"], span.name);
            assert!(span.attributes["steading.object.id"].starts_with('o'));
            assert!(span.attributes.contains_key("steading.shard"));
        }
        parent.clone_from(&span.id);
        chain.push(span.clone());
    }
    assert_eq!(spans.len(), chain.len(), "{spans:#?}");
    chain
}

/// What a span is, beside its IDs.
fn outline(span: &Span) -> (&str, &str, &str) {
    (&span.node, &span.name, span.kind)
}

#[tokio::test]
async fn one_http_call_that_crosses_nodes_is_one_connected_trace_and_logs_carry_its_id() {
    let receiver = Receiver::start().await;
    let cluster = cluster("trace", &receiver.variables("grpc")).await;
    let [a, b] = cluster
        .ready_with(["a", "b"], &["--log-format", "json"])
        .await;
    let not_sampled = "00-11111111111111111111111111111111-00f067aa0ba902b7-00";
    call_there_and_back(&a, &b, not_sampled).await;
    call_there_and_back(&a, &b, &format!("00-{TRACE}-{CALLER}-01")).await;

    let spans = the_spans_behind(&receiver, &format!("POST {ROUTE}")).await;
    let door = &spans[0];
    assert_eq!(door.attributes["http.route"], ROUTE);
    assert_eq!(door.attributes["http.response.status_code"], "200");

    let record = receiver.gets("what the turn logged", |got| {
        let mut logs = got.logs.iter();
        logs.find(|record| record.text == "passes on" && record.trace == TRACE)
            .cloned()
    });
    let record = record.await;
    let turn = spans
        .iter()
        .find(|span| outline(span) == ("b", "Relay/pass", "internal"));
    assert_eq!(
        (record.node.as_str(), record.span),
        ("b", turn.expect("seen").id.clone())
    );
    let marks = format!(r#""trace_id":"{TRACE}","span_id":"#);
    until("the line in the log has the trace", async || {
        let output = b.output();
        let line = output
            .lines()
            .find(|line| line.contains("passes on") && line.contains(&marks));
        line.map(drop).ok_or(output)
    })
    .await;
    assert_eq!(
        receiver.got().trace(&"1".repeat(32)),
        [],
        "it was not to be sampled"
    );
}

#[tokio::test]
async fn a_grpc_call_goes_on_with_the_trace_in_its_metadata() {
    let receiver = Receiver::start().await;
    let cluster = cluster("grpc-door", &receiver.variables("http/protobuf")).await;
    let [a, b] = cluster.ready(["a", "b"]).await;
    let relay = object_on(&b, "Relay", &a).await;
    let tally = object_on(&a, "Tally", &a).await;
    let client = ObjectsClient::connect(format!("http://{}", a.grpc())).await;
    let mut client = client.expect("the node runs");
    let call = |method: &str, trace: &str| {
        let mut request = tonic::Request::new(CallRequest {
            r#type: "Relay".into(),
            id: relay.clone(),
            method: method.into(),
            json: json!({"to": tally, "n": 1}).to_string().into(),
        });
        let traceparent = format!("00-{trace}-{CALLER}-01");
        let traceparent = traceparent.parse().expect("ASCII");
        request.metadata_mut().insert("traceparent", traceparent);
        request
    };
    let reply = client.call(call("pass", TRACE)).await;
    reply.expect("it is answered");
    let spans = the_spans_behind(&receiver, GRPC_METHOD).await;
    let door = &spans[0].attributes;
    assert_eq!(door["rpc.system.name"], "grpc");
    assert_eq!(door["rpc.method"], GRPC_METHOD);
    assert_eq!(door["rpc.response.status_code"], "OK");

    let failing = "2".repeat(32);
    let refused = client.call(call("nonsense", &failing)).await;
    assert_eq!(
        refused.expect_err("no such method").code(),
        Code::Unimplemented
    );
    let door = receiver.gets("the door of the failed call", |got| {
        let trace = got.trace(&failing);
        trace.into_iter().find(|span| span.parent == CALLER)
    });
    let door = door.await;
    assert_eq!(door.attributes["rpc.response.status_code"], "UNIMPLEMENTED");
    assert!(!door.failed, "it is the client's mistake: {door:?}");
}

#[tokio::test]
async fn garbage_begins_a_trace_of_its_own_and_a_failure_shows() {
    let receiver = Receiver::start().await;
    let cluster = cluster("garbage", &receiver.variables("http/protobuf")).await;
    let [a, b] = cluster.ready(["a", "b"]).await;
    for garbage in [
        "garbage",
        "00-xx-yy-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        call_there_and_back(&a, &b, garbage).await;
    }
    let tally = object_on(&b, "Tally", &a).await;
    let answer = a
        .call(&format!("Tally/{tally}"), "nonsense", &json!({}))
        .await;
    assert_eq!(answer.expect("the node runs").status, 404);

    let roots = |got: &Got| {
        // Plans have traces too.
        let roots = got.spans.iter().filter(|span| span.parent.is_empty());
        let roots = roots.filter(|span| span.name != "steading.plan");
        let roots: Vec<_> = roots.cloned().collect();
        (roots.len() >= 4).then_some(roots)
    };
    let roots = receiver.gets("a trace of each call", roots).await;
    assert!(
        roots
            .iter()
            .all(|root| outline(root) == ("a", &format!("POST {ROUTE}"), "server"))
    );
    let failed = receiver.gets("the failed call", |got| {
        let mut failed = got.spans.iter().filter(|span| span.failed);
        failed.find(|span| span.node == "a").cloned()
    });
    let failed = failed.await;
    assert_eq!(failed.attributes["error.type"], "unknown_method");
    assert_eq!(failed.name, "Tally/nonsense");
}

#[tokio::test]
async fn a_sampler_that_wants_nothing_gets_nothing_but_what_its_callers_sample() {
    let receiver = Receiver::start().await;
    let mut variables = receiver.variables("grpc");
    variables.push(("OTEL_TRACES_SAMPLER", "parentbased_always_off".into()));
    let cluster = cluster("unsampled", &variables).await;
    let [a, b] = cluster.ready(["a", "b"]).await;
    call_there_and_back(&a, &b, "").await;
    call_there_and_back(&a, &b, &format!("00-{TRACE}-{CALLER}-01")).await;
    let all = |got: &Got| (got.trace(TRACE).len() == 7).then_some(());
    receiver.gets("every span of the sampled trace", all).await;
    assert_eq!(receiver.got().spans.len(), 7, "{:#?}", receiver.got().spans);
}
