//! What the variables of the OpenTelemetry standard say.

use std::ffi::OsString;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use steading_settings::{Secret, SettingsError};

use crate::variables::{Variables, refused};

/// The most items that the standard's variables may let wait in one queue.
const QUEUE_LEN_MAX: usize = 1 << 20;

/// Where and how traces, metrics and logs are sent. Read from variables once, at the start.
#[derive(Clone, Debug, Default)]
pub struct OtlpSettings {
    pub(crate) traces: Option<Target>,
    pub(crate) metrics: Option<Target>,
    pub(crate) logs: Option<Target>,
    pub(crate) spans_batch: Batching,
    pub(crate) logs_batch: Batching,
    pub(crate) metric_interval: Duration,
    pub(crate) sampler: Sampling,
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) service_name: Option<String>,
}

/// One kind of telemetry, and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) protocol: Protocol,
    /// Of gRPC the server, of HTTP the whole URL.
    pub(crate) endpoint: http::Uri,
    pub(crate) headers: Vec<(String, Secret)>,
    pub(crate) timeout: Duration,
    pub(crate) certificates: Certificates,
}

/// Files in PEM.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates {
    pub(crate) authority: Option<Vec<u8>>,
    /// Certificate and key.
    pub(crate) client: Option<(Vec<u8>, Secret)>,
}

/// How batches are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// How items become batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batching {
    pub(crate) queue_len_max: usize,
    pub(crate) batch_len_max: usize,
    pub(crate) delay: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            queue_len_max: 2048,
            batch_len_max: 512,
            delay: Duration::from_secs(5),
        }
    }
}

/// Which traces are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// Of those that begin here, from 0 to 1.
    pub(crate) ratio: f64,
    /// Whether those that began elsewhere are sampled as was decided there.
    pub(crate) follows_caller: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            follows_caller: true,
        }
    }
}

impl Sampling {
    /// Returns what decides about traces that begin here.
    pub(crate) fn root(self) -> Sampler {
        Sampler::TraceIdRatioBased(self.ratio)
    }

    pub(crate) fn sampler(self) -> Sampler {
        if self.follows_caller {
            Sampler::ParentBased(Box::new(self.root()))
        } else {
            self.root()
        }
    }
}

