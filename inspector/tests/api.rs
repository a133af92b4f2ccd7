//! The Inspector asked over HTTP, beside a real node that keeps its cluster in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use steading::coordination::{EtcdSettings, MemoryStore};
use steading::ids::{NodeId, ShardCount};
use steading::node::{ObservedStore, ObserverSettings};
use steading::{Node, Object, methods};
use steading_inspector::{Access, Inspector};
use tower::ServiceExt;

const TOKEN: &str = "open-sesame";

#[derive(Default, Serialize, Deserialize, Object)]
struct Counter {
    total: i64,
}

#[methods]
impl Counter {
    async fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }
    async fn total(&self) -> i64 {
        self.total
    }
}

/// Two nodes of a cluster, and an Inspector that looks at them.
struct World {
    nodes: Vec<Node>,
    inspector: Inspector,
}

impl World {
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::new());
        let mut nodes = Vec::new();
        for name in ["a", "b"] {
            let node = Node::builder()
                .id(NodeId::new(name).expect("a good name"))
                .store(store.clone())
                .shard_count(ShardCount::new(64).expect("a power of two"))
                .listen("127.0.0.1:0")
                .register::<Counter>();
            nodes.push(node.start().await.expect("it starts"));
        }
        let inspector = Inspector::start(observed(ObservedStore::Given(store)), access());
        let world = Self { nodes, inspector };
        world
            .waits_for("all shards are owned by both", "/api/nodes", |nodes| {
                let owned = |place: usize| nodes[place]["shards_owned"].as_u64();
                (owned(0), owned(1)) == (Some(32), Some(32))
            })
            .await;
        world
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = Request::get(path).body(Body::empty());
        read(self.ask(request.expect("a good request")).await).await
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::post(path).header("x-steading-token", TOKEN);
        let request = request.header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string()));
        read(self.ask(request.expect("a good request")).await).await
    }

    /// Sends a request, to `localhost` unless it names a host.
    async fn ask(&self, mut request: Request<Body>) -> Response {
        let headers = request.headers_mut();
        let host = HeaderValue::from_static("localhost:7490");
        headers.entry(header::HOST).or_insert(host);
        let router = self.inspector.router();
        router.oneshot(request).await.expect("infallible")
    }

    /// Asks until the answer is as wanted: at first, and whenever pages are told something.
    async fn waits_for(&self, goal: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let request = Request::get("/api/events").body(Body::empty());
        let events = self.ask(request.expect("a good request")).await;
        let mut events = events.into_body().into_data_stream();
        let asking = async {
            loop {
                let (_, answer) = self.get(path).await;
                if wanted(&answer) {
                    return answer;
                }
                events.next().await.expect("it goes on").expect("no error");
            }
        };
        let limit = Duration::from_secs(30); // Far above the expected time.
        let reached = tokio::time::timeout(limit, asking).await;
        reached.unwrap_or_else(|_| panic!("never reached: {goal}"))
    }

    async fn stop(self) {
        self.inspector.stop().await;
        for node in &self.nodes {
            node.hurry();
            node.stop().await;
        }
    }
}

fn access() -> Access {
    Access {
        token: Some(TOKEN.to_owned().into()),
        allow_actions: true,
        is_local: true,
        hosts: Vec::new(),
    }
}

