//! How to reach etcd.

use std::fmt;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::coordination::store::StoreError;

/// How often an idle connection is checked. Not below 5 s: etcd closes connections of clients
/// that check more often.
const CONNECTION_CHECK_INTERVAL: Duration = Duration::from_secs(6);

/// Without this, a certificate would pass for a list of none.
const PEM_START: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// How to reach etcd.
#[derive(Clone)]
pub struct EtcdSettings {
    /// `http://` or `https://` addresses of the members; all are used. At least one.
    pub endpoints: Vec<String>,
    /// User and password, if etcd asks for them. Default: none.
    pub user: Option<(String, String)>,
    /// The certificate of the authority that signed etcd's certificates, as PEM; `https://` needs
    /// it. Default: none.
    pub ca: Option<Vec<u8>>,
    /// This client's certificate and its key, both as PEM, if etcd asks for one. Default: none.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// How long making a connection may take. Default: 1 s.
    pub connect_timeout: Duration,
    /// How long one request may take, sent once. Default: 2 s.
    pub request_timeout: Duration,
    /// Whether an etcd with known bugs is refused, instead of warned about. Default: no.
    pub strict_version: bool,
}

impl EtcdSettings {
    /// Takes the endpoints; everything else is at its default.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            ca: None,
            identity: None,
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(2),
            strict_version: false,
        }
    }

    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let wrong = |why: String| Err(StoreError::Protocol(why));
        if self.endpoints.is_empty() {
            return wrong("no etcd endpoint is set".into());
        }
        let pem = |bytes: &Vec<u8>| bytes.windows(PEM_START.len()).any(|part| part == PEM_START);
        if self.ca.as_ref().is_some_and(|ca| !pem(ca)) {
            return wrong("the certificate authority of etcd is no PEM".into());
        }
        for endpoint in &self.endpoints {
            match (endpoint.split_once("://"), &self.ca) {
                (Some(("http", _)), None) | (Some(("https", _)), Some(_)) => {}
                (Some(("https", _)), None) => {
                    return wrong(format!(
                        "`{endpoint}` needs the certificate of its authority (`etcd_ca`)"
                    ));
                }
                (Some(("http", _)), Some(_)) => {
                    return wrong(format!("`{endpoint}` is not encrypted, but TLS is set"));
                }
                (Some(_) | None, _) => {
                    return wrong(format!("`{endpoint}` must begin with http:// or https://"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.connect_timeout)
            // Watches and keep-alives fail early on a member that has lost its leader.
            .with_require_leader(true)
            .with_auto_token_refresh(true)
            .with_keep_alive_while_idle(false)
            .with_keep_alive(CONNECTION_CHECK_INTERVAL, self.request_timeout);
        if let Some((user, password)) = &self.user {
            options = options.with_user(user, password);
        }
        if let Some(ca) = &self.ca {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
            if let Some((certificate, key)) = &self.identity {
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            options = options.with_tls(tls);
        }
        options
    }
}

/// Shows no secret.
impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSettings")
            .field("endpoints", &self.endpoints)
            .field("user", &self.user.as_ref().map(|(user, _)| user))
            .field("tls", &self.ca.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_in_words() {
        let refused = |settings: EtcdSettings| settings.check().expect_err("wrong").to_string();
        let none: [&str; 0] = [];
        assert!(refused(EtcdSettings::new(none)).contains("no etcd endpoint"));
        assert!(refused(EtcdSettings::new(["localhost:2379"])).contains("must begin with http"));
        assert!(refused(EtcdSettings::new(["https://a:1"])).contains("(`etcd_ca`)"));
        let mut mixed = EtcdSettings::new(["https://a:1", "http://b:1"]);
        mixed.ca = Some(PEM_START.into());
        assert!(refused(mixed.clone()).contains("`http://b:1` is not encrypted"));
        mixed.ca = Some(b"no certificate".into());
        assert!(refused(mixed).contains("no PEM"));
    }

    #[test]
    fn printing_the_settings_shows_no_password() {
        let mut settings = EtcdSettings::new(["http://a:1"]);
        settings.user = Some(("root".into(), "secret".into()));
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
