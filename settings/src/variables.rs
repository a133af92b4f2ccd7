//! Variables that begin with `STEADING_` and are nobody's: most likely a setting misspelt.
//!
//! A setting that is silently left out is found at the worst time, so such a variable stops the
//! start. What any of our programs knows is fine for all of them, since they often share an
//! environment. Variables that Kubernetes adds for a service whose name begins with `steading` are
//! passed over: nobody set them, and no setting has a name of that form.

use std::ffi::OsString;

/// What all our variables begin with.
const PREFIX: &str = "STEADING_";

/// Every variable that some program of ours takes as a setting, in order.
pub const SETTINGS: &[&str] = &[
    "STEADING_ADDRESS",
    "STEADING_ALLOW_ACTIONS",
    "STEADING_BENCH_ETCD",
    "STEADING_BODY_TIMEOUT",
    "STEADING_CAPACITY_WATERMARK",
    "STEADING_CLAIMING_LIMIT",
    "STEADING_CONFIG",
    "STEADING_CONNECTIONS_MAX",
    "STEADING_CONNECTIONS_PER_ADDRESS_MAX",
    "STEADING_DRAIN_TIMEOUT",
    "STEADING_ETCD",
    "STEADING_ETCD_CA",
    "STEADING_ETCD_CERT",
    "STEADING_ETCD_KEY",
    "STEADING_ETCD_PASSWORD",
    "STEADING_ETCD_PASSWORD_FILE",
    "STEADING_ETCD_USER",
    "STEADING_GRPC_ADVERTISE",
    "STEADING_GRPC_LISTEN",
    "STEADING_HEADER_TIMEOUT",
    "STEADING_HEALTH_FAILURES",
    "STEADING_HEALTH_INTERVAL",
    "STEADING_HTTP_CORS_ORIGINS",
    "STEADING_HTTP_HOSTS",
    "STEADING_HTTP_LISTEN",
    "STEADING_IDLE_TIMEOUT",
    "STEADING_IMBALANCE_THRESHOLD",
    "STEADING_INSPECTOR_HOSTS",
    "STEADING_INSPECTOR_LISTEN",
    "STEADING_INSPECTOR_TLS_CERT",
    "STEADING_INSPECTOR_TLS_KEY",
    "STEADING_INSPECTOR_TOKEN",
    "STEADING_INSPECTOR_TOKEN_FILE",
    "STEADING_JOIN_DELAY",
    "STEADING_JOIN_DELAY_MAX",
    "STEADING_LABELS",
    "STEADING_LEASE_TTL",
    "STEADING_LEAVING_LIMIT",
    "STEADING_LOAD_ACT",
    "STEADING_LOAD_COOLDOWN",
    "STEADING_LOAD_COOLDOWN_MAX",
    "STEADING_LOAD_FLOOR",
    "STEADING_LOAD_WINDOW",
    "STEADING_LOAD_WINDOWS",
    "STEADING_LOG",
    "STEADING_LOG_FORMAT",
    "STEADING_MEMORY_BUDGET",
    "STEADING_MIN_GAIN",
    "STEADING_MOVES_IN_FLIGHT",
    "STEADING_NODE_ID",
    "STEADING_NUM_SHARDS",
    "STEADING_PIN_POLICY",
    "STEADING_PREFIX",
    "STEADING_QUARANTINE_DEATHS",
    "STEADING_QUARANTINE_MAX",
    "STEADING_QUARANTINE_MIN",
    "STEADING_QUARANTINE_SHARE",
    "STEADING_QUARANTINE_WITHIN",
    "STEADING_REBALANCE_BATCH_SIZE",
    "STEADING_REBALANCE_STRATEGY",
    "STEADING_REGIONS",
    "STEADING_REPLACE",
    "STEADING_RETURN_DELAY",
    "STEADING_STORAGE",
    "STEADING_SUPERVISE",
    "STEADING_TLS_CA",
    "STEADING_TLS_CERT",
    "STEADING_TLS_KEY",
    "STEADING_TLS_NAME",
    "STEADING_WEIGHT",
    "STEADING_WRITE_TIMEOUT",
    "STEADING_ZONE",
    "STEADING_ZONE_HEADROOM",
    "STEADING_ZONE_RULES",
];

/// Variables that are no settings: what `--supervise` tells its child, and switches of our tests.
const OTHERS: [&str; 3] = [
    "STEADING_SUPERVISED",
    "STEADING_TEST_CRASH_FOLDER",
    "STEADING_WRITE_DOCS",
];

/// How many letters may be wrong in a name for another to be suggested.
const TYPOS_MAX: usize = 3;

/// A variable that no program of ours knows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variable `{name}` is set, but there is no such setting{}", hint(*.close))]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// A setting's variable with nearly the same name.
    pub close: Option<&'static str>,
}

fn hint(close: Option<&'static str>) -> String {
    close.map_or_else(String::new, |close| format!("; is `{close}` meant?"))
}

