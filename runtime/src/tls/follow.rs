//! The task that looks at files of certificates, and tells what it sees.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::watched::{End, LOOK_INTERVAL, Watched, seconds};
use super::{ServerTls, StoreTls, Tls};
use crate::telemetry::{CertificateLabels, CertificateMetrics, ReloadLabels};

/// A certificate that ends within this time is warned of …
const WARN_BEFORE: Duration = Duration::from_hours(7 * 24);

/// … this often.
const WARN_INTERVAL: Duration = Duration::from_hours(12);

/// What may come of new files.
pub(crate) const OUTCOMES: [&str; 2] = ["replaced", "refused"];

/// Looks at the files at an interval until `shutdown`; counts in `metrics` what became of new ones,
/// and shows there when certificates end. Several may follow the same files.
///
/// # Errors
///
/// Never: files that cannot be used are looked at again.
pub(crate) async fn follow(
    tls: Option<Tls>,
    store: Option<StoreTls>,
    metrics: CertificateMetrics,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut cluster = tls.map(|tls| Follower::new(tls.watched, metrics.clone()));
    let mut etcd = store.map(|store| Follower::new(store.watched, metrics));
    let mut ticks = looks();
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Some(follower) = &mut cluster {
            follower.look().await;
        }
        if let Some(follower) = &mut etcd {
            follower.look().await;
        }
    }
    Ok(())
}

/// The same for the certificate that a server shows to whoever comes.
///
/// # Errors
///
/// Never: files that cannot be used are looked at again.
pub async fn follow_server(
    server: ServerTls,
    metrics: CertificateMetrics,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut follower = Follower::new(server.watched, metrics);
    let mut ticks = looks();
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        follower.look().await;
    }
    Ok(())
}

/// When to look at the files.
fn looks() -> Interval {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

struct Follower<M> {
    watched: Arc<Watched<M>>,
    metrics: CertificateMetrics,
    /// How often the files were replaced, and refused, when that was counted last.
    counted: (u64, u64),
    warned: Option<Instant>,
}

impl<M: Send + Sync + 'static> Follower<M> {
    fn new(watched: Arc<Watched<M>>, metrics: CertificateMetrics) -> Self {
        let counted = (watched.current().number, watched.refusals());
        Self {
            watched,
            metrics,
            counted,
            warned: None,
        }
    }

    async fn look(&mut self) {
        let watched = self.watched.clone();
        let look = tokio::task::spawn_blocking(move || watched.look_if_due(SystemTime::now()));
        // What it found is told by counts, since others look too.
        drop(look.await);
        self.tell(SystemTime::now());
    }

    fn tell(&mut self, now: SystemTime) {
        let current = self.watched.current();
        let seen = (current.number, self.watched.refusals());
        let [replaced, refused] = OUTCOMES;
        let new = [
            (replaced, seen.0.saturating_sub(self.counted.0)),
            (refused, seen.1.saturating_sub(self.counted.1)),
        ];
        for (outcome, count) in new {
            let reloads = &self.metrics.reloads;
            reloads
                .get_or_create(&ReloadLabels { outcome })
                .inc_by(count);
        }
        if seen.0 != self.counted.0 {
            self.warned = None;
            let settings: Vec<_> = current.ends.iter().map(|end| end.setting).collect();
            info!(?settings, "uses new certificates for new connections");
        }
        self.counted = seen;
        for End { setting, at } in &current.ends {
            let labels = CertificateLabels {
                certificate: setting,
            };
            self.metrics.expiry.get_or_create(&labels).set(*at);
        }
        self.warn(&current.ends, now);
    }

    fn warn(&mut self, ends: &[End], now: SystemTime) {
        let is_due = self
            .warned
            .is_none_or(|last| last.elapsed() >= WARN_INTERVAL);
        let soon = ends.iter().filter(|end| ends_soon(end, now));
        for End { setting, at } in soon.filter(|_| is_due) {
            self.warned = Some(Instant::now());
            let hours = (at - seconds(now)) / 3600;
            warn!(setting, hours, "a certificate ends soon");
        }
    }
}

fn ends_soon(end: &End, now: SystemTime) -> bool {
    let before = i64::try_from(WARN_BEFORE.as_secs()).expect("a week is no eternity");
    end.at - seconds(now) < before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_soon_in_its_last_week() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let week = 7 * 24 * 3600;
        for (left, soon) in [
            (week - 1, true),
            (week, false),
            (-1, true),
            (week * 9, false),
        ] {
            let end = End {
                setting: "tls_cert",
                at: 1_000_000_000 + left,
            };
            assert_eq!(ends_soon(&end, now), soon, "{left}");
        }
    }
}
