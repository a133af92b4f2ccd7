//! What the certificate of the other end of a connection makes it: a node, or a client.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::{Error, RootCertStore};

use super::cluster::unix;

/// What a client may be by the certificate that it showed (ADR-0039).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It showed none.
    Anonymous,
    /// It showed one of the cluster that is for clients only.
    Client,
    /// It showed one of the cluster that is for servers too, as nodes and gates have.
    Node,
}

impl Role {
    /// Whether it showed a certificate of the cluster.
    pub fn is_certified(self) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Client | Self::Node => true,
        }
    }
}

/// Tells the roles of clients whose certificates were verified in the handshake.
#[derive(Debug)]
pub(super) struct Roles {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Roles {
    pub(super) fn new(roots: Arc<RootCertStore>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { roots, algorithms }
    }

    /// Returns what a client is that showed this chain; none: it showed no certificate. Costs one
    /// verification of the chain.
    pub(super) fn of(&self, shown: Option<&[CertificateDer<'_>]>, now: SystemTime) -> Role {
        match shown {
            None | Some([]) => Role::Anonymous,
            Some([own, intermediates @ ..]) => match self.serves(own, intermediates, now) {
                Ok(()) => Role::Node,
                Err(_) => Role::Client,
            },
        }
    }

    /// Checks that a certificate is for servers of the cluster, whatever their names.
    pub(super) fn serves(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(own)?;
        let algorithms = self.algorithms.all;
        let now = unix(now);
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )
    }
}
