//! Closing a shard: the exclusive side of the per-shard lock, whose shared side is every turn.
//!
//! It is a protocol rather than a lock: turns do not count themselves anywhere but in their own
//! object's mailbox, and closing goes from object to object. So turns pay nothing for it, and
//! closing, which is rare, pays for all. One shard's closing never waits for another's.
//!
//! A running turn may call other objects of its own shard. Such calls still have their turns while
//! the shard closes, or the turn could not end. So an object that was quiet may run again, until
//! all are seen quiet in one look, which seals them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::Closing;
use super::activation::Live;
use super::directory::{Slot, Stage};
use crate::telemetry::ObjectMetrics;

/// A closing that waits longer than this for running turns is told in the log.
const SLOW_CLOSING: Duration = Duration::from_secs(1);

/// The least time for hooks and last saves, however long the turns took.
const ENDING_LIMIT_MIN: Duration = Duration::from_secs(1);

/// Hooks and last saves of one shard under way at once.
const ENDINGS_MAX: usize = 64;

/// Closes a shard, or leaves it open if turns are still running after `limit`.
pub(super) async fn close(slot: Arc<Slot>, limit: Duration, metrics: ObjectMetrics) -> Closing {
    let began = Instant::now();
    let by = began + limit;
    let Ok(_alone) = timeout_at(by, slot.closing.lock()).await else {
        return Closing::Overdue(Vec::new());
    };
    let Some((round, objects)) = stop_turns(&slot) else {
        return Closing::Closed;
    };
    metrics.lock_attempts_exclusive.inc();
    metrics.locks_wanted_exclusive.inc();
    let waited = wait_for_turns(&slot, round, objects, by).await;
    metrics.locks_wanted_exclusive.dec();
    metrics
        .lock_wait_seconds
        .observe(began.elapsed().as_secs_f64());
    let objects = match waited {
        Waited::Sealed(objects) => objects,
        Waited::Overtaken => return Closing::Closed, // The lease was lost meanwhile.
        Waited::Overdue(busy) => {
            metrics.lock_overdue.inc();
            return reopen(&slot, round, &busy);
        }
    };
    metrics.locks_held_exclusive.inc();
    let held = Instant::now();
    end_all(objects, by.max(held + ENDING_LIMIT_MIN)).await;
    metrics
        .lock_hold_seconds
        .observe(held.elapsed().as_secs_f64());
    metrics.locks_held_exclusive.dec();
    let mut table = slot.table.write();
    if table.round == round {
        table.stage = Stage::Closed;
    }
    Closing::Closed
}

/// From here no new turn starts. `None`: the shard is closed already.
fn stop_turns(slot: &Slot) -> Option<(u64, Vec<Arc<dyn Live>>)> {
    let mut table = slot.table.write();
    match table.stage {
        Stage::Closed => return None,
        Stage::Open | Stage::Closing | Stage::Ending => table.stage = Stage::Closing,
    }
    let objects = table.iter().cloned().collect();
    let round = table.round;
    drop(table);
    Some((round, objects)).inspect(|(_, objects): &(u64, Vec<Arc<dyn Live>>)| {
        for object in objects {
            object.pause();
        }
    })
}

/// How waiting for turns ended.
enum Waited {
    /// No turn of these objects runs, and none will.
    Sealed(Vec<Arc<dyn Live>>),
    /// Turns of these run too long.
    Overdue(Vec<Arc<dyn Live>>),
    /// The shard was discarded.
    Overtaken,
}

/// Waits until no turn of the shard runs and takes its objects. `busy` is where to look first.
async fn wait_for_turns(
    slot: &Slot,
    round: u64,
    mut busy: Vec<Arc<dyn Live>>,
    by: Instant,
) -> Waited {
    let slow = Instant::now() + SLOW_CLOSING;
    let mut warned = false;
    loop {
        let mut told = std::pin::pin!(slot.quiet.notified());
        told.as_mut().enable(); // Before looking, so that no end is missed.
        busy.retain(|object| !object.is_quiet());
        if busy.is_empty() {
            match seal(slot, round) {
                Waited::Overdue(running) => busy = running,
                sealed @ (Waited::Sealed(_) | Waited::Overtaken) => return sealed,
            }
        }
        if Instant::now() >= by {
            return Waited::Overdue(busy);
        }
        let until = if warned { by } else { by.min(slow) };
        if timeout_at(until, told).await.is_err() && !warned && until == slow {
            warned = true;
            let (object, method) = (busy[0].key(), busy[0].running());
            warn!(shard = ?slot.shard, turns = busy.len(), %object, method, "slow to close");
        }
    }
}

/// Takes the objects if no turn of any of them runs, seen in one look; else returns the busy ones.
fn seal(slot: &Slot, round: u64) -> Waited {
    let mut table = slot.table.write();
    if table.round != round {
        return Waited::Overtaken;
    }
    let busy: Vec<_> = table
        .iter()
        .filter(|object| !object.seal())
        .cloned()
        .collect();
    if busy.is_empty() {
        table.stage = Stage::Ending;
        return Waited::Sealed(table.take_all());
    }
    for object in table.iter() {
        object.unseal();
    }
    Waited::Overdue(busy)
}

fn reopen(slot: &Slot, round: u64, busy: &[Arc<dyn Live>]) -> Closing {
    let mut table = slot.table.write();
    if table.round != round {
        return Closing::Closed;
    }
    table.stage = Stage::Open;
    let objects: Vec<_> = table.iter().cloned().collect();
    drop(table);
    for object in objects {
        object.resume();
    }
    let mut overdue: Vec<_> = busy
        .iter()
        .map(|object| (object.key().clone(), object.running().to_owned()))
        .collect();
    overdue.sort();
    warn!(shard = ?slot.shard, ?overdue, "turns did not end in time; the shard is open again");
    Closing::Overdue(overdue)
}

async fn end_all(objects: Vec<Arc<dyn Live>>, by: Instant) {
    let mut endings = FuturesUnordered::new();
    let mut in_time = true;
    for object in objects {
        let Some(ending) = object.clone().end_paused() else {
            continue;
        };
        endings.push(timeout_at(by, async move {
            ending.await;
            drop(object);
        }));
        if endings.len() >= ENDINGS_MAX {
            in_time &= endings.next().await.is_none_or(|ended| ended.is_ok());
        }
    }
    while let Some(ended) = endings.next().await {
        in_time &= ended.is_ok();
    }
    if !in_time {
        warn!("some objects did not end in time; their hooks or last saves were abandoned");
    }
}
