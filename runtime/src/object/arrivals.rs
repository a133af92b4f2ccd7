//! What came with shards in the last minute, for the check of whoever had them moved.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ids::ShardId;
use crate::placement::Arrival;

/// How long what came with a shard is told; far longer than anybody asks for it.
const KEPT: Duration = Duration::from_mins(1);

/// The newest arrival of each shard, at most as many as there are shards.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<BTreeMap<ShardId, (Instant, Arrival)>>);

impl Arrivals {
    pub(super) fn note(&self, shard: ShardId, arrival: Arrival) {
        let now = Instant::now();
        let mut arrivals = self.0.lock();
        arrivals.insert(shard, (now, arrival));
    }

    /// Returns those of the last minute, and forgets the others.
    pub(super) fn recent(&self) -> BTreeMap<ShardId, Arrival> {
        let now = Instant::now();
        let mut arrivals = self.0.lock();
        arrivals.retain(|_, (at, _)| now - *at < KEPT);
        let recent = arrivals.iter();
        recent
            .map(|(shard, (_, arrival))| (*shard, *arrival))
            .collect()
    }
}
