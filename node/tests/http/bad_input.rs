//! What bad input gets: a typed problem, and nothing else happens.

use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::support::Server;

/// The rest of a path, the body that is posted there, and the status and code that this gets.
type Case<'a> = (&'a str, &'a str, u16, &'a str);

#[tokio::test]
async fn bad_input_gets_a_typed_problem_and_the_node_lives() {
    let server = Server::start().await;
    calls_are_refused(&server).await;
    commands_are_refused(&server).await;
    let (_, total) = server.post("/v1/objects/Counter/c1/add", "[1]").await;
    assert_eq!(total, json!(1), "nothing ran");
    server.stop().await;
}

#[tokio::test]
async fn bad_questions_get_a_typed_problem_too() {
    let server = Server::start().await;
    for (path, status) in [
        ("/v1/shards/64", 404),
        ("/v1/shards/-1", 400),
        ("/v1/shards/five", 400),
        ("/v1/objects?limit=0", 400),
        ("/v1/objects?limit=1001", 400),
        ("/v1/objects?limit=many", 400),
        ("/v1/objects?shard=64", 404),
        ("/v1/objects?node=nobody", 404),
        ("/v1/objects?node=a%2Fb", 400),
        ("/v1/objects?after=Counter", 400),
        ("/v1/objects?color=red", 400),
        ("/v1/locate/Counter/shard%2399%2Fx", 400),
        ("/v1/locate/Counter/", 400),
        ("/v2/cluster", 404),
        ("/", 404),
    ] {
        let (got, problem) = server.get(path).await;
        assert_eq!(
            (got.as_u16(), &problem["status"]),
            (status, &json!(status)),
            "{path}"
        );
    }
    let (status, problem) = server
        .send(
            Method::DELETE,
            "/v1/cluster",
            &[("x-steading-command", "1")],
            "",
        )
        .await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(problem["code"], json!("method_not_allowed"));
    server.stop().await;
}

async fn calls_are_refused(server: &Server) {
    let long = format!("Counter/{}/total", "x".repeat(1025));
    let large = too_large();
    let cases: [Case<'_>; 20] = [
        ("Nothing/c1/add", "{}", 404, "unknown_type"),
        ("Counter/c1/multiply", "{}", 404, "unknown_method"),
        ("Counter/c1/add", "{n: 5}", 400, "bad_arguments"),
        ("Counter/c1/add", "5", 400, "bad_arguments"),
        ("Counter/c1/add", "", 400, "bad_arguments"),
        ("Counter/c1/add", "{}", 400, "bad_arguments"),
        ("Counter/c1/add", r#"{"n": "five"}"#, 400, "bad_arguments"),
        (
            "Counter/c1/add",
            r#"{"n": 5, "m": 6}"#,
            400,
            "bad_arguments",
        ),
        ("Counter/c1/add", "[1, 2]", 400, "bad_arguments"),
        ("Counter/c1/add", &large, 413, "too_large"),
        (&long, "", 400, "invalid_id"),
        ("Counter//total", "", 400, "invalid_id"),
        ("/c1/total", "", 400, "invalid_id"),
        ("Counter/%FF/total", "", 400, "invalid_id"),
        ("a%2Fb/c1/total", "", 400, "invalid_id"),
        ("Counter/shard%239999%2Fx/total", "", 400, "invalid_id"),
        ("Counter/shard%23x%2Fy/total", "", 400, "invalid_id"),
        ("Counter/shard%23/total", "", 400, "invalid_id"),
        ("Counter/node%23%2Fx/total", "", 400, "invalid_id"),
        ("Counter/a/b/total", "", 404, "not_found"),
    ];
    for case in cases {
        is_refused(server, "/v1/objects/", case).await;
    }
}

async fn commands_are_refused(server: &Server) {
    let large = too_large();
    let step = json!({"shard": 1, "node": "a"});
    let twice = json!({"moves": [step, step]}).to_string();
    let cases: [Case<'_>; 11] = [
        ("shards/1/pin", "[]", 400, "bad_request"),
        ("shards/1/pin", &large, 413, "too_large"),
        ("shards/1/move", "{}", 400, "bad_request"),
        ("shards/9999/move", "{}", 404, "not_found"),
        ("plans", "[true]", 400, "bad_request"),
        ("plans", &large, 413, "too_large"),
        ("moves", "", 400, "bad_request"),
        ("moves", &twice, 400, "malformed"),
        ("nodes/zz/drain", "", 404, "unknown_node"),
        ("nodes/%20/drain", "", 400, "bad_request"),
        ("plans/-1/abort", "", 400, "bad_request"),
    ];
    for case in cases {
        is_refused(server, "/v1/", case).await;
    }
}

async fn is_refused(server: &Server, below: &str, (path, body, status, code): Case<'_>) {
    let path = format!("{below}{path}");
    let (got, problem) = server.post(&path, body).await;
    let shown: String = path.chars().take(60).collect();
    assert_eq!(
        (got.as_u16(), &problem["code"]),
        (status, &json!(code)),
        "{shown}: {problem}"
    );
    assert_eq!(problem["outcome"], json!("not_run"), "{shown}");
    assert_eq!(problem["status"], json!(status), "{shown}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(!detail.is_empty(), "{shown}");
}

/// Returns a body of good JSON that is too large for any request.
fn too_large() -> String {
    format!(r#"{{"n": 1, "more": "{}"}}"#, "x".repeat(5 << 20))
}
