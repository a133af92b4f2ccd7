//! Requests to a collector by HTTP, with or without TLS.

use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::settings::{Certificates, Target};

/// How much of an answer is read, so that its connection can be used again. Collectors say little.
const ANSWER_LEN_MAX: usize = 64 << 10;

/// Sends to one URL. Connects when it is first used, and again after the connection broke.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
}

impl HttpClient {
    /// Makes it. Fails, in words, if the certificates cannot be used.
    pub(crate) fn new(target: &Target) -> Result<Self, String> {
        let config = if target.endpoint.scheme_str() == Some("https") {
            trusting(&target.certificates)?
        } else {
            without_client(RootCertStore::empty())
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(target.timeout));
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self {
            client: legacy::Client::builder(TokioExecutor::new()).build(connector),
            url: target.endpoint.clone(),
        })
    }

    /// Sends protobuf, and says what went wrong if it is not taken. Sets no time limit of its own.
    pub(crate) async fn post(&self, headers: &HeaderMap, body: Vec<u8>) -> Result<(), String> {
        let request = Request::post(self.url.clone()).body(Full::from(body));
        let mut request = request.map_err(|error| error.to_string())?;
        headers.clone_into(request.headers_mut());
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(CONTENT_TYPE, protobuf);
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| with_causes(&error))?;
        let status = answer.status();
        // What it says does not matter; an answer that is too long ends its connection.
        drop(Limited::new(answer, ANSWER_LEN_MAX).collect().await);
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("it answered {status}"))
        }
    }
}

/// Trusts the given authorities, or else those that the system trusts.
fn trusting(certificates: &Certificates) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &certificates.authority {
        Some(pem) => {
            for authority in all_in(pem)? {
                let added = roots.add(authority);
                added.map_err(|error| format!("an authority cannot be used: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let Some((certificate, key)) = &certificates.client else {
        return Ok(without_client(roots));
    };
    let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes());
    let key = key.map_err(|error| format!("the client's key cannot be read: {error}"))?;
    let config = builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(all_in(certificate)?, key);
    config.map_err(|error| format!("the client's certificate cannot be used: {error}"))
}

fn all_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| format!("no PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("a file holds no certificate".into());
    }
    Ok(certificates)
}

fn without_client(roots: RootCertStore) -> ClientConfig {
    builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
}

/// Writes an error with its causes: that of a client says only in which step it failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
