//! Asks a running node over HTTP, for the commands that show things.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Response, Url};
use serde::de::DeserializeOwned;
use steading::coordination::commands::MOVES_MAX;

use crate::exit::Exit;
use crate::http::Problem;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

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
    http: reqwest::Client,
}

/// Why a node gave no answer, or none that we wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The address is no URL.
    #[error("`--address` (or STEADING_ADDRESS) is no URL such as http://127.0.0.1:7480: {0}")]
    Address(String),
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
    #[error("cannot reach {0}")]
    Unreachable(Url, #[source] reqwest::Error),
    /// The node says no.
    #[error("{}: {} ({})", .0.title, .0.detail, .0.code)]
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
            | Self::Argument(_)
            | Self::Shards(_)
            | Self::TooManyShards(_)
            | Self::Simulation(_)
            | Self::DotSegment(_) => Exit::Usage,
            Self::Unreachable(..) | Self::NotSteading(..) => Exit::Unreachable,
            Self::Problem(_) => Exit::Refused,
        }
    }
}

impl Client {
    /// Takes the address of a node's HTTP server; `http://` may be left out.
    ///
    /// # Errors
    ///
    /// [`AskError::Address`] if it is no URL.
    pub(crate) fn new(address: &str) -> Result<Self, AskError> {
        let text = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let base = Url::parse(&text).map_err(|error| AskError::Address(error.to_string()))?;
        if base.cannot_be_a_base() || !base.has_host() {
            return Err(AskError::Address("it names no host".into()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .no_proxy()
            .build()
            .expect("a client without TLS needs nothing that could be missing");
        Ok(Self { base, http })
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
        let response = self.http.get(self.url(path)?).query(query).send().await;
        self.read(response).await
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
        let response = self.http.post(self.url(path)?).body(body).send().await;
        self.read(response).await
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
        let mut request = self.http.post(self.url(path)?).body(arguments);
        if let Some(timeout) = timeout {
            request = request
                .header(crate::http::TIMEOUT_HEADER, timeout.as_millis().to_string())
                .timeout(timeout + GRACE);
        }
        self.read(request.send().await).await
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

    async fn read<T: DeserializeOwned>(
        &self,
        response: Result<Response, reqwest::Error>,
    ) -> Result<T, AskError> {
        let unreachable = |error| AskError::Unreachable(self.base.clone(), error);
        let response = response.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
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
}
