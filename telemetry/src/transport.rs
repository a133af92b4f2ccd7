//! The way to a collector: gRPC, or protobuf by HTTP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use steading_settings::SettingsError;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tracing::{info, warn};

use crate::http_client::HttpClient;
use crate::settings::{Protocol, Target};
use crate::variables::refused;

/// What is sent at once.
#[derive(Debug)]
pub(crate) enum Request {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

/// The way of one kind of telemetry to its collector. Connects when it is first used, and again
/// after the connection broke.
#[derive(Debug)]
pub(crate) struct Transport {
    way: Way,
    headers: HeaderMap,
    timeout: Duration,
    /// Whether the last request failed: only changes are logged.
    failing: AtomicBool,
}

#[derive(Debug)]
enum Way {
    Grpc(Channel),
    Http(Box<HttpClient>),
}

impl Transport {
    /// Makes it. Must be called inside a tokio runtime.
    pub(crate) fn new(target: &Target) -> Result<Self, SettingsError> {
        let refused = |why: String| refused("OTEL_EXPORTER_OTLP_ENDPOINT", why);
        let way = match target.protocol {
            Protocol::Grpc => {
                Way::Grpc(channel(target).map_err(|error| refused(error.to_string()))?)
            }
            Protocol::HttpProtobuf => {
                Way::Http(Box::new(HttpClient::new(target).map_err(refused)?))
            }
        };
        Ok(Self {
            way,
            headers: headers(target)?,
            timeout: target.timeout,
            failing: AtomicBool::new(false),
        })
    }

    /// Sends once and returns whether it was taken, within the time limit. Never tried again: what
    /// comes next matters more.
    pub(crate) async fn send(&self, signal: &'static str, request: Request) -> bool {
        let sent = match timeout(self.timeout, self.try_send(request)).await {
            Ok(sent) => sent,
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        };
        let was_failing = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !was_failing => {
                warn!(
                    signal,
                    error, "the collector takes no telemetry; what is lost is counted"
                );
            }
            Ok(()) if was_failing => info!(signal, "the collector takes telemetry again"),
            Ok(()) | Err(_) => {}
        }
        sent.is_ok()
    }

    async fn try_send(&self, request: Request) -> Result<(), String> {
        match &self.way {
            Way::Grpc(channel) => {
                let channel = channel.clone();
                let sent = match request {
                    Request::Traces(request) => {
                        let request = self.grpc(request);
                        TraceServiceClient::new(channel)
                            .export(request)
                            .await
                            .map(drop)
                    }
                    Request::Metrics(request) => {
                        let request = self.grpc(request);
                        MetricsServiceClient::new(channel)
                            .export(request)
                            .await
                            .map(drop)
                    }
                    Request::Logs(request) => {
                        let request = self.grpc(request);
                        LogsServiceClient::new(channel)
                            .export(request)
                            .await
                            .map(drop)
                    }
                };
                sent.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
            }
            Way::Http(client) => {
                let body = match request {
                    Request::Traces(request) => request.encode_to_vec(),
                    Request::Metrics(request) => request.encode_to_vec(),
                    Request::Logs(request) => request.encode_to_vec(),
                };
                client.post(&self.headers, body).await
            }
        }
    }

    fn grpc<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        request
    }
}

fn channel(target: &Target) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::new(target.endpoint.clone())?.connect_timeout(target.timeout);
    let is_secure = target.endpoint.scheme_str() == Some("https");
    let endpoint = if is_secure {
        let mut tls = ClientTlsConfig::new();
        tls = match &target.certificates.authority {
            Some(authority) => tls.ca_certificate(Certificate::from_pem(authority)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &target.certificates.client {
            tls = tls.identity(Identity::from_pem(certificate, key.reveal()));
        }
        endpoint.tls_config(tls)?
    } else {
        endpoint
    };
    Ok(endpoint.connect_lazy())
}

fn headers(target: &Target) -> Result<HeaderMap, SettingsError> {
    let headers = target.headers.iter().map(|(name, value)| {
        let bad = || {
            refused(
                "OTEL_EXPORTER_OTLP_HEADERS",
                format!("`{name}` cannot be a header"),
            )
        };
        let key: HeaderName = name.parse().map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| bad())?;
        value.set_sensitive(true);
        Ok((key, value))
    });
    headers.collect()
}
