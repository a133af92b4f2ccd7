//! Checks in the store what other nodes claim about owners.
//!
//! A node that does not own a shard names the owner in its answer, and a forwarded call names the
//! new owner. Neither is proof: on a network without TLS anybody can send it. A claim therefore only
//! makes this task read the owner key, and the view learns what the store answers (ADR-0033).
//!
//! Bounded whatever other nodes send: one claim is kept for each shard, one read is under way at a
//! time, and [`READ_PAUSE`] lies between two. Claims about shards of which the watch has brought the
//! news meanwhile cost no read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::SharedView;
use super::keys::{Keys, owner_news};
use super::store::{Entry, Op, Store, TXN_OPS_MAX, Txn};
use crate::ids::{Revision, ShardId};
use crate::telemetry::{ClaimLabels, Metrics};

/// The shortest time between two reads: at most 100 a second, of up to [`TXN_OPS_MAX`] keys each.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// How long nothing is read after a read failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// False claims are logged at most once in this time.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// What may come of a claim, as metrics name it.
pub const CLAIM_OUTCOMES: [&str; 4] = ["confirmed", "watched", "false", "failed"];

/// Claims of other nodes about owners, and the task that checks them.
#[derive(Debug)]
pub struct OwnerChecks {
    view: Arc<SharedView>,
    metrics: Arc<Metrics>,
    /// The greatest revision that was claimed for each shard.
    claims: Mutex<BTreeMap<ShardId, Revision>>,
    claimed: Notify,
}

impl OwnerChecks {
    /// Makes a set of claims about the shards of `view`, which learns what reads show.
    pub fn new(view: Arc<SharedView>, metrics: Arc<Metrics>) -> Self {
        Self {
            view,
            metrics,
            claims: Mutex::default(),
            claimed: Notify::new(),
        }
    }

    /// Notes the claim that a shard's owner key was written or deleted at `revision`. Does nothing
    /// if the view knows as much. Does not block.
    pub fn claim(&self, shard: ShardId, revision: Revision) {
        if revision <= self.view.current().owners.get(shard).revision {
            return;
        }
        let mut claims = self.claims.lock();
        let claim = claims.entry(shard).or_default();
        *claim = revision.max(*claim);
        drop(claims);
        self.claimed.notify_one();
    }

