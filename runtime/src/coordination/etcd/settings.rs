//! How to reach etcd.

use std::fmt;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::coordination::store::StoreError;
use crate::tls::{StorePem, StoreTls};

/// How often an idle connection is checked. Not below 5 s: etcd closes connections of clients
/// that check more often.
const CONNECTION_CHECK_INTERVAL: Duration = Duration::from_secs(6);

/// How to reach etcd.
#[derive(Clone)]
pub struct EtcdSettings {
    /// `http://` or `https://` addresses of the members; all are used. At least one.
    pub endpoints: Vec<String>,
    /// User and password, if etcd asks for them. Default: none.
    pub user: Option<(String, String)>,
    /// The authorities that may vouch for etcd, and this client's certificate if etcd asks for one.
    /// New files are used for new connections. Default: none; `https://` then goes by the
    /// authorities that the system trusts.
    pub tls: Option<StoreTls>,
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
            tls: None,
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
        for endpoint in &self.endpoints {
            match (endpoint.split_once("://"), &self.tls) {
                (Some(("http", _)), None) | (Some(("https", _)), _) => {}
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
        match &self.tls {
            Some(tls) => options.with_tls(tls.with_pem(tls_options)),
            None if self.is_encrypted() => options.with_tls(TlsOptions::new().with_native_roots()),
            None => options,
        }
    }

    fn is_encrypted(&self) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| endpoint.starts_with("https://"))
    }
}

fn tls_options(pem: &StorePem) -> TlsOptions {
    let options = match &pem.ca {
        Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
        None => TlsOptions::new().with_native_roots(),
    };
    match &pem.identity {
        Some((certificate, key)) => options.identity(Identity::from_pem(certificate, key)),
        None => options,
    }
}

/// Shows no secret.
impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSettings")
            .field("endpoints", &self.endpoints)
            .field("user", &self.user.as_ref().map(|(user, _)| user))
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFiles;

    #[test]
    fn settings_that_cannot_work_are_refused_in_words() {
        let refused = |settings: EtcdSettings| settings.check().expect_err("wrong").to_string();
        let none: [&str; 0] = [];
        assert!(refused(EtcdSettings::new(none)).contains("no etcd endpoint"));
        assert!(refused(EtcdSettings::new(["localhost:2379"])).contains("must begin with http"));
        let mut plain = EtcdSettings::new(["http://b:1"]);
        let files = TlsFiles::for_etcd(None, None);
        plain.tls = Some(StoreTls::load(files).expect("there are none"));
        assert!(refused(plain).contains("`http://b:1` is not encrypted"));
    }

    #[test]
    fn printing_the_settings_shows_no_password() {
        let mut settings = EtcdSettings::new(["http://a:1"]);
        settings.user = Some(("root".into(), "secret".into()));
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
