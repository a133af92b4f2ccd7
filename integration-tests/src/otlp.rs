//! A small receiver of OTLP, by gRPC and by HTTP: what nodes send to a collector.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::Listener;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::certificates::Files;
use crate::until;

/// Receives until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    endpoint: String,
    got: Arc<Mutex<Got>>,
    _serving: AbortOnDropHandle<()>,
}

/// Everything that came.
#[derive(Clone, Debug, Default)]
pub struct Got {
    /// Spans, in the order in which they came.
    pub spans: Vec<Span>,
    /// Log records.
    pub logs: Vec<Record>,
    /// The newest of each node's metrics: by node, each name with its kind.
    pub metrics: BTreeMap<String, BTreeMap<String, &'static str>>,
}

/// A span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// `service.instance.id` of who sent it.
    pub node: String,
    /// The trace, in hexadecimal.
    pub trace: String,
    /// The span, in hexadecimal.
    pub id: String,
    /// The span that it is part of; empty if none.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// `internal`, `server` or `client`.
    pub kind: &'static str,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// The names of its events.
    pub events: Vec<String>,
    /// Whether it failed.
    pub failed: bool,
}

/// A log record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// `service.instance.id` of who sent it.
    pub node: String,
    /// The trace, in hexadecimal; empty if none.
    pub trace: String,
    /// The span, in hexadecimal; empty if none.
    pub span: String,
    /// What it says.
    pub text: String,
}

