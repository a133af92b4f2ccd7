//! Ends idle objects and saves at intervals: one task for a whole host, and no timer per object.
//!
//! Objects end beside it: a hook that never returns must not keep other objects from being saved.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Host;
use super::common::millis;

/// The longest and shortest time between two ticks: what idle times and intervals are rounded to.
const TICK_MAX: Duration = Duration::from_secs(1);
const TICK_MIN: Duration = Duration::from_millis(10);

/// The longest time between two looks at every object.
const SCAN_MAX: Duration = Duration::from_secs(30);

/// Objects that end at once.
const ENDINGS_MAX: usize = 64;

/// How long an object that ends counts as one of those; it goes on by itself then.
const ENDING_WAIT: Duration = Duration::from_secs(5);

/// Shards that are looked at before other tasks may run.
const SLOTS_PER_YIELD: usize = 16;

/// Runs until the host is gone or the node stops.
pub(super) async fn run(
    host: Weak<Host>,
    pace: Pace,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let began = Instant::now();
    let mut tick = interval(pace.tick);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_scan = began + pace.scan;
    let mut scan: Option<JoinHandle<()>> = None;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        let Some(host) = host.upgrade() else {
            return Ok(());
        };
        let now = millis(began.elapsed());
        host.common.millis.store(now, Ordering::Relaxed);
        if !host.common.fence.is_open() {
            continue; // Nothing may be saved; objects stay.
        }
        for hosted in host.types.values() {
            hosted.clone().save_due(now);
        }
        host.restart_failed();
        let rests = scan.as_ref().is_none_or(JoinHandle::is_finished);
        if rests && Instant::now() >= next_scan {
            let tasks = host.common.tasks.clone();
            scan = Some(tasks.spawn_work(expire(host, now)));
            next_scan = Instant::now() + pace.scan;
        }
    }
}

/// How often to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    tick: Duration,
    scan: Duration,
}

impl Pace {
    /// Returns the pace for types with these idle times and save intervals.
    pub(super) fn of(
        idle: impl Iterator<Item = Duration>,
        save_every: impl Iterator<Item = Duration>,
    ) -> Self {
        let idle = idle.min().unwrap_or(SCAN_MAX);
        let shortest = save_every.min().unwrap_or(TICK_MAX).min(idle);
        Self {
            tick: (shortest / 4).clamp(TICK_MIN, TICK_MAX),
            scan: (idle / 4).clamp(TICK_MIN, SCAN_MAX),
        }
    }
}

async fn expire(host: Arc<Host>, now: u64) {
    let mut endings = FuturesUnordered::new();
    for (i, slot) in host.all_slots().enumerate() {
        let objects: Vec<_> = match slot.table.read() {
            table if table.is_open() => table.iter().cloned().collect(),
            _ => continue,
        };
        for object in objects {
            let ending = object.expire(now);
            let ending = ending.map(|ending| host.common.tasks.spawn_work(ending));
            endings.extend(ending.map(|ending| timeout(ENDING_WAIT, ending)));
            if endings.len() >= ENDINGS_MAX {
                endings.next().await;
            }
        }
        if i % SLOTS_PER_YIELD == 0 {
            tokio::task::yield_now().await;
        }
    }
    while endings.next().await.is_some() {}
}
