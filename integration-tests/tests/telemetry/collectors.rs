//! What collectors get beside traces, and what those do to nodes that misbehave.

use steading_integration_tests::certificates::{Authority, Files, Validity};
use steading_integration_tests::otlp::{Got, Receiver, quick};
use steading_integration_tests::until;
use tokio::net::TcpListener;

use super::cluster;

#[tokio::test]
async fn metrics_and_logs_arrive_and_what_is_sent_is_counted() {
    for protocol in ["grpc", "http/protobuf"] {
        let receiver = Receiver::start().await;
        let variables = receiver.variables(protocol);
        let cluster = cluster(&format!("metrics-{}", &protocol[..4]), &variables).await;
        let [a] = cluster.ready(["a"]).await;
        let metrics = receiver.gets("metrics", |got| got.metrics.get("a").cloned());
        let metrics = metrics.await;
        for (name, kind) in [
            ("steading_telemetry_items", "counter"),
            ("steading_store_request_seconds", "histogram"),
            ("steading_parked_calls", "gauge"),
        ] {
            assert_eq!(metrics.get(name), Some(&kind), "{name}: {metrics:#?}");
        }
        receiver
            .gets("logs", |got| {
                got.logs.iter().find(|record| record.node == "a").cloned()
            })
            .await;
        let sent = r#"steading_telemetry_items_total{signal="metrics",outcome="sent"} "#;
        until("it is counted", async || {
            let text = a.get("/metrics").await.map_err(|error| error.to_string())?;
            let text = text.body.as_str().unwrap_or_default().to_owned();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(sent).map(str::to_owned));
            line.filter(|count| count != "0").map(drop).ok_or(text)
        })
        .await;
    }
}

#[tokio::test]
async fn a_collector_with_tls_is_sent_to_if_it_and_the_node_trust_each_other() {
    let work = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let theirs = authority.issue(&work.path().join("collector"), Validity::Good);
    let ours = authority.issue(&work.path().join("node"), Validity::Good);
    let foreign = Authority::new().issue(&work.path().join("foreign"), Validity::Good);
    let receiver = Receiver::start_tls(&theirs).await;
    for protocol in ["grpc", "http/protobuf"] {
        let name = &protocol[..4];
        let with = |files: &Files| {
            let mut variables = receiver.variables(protocol);
            let files = [
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.crt"),
                ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "tls.crt"),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "tls.key"),
            ]
            .map(|(name, file)| (name, files.path(file).display().to_string()));
            variables.extend(files);
            variables
        };
        let trusted = cluster(&format!("tls-{name}"), &with(&ours)).await;
        let trusted = trusted.start(&format!("trusted-{name}")).await;
        let metrics = |got: &Got| got.metrics.get(trusted.id()).map(drop);
        receiver.gets("metrics", metrics).await;

        let stranger = cluster(&format!("foreign-{name}"), &with(&foreign)).await;
        let stranger = stranger.start(&format!("stranger-{name}")).await;
        stranger.says("the collector takes no telemetry").await;
        assert!(!receiver.got().metrics.contains_key(stranger.id()));
    }
}

#[tokio::test]
async fn a_collector_that_hangs_costs_no_call_and_no_end() {
    // It accepts connections, and never answers.
    let hanging = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = hanging.local_addr().expect("it is bound");
    // Nobody listens there any more.
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dead_address = dead.local_addr().expect("it is bound");
    drop(dead);
    for (name, address) in [("hanging", address), ("dead", dead_address)] {
        let mut variables = quick("grpc");
        variables.extend([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
            // Far beyond what the end of a process may take.
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000".into()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "4".into()),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2".into()),
        ]);
        let cluster = cluster(&format!("collector-{name}"), &variables).await;
        let [a] = cluster.ready(["a"]).await;
        for _ in 0..100 {
            a.add_one("c").await.expect("no call fails");
        }
        let lost = |outcome: &str| {
            format!(r#"steading_telemetry_items_total{{signal="traces",outcome="{outcome}"}} "#)
        };
        let lost = [lost("dropped"), lost("failed")];
        until("what is lost is counted", async || {
            let text = a.get("/metrics").await.map_err(|error| error.to_string())?;
            let text = text.body.as_str().unwrap_or_default().to_owned();
            let counts = text.lines().filter_map(|line| {
                let count = lost
                    .iter()
                    .find_map(|lost| line.strip_prefix(lost.as_str()));
                count?.parse::<u64>().ok()
            });
            (counts.sum::<u64>() > 0).then_some(()).ok_or(text)
        })
        .await;
        let ended = a.terminate().await;
        assert!(ended.success(), "{name}: {ended}");
    }
}

#[tokio::test]
async fn a_bad_value_stops_the_start_by_its_name() {
    let variables = [("OTEL_TRACES_SAMPLER", "sometimes".to_owned())];
    let node = cluster("bad", &variables).await.launch("a", &[]);
    assert_eq!(node.end().await.code(), Some(2));
    assert!(
        node.output().contains("`OTEL_TRACES_SAMPLER`"),
        "{}",
        node.output()
    );
}
