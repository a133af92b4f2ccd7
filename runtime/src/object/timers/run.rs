//! The one task that lets the timers of a whole host tick.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::object::Host;

/// Ticks that are sent on their way before other tasks may run.
const TICKS_PER_YIELD: usize = 128;

/// How long ticks that are due wait before they ask again whether the node is still fenced.
const FENCED_WAIT: Duration = Duration::from_millis(100);

/// Runs until the host is gone or the node stops.
pub(in crate::object) async fn run(
    host: Weak<Host>,
    changed: Arc<Notify>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let next = match host.upgrade() {
            Some(host) => let_tick(&host),
            None => return Ok(()),
        };
        let due = async {
            match next {
                Some(next) if next <= Instant::now() => tokio::task::yield_now().await,
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = changed.notified() => {}
            () = due => {}
        }
    }
}

/// Sends the ticks that are due on their way; returns when to look again.
fn let_tick(host: &Host) -> Option<Instant> {
    let timers = &host.common.timers;
    let now = Instant::now();
    if !host.common.fence.is_open() {
        return timers.next().map(|next| next.max(now + FENCED_WAIT));
    }
    for due in timers.take_due(now, TICKS_PER_YIELD) {
        match due.live.upgrade() {
            Some(live) => live.tick(due),
            None => timers.forget(due.place),
        }
    }
    timers.next()
}
