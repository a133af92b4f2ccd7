//! What a node tells of itself when its metrics are read: what it runs, how it is set, whether it
//! can take traffic.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::hosts::write;
use super::placement::family;

/// What a node tells of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeGauges {
    /// The version of the program.
    pub(crate) version: &'static str,
    /// Whether it is a gate.
    pub(crate) gate: bool,
    /// Each condition of being ready, and whether it holds.
    pub(crate) conditions: Vec<(&'static str, bool)>,
    /// Settings that those of other nodes must fit, by name.
    pub(crate) settings: Vec<(&'static str, Duration)>,
}

/// Where the gauges come from when metrics are read; `None`: the node is gone.
pub(crate) trait TellNode: Send + Sync + 'static {
    fn gauges(&self) -> Option<NodeGauges>;
}

pub(super) struct NodeCollector<T>(pub(super) T);

impl<T> fmt::Debug for NodeCollector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCollector")
    }
}

impl<T: TellNode> Collector for NodeCollector<T> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(gauges) = self.0.gauges() else {
            return Ok(());
        };
        let encoder = &mut encoder;
        let help = "1, with the version of the program";
        let mut build = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        let version = &[("version", gauges.version)];
        ConstGauge::new(1u32).encode(build.encode_family(version)?)?;
        write(
            encoder,
            "gate",
            "1 for a gate, which owns no shards, else 0",
            &ConstGauge::new(u32::from(gauges.gate)),
        )?;
        let met = gauges.conditions.iter();
        let met: Vec<_> = met.map(|(name, met)| (*name, u32::from(*met))).collect();
        let help = "1 where a condition of being ready holds, else 0";
        family(encoder, "condition_met", help, "condition", &met)?;
        let settings = gauges.settings.iter();
        let settings: Vec<_> = settings
            .map(|(name, value)| (*name, value.as_secs_f64()))
            .collect();
        let help = "Settings that must fit those of other nodes";
        family(encoder, "setting_seconds", help, "setting", &settings)
    }
}
