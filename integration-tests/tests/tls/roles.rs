//! What certificates allow: those of nodes everything, those of clients what clients may ask.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use steading::tls::Tls;
use steading_integration_tests::certificates::{Authority, Files, Validity};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_proto::v1::peer_client::PeerClient;
use steading_proto::v1::transfer_client::TransferClient;
use steading_proto::v1::{Batch, Piece, ReadyRequest};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use super::{ask, launch, ready, said, works};

/// Opens a connection to a node's gRPC port, as any program can that has these files.
async fn channel(node: &Node, files: &Files) -> Channel {
    let tls = Tls::load(files.of_a_node()).expect("good files");
    let mut config = tls.http_client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |uri: Uri| {
        let connector = connector.clone();
        async move {
            let address = uri.authority().expect("an address").as_str();
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("127.0.0.1").expect("a name");
            let stream = connector.connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc())).expect("an address");
    let channel = endpoint.connect_with_connector(connect).await;
    channel.expect("it is of the cluster")
}

/// How a node answers each request that only nodes make, here without a greeting.
async fn answers(node: &Node, files: &Files) -> [Code; 3] {
    let channel = channel(node, files).await;
    let mut peer = PeerClient::new(channel.clone());
    let mut transfer = TransferClient::new(channel);
    let link = peer.link(tokio_stream::empty::<Batch>()).await;
    let send = transfer.send(tokio_stream::empty::<Piece>()).await;
    let ready = transfer.ready(ReadyRequest {}).await;
    let of = |error: Option<tonic::Status>| error.map_or(Code::Ok, |status| status.code());
    [of(link.err()), of(send.err()), of(ready.err())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_certificate_asks_and_commands_and_opens_no_stream_of_nodes() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let nodes = authority.issue(&folder.path().join("node"), Validity::Good);
    let client = authority.issue_client(&folder.path().join("client"));
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "roles").certified(&nodes);
    let node = ready(&cluster, "a", &nodes).await;
    let address = format!("https://{}", node.http());
    works(&address, &client).await;
    for command in [&["status"][..], &["doctor"], &["pause"], &["resume"]] {
        let output = ask(&address, Some(&client), command);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{command:?}: {}",
            said(&output)
        );
    }
    assert_eq!(answers(&node, &client).await, [Code::PermissionDenied; 3]);
    node.says("refused a client that asked for what only nodes may")
        .await;
    // A node's is let in as far as its greeting, which is missing.
    assert_eq!(answers(&node, &nodes).await, [Code::InvalidArgument; 3]);
    let metrics = node.get("/metrics").await.expect("it runs").body;
    let metrics = metrics.as_str().expect("text");
    let counted = "steading_certificate_roles_refused_total 3";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_clients_certificate_does_not_start_and_names_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = Authority::new().issue_client(folder.path());
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "no-role");
    let node = launch(&cluster, "a", Some(&client));
    assert_eq!(node.end().await.code(), Some(2), "{}", node.output());
    let text = node.output();
    assert!(
        text.contains("a node needs one for servers and clients"),
        "{text}"
    );
    assert!(text.contains("tls.crt"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_certificate_does_not_take_the_place_of_a_running_nodes() {
    let folder = tempfile::tempdir().expect("a folder");
    let here: &Path = folder.path();
    let authority = Authority::new();
    let files = authority.issue(&here.join("node"), Validity::Good);
    let client = authority.issue_client(&here.join("client"));
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "lesser").certified(&client);
    let node = ready(&cluster, "a", &files).await;
    authority.issue_client(&here.join("node"));
    node.says("new certificates cannot be used").await;
    let text = node.output();
    assert!(
        text.contains("a node needs one for servers and clients"),
        "{text}"
    );
    works(&format!("https://{}", node.http()), &client).await;
}
