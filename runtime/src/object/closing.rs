//! Closing a shard: the exclusive side of the per-shard lock, whose shared side is every turn.
//!
//! It is a protocol rather than a lock: turns do not count themselves anywhere but in their own
//! object's mailbox, and closing goes from object to object. So turns pay nothing for it, and
//! closing, which is rare, pays for all. One shard's closing never waits for another's.
//!
//! A running turn may call other objects of its own shard. Such calls still have their turns while
//! the shard closes, or the turn could not end. So an object that was quiet may run again, until
//! all are seen quiet in one look, which seals them.
//!
//! A sealed shard still has its objects. It opens again with them, or ends them in order, or lets
//! them go once another node has them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::activation::Live;
use super::directory::{Slot, Stage};
use super::{Closing, Host};
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
    match waited {
        Waited::Sealed => {
            metrics.locks_held_exclusive.inc();
            Closing::Closed
        }
        Waited::Overtaken => Closing::Closed, // The lease was lost meanwhile.
        Waited::Overdue(busy) => {
            metrics.lock_overdue.inc();
            reopen(&slot, round, &busy)
        }
    }
}

/// Ends the objects of a sealed shard in order: hooks, then last saves. Takes no longer than
/// `limit`, and at least a second if need be.
pub(super) async fn end(host: Arc<Host>, slot: Arc<Slot>, limit: Duration) {
    let by = Instant::now() + limit.max(ENDING_LIMIT_MIN);
    let Ok(_alone) = timeout_at(by, slot.closing.lock()).await else {
        return;
    };
    let (round, objects, dormant) = {
        let mut table = slot.table.write();
        if table.stage != Stage::Sealed {
            return;
        }
        table.stage = Stage::Ending;
        let dormant = std::mem::take(&mut table.dormant);
        (table.round, table.take_all(), dormant)
    };
    let token = slot.table.read().token;
    let live = objects.into_iter().filter_map(|object| {
        let ending = object.clone().end_paused()?;
        // It must live until its end is over.
        let ending = async move {
            ending.await;
            drop(object);
        };
        Some(ending.boxed())
    });
    let came = dormant.into_iter().filter_map(|(key, dormant)| {
        let hosted = host.types.get(key.object_type())?.clone();
        Some(hosted.end_dormant(slot.clone(), token, key, dormant))
    });
    end_all(live.chain(came), by).await;
    let mut table = slot.table.write();
    if table.round == round {
        table.stage = Stage::Closed;
        host.unhold(&mut table);
    }
}

/// From here no new turn starts. `None`: the shard is closed already.
fn stop_turns(slot: &Slot) -> Option<(u64, Vec<Arc<dyn Live>>)> {
    let mut table = slot.table.write();
    match table.stage {
        Stage::Closed | Stage::Sealed => return None,
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
    /// No turn of the objects runs, and none will.
    Sealed,
    /// Turns of these run too long.
    Overdue(Vec<Arc<dyn Live>>),
    /// The shard was discarded.
    Overtaken,
}

/// Waits until no turn of the shard runs and seals its objects. `busy` is where to look first.
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
                sealed @ (Waited::Sealed | Waited::Overtaken) => return sealed,
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

/// Seals the objects if no turn of any of them runs, seen in one look; else returns the busy ones.
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
        table.stage = Stage::Sealed;
        table.held = Some(Instant::now());
        return Waited::Sealed;
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

async fn end_all(objects: impl Iterator<Item = BoxFuture<'static, ()>>, by: Instant) {
    let mut endings = FuturesUnordered::new();
    let mut in_time = true;
    for ending in objects {
        endings.push(timeout_at(by, ending));
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
