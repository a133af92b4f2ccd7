//! The guard in front of routes, over HTTP.

use axum::body::{Body, to_bytes};
use axum::routing::{get, post};
use serde_json::Value;
use tower::ServiceExt;

use super::*;

/// Asks a server behind a guard.
async fn ask(guard: &Guard, request: &[&str], body: &'static str) -> Response {
    let routes = Router::new()
        .route("/", get(async || "the page"))
        .route("/command", post(async || "done"));
    let (method, path) = request[0].split_once(' ').expect("a line");
    let mut builder = Request::builder().method(method).uri(path);
    for line in &request[1..] {
        let (name, value) = line.split_once(": ").expect("a header");
        builder = builder.header(name, value);
    }
    let request = builder.body(Body::from(body)).expect("a good request");
    guard
        .protect(routes)
        .oneshot(request)
        .await
        .expect("infallible")
}

fn local() -> Guard {
    Guard::new(IpAddr::from([127, 0, 0, 1]), Vec::new(), "http_hosts")
}

const HOST: &str = "host: localhost:7480";

#[track_caller]
fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().expect("text"))
}

async fn problem(response: Response) -> Value {
    assert_eq!(
        header(&response, "content-type"),
        Some("application/problem+json")
    );
    let body = to_bytes(response.into_body(), 4096).await.expect("a body");
    serde_json::from_slice(&body).expect("JSON")
}

#[tokio::test]
async fn rejections_say_what_to_do() {
    for (request, body, status, hint) in [
        (
            &["GET /", "host: evil.example"][..],
            "",
            421,
            "`http_hosts`",
        ),
        (&["GET /"][..], "", 400, "`Host`"),
        (
            &["GET /", HOST, "origin: null"][..],
            "",
            403,
            "`http_cors_origins`",
        ),
        (
            &["GET /", HOST, "sec-fetch-site: cross-site"][..],
            "",
            403,
            "a window of its own",
        ),
        (
            &["POST /command", HOST][..],
            "{}",
            415,
            "`Content-Type: application/json`",
        ),
        (
            &["POST /command", HOST][..],
            "",
            415,
            "`X-Steading-Command: 1`",
        ),
        (
            &["POST /nowhere", HOST, "content-type: text/plain"][..],
            "",
            415,
            "application/json",
        ),
    ] {
        let answer = ask(&local(), request, body).await;
        assert_eq!(answer.status(), status, "{request:?}");
        assert_eq!(
            header(&answer, "cross-origin-resource-policy"),
            Some("same-origin")
        );
        let problem = problem(answer).await;
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.contains(hint), "{request:?}: {detail}");
        assert_eq!(problem["outcome"], "not_run");
    }
}

#[tokio::test]
async fn takes_json_and_commands() {
    let json = "content-type: application/json";
    for (request, body) in [
        (&["POST /command", HOST, json][..], "{}"),
        (&["POST /command", HOST, json][..], ""),
        (&["POST /command", HOST, "x-steading-command: 1"][..], ""),
        (&["GET /", HOST][..], ""),
    ] {
        let answer = ask(&local(), request, body).await;
        assert_eq!(answer.status(), 200, "{request:?}");
        assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&answer, "access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn a_server_for_others_answers_to_any_name() {
    for (hosts, host, status) in [
        (&[][..], "host: any.example", 200),
        (&["gate.example"][..], "host: gate.example:7480", 200),
        (&["gate.example"][..], "host: 10.0.0.7:7480", 200),
        (&["gate.example"][..], "host: any.example", 421),
    ] {
        let hosts = hosts
            .iter()
            .map(|host| host.parse().expect("a host"))
            .collect();
        let guard = Guard::new(IpAddr::from([0, 0, 0, 0]), hosts, "http_hosts");
        let answer = ask(&guard, &["GET /", host], "").await;
        assert_eq!(answer.status(), status, "{host}");
        let foreign = ["GET /", host, "origin: http://evil.example"].map(|line| line);
        assert_ne!(ask(&guard, &foreign, "").await.status(), 200, "{host}");
    }
}

#[tokio::test]
async fn origins_are_let_in_only_if_listed() {
    let listed = local().origins(vec!["https://app.example".parse().expect("an origin")]);
    let preflight = |origin| {
        [
            "OPTIONS /command",
            HOST,
            origin,
            "access-control-request-method: POST",
            "access-control-request-headers: content-type",
        ]
    };
    let answer = ask(&listed, &preflight("origin: https://app.example"), "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        header(&answer, "access-control-allow-origin"),
        Some("https://app.example")
    );
    assert_eq!(
        header(&answer, "access-control-allow-methods"),
        Some("GET,POST")
    );
    let names = header(&answer, "access-control-allow-headers").expect("names");
    assert!(
        names.contains("content-type") && names.contains("x-steading-command"),
        "{names}"
    );
    for (guard, origin) in [
        (&listed, "origin: https://evil.example"),
        (&local(), "origin: https://app.example"),
    ] {
        let answer = ask(guard, &preflight(origin), "").await;
        assert_eq!(answer.status(), 403, "{origin}");
        assert_eq!(header(&answer, "access-control-allow-origin"), None);
    }
    let simple = [
        "POST /command",
        HOST,
        "origin: https://app.example",
        "content-type: text/plain",
    ];
    let answer = ask(&listed, &simple, "").await;
    assert_eq!(answer.status(), 415);
    assert_eq!(
        header(&answer, "access-control-allow-origin"),
        Some("https://app.example")
    );
}