fn observed(store: ObservedStore) -> ObserverSettings {
    ObserverSettings {
        tls: None,
        store,
        prefix: "/steading/".into(),
        name: NodeId::new("inspector").expect("a good name"),
    }
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 22)
        .await
        .expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn i_6_without_a_store_it_answers_that_it_cannot_see() {
    let nowhere = ObservedStore::Etcd(EtcdSettings::new(["http://127.0.0.1:1"]));
    let world = World {
        nodes: Vec::new(),
        inspector: Inspector::start(observed(nowhere), access()),
    };
    for path in [
        "/ready",
        "/api/view",
        "/api/shards",
        "/api/shards/1",
        "/api/figures",
        "/api/plans",
    ] {
        let (status, _) = world.get(path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    for action in ["move", "pin"] {
        let path = format!("/api/shards/1/{action}");
        let (status, problem) = world.post(&path, json!({"node": "a"})).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(problem["code"], "no_store");
    }
    assert_eq!(world.get("/healthz").await.0, StatusCode::OK);
    world.stop().await;
}

#[tokio::test]
async fn i_6_wrong_methods_paths_and_targets_are_named() {
    let world = World::start().await;
    let request = Request::builder().method(Method::DELETE).uri("/api/view");
    let request = request.header("x-steading-command", "1");
    let request = request.body(Body::empty()).expect("a good request");
    let (status, problem) = read(world.ask(request).await).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::METHOD_NOT_ALLOWED, &json!("method_not_allowed"))
    );
    assert_eq!(world.get("/api/nothing").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/api/shards/64").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/api/shards/x").await.0, StatusCode::BAD_REQUEST);
    for garbage in [
        "/api/objects?limit=x",
        "/api/objects?mood=x",
        "/api/heat",
        "/api/history?since=-1",
        "/api/locate/Counter/%FF",
        "/api/shards/%00",
    ] {
        let (status, problem) = world.get(garbage).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{garbage}");
        assert_eq!(problem["code"], "bad_request", "{garbage}");
        assert!(problem["detail"].is_string(), "{garbage}");
    }
    let path = "/api/shards/1/move";
    let long = "a".repeat(4 << 20);
    let (status, problem) = world.post(path, json!({"node": long})).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("payload_too_large"))
    );
    for body in [json!({}), json!({"node": ""}), json!({"nodes": "a"})] {
        let (status, _) = world.post("/api/shards/1/move", body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    let (status, problem) = world
        .post("/api/shards/1/move", json!({"node": "nobody"}))
        .await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::NOT_FOUND, &json!("unknown_node"))
    );
    world.stop().await;
}

#[tokio::test]
async fn s2_40_a_shard_is_moved_and_pinned_and_its_story_says_why() {
    let world = World::start().await;
    let (_, story) = world.get("/api/shards/7").await;
    let to = if story["owner"] == "a" { "b" } else { "a" };
    let (status, done) = world.post("/api/shards/7/move", json!({"node": to})).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    let story = world
        .waits_for("it moved", "/api/shards/7", |story| story["owner"] == to)
        .await;
    assert_eq!(story["because"]["reason"], "manual");
    assert_eq!(story["state"], "owned");
    world
        .waits_for("its owners are told", "/api/shards/7", |story| {
            story["owners"][0]["to"] == to
        })
        .await;
    let (status, _) = world.post("/api/shards/7/pin", json!({})).await;
    assert_eq!(status, StatusCode::OK);
    world
        .waits_for("it is pinned", "/api/shards/7", |story| {
            story["pinned"] == true
        })
        .await;
    let (_, happened) = world.get("/api/history?since=0").await;
    let texts = happened["events"].to_string();
    assert!(
        texts.contains("somebody: pin shard 7 where it is"),
        "{texts}"
    );
    world.stop().await;
}

#[tokio::test]
async fn without_the_token_nothing_is_done() {
    let world = World::start().await;
    for (header, value) in [("x-other", "x"), ("x-steading-token", "guess")] {
        let request = Request::post("/api/shards/7/pin").header(header, value);
        let request = request
            .header("x-steading-command", "1")
            .body(Body::empty())
            .expect("a good request");
        let (status, problem) = read(world.ask(request).await).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::FORBIDDEN, &json!("bad_token"))
        );
    }
    let (_, story) = world.get("/api/shards/7").await;
    assert_eq!(story["pinned"], false);
    world.stop().await;
}

