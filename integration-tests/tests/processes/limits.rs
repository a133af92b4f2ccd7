//! Clients that hold connections: idle, half a request, a slow body, more than there are files.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustix::process::{Resource, Rlimit, prlimit};
use steading_integration_tests::LIMIT;
use steading_integration_tests::cluster::Node;
use steading_integration_tests::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::cluster;

/// How an HTTP/2 client begins.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HALF_HEADER: &str = "GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Sl";

/// Half of a request that adds to a counter.
const HALF_BODY: &str = "POST /v1/objects/Counter/c/add HTTP/1.1\r\nHost: 127.0.0.1\r\n\
                         Content-Type: application/json\r\nX-Steading-Command: 1\r\n\
                         Content-Length: 4096\r\n\r\n{\"n\":";

/// Opens a connection and sends the beginning of something.
async fn opened(address: &str, beginning: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // An error means that the server has closed it already.
    let _ = stream.write_all(beginning.as_bytes()).await;
    stream
}

/// Waits until the server closes a connection, whatever it says before.
async fn closed(mut stream: TcpStream) {
    let mut said = Vec::new();
    let ended = timeout(LIMIT, stream.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "it is still open");
}

async fn metric(node: &Node, line: &str) -> f64 {
    let metrics = node.get("/metrics").await.expect("it runs");
    let text = metrics.body.as_str().unwrap_or_default().to_owned();
    let value = text.lines().find_map(|found| found.strip_prefix(line));
    value.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

/// Idle and half-sent requests were held forever.
#[tokio::test]
async fn what_sends_no_request_is_closed_in_time() {
    let cluster = cluster("held").await;
    let short = [
        "--header-timeout=500ms",
        "--idle-timeout=500ms",
        "--body-timeout=500ms",
        "--inspector-listen=127.0.0.1:0",
    ];
    let [node] = cluster.ready_with(["a"], &short).await;
    let page = node.output();
    let page = page
        .split("\"inspector\":\"")
        .nth(1)
        .expect("it is announced");
    let page = page.split('"').next().expect("an address");
    let mut held = Vec::new();
    for address in [node.http(), page] {
        for beginning in ["", "P", PREFACE, HALF_HEADER, HALF_BODY] {
            held.push(opened(address, beginning).await);
        }
        let whole = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        held.push(opened(address, whole).await);
    }
    for beginning in ["", "P", PREFACE, "GET / HTTP/1.1\r\n"] {
        held.push(opened(node.grpc(), beginning).await);
    }
    futures::future::join_all(held.into_iter().map(closed)).await;
    assert_eq!(node.add_one("c").await, Ok(1));
    let timeouts = "steading_connections_closed_total{listener=\"http\",reason=\"header_timeout\"}";
    assert!(metric(&node, timeouts).await >= 2.0);
}

/// A body of a byte now and then kept its connection.
#[tokio::test]
async fn a_slow_body_is_answered_with_408() {
    let cluster = cluster("slow").await;
    let [node] = cluster.ready_with(["a"], &["--body-timeout=500ms"]).await;
    let mut stream = opened(node.http(), HALF_BODY).await;
    let mut said = String::new();
    let reading = async {
        let mut buffer = [0; 4096];
        loop {
            let (mut read, mut write) = stream.split();
            tokio::select! {
                len = read.read(&mut buffer) => match len {
                    Ok(0) | Err(_) => break,
                    Ok(len) => said.push_str(&String::from_utf8_lossy(&buffer[..len])),
                },
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    if write.write_all(b" ").await.is_err() {
                        break;
                    }
                }
            }
        }
    };
    timeout(LIMIT, reading).await.expect("it is closed");
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(said.contains("\"outcome\":\"not_run\""), "{said}");
}

