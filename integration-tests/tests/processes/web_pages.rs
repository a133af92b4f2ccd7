//! What a browser could send to a node's ports, byte by byte. Pages in a real browser are in `tests/browser/foreign.rs`.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::cluster;

/// Far above the expected: expiry means a bug.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_http_port_answers_to_its_own_names_alone() {
    let cluster = cluster("names").await;
    let node = cluster.start("a").await;
    let port = node.http().rsplit(':').next().expect("a port");
    let closed = "connection: close";
    for (request, status) in [
        (format!("GET /healthz HTTP/1.1\r\nhost: localhost:{port}"), "200"),
        (format!("GET /healthz HTTP/1.1\r\nhost: LOCALHOST.:{port}"), "200"),
        ("GET /healthz HTTP/1.0".into(), "200"),
        (format!("GET http://127.0.0.1:{port}/healthz HTTP/1.1\r\nhost: 127.0.0.1:{port}"), "200"),
        ("GET /healthz HTTP/1.1".into(), "400"),
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.example".into(), "400"),
        ("GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost".into(), "400"),
        ("GET http://evil.example/healthz HTTP/1.1\r\nhost: evil.example".into(), "421"),
        ("GET /v1/objects HTTP/1.1\r\nhost: evil.example".into(), "421"),
        ("POST /v1/pause HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0".into(), "415"),
        (
            "POST /v1/pause HTTP/1.1\r\nhost: localhost\r\nx-steading-command: 1\r\ntransfer-encoding: chunked".into(),
            "415",
        ),
    ] {
        let request = format!("{request}\r\n{closed}\r\n\r\n0\r\n\r\n");
        let answer = raw(node.http(), &request).await;
        let got = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(got, status, "{request}\n{answer}");
    }

    // The same name in HTTP/2 is in `:authority`, and there is no `Host`.
    let client = reqwest::Client::builder().http2_prior_knowledge();
    let evil = client.resolve("evil.example", node.http().parse().expect("an address"));
    let evil = evil.build().expect("a client");
    for (host, status) in [("127.0.0.1", 200), ("evil.example", 421)] {
        let answer = evil
            .get(format!("http://{host}:{port}/v1/cluster"))
            .send()
            .await;
        assert_eq!(answer.expect("it answers").status(), status, "{host}");
    }
}

#[tokio::test]
async fn configured_names_are_answered_to() {
    let cluster = cluster("more-names").await;
    let mut node = cluster.launch("a", &["--http-hosts", "node.example,other.example"]);
    node.listens().await;
    for (host, status) in [("node.example", "200"), ("evil.example", "421")] {
        let request = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = raw(node.http(), &request).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{host}");
    }
}

#[tokio::test]
async fn the_grpc_port_takes_nothing_a_page_can_send() {
    let cluster = cluster("grpc").await;
    let node = cluster.start("a").await;
    let call = "/steading.v1.Objects/Call";
    let form = format!(
        "POST {call} HTTP/1.1\r\nhost: {}\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n",
        node.grpc()
    );
    let answer = raw(node.grpc(), &form).await;
    assert!(
        !answer.starts_with("HTTP/1"),
        "it speaks HTTP/2 alone: {answer}"
    );

    let client = reqwest::Client::builder().http2_prior_knowledge();
    let client = client.build().expect("a client");
    let url = format!("http://{}{call}", node.grpc());
    for kind in [
        None,
        Some("text/plain"),
        Some("application/json"),
        Some("application/grpc-web"),
    ] {
        let request = client.post(&url).body(vec![0_u8; 5]);
        let request = kind.into_iter().fold(request, |request, kind| {
            request.header("content-type", kind)
        });
        let answer = request.send().await.expect("it answers");
        assert_eq!(
            answer.status(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{kind:?}"
        );
    }
    let preflight = client.request(reqwest::Method::OPTIONS, &url);
    let preflight = preflight
        .header("origin", "http://evil.example")
        .header("access-control-request-method", "POST");
    let answer = preflight.send().await.expect("it answers");
    assert_eq!(answer.headers().get("access-control-allow-origin"), None);
    let grpc = client
        .post(&url)
        .header("content-type", "application/grpc")
        .body(vec![0_u8; 5]);
    let answer = grpc.send().await.expect("it answers");
    assert_eq!(
        answer.status(),
        StatusCode::OK,
        "gRPC tells errors otherwise"
    );
    assert!(answer.headers().contains_key("grpc-status"), "{answer:?}");
}

/// Sends bytes and returns everything that comes until the server closes.
async fn raw(address: &str, request: &str) -> String {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // A reset ends it too.
        let _ = stream.read_to_end(&mut answer).await;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(LIMIT, asked).await.expect("it ends in time");
    String::from_utf8_lossy(&answer.expect("it connects")).into_owned()
}
