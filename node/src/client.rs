//! Asks a running node over HTTP, for the commands that show things.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::Request;
use axum::http::header::{CONTENT_TYPE, DATE};
use axum::http::response::Parts;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use steading::coordination::commands::MOVES_MAX;
use steading::tls::{Mistrust, mistrust_in};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::args::AskArgs;
use crate::exit::Exit;
use crate::http::{Problem, Ready};
use crate::output;
use crate::settings::SettingsError;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait in silence.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long to wait for an answer that has no time limit of its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How much longer than a call's own time limit to wait for its answer.
const GRACE: Duration = Duration::from_secs(5);

/// What stays as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The HTTP server of one node.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    base: Url,
    /// How to connect to an address `https://…`.
    tls: Arc<ClientConfig>,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why there is no whole answer.
type NoAnswer = Box<dyn Error + Send + Sync>;

/// An answer of any kind.
#[derive(Debug)]
pub(crate) struct Raw {
    /// The server's time, in whole seconds.
    pub(crate) date: Option<SystemTime>,
    /// What it said.
    pub(crate) body: Bytes,
}

/// Why a node gave no answer, or none that we wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The address is no URL.
    #[error("`--address` (or STEADING_ADDRESS) is no URL such as http://127.0.0.1:7480: {0}")]
    Address(String),
    /// The certificates cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The address wants certificates, and there are none.
    #[error(
        "{0} needs `tls_ca`, `tls_cert` and `tls_key` (flag --tls-ca, variable STEADING_TLS_CA, …)"
    )]
    NoCertificates(Url),
    /// Arguments that are neither JSON nor pairs.
    #[error("`{0}` is no argument: write one JSON object or array, or NAME=VALUE for each")]
    Argument(String),
    /// Neither the number of a shard nor a range of them.
    #[error("`{0}` is no shard: write a number such as 17, or a range such as 16-31")]
    Shards(String),
    /// More shards than one command takes.
    #[error("a command moves at most {MOVES_MAX} shards, and there are more in `{0}`")]
    TooManyShards(String),
    /// What was to be simulated makes no sense.
    #[error("{0}")]
    Simulation(String),
    /// An ID that no URL can hold.
    #[error("`{0}` cannot be asked for by HTTP: URLs take it for a step in their path")]
    DotSegment(String),
    /// Nobody answers there.
    #[error("cannot reach {0} (--address or STEADING_ADDRESS names another node)")]
    Unreachable(Url, #[source] NoAnswer),
    /// Somebody listens there, but what comes is no answer by HTTP.
    #[error(
        "no answer from {0} (is that the port of gRPC? --address or STEADING_ADDRESS takes that of \
         HTTP, such as http://127.0.0.1:7480)"
    )]
    Broken(Url, #[source] NoAnswer),
    /// The node says no.
    #[error("{}", told(.0))]
    Problem(Box<Problem>),
    /// Something answers there that is no node of ours.
    #[error("{0} does not answer like a node: {1}")]
    NotSteading(Url, String),
}

impl AskError {
    /// Returns the process's exit code for this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Address(_)
            | Self::Settings(_)
            | Self::NoCertificates(_)
            | Self::Argument(_)
            | Self::Shards(_)
            | Self::TooManyShards(_)
            | Self::Simulation(_)
            | Self::DotSegment(_) => Exit::Usage,
            Self::Unreachable(..) | Self::Broken(..) | Self::NotSteading(..) => Exit::Unreachable,
            Self::Problem(_) => Exit::Refused,
        }
    }
}

impl Client {
    /// Takes the address of a node's HTTP server, `http://` may be left out, and certificates for
    /// `https://`.
    ///
    /// # Errors
    ///
    /// [`AskError::Address`] if it is no URL, or what is wrong with the certificates.
    pub(crate) fn new(ask: &AskArgs) -> Result<Self, AskError> {
        let address = &ask.address;
        let text = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let base = Url::parse(&text).map_err(|error| AskError::Address(error.to_string()))?;
        if !["http", "https"].contains(&base.scheme()) {
            let scheme = base.scheme();
            return Err(AskError::Address(format!("nodes do not speak {scheme}")));
        }
        if base.cannot_be_a_base() || !base.has_host() {
            return Err(AskError::Address("it names no host".into()));
        }
        let config = match ask.tls.load()? {
            Some(tls) => tls.http_client(),
            None if base.scheme() == "https" => return Err(AskError::NoCertificates(base)),
            None => trusting_nobody(),
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        let tls = Arc::new(config);
        Ok(Self { base, tls, http })
    }

    /// Asks for `path`, whose segments are encoded here, with a query.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, AskError> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = Request::get(url.as_str());
        self.ask(request, String::new(), ANSWER_TIMEOUT).await
    }

