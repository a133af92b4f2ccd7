//! What the reconciler tells of itself: its progress, what is under way, and what is stuck.

use std::mem;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info};

use super::handle::Question;
use super::{Reconciler, UNDER_WAY_MAX, UnderWay};
use crate::telemetry::{HandoverLabels, StuckLabels};

impl Reconciler {
    pub(super) fn answer(&mut self, question: Question) {
        let now = Instant::now();
        let mut under_way = self.shards.stages().oldest(UNDER_WAY_MAX, now);
        for UnderWay { shard, target, .. } in &mut under_way {
            target.clone_from(&self.seen.targets.get(*shard).node);
        }
        // Nobody listens any more? Then nobody needs it.
        drop(question.send(under_way));
    }

    /// Reports the shards that have taken too long since the last look. What is under way goes on.
    pub(super) fn report_stuck(&mut self) {
        let now = Instant::now();
        for shard in self.shards.stages().newly_stuck(now) {
            let Some(stuck) = self.shards.stages().get(shard, now) else {
                continue;
            };
            let UnderWay {
                stage, age, cause, ..
            } = stuck;
            let (phase, target) = (stage.name(), &self.seen.targets.get(shard).node);
            let target = target.as_ref().map(tracing::field::display);
            error!(%shard, phase, target, ?age, ?cause, "a shard is stuck");
            let metrics = &self.parts.metrics.coordination;
            metrics
                .moves_stuck
                .get_or_create(&StuckLabels { phase })
                .inc();
        }
    }

    pub(super) fn observe(&self, phase: &'static str, took: Duration) {
        let metrics = &self.parts.metrics.coordination;
        let seconds = metrics
            .handover_seconds
            .get_or_create(&HandoverLabels { phase });
        seconds.observe(took.as_secs_f64());
    }

    pub(super) fn publish(&self, now: Instant) {
        let progress = self.shards.progress();
        let metrics = &self.parts.metrics.coordination;
        metrics
            .batches_in_flight
            .set(self.flights.len().try_into().unwrap_or(i64::MAX));
        metrics.shards_owned.set(progress.owned.into());
        metrics.shards_targeted.set(progress.targeted.into());
        metrics.shards_closing.set(progress.closing.into());
        metrics
            .oldest_closing_seconds
            .set(self.shards.oldest_closing(now).as_secs_f64());
        let changed = self
            .progress
            .send_if_modified(|old| mem::replace(old, progress) != progress);
        if changed && progress.owned == progress.targeted && progress.closing == 0 {
            info!(owned = progress.owned, "every shard is where it should be");
        }
    }
}