/// One half-sent request stretched a stop from 1 s to 27 s.
#[tokio::test]
async fn half_sent_requests_do_not_delay_a_stop() {
    let cluster = cluster("half").await;
    let [node] = cluster.ready_with(["a"], &["--drain-timeout=40s"]).await;
    let mut held = Vec::new();
    for beginning in ["", HALF_HEADER, HALF_BODY] {
        held.push(opened(node.http(), beginning).await);
        held.push(opened(node.grpc(), PREFACE).await);
    }
    let open = "steading_connections_open{listener=\"http\"}";
    until("the connections are accepted", async || {
        let open = metric(&node, open).await;
        if open >= 3.0 {
            Ok(())
        } else {
            Err(open.to_string())
        }
    })
    .await;
    let since = Instant::now();
    let status = node.terminate().await;
    let took = since.elapsed();
    assert!(status.success(), "{status}: {}", node.output());
    assert!(took < Duration::from_secs(15), "it took {took:?}");
}

/// With its file descriptors used up a node kept its lease, and peers got 503.
#[tokio::test]
async fn few_descriptors_leave_room_for_peers() {
    for descriptors in [64, 256] {
        let cluster = cluster(&format!("few-{descriptors}")).await;
        let limited = cluster.clone().descriptors(descriptors);
        let [a] = limited.ready(["a"]).await;
        let mut held = Vec::new();
        for _ in 0..descriptors {
            held.push(opened(a.http(), HALF_HEADER).await);
            held.push(opened(a.grpc(), PREFACE).await);
        }
        let [b] = cluster.ready(["b"]).await;
        b.is_settled(["a", "b"]).await;
        for number in 0..20 {
            held.push(opened(a.grpc(), "").await);
            b.add_one(&number.to_string()).await.expect("it is served");
        }
        a.is_ready().await;
        let errors = metric(&a, "steading_accept_errors_total{listener=\"http\"}").await;
        assert!(
            errors.abs() < f64::EPSILON,
            "{errors} errors with {descriptors}"
        );
        assert!(a.terminate().await.success(), "{}", a.output());
    }
}

/// Many behind one address leave room for those behind another.
#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    const AT_MOST: usize = 4;
    let cluster = cluster("one-address").await;
    let limits = ["--connections-max=32", "--connections-per-address-max=4"];
    let [node] = cluster.ready_with(["a"], &limits).await;
    let half = async |host: [u8; 4]| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind((host, 0).into())
            .expect("an address of loopback");
        let address = node.http().parse().expect("an address");
        let mut stream = socket.connect(address).await.expect("it listens");
        // An error means that the server has closed it already.
        let _ = stream.write_all(HALF_BODY.as_bytes()).await;
        stream
    };
    let many = (0..2 * AT_MOST).map(async |_| {
        let mut said = Vec::new();
        // Closed at once is an end as good as any.
        let _ = half([127, 0, 0, 2]).await.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    });
    let mut many: FuturesUnordered<_> = many.collect();
    // As many as there are too many are let go, and the others held.
    for _ in 0..AT_MOST {
        let said = timeout(LIMIT, many.next()).await.expect("it is let go");
        let said = said.expect("one of them");
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 503"),
            "{said}"
        );
    }
    let mut other = half([127, 0, 0, 3]).await;
    let rest = [vec![b' '; 4096 - 5 - 2], b"1}".to_vec()].concat();
    other.write_all(&rest).await.expect("it is open");
    let mut answer = [0; 12];
    let read = timeout(LIMIT, other.read_exact(&mut answer)).await;
    read.expect("it is answered").expect("it is open");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// A node that cannot accept connections says so, once, and recovers.
#[tokio::test]
async fn a_listener_without_descriptors_recovers() {
    let cluster = cluster("no-descriptors").await;
    let [node] = cluster.ready(["a"]).await;
    let set = |current| {
        let maximum = Some(1024);
        let limit = Rlimit { current, maximum };
        prlimit(Some(node.pid()), Resource::Nofile, limit).expect("we may")
    };
    set(Some(3));
    let waiting = opened(
        node.http(),
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    node.says("cannot accept connections").await;
    set(Some(1024));
    closed(waiting).await;
    node.says("accepting connections again").await;
    node.is_ready().await;
    let said = node.output().matches("cannot accept connections").count();
    assert_eq!(said, 1, "{}", node.output());
}
