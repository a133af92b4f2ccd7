//! An HTTP client for servers with TLS and without.

use std::error::Error as StdError;
use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use steading::tls::Tls;
use tokio::time::timeout;

use crate::certificates::Files;

/// Asks HTTP servers. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    shows: Shows,
    patience: Duration,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What servers are shown.
#[derive(Clone, Debug)]
enum Shows {
    /// Nothing, and no TLS is spoken.
    Plain,
    /// The certificate in these files.
    Certificate(Files),
    /// Nothing, over TLS: only servers of these authorities are spoken to.
    Nothing(Files),
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; text if it is no JSON.
    pub body: Value,
}

/// Why there is no answer, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoAnswer {
    why: String,
    is_connect: bool,
}

impl NoAnswer {
    /// Whether there was no connection, so that nothing was asked.
    pub fn is_connect(&self) -> bool {
        self.is_connect
    }
}

impl Client {
    /// Speaks no TLS, and waits so long for an answer.
    pub fn plain(patience: Duration) -> Self {
        Self::showing(Shows::Plain, patience).expect("there is nothing to read")
    }

    /// Speaks TLS and shows a certificate.
    ///
    /// # Panics
    ///
    /// If the files cannot be used.
    pub fn certified(files: &Files, patience: Duration) -> Self {
        Self::showing(Shows::Certificate(files.clone()), patience).expect("good files")
    }

    /// Speaks TLS with servers of the files' authorities, and shows no certificate.
    ///
    /// # Panics
    ///
    /// If the files cannot be used.
    pub fn anonymous(files: &Files, patience: Duration) -> Self {
        Self::showing(Shows::Nothing(files.clone()), patience).expect("good files")
    }

    /// Returns a client with what its files hold now and connections of its own, or this one if there are no
    /// files, or somebody is about to replace them.
    #[must_use]
    pub fn renewed(&self) -> Self {
        match &self.shows {
            Shows::Plain => self.clone(),
            shows @ (Shows::Certificate(_) | Shows::Nothing(_)) => {
                Self::showing(shows.clone(), self.patience).unwrap_or_else(|_| self.clone())
            }
        }
    }

    fn showing(shows: Shows, patience: Duration) -> Result<Self, Box<dyn StdError>> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config(&shows)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self {
            shows,
            patience,
            http,
        })
    }

    /// Returns the URL of a path at `host:port`.
    pub fn url(&self, address: &str, path: &str) -> String {
        let scheme = match &self.shows {
            Shows::Plain => "http",
            Shows::Certificate(_) | Shows::Nothing(_) => "https",
        };
        format!("{scheme}://{address}{path}")
    }

    /// Asks for something.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or takes too long.
    pub async fn get(&self, url: &str) -> Result<Answer, NoAnswer> {
        self.ask(Request::get(url), Bytes::new()).await
    }

    /// Posts JSON.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or takes too long.
    pub async fn post(
        &self,
        url: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Result<Answer, NoAnswer> {
        let request = Request::post(url).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        self.ask(request, body.to_string().into()).await
    }

    async fn ask(
        &self,
        request: axum::http::request::Builder,
        body: Bytes,
    ) -> Result<Answer, NoAnswer> {
        let request = request.body(Full::new(body)).expect("a good request");
        let asked = timeout(self.patience, self.send(request)).await;
        let asked = asked.unwrap_or_else(|late| Err(late.into()));
        let (status, body) = asked.map_err(|error| NoAnswer {
            why: in_words(&*error),
            is_connect: error
                .downcast_ref::<legacy::Error>()
                .is_some_and(legacy::Error::is_connect),
        })?;
        let text = String::from_utf8_lossy(&body);
        let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into()));
        Ok(Answer { status, body })
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(u16, Bytes), Box<dyn StdError + Send + Sync>> {
        let (head, body) = self.http.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((head.status.as_u16(), body))
    }
}

fn config(shows: &Shows) -> Result<ClientConfig, Box<dyn StdError>> {
    match shows {
        Shows::Plain => anonymous(RootCertStore::empty()),
        Shows::Nothing(files) => anonymous(files.authorities()?),
        Shows::Certificate(files) => Ok(Tls::load(files.of_a_node())?.http_client()),
    }
}

fn anonymous(trusted: RootCertStore) -> Result<ClientConfig, Box<dyn StdError>> {
    let provider = rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into());
    let config = config.with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(trusted).with_no_client_auth())
}

fn in_words(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
