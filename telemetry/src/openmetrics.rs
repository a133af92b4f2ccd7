//! Reads the text of a node's metrics back into metrics of OTLP: exactly, since the text is.
//!
//! Counters become monotonic sums, histograms keep their bounds, and all else is a gauge.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};

/// From when and until when something was counted, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A metric of the text.
#[derive(Debug, Default)]
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    unit: &'a str,
    samples: Vec<Sample<'a>>,
}

#[derive(Debug)]
struct Sample<'a> {
    /// What comes after the name of the metric, such as `_total`.
    suffix: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

/// Returns the metrics of a text. Lines that are not understood are left out.
pub(crate) fn metrics(text: &str, span: Span) -> Vec<Metric> {
    families(text)
        .iter()
        .map(|family| family.metric(span))
        .collect()
}

fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(what), Some(name), rest) = (words.next(), words.next(), words.next()) else {
                continue; // `# EOF`
            };
            if families.last().is_none_or(|last| last.name != name) {
                families.push(Family {
                    name,
                    ..Family::default()
                });
            }
            let (family, rest) = (families.last_mut().expect("just added"), rest.unwrap_or(""));
            match what {
                "TYPE" => family.kind = rest,
                "HELP" => family.help = rest,
                "UNIT" => family.unit = rest,
                _ => {}
            }
        } else if let Some(family) = families.last_mut() {
            family.samples.extend(sample(family.name, line));
        }
    }
    families
}

fn sample<'a>(name: &str, line: &'a str) -> Option<Sample<'a>> {
    let rest = line.strip_prefix(name)?;
    let name_end = rest.find(['{', ' '])?;
    let (suffix, mut rest) = rest.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        while !inner.starts_with('}') {
            let (label, value) = inner.trim_start_matches(',').split_once("=\"")?;
            let end = closing_quote(value)?;
            labels.push((label, unescaped(&value[..end])));
            inner = &value[end + 1..];
        }
        rest = &inner[1..];
    }
    let value = rest.split_ascii_whitespace().next()?;
    Some(Sample {
        suffix,
        labels,
        value,
    })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n")
        .replace("\\\"", "\"")
        .replace("\\\\", "\\")
}

impl Family<'_> {
    fn metric(&self, span: Span) -> Metric {
        let temporality = AggregationTemporality::Cumulative.into();
        let data = match self.kind {
            "counter" => Data::Sum(Sum {
                data_points: self.numbers(Span { ..span }),
                aggregation_temporality: temporality,
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: self.histograms(span),
                aggregation_temporality: temporality,
            }),
            _ => Data::Gauge(Gauge {
                data_points: self.numbers(Span { from: 0, ..span }),
            }),
        };
        Metric {
            name: self.name.to_owned(),
            description: self.help.trim_end_matches('.').to_owned(),
            unit: self.unit.to_owned(),
            metadata: Vec::new(),
            data: Some(data),
        }
    }

    fn numbers(&self, span: Span) -> Vec<NumberDataPoint> {
        let numbers = self.samples.iter().filter_map(|sample| {
            Some(NumberDataPoint {
                attributes: attributes(&sample.labels),
                start_time_unix_nano: span.from,
                time_unix_nano: span.to,
                exemplars: Vec::new(),
                flags: 0,
                value: Some(match sample.value.parse() {
                    Ok(whole) => Number::AsInt(whole),
                    Err(_) => Number::AsDouble(sample.value.parse().ok()?),
                }),
            })
        });
        numbers.collect()
    }

    fn histograms(&self, span: Span) -> Vec<HistogramDataPoint> {
        let mut points: BTreeMap<Vec<(&str, &str)>, Buckets> = BTreeMap::new();
        for sample in &self.samples {
            let labels = sample
                .labels
                .iter()
                .map(|(name, value)| (*name, value.as_str()));
            let labels = labels.filter(|(name, _)| *name != "le").collect();
            points.entry(labels).or_default().take(sample);
        }
        let points = points
            .into_iter()
            .map(|(labels, buckets)| HistogramDataPoint {
                attributes: attributes(&labels),
                start_time_unix_nano: span.from,
                time_unix_nano: span.to,
                count: buckets.count,
                sum: buckets.sum,
                bucket_counts: buckets.counts(),
                explicit_bounds: buckets.bounds,
                exemplars: Vec::new(),
                flags: 0,
                min: None,
                max: None,
            });
        points.collect()
    }
}

