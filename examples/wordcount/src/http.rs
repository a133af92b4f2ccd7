//! Calls to objects by the HTTP interface of any node.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long the cluster may take to answer one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How much longer we wait for the answer to arrive.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// How often a call is sent that surely did not run before.
const ATTEMPTS_MAX: u32 = 8;

/// The wait before the second attempt; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(50);

/// Some nodes of one cluster. Any of them brings a call to its object.
pub(crate) struct HttpCluster {
    addresses: Vec<Url>,
    /// The number of calls so far, so that the nodes take turns.
    next: AtomicUsize,
    client: Client,
}

/// Why a call brought back no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// It surely did not run, so it can be sent again.
    #[error("{0}")]
    NotRun(String),
    /// It may have run, so sending it again could count twice.
    #[error("{0} (it may have run, so it is not sent again)")]
    MayHaveRun(String),
}

/// What a node answers instead of a value.
#[derive(Deserialize)]
struct Problem {
    code: String,
    outcome: String,
    detail: String,
}

/// Reads the address of a node.
///
/// # Errors
///
/// What to write instead.
pub(crate) fn parse_address(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "http" && url.has_host() => Ok(url),
        Ok(_) | Err(_) => Err("write it as http://HOST:PORT".into()),
    }
}

impl HttpCluster {
    /// Makes a client; connects only when it is used.
    ///
    /// # Errors
    ///
    /// If the system gives no means to connect.
    pub(crate) fn new(addresses: Vec<Url>) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(ANSWER_TIMEOUT).build();
        Ok(Self {
            addresses,
            next: AtomicUsize::new(0),
            client: client.context("cannot make an HTTP client")?,
        })
    }

    /// Calls a method and returns its value. Calls that surely did not run are sent again, to the
    /// next address.
    ///
    /// # Errors
    ///
    /// [`HttpError`] of the last attempt.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        object_type: &str,
        id: &str,
        method: &str,
        arguments: &serde_json::Value,
    ) -> Result<T, HttpError> {
        let path = ["v1", "objects", object_type, id, method];
        let mut backoff = BACKOFF;
        for _ in 1..ATTEMPTS_MAX {
            match self.send(&path, arguments).await {
                Err(HttpError::NotRun(_)) => tokio::time::sleep(backoff).await,
                answer @ (Ok(_) | Err(HttpError::MayHaveRun(_))) => return answer,
            }
            backoff *= 2;
        }
        self.send(&path, arguments).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        path: &[&str],
        arguments: &serde_json::Value,
    ) -> Result<T, HttpError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut url = self.addresses[turn % self.addresses.len()].clone();
        url.path_segments_mut()
            .expect("an http address has a path")
            .clear()
            .extend(path); // Encodes what is not allowed in a part, slashes too.
        let request = self.client.post(url).json(arguments);
        let request = request.header(
            "X-Steading-Timeout-Ms",
            CALL_TIMEOUT.as_millis().to_string(),
        );
        let response = request.send().await.map_err(not_answered)?;
        if response.status().is_success() {
            let value = response.json().await;
            return value.map_err(|error| HttpError::MayHaveRun(told(error)));
        }
        let status = response.status();
        let problem: Problem = response
            .json()
            .await
            .map_err(|_| HttpError::MayHaveRun(format!("the node answered {status}")))?;
        let text = format!("{}: {}", problem.code, problem.detail);
        Err(match problem.outcome.as_str() {
            "not_run" => HttpError::NotRun(text),
            _ => HttpError::MayHaveRun(text),
        })
    }
}

fn not_answered(error: reqwest::Error) -> HttpError {
    if error.is_connect() {
        HttpError::NotRun(told(error))
    } else {
        HttpError::MayHaveRun(told(error))
    }
}

/// Tells an error with its causes.
fn told(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_scheme_and_host() {
        assert!(parse_address("http://127.0.0.1:7480").is_ok());
        for text in ["127.0.0.1:7480", "localhost:7480", "https://x", ""] {
            let error = parse_address(text).expect_err(text);
            assert!(error.contains("http://HOST:PORT"), "{text}");
        }
    }
}