/// Refuses variables, such as those of [`std::env::vars_os`], that are set in vain.
///
/// # Errors
///
/// [`UnknownVariable`] names the first one, in order of the names. No value is ever told.
pub fn check_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), UnknownVariable> {
    let unknown = variables.into_iter().filter_map(|(name, value)| {
        let name = name.to_string_lossy().into_owned();
        let is_fine = !name.starts_with(PREFIX)
            || SETTINGS.contains(&name.as_str())
            || OTHERS.contains(&name.as_str())
            || is_of_kubernetes(&name, &value.to_string_lossy());
        (!is_fine).then_some(name)
    });
    match unknown.min() {
        None => Ok(()),
        Some(name) => {
            let close = closest(&name);
            Err(UnknownVariable { name, close })
        }
    }
}

/// Names the settings whose variables are not UTF-8, if that is what clap refused: its own message
/// names neither flag nor variable.
pub fn not_utf8(
    error: &clap::Error,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Option<String> {
    if error.kind() != clap::error::ErrorKind::InvalidUtf8 {
        return None;
    }
    let bad = variables.into_iter().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let is_bad = value.to_str().is_none() && SETTINGS.contains(&name.as_str());
        is_bad.then(|| format!("`{name}`"))
    });
    let names: Vec<_> = bad.collect();
    (!names.is_empty()).then(|| format!("not UTF-8: {}", names.join(", ")))
}

fn closest(name: &str) -> Option<&'static str> {
    let distance = |known: &str| strsim::damerau_levenshtein(name, known);
    let best = SETTINGS.iter().min_by_key(|known| distance(known));
    best.copied().filter(|known| distance(known) <= TYPOS_MAX)
}

/// Whether Kubernetes adds a variable like this for a service: `NAME_SERVICE_HOST`,
/// `NAME_SERVICE_PORT`, `NAME_SERVICE_PORT_HTTP`, `NAME_PORT=tcp://…`, `NAME_PORT_80_TCP`,
/// `NAME_PORT_80_TCP_ADDR` and so on.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    if name.ends_with("_SERVICE_HOST") {
        return true;
    }
    if let Some((_, port)) = name.rsplit_once("_SERVICE_PORT") {
        return port.is_empty() || port.starts_with('_');
    }
    let Some((_, port)) = name.rsplit_once("_PORT_") else {
        let schemes = ["tcp://", "udp://", "sctp://"];
        return name.ends_with("_PORT") && schemes.iter().any(|scheme| value.starts_with(scheme));
    };
    // The last of several: `A_PORT_80_TCP_PORT` ends with `_PORT`, and is split before the number.
    let mut parts = port.split('_');
    let is_number = parts
        .next()
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    let is_protocol = parts.next().is_some_and(|part| PROTOCOLS.contains(&part));
    let ends = matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"));
    is_number && is_protocol && ends && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<(), UnknownVariable> {
        check_variables([(name.into(), value.into())])
    }

    #[test]
    fn a_misspelt_setting_is_named_with_the_one_that_is_meant() {
        let error = check("STEADING_LAESE_TTL", "5s").expect_err("no such setting");
        assert_eq!(error.close, Some("STEADING_LEASE_TTL"));
        let text = error.to_string();
        assert!(
            text.contains("`STEADING_LAESE_TTL`") && text.contains("`STEADING_LEASE_TTL`"),
            "{text}"
        );
        let error = check("STEADING_SOMETHING_ELSE", "geheim").expect_err("no such setting");
        assert_eq!(error.close, None);
        assert!(!error.to_string().contains("geheim"), "{error}");
    }

    #[test]
    fn settings_and_what_is_not_ours_are_fine() {
        for name in SETTINGS {
            assert_eq!(check(name, "x"), Ok(()));
        }
        for name in ["STEADING_SUPERVISED", "PATH", "steading_x", "STEADINGX"] {
            assert_eq!(check(name, "x"), Ok(()));
        }
    }

    #[test]
    fn what_kubernetes_adds_for_a_service_is_passed_over() {
        for service in ["STEADING", "STEADING_ETCD", "STEADING_GATE_HTTP"] {
            for end in [
                "SERVICE_HOST",
                "SERVICE_PORT",
                "SERVICE_PORT_GRPC",
                "PORT",
                "PORT_7400_TCP",
                "PORT_7400_TCP_ADDR",
                "PORT_7400_TCP_PORT",
                "PORT_7400_UDP_PROTO",
            ] {
                assert_eq!(
                    check(&format!("{service}_{end}"), "tcp://10.0.0.1:7400"),
                    Ok(())
                );
            }
        }
        for (name, value) in [
            ("STEADING_GRPC_PORT", "7400"),
            ("STEADING_PORT_GRPC", "7400"),
            ("STEADING_PORT_7400_TLS", "tcp://10.0.0.1:7400"),
            ("STEADING_PORT_7400_TCP_NAME", "tcp://10.0.0.1:7400"),
            ("STEADING_SERVICE", "tcp://10.0.0.1:7400"),
        ] {
            assert!(check(name, value).is_err(), "{name}");
        }
    }

    #[test]
    fn no_setting_has_a_name_that_kubernetes_gives() {
        for name in SETTINGS {
            assert!(!is_of_kubernetes(name, "tcp://10.0.0.1:7400"), "{name}");
        }
    }
}
