//! The HTTP server of a real node.

mod bad_input;
mod support;
mod web_pages;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use support::Server;

#[tokio::test]
async fn a_method_takes_named_positional_or_no_arguments() {
    let server = Server::start().await;
    let path = "/v1/objects/Counter/c1/add";
    assert_eq!(
        server.post(path, r#"{"n": 5}"#).await,
        (StatusCode::OK, json!(5))
    );
    assert_eq!(server.post(path, "[2]").await, (StatusCode::OK, json!(7)));
    assert_eq!(
        server.post("/v1/objects/Counter/c1/total", "").await.1,
        json!(7)
    );
    assert_eq!(
        server.post("/v1/objects/Counter/c1/total", "{}").await.1,
        json!(7)
    );
    server.stop().await;
}

#[tokio::test]
async fn any_text_can_be_an_id() {
    let server = Server::start().await;
    for (i, id) in ["a%2Fb%2Fc", "%C3%A4%20%E2%9C%93", "%7Bu7%7D", "%25", ".."]
        .iter()
        .enumerate()
    {
        let path = format!("/v1/objects/Counter/{id}/add");
        let added = server.post(&path, r#"{"n": 1}"#).await;
        assert_eq!(added, (StatusCode::OK, json!(1)), "{id}");
        let (_, listed) = server.get("/v1/objects").await;
        assert_eq!(
            listed["objects"].as_array().map(Vec::len),
            Some(i + 1),
            "{id}"
        );
    }
    let (_, listed) = server.get("/v1/objects").await;
    let ids: Vec<_> = listed["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| &o["id"])
        .collect();
    assert_eq!(
        ids,
        ["%", "..", "a/b/c", "{u7}", "ä ✓"]
            .iter()
            .collect::<Vec<_>>()
    );
    server.stop().await;
}

#[tokio::test]
async fn a_methods_own_error_is_a_problem_with_its_value() {
    let server = Server::start().await;
    let path = "/v1/objects/Account/a/withdraw";
    let (status, problem) = server.post(path, r#"{"amount": 5}"#).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        (&problem["code"], &problem["outcome"]),
        (&json!("method_failed"), &json!("ran"))
    );
    assert_eq!(
        problem["error"],
        json!({ "Insufficient": { "balance": 0 } })
    );
    let (status, balance) = server.post("/v1/objects/Account/a/deposit", "[7]").await;
    assert_eq!(
        (status, balance),
        (StatusCode::OK, json!(7)),
        "the value of an `Ok` is bare"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_time_limit_is_kept_and_says_that_the_method_may_have_run() {
    let server = Server::start().await;
    let path = "/v1/objects/Trouble/t/hang";
    let json_type = ("content-type", "application/json");
    let header = [json_type, ("x-steading-timeout-ms", "50")];
    let (status, problem) = server.send(Method::POST, path, &header, "").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{problem}");
    assert_eq!(
        (&problem["code"], &problem["outcome"]),
        (&json!("deadline"), &json!("unknown"))
    );
    for bad in ["0", "-5", "soon", "600001"] {
        let header = [json_type, ("x-steading-timeout-ms", bad)];
        let (status, _) = server.send(Method::POST, path, &header, "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_panic_fails_its_call_alone() {
    let server = Server::start().await;
    let (status, problem) = server.post("/v1/objects/Trouble/t/panic", "").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        (&problem["code"], &problem["outcome"]),
        (&json!("panicked"), &json!("ran"))
    );
    assert_eq!(
        server.post("/v1/objects/Counter/c1/add", "[1]").await.1,
        json!(1)
    );
    server.stop().await;
}

#[tokio::test]
async fn s2_27_ready_names_each_condition_with_its_state_and_since_when() {
    let server = Server::start().await;
    let (status, ready) = server.get("/ready").await;
    assert_eq!(
        (status, &ready["ready"]),
        (StatusCode::OK, &json!(true)),
        "{ready}"
    );
    let conditions = ready["conditions"].as_array().expect("a list");
    let names: Vec<_> = conditions
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert!(
        names.contains(&"lease_alive") && names.contains(&"not_draining"),
        "{names:?}"
    );
    for condition in conditions {
        assert_eq!(condition["met"], json!(true));
        assert!(
            condition["since"]
                .as_str()
                .is_some_and(|at| at.ends_with('Z')),
            "{condition}"
        );
    }
    assert_eq!(
        (&ready["claimed"], &ready["targeted"]),
        (&json!(64), &json!(64)),
        "S2-28"
    );
    server.stop().await;
}

#[tokio::test]
async fn v2_a_stopped_node_is_not_ready_and_still_healthy() {
    let server = Server::start().await;
    server.node.stop().await;
    assert_eq!(
        server.get("/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(server.get("/healthz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn s0_17_the_cluster_shows_nodes_and_shards() {
    let server = Server::start().await;
    server.post("/v1/objects/Counter/c1/add", "[1]").await;
    let (status, cluster) = server.get("/v1/cluster").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(cluster["shard_count"], json!(64));
    assert_eq!(cluster["leader"], json!("n1"));
    let totals = json!({ "total": 64, "owned": 64, "unowned": 0, "moving": 0, "at_risk": 0 });
    assert_eq!(cluster["shards"], totals);
    let node = &cluster["nodes"][0];
    assert_eq!(
        (&node["id"], &node["state"]),
        (&json!("n1"), &json!("active"))
    );
    assert_eq!(
        (&node["shards_owned"], &node["shards_targeted"]),
        (&json!(64), &json!(64))
    );
    assert_eq!(
        (&node["objects"], &node["weight"]),
        (&json!(1), &json!(1.0))
    );
    server.stop().await;
}

#[tokio::test]
async fn s0_18_a_shard_tells_owner_token_and_objects() {
    let server = Server::start().await;
    let (_, location) = server.get("/v1/locate/Counter/c1").await;
    assert_eq!(
        (&location["owner"], &location["state"]),
        (&json!("n1"), &json!("owned"))
    );
    let (_, listed) = server.get("/v1/objects").await;
    assert_eq!(listed["objects"], json!([]), "locating activates nothing");

    server.post("/v1/objects/Counter/c1/add", "[1]").await;
    let (_, shard) = server
        .get(&format!("/v1/shards/{}", location["shard"]))
        .await;
    assert_eq!(
        (&shard["owner"], &shard["target"]),
        (&json!("n1"), &json!("n1"))
    );
    assert_eq!(
        (&shard["token"], &shard["objects"]),
        (&location["token"], &json!(1))
    );
    let (_, shards) = server.get("/v1/shards").await;
    assert_eq!(shards.as_array().map(Vec::len), Some(64));
    assert_eq!(
        shards[usize::try_from(location["shard"].as_u64().unwrap()).unwrap()],
        shard
    );
    server.stop().await;
}

#[tokio::test]
async fn objects_are_listed_page_by_page() {
    let server = Server::start().await;
    for i in 0..7 {
        server
            .post(&format!("/v1/objects/Counter/c{i}/add"), "[1]")
            .await;
    }
    server.post("/v1/objects/Word/the/add", "[1]").await;
    let mut path = "/v1/objects?type=Counter&limit=3".to_owned();
    let mut ids = Vec::new();
    loop {
        let (_, page) = server.get(&path).await;
        ids.extend(
            page["objects"]
                .as_array()
                .unwrap()
                .iter()
                .map(|o| o["id"].clone()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/objects?type=Counter&limit=3&after={next}"),
            None => break,
        }
    }
    assert_eq!(
        Value::from(ids),
        json!(["c0", "c1", "c2", "c3", "c4", "c5", "c6"])
    );
    let (_, word) = server.get("/v1/objects?node=n1&type=Word").await;
    assert_eq!(word["objects"][0]["id"], json!("the"));
    server.stop().await;
}

#[tokio::test]
async fn the_openapi_document_names_every_route_and_metrics_are_text() {
    let server = Server::start().await;
    let (status, document) = server.get("/v1/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    for path in ["/v1/objects/{type}/{id}/{method}", "/v1/cluster", "/ready"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        metrics
            .as_str()
            .is_some_and(|text| text.contains("steading_")),
        "{metrics}"
    );
    server.stop().await;
}
