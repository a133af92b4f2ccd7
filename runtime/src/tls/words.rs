//! Why a handshake failed, in words for whoever set the certificates up.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// The two ends of a connection do not trust each other, or not in the same way. Trying again
/// changes nothing until somebody changes the settings or certificates of one of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mistrust(pub String);

/// What a certificate can be refused for by a peer.
const CERTIFICATE_ALERTS: [(AlertDescription, &str); 8] = [
    (
        AlertDescription::UnknownCA,
        "of an authority it does not know",
    ),
    (AlertDescription::CertificateExpired, "expired"),
    (
        AlertDescription::CertificateRequired,
        "needed, and none was shown",
    ),
    (AlertDescription::BadCertificate, "bad"),
    (AlertDescription::CertificateRevoked, "revoked"),
    (AlertDescription::CertificateUnknown, "not acceptable"),
    (AlertDescription::UnsupportedCertificate, "not for this use"),
    (AlertDescription::AccessDenied, "not let in"),
];

/// Returns what an error is about, if it or a cause of it is of a handshake.
pub fn mistrust_in(error: &(dyn StdError + 'static)) -> Option<Mistrust> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(mistrust) = error.downcast_ref::<Mistrust>() {
            return Some(mistrust.clone());
        }
        if let Some(error) = error.downcast_ref::<Error>() {
            return Some(Mistrust(of_handshake(error)));
        }
        // An I/O error hides its inner one from `source`, and shows what is behind that.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let inner = inner.map(|inner| inner as &(dyn StdError + 'static));
        next = inner.or_else(|| error.source());
    }
    None
}

/// Returns what went wrong with a connection, whatever it was.
pub(super) fn of_io(error: &io::Error) -> Mistrust {
    mistrust_in(error).unwrap_or_else(|| Mistrust(error.to_string()))
}

/// Returns what is wrong with the certificate, as the rest of a sentence.
pub(super) fn of_certificate(error: &Error) -> String {
    let Error::InvalidCertificate(certificate) = error else {
        return format!("is no good: {error}");
    };
    fault(certificate)
}

fn fault(certificate: &CertificateError) -> String {
    use CertificateError as Fault;
    if matches!(certificate, Fault::Expired | Fault::ExpiredContext { .. }) {
        "has expired".into()
    } else if matches!(
        certificate,
        Fault::NotValidYet | Fault::NotValidYetContext { .. }
    ) {
        "is not valid yet".into()
    } else if matches!(certificate, Fault::UnknownIssuer) {
        "is of an authority that is not in `tls_ca`".into()
    } else if matches!(certificate, Fault::BadSignature) {
        "was not signed by the authority of that name in `tls_ca`".into()
    } else if matches!(
        certificate,
        Fault::NotValidForName | Fault::NotValidForNameContext { .. }
    ) {
        "does not carry the name".into()
    } else if matches!(
        certificate,
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. }
    ) {
        "is not for this use: a node needs one for servers and clients".into()
    } else {
        format!("is no good: {certificate}")
    }
}

fn of_handshake(error: &Error) -> String {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the library's own words do for the rest, also for what it adds"
    )]
    match error {
        Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented,
        }) => {
            let (name, names) = (expected.to_str(), presented.join(", "));
            format!("its certificate does not carry the name `{name}`, but {names}")
        }
        Error::InvalidCertificate(certificate) => {
            format!("its certificate {}", fault(certificate))
        }
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::NoCertificatesPresented => "it shows no certificate".into(),
        Error::InvalidMessage(_) => "it does not speak TLS".into(),
        other => other.to_string(),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    let known = CERTIFICATE_ALERTS.iter().find(|(known, _)| *known == alert);
    match known {
        Some((_, why)) => format!("it refuses the certificate of this process: {why}"),
        None => format!("it ended the handshake: {alert:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_found_behind_other_errors() {
        let alert = Error::AlertReceived(AlertDescription::UnknownCA);
        let hidden = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, alert));
        let found = mistrust_in(&hidden).expect("it is there").to_string();
        assert!(found.contains("an authority it does not know"), "{found}");
        assert_eq!(mistrust_in(&io::Error::other("something else")), None);
        let again = io::Error::other(Mistrust("as said".into()));
        assert_eq!(mistrust_in(&again), Some(Mistrust("as said".into())));
    }
}
