//! What a host counts in its shards, read when metrics are asked for: a turn writes to no counter
//! that another shard's turns write to.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::ids::ShardId;

/// Which parts of the shards have at most so many objects, of those that [`HostCounts`] tells.
const QUANTILES: [(&str, usize); 4] = [("0.5", 50), ("0.9", 90), ("0.99", 99), ("1", 100)];

/// What a host has counted so far, over all of its shards.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostCounts {
    pub(crate) turns: u64,
    pub(crate) failures: u64,
    pub(crate) waits: u64,
    pub(crate) refusals: u64,
    pub(crate) objects: usize,
    /// The objects of each open shard, the most first.
    pub(crate) by_shard: Vec<usize>,
    /// The open shards with the most objects, at most a few, the fullest first.
    pub(crate) fullest: Vec<(ShardId, usize)>,
}

impl HostCounts {
    /// Returns how many objects the shards have at most that are the lower `percent` of all.
    fn quantile(&self, percent: usize) -> usize {
        let above = self.by_shard.len() * (100 - percent) / 100;
        self.by_shard.get(above).copied().unwrap_or_default()
    }
}

/// Where the counts come from when metrics are read; `None`: the host is gone.
pub(crate) trait CountTurns: Send + Sync + 'static {
    fn counts(&self) -> Option<HostCounts>;
}

pub(super) struct TurnCollector<C>(pub(super) C);

impl<C> fmt::Debug for TurnCollector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnCollector")
    }
}

impl<C: CountTurns> Collector for TurnCollector<C> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(counts) = self.0.counts() else {
            return Ok(());
        };
        let encoder = &mut encoder;
        let total = ConstCounter::new;
        write(
            encoder,
            "turns",
            "Turns that ended: shared holds of the per-shard lock",
            &total(counts.turns),
        )?;
        write(
            encoder,
            "turns_failed",
            "Turns that ended without a state to keep",
            &total(counts.failures),
        )?;
        write(
            encoder,
            "calls_waited",
            "Calls that found their object busy and had to wait for their turn",
            &total(counts.waits),
        )?;
        write(
            encoder,
            "calls_overloaded",
            "Calls that found the mailbox of their object full",
            &total(counts.refusals),
        )?;
        write(
            encoder,
            "objects",
            "Live objects",
            &ConstGauge::new(counts.objects),
        )?;
        objects_in_shards(encoder, &counts)
    }
}

/// Writes one metric without labels.
pub(super) fn write(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn objects_in_shards(
    encoder: &mut DescriptorEncoder<'_>,
    counts: &HostCounts,
) -> Result<(), fmt::Error> {
    let help = "Most live objects that a shard of this share of the open shards has, the emptier ones first";
    let mut metric =
        encoder.encode_descriptor("objects_in_shard", help, None, MetricType::Gauge)?;
    for (share, percent) in QUANTILES {
        let gauge = ConstGauge::new(counts.quantile(percent));
        gauge.encode(metric.encode_family(&[("share", share)])?)?;
    }
    let ranked = || (1_u32..).zip(&counts.fullest);
    let help = "Live objects of the fullest open shards, the fullest first";
    let mut metric =
        encoder.encode_descriptor("objects_in_top_shard", help, None, MetricType::Gauge)?;
    for (rank, (_, objects)) in ranked() {
        let gauge = ConstGauge::new(*objects);
        gauge.encode(metric.encode_family(&[("rank", rank)])?)?;
    }
    let help = "Number of the shard that has this rank among the fullest";
    let mut metric = encoder.encode_descriptor("top_shard", help, None, MetricType::Gauge)?;
    for (rank, (shard, _)) in ranked() {
        let gauge = ConstGauge::new(shard.get());
        gauge.encode(metric.encode_family(&[("rank", rank)])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_16_quantiles_are_read_off_the_sorted_counts() {
        let counts = HostCounts {
            by_shard: (1..=100).rev().collect(),
            ..HostCounts::default()
        };
        let read = QUANTILES.map(|(_, percent)| counts.quantile(percent));
        assert_eq!(read, [50, 90, 99, 100]);
        assert_eq!(HostCounts::default().quantile(50), 0);
    }
}
