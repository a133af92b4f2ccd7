//! A refusal that crosses the request of whoever is refused.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use steading_integration_tests::LIMIT;
use steading_integration_tests::certificates::{Authority, Files, Validity};
use steading_integration_tests::programs::steading;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{ask, said};

/// A server that shows the certificate of `files`, and asks for one of its authority if `asks`.
fn server(files: &Files, asks: bool) -> TlsAcceptor {
    let certificates = CertificateDer::pem_file_iter(files.path("tls.crt")).expect("a file");
    let certificates = certificates.collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_file(files.path("tls.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder: ConfigBuilder<ServerConfig, WantsVerifier> =
        ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("known versions");
    let builder = if asks {
        let authorities = Arc::new(files.authorities().expect("authorities"));
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let config = builder.with_single_cert(certificates, key).expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

/// What a client sees when its request is under way before the refusal comes is that the connection ends. The first
/// connection does just that, so that nothing depends on who is faster.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_hears_why_though_the_connection_was_lost_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (authority, foreign) = (Authority::new(), Authority::new());
    let good = authority.issue(&at("good"), Validity::Good);
    let trusted = [&authority, &foreign];
    let one_sided = foreign.issue_trusting(&at("one-sided"), Validity::Good, &trusted);

    steading(); // Built before anybody waits for it.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("https://{}", listener.local_addr().expect("bound"));
    let asking = tokio::task::spawn_blocking(move || ask(&address, Some(&one_sided), &["status"]));

    let refuse_the_second = async {
        let (stream, _) = listener.accept().await.expect("somebody comes");
        let mut lost = server(&good, false).accept(stream).await.expect("hands");
        lost.read_u8().await.expect("a request");
        drop(lost);
        let (stream, _) = listener.accept().await.expect("they come again");
        let refused = server(&good, true).accept(stream).await;
        assert!(refused.is_err(), "it must not be let in");
    };
    let refused = timeout(LIMIT, refuse_the_second).await;
    refused.expect("they come, and come again");

    let output = asking.await.expect("it ends");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("an authority it does not know"), "{text}");
}
