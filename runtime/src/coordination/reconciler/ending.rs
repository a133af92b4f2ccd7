//! What follows from the end of a transaction, or of the host's work.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::batch::Outcome;
use super::shards::Took;
use super::work::{Ended, WorkResult};
use super::{
    Closing, Landing, MOVE_RETRY_MAX, MOVE_RETRY_MIN, RETRY_MAX, RETRY_MIN, Reconciler, SendError,
    host,
};
use crate::ids::ShardId;
use crate::placement::Owner;
use crate::placement::ownership::Ending;
use crate::telemetry::{BatchLabels, SendFailureLabels};

impl Reconciler {
    pub(super) fn land(&mut self, landing: Landing) {
        let Landing {
            batch,
            life,
            result,
        } = landing;
        let Some(me) = self.life.as_ref().filter(|me| **me == life) else {
            return; // What an earlier life committed is not this one's.
        };
        let Outcome { ending, news, bad } = batch.outcome(&result, me, &self.seen);
        let step = batch.kind.name();
        match &result {
            Ok(_) => {}
            Err(error) => warn!(step, shards = batch.shards.len(), %error, "a batch failed"),
        }
        for entry in &bad {
            warn!(%entry, "skipped");
            self.parts.metrics.coordination.bad_entries.inc();
        }
        let labels = BatchLabels {
            step,
            outcome: name_of(ending),
        };
        self.parts
            .metrics
            .coordination
            .batches
            .get_or_create(&labels)
            .inc();
        let cause: Option<Arc<str>> = match &result {
            Ok(reply) if reply.succeeded => None,
            Ok(_) => Some(format!("{step} was refused").into()),
            Err(error) => Some(format!("{step} failed: {error}").into()),
        };
        // Whoever is refused without any news is wrong about something that its reply cannot
        // show, such as a node key: that takes the watch some time.
        let rests = ending != Ending::Committed && news.is_empty();
        self.parts.view.learn(news);
        let now = Instant::now();
        for (shard, _) in &batch.shards {
            if let Some(cause) = &cause {
                self.shards.stages().blame(*shard, cause);
            }
            self.shards.end(*shard, batch.number, ending, now);
            if rests {
                self.shards.rest(*shard, now, RETRY_MIN, RETRY_MAX);
            }
            self.dirty.insert(*shard);
        }
    }

    pub(super) fn end_work(&mut self, ended: Ended) {
        let Ended {
            shard,
            number,
            result,
        } = ended;
        if !self.shards.awaits(shard, number) {
            return;
        }
        let now = Instant::now();
        self.dirty.insert(shard);
        let ending = match result {
            WorkResult::Closing(Closing::Closed) => Ending::Closed,
            WorkResult::Closing(Closing::Overdue(methods)) => {
                let cause = host::report_overdue(shard, &methods);
                self.shards.stages().blame(shard, &cause.into());
                self.parts.metrics.coordination.closings_overdue.inc();
                self.shards.rest(shard, now, MOVE_RETRY_MIN, MOVE_RETRY_MAX);
                Ending::Overdue
            }
            WorkResult::Sending(_, Ok(parcel)) => Ending::Sent(parcel),
            WorkResult::Sending(to, Err(error)) => {
                self.report_undelivered(shard, &to, &error);
                let cause = format!("not sent: {error}");
                self.shards.stages().blame(shard, &cause.into());
                self.rest_undelivered(shard, now);
                Ending::Undelivered
            }
            WorkResult::Ended => Ending::Ended,
        };
        match self.shards.end(shard, number, ending, now) {
            Some(Took::Close(took)) => self.observe("close", took),
            Some(Took::Send(took)) => self.observe("send", took),
            None => {}
        }
    }

    fn report_undelivered(&self, shard: ShardId, to: &Owner, error: &SendError) {
        warn!(%shard, to = %to.node, %error, "could not send the shard's state ahead");
        let labels = SendFailureLabels {
            reason: error.name(),
        };
        let metrics = &self.parts.metrics.coordination;
        metrics.sends_failed.get_or_create(&labels).inc();
    }

    /// Lets a shard rest that could not be sent. One that must leave all the same ends instead.
    pub(super) fn rest_undelivered(&mut self, shard: ShardId, now: Instant) {
        if self.leaving.borrow().is_none() {
            self.shards.rest(shard, now, MOVE_RETRY_MIN, MOVE_RETRY_MAX);
        }
    }
}

fn name_of(ending: Ending) -> &'static str {
    match ending {
        Ending::Committed => "committed",
        Ending::Refused => "refused",
        Ending::NotSent => "not_sent",
        Ending::Unknown => "unknown",
        Ending::Closed => "closed",
        Ending::Overdue => "overdue",
        Ending::Sent(_) => "sent",
        Ending::Undelivered => "undelivered",
        Ending::Ended => "ended",
    }
}