/// The variables of one kind of telemetry, each beside its general form.
struct Names {
    exporter: &'static str,
    path: &'static str,
    endpoint: [&'static str; 2],
    protocol: [&'static str; 2],
    headers: [&'static str; 2],
    timeout: [&'static str; 2],
    compression: [&'static str; 2],
    authority: [&'static str; 2],
    certificate: [&'static str; 2],
    key: [&'static str; 2],
}

macro_rules! names {
    ($signal:literal, $path:literal) => {
        Names {
            exporter: concat!("OTEL_", $signal, "_EXPORTER"),
            path: $path,
            endpoint: names!(@ $signal, "ENDPOINT"),
            protocol: names!(@ $signal, "PROTOCOL"),
            headers: names!(@ $signal, "HEADERS"),
            timeout: names!(@ $signal, "TIMEOUT"),
            compression: names!(@ $signal, "COMPRESSION"),
            authority: names!(@ $signal, "CERTIFICATE"),
            certificate: names!(@ $signal, "CLIENT_CERTIFICATE"),
            key: names!(@ $signal, "CLIENT_KEY"),
        }
    };
    (@ $signal:literal, $what:literal) => {
        [
            concat!("OTEL_EXPORTER_OTLP_", $signal, "_", $what),
            concat!("OTEL_EXPORTER_OTLP_", $what),
        ]
    };
}

const TRACES: Names = names!("TRACES", "v1/traces");
const METRICS: Names = names!("METRICS", "v1/metrics");
const LOGS: Names = names!("LOGS", "v1/logs");

impl OtlpSettings {
    /// Reads the variables of this process.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] names the first variable whose value cannot be used.
    pub fn of_this_process() -> Result<Self, SettingsError> {
        check_utf8(std::env::vars_os())?;
        Self::read(&|name| std::env::var(name).ok())
    }

    /// Reads variables by a function that knows their values.
    ///
    /// # Errors
    ///
    /// As for [`OtlpSettings::of_this_process`].
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let variables = &Variables(variable);
        if variables
            .read("OTEL_SDK_DISABLED", boolean)?
            .unwrap_or(false)
        {
            return Ok(Self::default());
        }
        Ok(Self {
            traces: target(variables, &TRACES)?,
            metrics: target(variables, &METRICS)?,
            logs: target(variables, &LOGS)?,
            spans_batch: Batching {
                queue_len_max: variables.count("OTEL_BSP_MAX_QUEUE_SIZE", 2048, QUEUE_LEN_MAX)?,
                batch_len_max: variables.count(
                    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                    512,
                    QUEUE_LEN_MAX,
                )?,
                delay: variables.millis(["OTEL_BSP_SCHEDULE_DELAY"; 2], Duration::from_secs(5))?,
            },
            logs_batch: Batching {
                queue_len_max: variables.count("OTEL_BLRP_MAX_QUEUE_SIZE", 2048, QUEUE_LEN_MAX)?,
                batch_len_max: variables.count(
                    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
                    512,
                    QUEUE_LEN_MAX,
                )?,
                delay: variables.millis(["OTEL_BLRP_SCHEDULE_DELAY"; 2], Duration::from_secs(1))?,
            },
            metric_interval: variables
                .millis(["OTEL_METRIC_EXPORT_INTERVAL"; 2], Duration::from_mins(1))?,
            sampler: sampling(variables)?,
            resource: variables
                .read("OTEL_RESOURCE_ATTRIBUTES", pairs)?
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| KeyValue::new(name, value))
                .collect(),
            service_name: variables.text("OTEL_SERVICE_NAME"),
        })
    }

    /// Whether anything is to be sent.
    pub fn is_on(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some() || self.logs.is_some()
    }
}

/// Rejects variables of the standard that are not UTF-8, which would count as not set.
fn check_utf8(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), SettingsError> {
    for (name, value) in variables {
        let name = name.to_string_lossy();
        if name.starts_with("OTEL_") && value.to_str().is_none() {
            return Err(refused("OTEL_*", format!("`{name}` is not UTF-8")));
        }
    }
    Ok(())
}

fn target(variables: &Variables<'_>, names: &Names) -> Result<Option<Target>, SettingsError> {
    let wanted = variables.read(names.exporter, |text| match text {
        "otlp" => Ok(true),
        "none" => Ok(false),
        other => Err(format!("`{other}` is not `otlp` or `none`")),
    })?;
    let endpoint = variables.first(names.endpoint, |name, text| {
        let uri = text.parse::<http::Uri>().ok();
        let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let uri = uri.ok_or_else(|| format!("`{text}` is not an http or https URL"))?;
        Ok((uri, name == names.endpoint[0]))
    })?;
    if !wanted.unwrap_or(endpoint.is_some()) {
        return Ok(None);
    }
    let protocol = variables.first(names.protocol, |_, text| match text {
        "grpc" => Ok(Protocol::Grpc),
        "http/protobuf" => Ok(Protocol::HttpProtobuf),
        other => Err(format!("`{other}` is not `grpc` or `http/protobuf`")),
    })?;
    let protocol = protocol.unwrap_or(Protocol::HttpProtobuf);
    let (endpoint, is_whole) = endpoint.unwrap_or_else(|| (endpoint_default(protocol), false));
    variables.first(names.compression, |_, text| match text {
        "none" => Ok(()),
        other => Err(format!(
            "`{other}` is not `none`, which is all that this version can"
        )),
    })?;
    let headers = variables.first(names.headers, |_, text| pairs(text))?;
    Ok(Some(Target {
        endpoint: match protocol {
            Protocol::HttpProtobuf if !is_whole => below(&endpoint, names.path),
            Protocol::HttpProtobuf | Protocol::Grpc => endpoint,
        },
        protocol,
        headers: headers
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.into()))
            .collect(),
        timeout: variables.millis(names.timeout, Duration::from_secs(10))?,
        certificates: certificates(variables, names)?,
    }))
}

fn endpoint_default(protocol: Protocol) -> http::Uri {
    http::Uri::from_static(match protocol {
        Protocol::Grpc => "http://localhost:4317",
        Protocol::HttpProtobuf => "http://localhost:4318",
    })
}

/// Returns the URL of one kind of telemetry below the general one.
fn below(endpoint: &http::Uri, path: &str) -> http::Uri {
    let whole = format!("{}/{path}", endpoint.to_string().trim_end_matches('/'));
    whole.parse().unwrap_or_else(|_| endpoint.clone())
}

fn certificates(variables: &Variables<'_>, names: &Names) -> Result<Certificates, SettingsError> {
    let file = |names| {
        variables.first(names, |_, path| {
            std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))
        })
    };
    let authority = file(names.authority)?;
    let client = match (file(names.certificate)?, file(names.key)?) {
        (Some(certificate), Some(key)) => {
            let key = String::from_utf8(key)
                .map_err(|_| refused(names.key[1], "it is not PEM".into()))?;
            Some((certificate, key.into()))
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let why = format!("it goes only together with {}", names.certificate[1]);
            return Err(refused(names.key[1], why));
        }
    };
    Ok(Certificates { authority, client })
}

fn sampling(variables: &Variables<'_>) -> Result<Sampling, SettingsError> {
    let sampler = variables.read("OTEL_TRACES_SAMPLER", |text| {
        let (follows_caller, root) = match text.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, text),
        };
        let ratio = match root {
            "always_on" => Some(1.0),
            "always_off" => Some(0.0),
            "traceidratio" => None,
            _ => return Err(format!("`{text}` is not known here")),
        };
        Ok((follows_caller, ratio))
    })?;
    let argument = variables.read("OTEL_TRACES_SAMPLER_ARG", |text| {
        let ratio = text
            .parse()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.ok_or_else(|| format!("`{text}` is not a ratio from 0 to 1"))
    })?;
    Ok(match sampler {
        None => Sampling::default(),
        Some((follows_caller, ratio)) => Sampling {
            ratio: ratio.or(argument).unwrap_or(1.0),
            follows_caller,
        },
    })
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is not `true` or `false`")),
    }
}

