//! Clients that shake hands, and clients that stall.

use std::path::Path;

use futures::stream::BoxStream;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::telemetry::Metrics;
use crate::tls::TlsFiles;

const NAME: &str = "a.example";

/// Begins with a TLS record, of which most never comes.
const HALF_A_HELLO: &[u8] = &[
    22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// A server, and where its clients come from.
struct World {
    tls: Tls,
    clients: mpsc::UnboundedSender<io::Result<(DuplexStream, usize)>>,
    accepted: BoxStream<'static, io::Result<Accepted<DuplexStream, usize>>>,
    metrics: CertificateMetrics,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = Tls::load(certificates(folder.path())).expect("good files");
        let (clients, incoming) = mpsc::unbounded_channel();
        let incoming = UnboundedReceiverStream::new(incoming);
        let metrics = Metrics::new().certificates.clone();
        let all = Clients::Certified(tls.clone());
        Self {
            accepted: accept(incoming, all, metrics.clone()).boxed(),
            tls,
            clients,
            metrics,
        }
    }

    /// Connects a client of this number, and says the begin of something.
    async fn connect(&self, number: usize, begin: &[u8]) -> DuplexStream {
        let (mut client, server) = duplex(1 << 14);
        client.write_all(begin).await.expect("there is room");
        let sent = self.clients.send(Ok((server, number)));
        sent.expect("the server lives");
        client
    }

    /// Serves until a client is let go, and returns how long that took.
    async fn lets_go(&mut self, client: &mut DuplexStream) -> Duration {
        let began = Instant::now();
        let mut rest = Vec::new();
        tokio::select! {
            _ = self.accepted.next() => panic!("nobody shook hands"),
            closed = client.read_to_end(&mut rest) => assert_eq!(closed.expect("closed"), 0),
        }
        began.elapsed()
    }

    fn count(&self, outcome: &'static str) -> usize {
        let labels = HandshakeLabels { outcome };
        let count = self.metrics.handshakes.get_or_create(&labels).get();
        usize::try_from(count).expect("few")
    }
}

fn certificates(folder: &Path) -> TlsFiles {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("its own").pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &issuer).expect("signed").pem();
    let file = |name: &str, pem: &str| {
        let path = folder.join(name);
        std::fs::write(&path, pem).expect("it can be written");
        path
    };
    TlsFiles::new(
        file("ca", &ca),
        file("cert", &cert),
        file("key", &key.serialize_pem()),
    )
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_is_let_go_in_time_and_holds_up_nobody() {
    let mut world = World::new();
    let mut silent = world.connect(0, &[]).await;
    let mut half = world.connect(1, HALF_A_HELLO).await;
    let good = world.connect(2, &[]).await;
    let tls = world.tls.clone();
    let began = Instant::now();
    let (client, accepted) = tokio::join!(tls.connect(NAME, good), world.accepted.next());
    assert!(client.is_ok(), "{client:?}");
    let accepted = accepted.expect("one").expect("good");
    assert_eq!((accepted.from, accepted.role), (2, Role::Node));
    assert_eq!(began.elapsed(), Duration::ZERO, "it waited for nobody");
    assert_eq!(world.lets_go(&mut silent).await, HANDSHAKE_TIMEOUT);
    assert_eq!(world.lets_go(&mut half).await, Duration::ZERO);
    assert_eq!((world.count("done"), world.count("late")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn one_handshake_too_many_ends_the_oldest_and_the_newest_is_served() {
    let mut world = World::new();
    let mut stalling = Vec::new();
    for number in 0..=HANDSHAKES_MAX {
        stalling.push(world.connect(number, HALF_A_HELLO).await);
    }
    assert_eq!(world.lets_go(&mut stalling[0]).await, Duration::ZERO);
    let good = world.connect(usize::MAX, &[]).await;
    let tls = world.tls.clone();
    let (client, accepted) = tokio::join!(tls.connect(NAME, good), world.accepted.next());
    assert!(client.is_ok(), "{client:?}");
    assert_eq!(accepted.expect("one").expect("good").from, usize::MAX);
    assert_eq!(world.lets_go(&mut stalling[1]).await, Duration::ZERO);
    assert_eq!(world.lets_go(&mut stalling[2]).await, HANDSHAKE_TIMEOUT);
    for client in &mut stalling[3..] {
        assert_eq!(world.lets_go(client).await, Duration::ZERO);
    }
    let ended = (world.count("crowded"), world.count("late"));
    assert_eq!(ended, (2, HANDSHAKES_MAX - 1));
}