    /// Checks claims until `shutdown`.
    ///
    /// # Errors
    ///
    /// Never; the type is what [`Tasks::spawn`](crate::Tasks::spawn) wants.
    pub async fn run(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        keys: Keys,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        let check = async {
            let mut logged = None;
            loop {
                let claims = self.take();
                if claims.is_empty() {
                    self.claimed.notified().await;
                    continue;
                }
                let pause = self.check(&claims, &*store, &keys, &mut logged).await;
                sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            never = check => never,
        }
    }

    /// Takes as many claims as one transaction reads, of those that the watch has not settled.
    fn take(&self) -> Vec<(ShardId, Revision)> {
        let view = self.view.current();
        let mut claims = self.claims.lock();
        let before = claims.len();
        claims.retain(|shard, revision| *revision > view.owners.get(*shard).revision);
        self.count("watched", before - claims.len());
        let mut taken = Vec::new();
        while taken.len() < TXN_OPS_MAX
            && let Some(claim) = claims.pop_first()
        {
            taken.push(claim);
        }
        taken
    }

    /// Reads the owner keys of these shards, and returns for how long to read nothing.
    async fn check(
        &self,
        claims: &[(ShardId, Revision)],
        store: &dyn Store,
        keys: &Keys,
        logged: &mut Option<Instant>,
    ) -> Duration {
        let reads = claims.iter().map(|(shard, _)| Op::Get(keys.owner(*shard)));
        let txn = Txn {
            then: reads.collect(),
            ..Txn::default()
        };
        let reply = match store.commit(txn).await {
            Ok(reply) => reply,
            Err(error) => {
                debug!(%error, "cannot check what other nodes claim about owners");
                self.count("failed", claims.len());
                return FAILED_PAUSE;
            }
        };
        let view = self.view.current();
        let (mut news, mut first_false) = (Vec::new(), None);
        for ((shard, claimed), read) in claims.iter().zip(&reply.reads) {
            let known = view.owners.get(*shard);
            match owner_news(*shard, read.as_ref(), reply.revision, known) {
                Ok(found) => news.extend(found),
                Err(error) => {
                    warn!(%error, "skipped");
                    self.metrics.coordination.bad_entries.inc();
                }
            }
            if *claimed > newest_possible(read.as_ref(), reply.revision) {
                self.count("false", 1);
                first_false = first_false.or(Some((*shard, *claimed)));
            } else {
                self.count("confirmed", 1);
            }
        }
        self.view.learn(news);
        if let Some((shard, revision)) = first_false
            && logged.is_none_or(|at| at.elapsed() >= LOG_PAUSE)
        {
            *logged = Some(Instant::now());
            warn!(%shard, %revision, "another node claimed an owner that the store does not have");
        }
        READ_PAUSE
    }

    fn count(&self, outcome: &'static str, claims: usize) {
        let counter = &self.metrics.coordination.owner_claims;
        counter
            .get_or_create(&ClaimLabels { outcome })
            .inc_by(claims as u64);
    }
}

/// Returns the greatest revision of an owner key that a read at `revision` leaves possible: a key
/// that is absent may have been deleted just then.
fn newest_possible(read: Option<&Entry>, revision: Revision) -> Revision {
    read.map_or(revision, |entry| entry.mod_revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::Cut;
    use crate::coordination::rig::{Rig, Runs, TestNode, node};
    use crate::ids::Incarnation;
    use crate::placement::Owner;
    use crate::tasks::Tasks;

    const HIGHEST: Revision = Revision::new((1 << 48) - 1);

    struct World {
        rig: Rig,
        a: TestNode,
        checks: Arc<OwnerChecks>,
        /// Stops the task when it is dropped.
        _tasks: Tasks,
    }

    /// Node `a` owns shard 0; its own view knows that, and follows no watch from then on.
    async fn world() -> World {
        let rig = Rig::new(256);
        let a = rig.join("a", Runs::LeaderOnly).await;
        rig.own(0, &a.owner()).await;
        a.sees("its shard", |view| view.live_owner(rig.shard(0)).is_some())
            .await;
        let tasks = Tasks::new();
        let view = Arc::new(SharedView::from((*a.view.current()).clone()));
        let checks = Arc::new(OwnerChecks::new(view, Arc::new(Metrics::new())));
        let (running, store) = (checks.clone(), Arc::new(a.client.clone()));
        let keys = rig.keys.clone();
        tasks.spawn("owner checks", |shutdown| {
            running.run(store, keys, shutdown)
        });
        World {
            rig,
            a,
            checks,
            _tasks: tasks,
        }
    }

    impl World {
        fn count(&self, outcome: &'static str) -> u64 {
            let claims = &self.checks.metrics.coordination.owner_claims;
            claims.get_or_create(&ClaimLabels { outcome }).get()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn false_claims_change_nothing_and_are_counted() {
        let world = world().await;
        let before = world.checks.view.current();
        for number in 0..3 {
            world.checks.claim(world.rig.shard(number), HIGHEST);
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.checks.view.current().owners, before.owners);
        assert_eq!((world.count("false"), world.count("confirmed")), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn true_claims_bring_what_the_store_has() {
        let world = world().await;
        let b = Owner {
            node: node("b"),
            incarnation: Incarnation::new(1),
        };
        let claimed = world.rig.own(0, &b).await;
        let newest = world.rig.own(0, &world.a.owner()).await;
        world.checks.claim(world.rig.shard(0), claimed);
        sleep(Duration::from_secs(1)).await;
        let view = world.checks.view.current();
        let record = view.owners.get(world.rig.shard(0));
        assert_eq!(
            (record.revision, &record.owner),
            (newest, &Some(world.a.owner())),
            "the store decides, not the claim"
        );
        assert_eq!(world.count("confirmed"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_claims_costs_few_reads() {
        let world = world().await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            for number in 0..256 {
                world.checks.claim(world.rig.shard(number), HIGHEST);
            }
            sleep(Duration::from_millis(1)).await;
        }
        let made = world.count("false") / TXN_OPS_MAX as u64;
        assert!((50..=101).contains(&made), "{made} reads in a second");
    }

    #[tokio::test(start_paused = true)]
    async fn claims_are_dropped_while_the_store_is_away() {
        let world = world().await;
        world.a.client.faults().cut(Some(Cut::Refused));
        let before = world.checks.view.current();
        world.checks.claim(world.rig.shard(0), HIGHEST);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(world.checks.view.current().owners, before.owners);
        assert_eq!(world.count("failed"), 1);
        assert!(world.checks.claims.lock().is_empty());
    }
}
