//! Rejects clients that ask for what only nodes and gates may: with TLS, the certificate must be a
//! node's (ADR-0039).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::service::Interceptor;
use tonic::{Request, Status};
use tracing::warn;

use super::network::Origin;
use crate::telemetry::CertificateMetrics;
use crate::tls::Role;

/// Refusals are logged once in this time.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// What a client is told whose certificate is no node's.
const REFUSED: &str = "this service is for nodes and gates: their certificates have the extended key uses \
                       serverAuth and clientAuth, and this one lacks serverAuth";

/// Lets nodes pass, and everybody where there is no TLS.
#[derive(Clone, Debug)]
pub(super) struct NodesOnly {
    metrics: CertificateMetrics,
    warned: Arc<Mutex<Option<Instant>>>,
}

impl NodesOnly {
    pub(super) fn new(metrics: CertificateMetrics) -> Self {
        Self {
            metrics,
            warned: Arc::default(),
        }
    }

    fn refuse(&self, origin: Option<&Origin>) -> Status {
        self.metrics.roles_refused.inc();
        let now = Instant::now();
        let mut warned = self.warned.lock();
        if warned.is_none_or(|last| now - last >= WARN_INTERVAL) {
            *warned = Some(now);
            warn!(
                ?origin,
                "refused a client that asked for what only nodes may; more within {WARN_INTERVAL:?} are not told"
            );
        }
        Status::permission_denied(REFUSED)
    }
}

impl Interceptor for NodesOnly {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let origin = request.extensions().get::<Origin>();
        match origin.and_then(|origin| origin.role) {
            Some(Role::Anonymous | Role::Client) => Err(self.refuse(origin)),
            Some(Role::Node) | None => Ok(request),
        }
    }
}