    /// The same without a query, within a time limit.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub(crate) async fn get_within<T: DeserializeOwned>(
        &self,
        path: &[&str],
        limit: Duration,
    ) -> Result<T, AskError> {
        let request = Request::get(self.url(path)?.as_str());
        self.ask(request, String::new(), limit).await
    }

    /// Asks for `path` within a time limit, and takes any status and body.
    ///
    /// # Errors
    ///
    /// [`AskError::Unreachable`].
    pub(crate) async fn raw(&self, path: &[&str], limit: Duration) -> Result<Raw, AskError> {
        let request = Request::get(self.url(path)?.as_str());
        let (head, body) = self.answer(request, String::new(), limit).await?;
        let date = head.headers.get(DATE);
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        Ok(Raw { date, body })
    }

    /// Asks whether the node can take traffic, and what is missing if not.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub(crate) async fn ready(&self) -> Result<Ready, AskError> {
        let answer = self.raw(&["ready"], ANSWER_TIMEOUT).await?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| AskError::NotSteading(self.base.clone(), error.to_string()))
    }

    /// Gives a command.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: String,
    ) -> Result<T, AskError> {
        let request = self.posted(path)?;
        self.ask(request, body, ANSWER_TIMEOUT).await
    }

    /// Calls a method and returns its value.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub(crate) async fn call(
        &self,
        path: &[&str],
        arguments: String,
        timeout: Option<Duration>,
    ) -> Result<serde_json::Value, AskError> {
        let mut request = self.posted(path)?;
        let mut limit = ANSWER_TIMEOUT;
        if let Some(timeout) = timeout {
            request = request.header(crate::http::TIMEOUT_HEADER, timeout.as_millis().to_string());
            limit = timeout + GRACE;
        }
        self.ask(request, arguments, limit).await
    }

    /// Begins a request that changes something. Nodes take none without this type, also where nothing is sent.
    fn posted(&self, path: &[&str]) -> Result<axum::http::request::Builder, AskError> {
        let request = Request::post(self.url(path)?.as_str());
        Ok(request.header(CONTENT_TYPE, "application/json"))
    }

    fn url(&self, path: &[&str]) -> Result<Url, AskError> {
        if let Some(dots) = path.iter().find(|segment| [".", ".."].contains(*segment)) {
            return Err(AskError::DotSegment((*dots).to_owned()));
        }
        let segments = path
            .iter()
            .map(|segment| utf8_percent_encode(segment, SEGMENT));
        let path = segments.fold(String::new(), |path, segment| format!("{path}/{segment}"));
        let mut url = self.base.clone();
        url.set_path(&path);
        Ok(url)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: axum::http::request::Builder,
        body: String,
        limit: Duration,
    ) -> Result<T, AskError> {
        let (head, body) = self.answer(request, body, limit).await?;
        let status = head.status;
        let strange = |error: serde_json::Error| {
            AskError::NotSteading(self.base.clone(), format!("{status}, {error}"))
        };
        if status.is_success() {
            serde_json::from_slice(&body).map_err(strange)
        } else {
            let problem = serde_json::from_slice(&body).map_err(strange)?;
            Err(AskError::Problem(Box::new(problem)))
        }
    }

    async fn answer(
        &self,
        request: axum::http::request::Builder,
        body: String,
        limit: Duration,
    ) -> Result<(Parts, Bytes), AskError> {
        let request = request
            .body(Full::from(body))
            .map_err(|error| AskError::Address(error.to_string()))?;
        let answer = tokio::select! {
            answer = timeout(limit, self.send(request)) => answer,
            never = self.tell_if_slow(limit) => match never {},
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.without_answer(error).await),
            Err(_late) => {
                let within = humantime::format_duration(limit);
                let late = format!("no answer within {within}");
                Err(AskError::Unreachable(self.base.clone(), late.into()))
            }
        }
    }

    /// Says that an answer is waited for, if it takes long and can take longer.
    async fn tell_if_slow(&self, limit: Duration) -> Infallible {
        if limit > PATIENCE {
            sleep(PATIENCE).await;
            let (base, limit) = (&self.base, humantime::format_duration(limit));
            output::note(format_args!(
                "waiting for the answer of {base}, at most {limit} in all"
            ));
        }
        pending().await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(Parts, Bytes), NoAnswer> {
        let (head, body) = self.http.request(request).await?.into_parts();
        Ok((head, body.collect().await?.to_bytes()))
    }

    async fn without_answer(&self, error: NoAnswer) -> AskError {
        let base = self.base.clone();
        if let Some(mistrust) = mistrust_in(&*error) {
            return AskError::Unreachable(base, mistrust.into());
        }
        let failed = error.downcast_ref::<legacy::Error>();
        if failed.is_none_or(legacy::Error::is_connect) {
            return AskError::Unreachable(base, error);
        }
        if base.scheme() != "https" {
            return AskError::Broken(base, error);
        }
        match timeout(CONNECT_TIMEOUT, self.refusal()).await {
            Ok(Some(refusal)) => AskError::Unreachable(base, refusal.into()),
            Ok(None) | Err(_) => AskError::Broken(base, error),
        }
    }

    /// Connects once more, only to hear whether the server lets this certificate in.
    ///
    /// A server checks it when the client has already begun to ask. So its refusal and the request
    /// may cross, and whoever asked hears no more than that the connection was lost.
    async fn refusal(&self) -> Option<Mistrust> {
        let host = self.base.host_str()?.trim_matches(['[', ']']).to_owned();
        let port = self.base.port_or_known_default()?;
        let stream = TcpStream::connect((host.as_str(), port)).await.ok()?;
        let name = ServerName::try_from(host).ok()?;
        let connecting = TlsConnector::from(self.tls.clone()).connect(name, stream);
        let refused = match connecting.await {
            Ok(mut stream) => stream.read_u8().await.err()?,
            Err(error) => error,
        };
        mistrust_in(&refused)
    }
}

/// Returns what a problem says, and its title if that is not how it begins.
fn told(problem: &Problem) -> String {
    let Problem {
        title,
        detail,
        code,
        ..
    } = problem;
    if detail.to_lowercase().starts_with(&title.to_lowercase()) {
        format!("{detail} ({code})")
    } else {
        format!("{title}: {detail} ({code})")
    }
}

/// For addresses without TLS: no certificate is ever checked.
fn trusting_nobody() -> ClientConfig {
    let provider = rustls::crypto::ring::default_provider();
    ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("the provider knows all versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}