impl Receiver {
    /// Begins to receive.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub async fn start() -> Self {
        Self::start_over(None).await
    }

    /// Begins to receive over TLS, from whoever shows a certificate of the authority in these files.
    ///
    /// # Panics
    ///
    /// If there is no port, or the files cannot be used.
    pub async fn start_tls(files: &Files) -> Self {
        Self::start_over(Some(acceptor(files))).await
    }

    async fn start_over(tls: Option<TlsAcceptor>) -> Self {
        let got = Arc::new(Mutex::new(Got::default()));
        let service = Service(got.clone());
        let routes = Routes::new(TraceServiceServer::new(service.clone()))
            .add_service(MetricsServiceServer::new(service.clone()))
            .add_service(LogsServiceServer::new(service.clone()))
            .into_axum_router();
        let http = axum::Router::new()
            .route("/v1/traces", post(http_traces))
            .route("/v1/metrics", post(http_metrics))
            .route("/v1/logs", post(http_logs))
            .with_state(service);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let routes = http.merge(routes);
        #[allow(clippy::disallowed_methods, reason = "tests may spawn their servers")]
        let serving = tokio::spawn(async move {
            let served = match tls {
                None => axum::serve(listener, routes).await,
                Some(acceptor) => axum::serve(TlsListener(listener, acceptor), routes).await,
            };
            served.expect("it serves");
        });
        Self {
            endpoint: format!("{scheme}://{address}"),
            got,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Returns the variables by which a process sends everything here, soon.
    pub fn variables(&self, protocol: &str) -> Vec<(&'static str, String)> {
        let mut variables = quick(protocol);
        variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", self.endpoint.clone()));
        variables
    }

    /// Returns everything that came so far.
    pub fn got(&self) -> Got {
        self.locked().clone()
    }

    /// Waits until what came is as wished, and returns what `find` makes of it.
    pub async fn gets<T>(&self, goal: &str, find: impl Fn(&Got) -> Option<T>) -> T {
        until(goal, async || {
            let got = self.locked();
            find(&got).ok_or_else(|| format!("{got:#?}"))
        })
        .await
    }

    fn locked(&self) -> MutexGuard<'_, Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections that shake hands.
struct TlsListener(TcpListener, TlsAcceptor);

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (tcp, address) = Listener::accept(&mut self.0).await;
            // Others may call who do not belong here.
            if let Ok(tls) = self.1.accept(tcp).await {
                return (tls, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

fn acceptor(files: &Files) -> TlsAcceptor {
    let read = |name| std::fs::read(files.path(name)).expect("it was written");
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(&read("ca.crt")).expect("PEM");
    roots.add(authority).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows them")
        .with_client_cert_verifier(clients.build().expect("one authority"));
    let certificate = CertificateDer::from_pem_slice(&read("tls.crt")).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(&read("tls.key")).expect("PEM");
    let config = config.with_single_cert(vec![certificate], key);
    let mut config = config.expect("they belong together");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Returns variables by which a process sends soon what it has to send.
pub fn quick(protocol: &str) -> Vec<(&'static str, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.into()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20".into()),
        ("OTEL_BLRP_SCHEDULE_DELAY", "20".into()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200".into()),
    ]
}

impl Got {
    /// Returns the spans of a trace.
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        let spans = self.spans.iter().filter(|span| span.trace == trace);
        spans.cloned().collect()
    }
}

#[derive(Clone, Debug)]
struct Service(Arc<Mutex<Got>>);

impl Service {
    fn locked(&self) -> MutexGuard<'_, Got> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_spans(&self, request: ExportTraceServiceRequest) {
        for from in request.resource_spans {
            let node = instance(from.resource.as_ref());
            let spans = from.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.locked().spans.extend(spans.map(|span| Span {
                node: node.clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: match span.kind {
                    1 => "internal",
                    2 => "server",
                    3 => "client",
                    _ => "another",
                },
                attributes: texts(&span.attributes),
                events: span.events.into_iter().map(|event| event.name).collect(),
                failed: span.status.is_some_and(|status| status.code == 2),
                name: span.name,
            }));
        }
    }

    fn take_metrics(&self, request: ExportMetricsServiceRequest) {
        use opentelemetry_proto::tonic::metrics::v1::metric::Data;
        for from in request.resource_metrics {
            let node = instance(from.resource.as_ref());
            let metrics = from
                .scope_metrics
                .into_iter()
                .flat_map(|scope| scope.metrics);
            let kinds = metrics.map(|metric| {
                let kind = match metric.data {
                    Some(Data::Sum(sum)) if sum.is_monotonic => "counter",
                    Some(Data::Gauge(_)) => "gauge",
                    Some(Data::Histogram(_)) => "histogram",
                    Some(_) | None => "another",
                };
                (metric.name, kind)
            });
            self.locked().metrics.insert(node, kinds.collect());
        }
    }

    fn take_logs(&self, request: ExportLogsServiceRequest) {
        for from in request.resource_logs {
            let node = instance(from.resource.as_ref());
            let records = from
                .scope_logs
                .into_iter()
                .flat_map(|scope| scope.log_records);
            self.locked().logs.extend(records.map(|record| {
                Record {
                    node: node.clone(),
                    trace: hex(&record.trace_id),
                    span: hex(&record.span_id),
                    text: record
                        .body
                        .and_then(|body| body.value)
                        .map_or_else(String::new, text),
                }
            }));
        }
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.take_spans(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.take_metrics(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.take_logs(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

fn taken<T: Message + Default>(body: Bytes, take: impl FnOnce(T)) -> StatusCode {
    match T::decode(body) {
        Ok(request) => {
            take(request);
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

async fn http_traces(State(service): State<Service>, body: Bytes) -> StatusCode {
    taken(body, |request| service.take_spans(request))
}

async fn http_metrics(State(service): State<Service>, body: Bytes) -> StatusCode {
    taken(body, |request| service.take_metrics(request))
}

async fn http_logs(State(service): State<Service>, body: Bytes) -> StatusCode {
    taken(body, |request| service.take_logs(request))
}

fn instance(resource: Option<&Resource>) -> String {
    let attributes = texts(&resource.expect("each names its resource").attributes);
    assert_eq!(attributes["service.name"], "steading");
    attributes["service.instance.id"].clone()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let texts = attributes.iter().map(|attribute| {
        let value = attribute.value.clone().and_then(|value| value.value);
        (attribute.key.clone(), value.map_or_else(String::new, text))
    });
    texts.collect()
}

fn text(value: Value) -> String {
    match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other @ (Value::BoolValue(_)
        | Value::DoubleValue(_)
        | Value::ArrayValue(_)
        | Value::KvlistValue(_)
        | Value::BytesValue(_)
        | Value::StringValueStrindex(_)) => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string succeeds");
        hex
    })
}
