//! How processes of a cluster shake hands, made of their certificates.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::TlsError;
use super::files::{Contents, PemFile, TlsFiles};
use super::role::Roles;
use super::words;

/// What gRPC speaks.
const HTTP2: &[u8] = b"h2";

/// What HTTP clients may speak beside it.
const HTTP1: &[u8] = b"http/1.1";

/// Both ends of a handshake, for gRPC and for HTTP.
pub(super) struct Cluster {
    pub(super) node_client: Arc<ClientConfig>,
    /// Its users say themselves which protocols they speak.
    pub(super) http_client: Arc<ClientConfig>,
    /// Takes only clients that show a certificate of the cluster.
    pub(super) strict_server: Arc<ServerConfig>,
    /// Takes clients without a certificate too, and none with a bad one.
    pub(super) lenient_server: Arc<ServerConfig>,
    pub(super) roles: Roles,
}

/// Makes them of what was read.
pub(super) fn build(
    files: &TlsFiles,
    contents: &Contents,
    hosts: &BTreeSet<String>,
    now: SystemTime,
) -> Result<Cluster, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = own_certificate(files, contents, &provider)?;
    let ca = files.ca.as_ref().ok_or(TlsError::Missing("tls_ca"))?;
    let roots = Arc::new(roots(ca, contents)?);
    let unusable = |error: &dyn std::error::Error| ca.unusable(format!("will not do: {error}"));
    let clients = || WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let strict = clients().build().map_err(|error| unusable(&error))?;
    let lenient = clients().allow_unauthenticated().build();
    let lenient = lenient.map_err(|error| unusable(&error))?;
    let algorithms = provider.signature_verification_algorithms;
    let roles = Roles::new(roots.clone(), algorithms);
    let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
    let verifier = Arc::new(NamedVerifier {
        inner: servers.map_err(|error| unusable(&error))?,
        name: files.name.clone().map(server_name).transpose()?,
    });
    check_client(files, &own, &*strict, now)?;
    for host in hosts {
        check_server(files, &own, &roles, &verifier, host, now)?;
    }
    Ok(Cluster {
        node_client: Arc::new(client(&provider, &verifier, &own, &[HTTP2])),
        http_client: Arc::new(client(&provider, &verifier, &own, &[])),
        strict_server: Arc::new(server(&provider, strict, &own, &[HTTP2])),
        lenient_server: Arc::new(server(&provider, lenient, &own, &[HTTP2, HTTP1])),
        roles,
    })
}

/// Checks that others would take this process for the node of this name.
fn check_server(
    files: &TlsFiles,
    own: &CertifiedKey,
    roles: &Roles,
    verifier: &NamedVerifier,
    host: &str,
    now: SystemTime,
) -> Result<(), TlsError> {
    let (cert, _) = files.own()?;
    let (first, rest) = (&own.cert[0], &own.cert[1..]);
    let serves = roles.serves(first, rest, now);
    serves.map_err(|error| cert.unusable(words::of_certificate(&error)))?;
    let name = server_name(host.to_owned())?;
    let checked = verifier.verify_server_cert(first, rest, &name, &[], unix(now));
    checked.map(drop).map_err(|error| {
        let wanted = files.name.as_deref().unwrap_or(host);
        let why = words::of_certificate(&error);
        cert.unusable(format!(
            "{why}, as which others reach this process: `{wanted}`"
        ))
    })
}

/// Checks that others would take this process for one of the cluster.
fn check_client(
    files: &TlsFiles,
    own: &CertifiedKey,
    clients: &dyn ClientCertVerifier,
    now: SystemTime,
) -> Result<(), TlsError> {
    let (cert, _) = files.own()?;
    let checked = clients.verify_client_cert(&own.cert[0], &own.cert[1..], unix(now));
    let why = |error: Error| cert.unusable(words::of_certificate(&error));
    checked.map(drop).map_err(why)
}

/// Returns the certificate with its key, if it is its.
pub(super) fn own_certificate(
    files: &TlsFiles,
    contents: &Contents,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let (cert, key) = files.own()?;
    let certified = certified(files, contents, provider)?;
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => {
            let path = cert.path.display();
            Err(key.unusable(format!("is not the key of the certificate in {path}")))
        }
    }
}

/// Returns the certificate with its key.
pub(super) fn certified(
    files: &TlsFiles,
    contents: &Contents,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let (cert, key) = files.own()?;
    let chain = cert.certificates(contents.cert.as_deref().unwrap_or_default())?;
    let secret = key.key(contents.key.as_deref().unwrap_or_default())?;
    let signing = provider.key_provider.load_private_key(secret);
    let signing = signing.map_err(|_| key.unusable("holds a private key of no known kind"))?;
    Ok(Arc::new(CertifiedKey::new(chain, signing)))
}

fn roots(ca: &PemFile, contents: &Contents) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in ca.certificates(contents.ca.as_deref().unwrap_or_default())? {
        let added = roots.add(certificate);
        added.map_err(|error| ca.unusable(words::of_certificate(&error)))?;
    }
    Ok(roots)
}

fn client(
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<NamedVerifier>,
    own: &Arc<CertifiedKey>,
    protocols: &[&[u8]],
) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config
}

pub(super) fn server(
    provider: &Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    own: &Arc<CertifiedKey>,
    protocols: &[&[u8]],
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider knows TLS 1.3")
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config
}

fn server_name(name: String) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name))
}

pub(super) fn unix(now: SystemTime) -> UnixTime {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO))
}

/// Checks a server's certificate for one name, whatever host was connected to, if there is one.
#[derive(Debug)]
struct NamedVerifier {
    inner: Arc<WebPkiServerVerifier>,
    name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for NamedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        self.inner
            .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
