//! What a process tells of its certificates and of handshakes with them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of certificates.
#[derive(Clone, Debug)]
pub struct CertificateMetrics {
    /// When the first certificate of a file ends, in seconds since 1970. Absent without TLS: zero
    /// would be a certificate that ended long ago.
    pub expiry: Family<CertificateLabels, Gauge>,
    /// New files, by what became of them.
    pub reloads: Family<ReloadLabels, Counter>,
    /// Handshakes with clients, by outcome.
    pub handshakes: Family<HandshakeLabels, Counter>,
    /// Requests for nodes only of clients whose certificate is no node's.
    pub roles_refused: Counter,
}

/// The labels of [`CertificateMetrics::expiry`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabels {
    /// `tls_ca`, `tls_cert`, `etcd_ca`, `etcd_cert` or `inspector_tls_cert`: the setting that names the
    /// file.
    pub certificate: &'static str,
}

/// The labels of [`CertificateMetrics::reloads`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `replaced` or `refused`.
    pub outcome: &'static str,
}

/// The labels of [`CertificateMetrics::handshakes`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandshakeLabels {
    /// `done`, `silent`, `plain`, `late`, `crowded` or `refused`.
    pub outcome: &'static str,
}

impl CertificateMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            expiry: Family::default(),
            reloads: Family::default(),
            handshakes: Family::default(),
            roles_refused: Counter::default(),
        };
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the first certificate of the file ends, in seconds since 1970; absent without TLS",
            this.expiry.clone(),
        );
        registry.register(
            "certificate_reloads",
            "New files of certificates by what became of them",
            this.reloads.clone(),
        );
        registry.register(
            "tls_handshakes",
            "TLS handshakes with clients by outcome",
            this.handshakes.clone(),
        );
        registry.register(
            "certificate_roles_refused",
            "Requests that only nodes may make, of clients whose certificate is no node's",
            this.roles_refused.clone(),
        );
        this
    }
}
