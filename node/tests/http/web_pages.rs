//! Requests as a page of another site makes a browser send them: none changes or reads anything.

use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::support::Server;

/// Everything that a page would like to do, and where its effect would be seen.
const WISHES: [(&str, &str); 7] = [
    ("/v1/pause", ""),
    ("/v1/shards/1/pin", "{}"),
    ("/v1/nodes/n1/cordon", ""),
    ("/v1/nodes/n1/drain", ""),
    ("/v1/plans", r#"{"dry_run": false}"#),
    ("/v1/objects/Account/a/withdraw", "[5]"),
    ("/v1/objects/Account/a/withdraw", r#"{"amount": 5}"#),
];

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn pages_of_other_origins_change_nothing() {
    let server = started().await;
    let before = seen(&server).await;
    for (path, body) in WISHES {
        for headers in [
            // Forms, in browsers of today and of yesterday.
            &[
                ("content-type", "application/x-www-form-urlencoded"),
                ("origin", "http://evil.example"),
            ][..],
            &[("content-type", "text/plain"), ("origin", "null")],
            &[
                ("content-type", "text/plain"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[("content-type", "text/plain")],
            &[("content-type", "multipart/form-data; boundary=x")],
            &[("content-type", "application/x-www-form-urlencoded")],
            &[],
            // What a preflight would have been needed for.
            &[JSON, ("origin", "http://evil.example")],
            &[
                JSON,
                ("origin", "http://localhost:3000"),
                ("sec-fetch-site", "same-site"),
            ],
            &[JSON, ("sec-fetch-site", "cross-site")],
            &[JSON, ("x-steading-command", "1"), ("origin", "null")],
            // A name that was pointed at this machine.
            &[
                JSON,
                ("host", "evil.example:7480"),
                ("origin", "http://evil.example:7480"),
            ],
            &[JSON, ("host", "evil.example:7480")],
        ] {
            let (status, problem) = server.send(Method::POST, path, headers, body).await;
            assert!(
                [403, 415, 421].contains(&status.as_u16()),
                "{path} {headers:?}: {problem}"
            );
            assert_eq!(problem["outcome"], json!("not_run"), "{path} {headers:?}");
        }
    }
    assert_eq!(seen(&server).await, before);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_read_nothing() {
    let server = started().await;
    for path in [
        "/v1/objects",
        "/v1/cluster",
        "/v1/openapi.json",
        "/metrics",
        "/ready",
        "/healthz",
        "/nowhere",
    ] {
        for (header, status) in [
            (("origin", "http://evil.example"), StatusCode::FORBIDDEN),
            (("origin", "null"), StatusCode::FORBIDDEN),
            (("sec-fetch-site", "cross-site"), StatusCode::FORBIDDEN),
            (("sec-fetch-site", "same-site"), StatusCode::FORBIDDEN),
            (
                ("host", "evil.example:7480"),
                StatusCode::MISDIRECTED_REQUEST,
            ),
        ] {
            let (got, problem) = server.send(Method::GET, path, &[header], "").await;
            assert_eq!(got, status, "{path} {header:?}: {problem}");
        }
        let (got, _) = server.get(path).await;
        assert_ne!(
            got,
            StatusCode::FORBIDDEN,
            "{path}: a probe sends none of these"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn commands_need_json_or_the_command_header() {
    let server = started().await;
    for headers in [JSON, ("x-steading-command", "1")] {
        let (status, answer) = server.send(Method::POST, "/v1/pause", &[headers], "").await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    let (_, cluster) = server.get("/v1/cluster").await;
    assert_eq!(cluster["paused"], json!(true));
    let call = "/v1/objects/Account/a/balance";
    let command = [("x-steading-command", "1")];
    let (status, balance) = server.send(Method::POST, call, &command, "").await;
    assert_eq!((status, balance), (StatusCode::OK, json!(10)));
    server.stop().await;
}

async fn started() -> Server {
    let server = Server::start().await;
    let (status, _) = server.post("/v1/objects/Account/a/deposit", "[10]").await;
    assert_eq!(status, StatusCode::OK);
    server
}

/// What the wishes would change.
async fn seen(server: &Server) -> serde_json::Value {
    let (_, balance) = server.post("/v1/objects/Account/a/balance", "").await;
    let (_, cluster) = server.get("/v1/cluster").await;
    let (_, shard) = server.get("/v1/explain/shard/1").await;
    let (_, plans) = server.get("/v1/plans").await;
    json!([
        balance,
        cluster["paused"],
        cluster["nodes"][0]["state"],
        shard["pinned"],
        plans
    ])
}