#[tokio::test]
async fn objects_are_found_without_being_activated_and_read_from_the_page() {
    let world = World::start().await;
    let (_, none) = world.get("/api/objects").await;
    assert_eq!(none["objects"], json!([]));
    for id in ["left", "less", "right"] {
        world.nodes[0]
            .object::<Counter>(id)
            .add(5)
            .await
            .expect("it answers");
    }
    let (_, found) = world.get("/api/objects?prefix=le").await;
    let ids: Vec<_> = found["objects"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|object| object["id"].clone())
        .collect();
    assert_eq!(json!(ids), json!(["left", "less"]));
    assert_eq!(found["objects"][0]["method"], "add");
    let (_, elsewhere) = world.get("/api/locate/Counter/nobody").await;
    assert!(elsewhere["shard"].is_u64());

    let (status, value) = world
        .post("/api/objects/Counter/left/call/total", json!({}))
        .await;
    assert_eq!((status, &value["value"]), (StatusCode::OK, &json!(5)));
    let (status, _) = world
        .post("/api/objects/Counter/left/call/add", json!({"n": 1}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "it changes the object");
    let (status, _) = world
        .post("/api/objects/Counter/left/deactivate", json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    let (_, found) = world.get("/api/objects?prefix=left").await;
    assert_eq!(found["objects"], json!([]), "it was the only one");

    let right = |found: &Value| found["objects"][0]["calls_per_second"].as_f64();
    let (_, first) = world.get("/api/objects?prefix=right").await;
    assert_eq!(right(&first), None, "one look gives no rate");
    assert!(
        first["objects"][0]["last_turn_at"].as_u64().is_some()
            || first["objects"][0]["idle_ms"] == 0
    );
    for _ in 0..20 {
        let right = world.nodes[0].object::<Counter>("right");
        right.add(1).await.expect("it answers");
    }
    world
        .waits_for(
            "it is told how often",
            "/api/objects?prefix=right",
            |found| right(found) > Some(0.0),
        )
        .await;

    let (_, types) = world.get("/api/types").await;
    let methods = &types[0]["methods"];
    assert_eq!(
        (&methods[0]["name"], &methods[0]["read_only"]),
        (&json!("add"), &json!(false))
    );
    assert!(methods[0]["timed"].as_u64() > Some(0), "{methods}");
    assert_eq!(methods[0]["arguments"], json!(["n"]));
    world.stop().await;
}

#[tokio::test]
async fn s2_16_the_busiest_objects_of_all_nodes_come_first() {
    let world = World::start().await;
    let calling = async {
        loop {
            for (id, times) in [("some", 10), ("most", 100), ("least", 1)] {
                for _ in 0..times {
                    let object = world.nodes[0].object::<Counter>(id);
                    object.add(1).await.expect("it answers");
                }
            }
        }
    };
    let path = "/api/objects?order=busiest&limit=2";
    let ranked = world.waits_for("the busiest two are told", path, |found| {
        let objects = &found["objects"];
        objects[0]["id"] == "most"
            && objects[1]["id"] == "some"
            && objects[1]["calls_per_second"].as_f64() > Some(0.0)
    });
    let found = tokio::select! {
        found = ranked => found,
        () = calling => unreachable!("it goes on for ever"),
    };
    assert_eq!(found["objects"].as_array().map(Vec::len), Some(2));
    assert_eq!(found["next"], Value::Null, "a ranking has no pages");
    let first = &found["objects"][0];
    assert!(first["took_seconds"].as_f64() > Some(0.0), "{first}");
    assert!(first["timed_at"].as_u64() > Some(0), "{first}");
    for wrong in ["order=mood", "order=busiest&after=Counter/a"] {
        let (status, _) = world.get(&format!("/api/objects?{wrong}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    world.stop().await;
}

#[tokio::test]
async fn s2_44_figures_heat_and_flow_come_from_the_nodes() {
    let world = World::start().await;
    for number in 0..200 {
        let id = format!("object-{number}");
        world.nodes[0]
            .object::<Counter>(id)
            .add(1)
            .await
            .expect("it answers");
    }
    world
        .waits_for("the objects are counted", "/api/figures", |figures| {
            figures["cluster"]["objects"] == 200
        })
        .await;
    let (_, figures) = world.get("/api/figures").await;
    let spread = &figures["objects_per_shard"];
    assert_eq!(spread["mean"], json!(200.0 / 64.0));
    assert!(spread["most"].as_u64() > spread["p50"].as_u64(), "{spread}");
    assert_eq!(figures["cluster"]["healthy"], json!(1.0));
    let (_, heat) = world.get("/api/heat?by=objects").await;
    let values = heat["values"].as_array().expect("a list");
    let sum: f64 = values.iter().filter_map(Value::as_f64).sum();
    assert!((sum - 200.0).abs() < 1e-9, "{sum}");
    assert_eq!(values.len(), 64);
    assert_eq!(
        world.get("/api/heat?by=mood").await.0,
        StatusCode::BAD_REQUEST
    );
    world
        .waits_for("a is seen to call b", "/api/figures", |figures| {
            figures["nodes"]["a"]["sends_per_second"]["b"].is_number()
        })
        .await;
    world.stop().await;
}

#[tokio::test]
async fn i_5_events_begin_with_the_whole_and_go_on_with_changes() {
    let world = World::start().await;
    let request = Request::get("/api/events").body(Body::empty());
    let response = world.ask(request.expect("a good request")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut chunks = response.into_body().into_data_stream();
    let mut text = String::new();
    let (_, story) = world.get("/api/shards/7").await;
    let to = if story["owner"] == "a" { "b" } else { "a" };
    let mut moved = false;
    while !text.contains("event: delta") {
        let chunk = chunks.next().await.expect("it goes on").expect("no error");
        text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        if text.contains("event: snapshot") && !moved {
            world.post("/api/shards/7/move", json!({"node": to})).await;
            moved = true;
        }
    }
    let place = text
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .expect("a place");
    assert!(
        place.split('.').all(|part| part.parse::<u64>().is_ok()),
        "{place}"
    );
    world.stop().await;
}

#[tokio::test]
async fn the_openapi_document_and_the_list_of_paths_are_served() {
    let world = World::start().await;
    let (status, document) = world.get("/api/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    let (_, list) = world.get("/api").await;
    let list = list.as_array().expect("a list").clone();
    assert!(list.len() > 20, "{list:?}");
    for route in list {
        let (path, method) = (&route["path"], &route["method"]);
        let path = path.as_str().expect("a path");
        let method = method.as_str().expect("a method").to_lowercase();
        let summary = &document["paths"][path][&method]["summary"];
        assert_eq!(summary, &route["what"], "{method} {path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn every_answer_forbids_what_comes_from_elsewhere() {
    let world = World::start().await;
    for path in [
        "/",
        "/app.js",
        "/style.css",
        "/api/view",
        "/nothing",
        "/healthz",
    ] {
        let request = Request::get(path).body(Body::empty());
        let response = world.ask(request.expect("a good request")).await;
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .expect("text");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'"),
            "{path}: {policy}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_neither_act_nor_read() {
    let world = World::start().await;
    let json_type = ("content-type", "application/json");
    for (method, path, headers, status) in [
        (
            "GET",
            "/api/view",
            &[("origin", "http://evil.example")][..],
            403,
        ),
        ("GET", "/api/view", &[("sec-fetch-site", "cross-site")], 403),
        ("GET", "/api/events", &[("origin", "null")], 403),
        ("GET", "/ready", &[("sec-fetch-site", "same-site")], 403),
        ("GET", "/app.js", &[("sec-fetch-site", "cross-site")], 403),
        ("GET", "/", &[("host", "evil.example:7490")], 421),
        ("GET", "/healthz", &[("host", "evil.example:7490")], 421),
        (
            "POST",
            "/api/pause",
            &[json_type, ("origin", "http://evil.example")],
            403,
        ),
        (
            "POST",
            "/api/pause",
            &[
                json_type,
                ("host", "evil.example"),
                ("origin", "http://evil.example"),
            ],
            421,
        ),
        ("POST", "/api/pause", &[("content-type", "text/plain")], 415),
        ("POST", "/api/pause", &[], 415),
    ] {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("x-steading-token", TOKEN);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let answer = world
            .ask(request.body(Body::empty()).expect("a good request"))
            .await;
        assert_eq!(answer.status(), status, "{method} {path} {headers:?}");
    }
    let (_, events) = world.get("/api/history?since=0").await;
    assert!(!events.to_string().contains("pause balancing"), "{events}");

    let visit = Request::get("/").header("sec-fetch-site", "cross-site");
    let visit = visit
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document");
    let page = world
        .ask(visit.body(Body::empty()).expect("a good request"))
        .await;
    assert_eq!(page.status(), StatusCode::OK, "links lead to the page");
    world.stop().await;
}

/// 930 guesses a second were answered once.
#[tokio::test(start_paused = true)]
async fn wrong_tokens_are_slowed_down() {
    let nowhere = ObservedStore::Etcd(EtcdSettings::new(["http://127.0.0.1:1"]));
    let world = World {
        nodes: Vec::new(),
        inspector: Inspector::start(observed(nowhere), access()),
    };
    let guess = async |token: &str, from: [u8; 4]| {
        let request = Request::post("/api/session").header("x-steading-token", token);
        let request = request.header("x-steading-command", "1");
        let mut request = request.body(Body::empty()).expect("a good request");
        let from = std::net::SocketAddr::from((from, 1));
        request
            .extensions_mut()
            .insert(axum::extract::ConnectInfo(from));
        world.ask(request).await
    };
    let (bad, good) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    for _ in 0..5 {
        assert_eq!(guess("guess", bad).await.status(), StatusCode::FORBIDDEN);
    }
    for token in ["guess", TOKEN] {
        let answer = guess(token, bad).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{token}");
        assert_eq!(answer.headers()["retry-after"], "10");
    }
    assert_eq!(guess(TOKEN, good).await.status(), StatusCode::OK);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(guess(TOKEN, bad).await.status(), StatusCode::OK);
    world.stop().await;
}