#[derive(Debug, Default)]
struct Buckets {
    /// All but the last, which is infinite.
    bounds: Vec<f64>,
    /// How many were at or below each bound, infinity included.
    up_to: Vec<u64>,
    count: u64,
    sum: Option<f64>,
}

impl Buckets {
    fn take(&mut self, sample: &Sample<'_>) {
        let whole = sample.value.parse().unwrap_or_default();
        match sample.suffix {
            "_sum" => self.sum = sample.value.parse().ok(),
            "_count" => self.count = whole,
            "_bucket" => {
                self.up_to.push(whole);
                let bound = sample.labels.iter().find(|(name, _)| *name == "le");
                let bound = bound.and_then(|(_, bound)| bound.parse::<f64>().ok());
                self.bounds.extend(bound.filter(|bound| bound.is_finite()));
            }
            _ => {}
        }
    }

    fn counts(&self) -> Vec<u64> {
        let below = std::iter::once(0).chain(self.up_to.iter().copied());
        self.up_to
            .iter()
            .zip(below)
            .map(|(up_to, below)| up_to.saturating_sub(below))
            .collect()
    }
}

fn attributes<V: AsRef<str>>(labels: &[(&str, V)]) -> Vec<KeyValue> {
    let attributes = labels.iter().map(|(name, value)| KeyValue {
        key: (*name).to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.as_ref().to_owned())),
        }),
        ..KeyValue::default()
    });
    attributes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use steading::telemetry::Metrics;

    const SPAN: Span = Span { from: 1, to: 9 };

    const TEXT: &str = "\
# HELP a_calls Calls.
# TYPE a_calls counter
a_calls_total{code=\"x\\\"y\"} 3
a_calls_total{code=\"\"} 18446744073709551615
# HELP a_open Open.
# TYPE a_open gauge
a_open 0.25
# HELP a_seconds How long.
# TYPE a_seconds histogram
# UNIT a_seconds seconds
a_seconds_sum 7.5
a_seconds_count 6
a_seconds_bucket{le=\"0.5\"} 1
a_seconds_bucket{le=\"2.0\"} 4
a_seconds_bucket{le=\"+Inf\"} 6
# EOF
";

    #[test]
    fn each_kind_keeps_its_values() {
        let metrics = metrics(TEXT, SPAN);
        let names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["a_calls", "a_open", "a_seconds"]);
        let [
            Some(Data::Sum(calls)),
            Some(Data::Gauge(open)),
            Some(Data::Histogram(seconds)),
        ] = [0, 1, 2].map(|i| metrics[i].data.clone())
        else {
            panic!("{metrics:?}");
        };
        assert!(calls.is_monotonic);
        assert_eq!(calls.data_points[0].value, Some(Number::AsInt(3)));
        assert_eq!(calls.data_points[0].start_time_unix_nano, 1);
        let Some(AnyValue {
            value: Some(Value::StringValue(code)),
        }) = &calls.data_points[0].attributes[0].value
        else {
            panic!("{calls:?}");
        };
        assert_eq!(code, "x\"y");
        assert_eq!(open.data_points[0].value, Some(Number::AsDouble(0.25)));
        let point = &seconds.data_points[0];
        assert_eq!((point.count, point.sum), (6, Some(7.5)));
        assert_eq!(point.explicit_bounds, [0.5, 2.0]);
        assert_eq!(point.bucket_counts, [1, 3, 2]);
        assert_eq!(metrics[2].unit, "seconds");
    }

    #[test]
    fn every_metric_of_a_node_comes_through() {
        let text = Metrics::new().encode().expect("a string takes it");
        let metrics = metrics(&text, SPAN);
        let types = text
            .lines()
            .filter(|line| line.starts_with("# TYPE "))
            .count();
        assert_eq!(metrics.len(), types);
        for metric in metrics {
            if let Some(Data::Histogram(histogram)) = metric.data {
                for point in histogram.data_points {
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                }
            }
        }
    }
}