/// Reads `name=value,…` with values percent-encoded. Values may be secret, so they are not shown.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').ok_or("it is not `name=value,…`")?;
        let decoded = percent_decode_str(value.trim()).decode_utf8();
        let value = decoded.map_err(|_| "a value is not percent-encoded UTF-8")?;
        match name.trim() {
            "" => Err("a name is empty".to_owned()),
            name => Ok((name.to_owned(), value.into_owned())),
        }
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<OtlpSettings, SettingsError> {
        OtlpSettings::read(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoints(variables: &[(&str, &str)]) -> [Option<String>; 3] {
        let settings = read(variables).expect("good values");
        [settings.traces, settings.metrics, settings.logs]
            .map(|target| target.map(|target| target.endpoint.to_string()))
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn nothing_is_sent_unless_an_endpoint_or_exporter_is_named() {
        assert_eq!(endpoints(&[]), [None, None, None]);
        assert_eq!(endpoints(&[("OTEL_SERVICE_NAME", "x")]), [None, None, None]);
        assert_eq!(
            endpoints(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]),
            [None, None, None]
        );
        let [traces, metrics, logs] = endpoints(&[("OTEL_TRACES_EXPORTER", "otlp")]);
        assert_eq!(traces.as_deref(), Some("http://localhost:4318/v1/traces"));
        assert_eq!((metrics, logs), (None, None));
    }

    #[test]
    fn each_kind_has_its_place_below_the_endpoint_or_one_of_its_own() {
        assert_eq!(
            endpoints(&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "none")]),
            [
                Some("http://collector:4318/v1/traces".into()),
                None,
                Some("http://collector:4318/v1/logs".into())
            ]
        );
        let [traces, ..] = endpoints(&[
            ENDPOINT,
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "http://other:1/as/it/is",
            ),
        ]);
        assert_eq!(traces.as_deref(), Some("http://other:1/as/it/is"));
        let [traces, ..] = endpoints(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert_eq!(traces.as_deref(), Some("http://collector:4318/"));
    }

    #[test]
    fn a_bad_value_is_refused_by_its_name() {
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "perhaps"),
            ("OTEL_TRACES_EXPORTER", "jaeger"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://collector"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/does/not/exist"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "9999999"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "x"),
        ] {
            let mut variables = vec![(name, value)];
            if name != ENDPOINT.0 {
                variables.push(ENDPOINT);
            }
            let error = read(&variables).expect_err(name).to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
            assert!(
                name != "OTEL_EXPORTER_OTLP_HEADERS" || !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let variables = [
            ENDPOINT,
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "Authorization=Bearer%20t, b=c",
            ),
        ];
        let settings = read(&variables).expect("good values");
        assert!(!format!("{settings:?}").contains("Bearer"));
        let headers = settings.traces.expect("it is on").headers;
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, v)| (name.as_str(), v.reveal()))
            .collect();
        assert_eq!(headers, [("authorization", "Bearer t"), ("b", "c")]);
    }

    #[test]
    fn samplers_are_those_of_the_standard() {
        let sampling = |name, argument| {
            let settings = read(&[
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", argument),
            ]);
            let sampler = settings.expect("good values").sampler;
            (sampler.follows_caller, sampler.ratio)
        };
        assert_eq!(sampling("", "0.5"), (true, 1.0));
        assert_eq!(sampling("always_on", "0.5"), (false, 1.0));
        assert_eq!(sampling("parentbased_always_off", ""), (true, 0.0));
        assert_eq!(sampling("parentbased_traceidratio", "0.25"), (true, 0.25));
        assert_eq!(sampling("traceidratio", ""), (false, 1.0));
    }
}
